"""The training step, and an epoch of them in one dispatch.

Both are module-level jitted functions that take the optimizer as an argument, so that two trainings which differ only
in numbers (learning rate, decay rates) share one compilation.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import PyTree

from ..engine.telemetry import found, metrics
from ..engine.transformation import Transformation
from ..engine.tree import Frozen, is_none, is_trained, strong
from ..wrappers.wrapper import takes_any

Loss = Callable[..., PyTree]  # (params, *batch) -> a scalar, or (scalar, aux)
Extra = Mapping[str, Callable[..., PyTree]]  # name -> function of (params, *batch)
Step = Callable[..., tuple[PyTree, PyTree, dict[str, PyTree]]]


def train_step(
    loss_fn: Loss, opt: optax.GradientTransformation, has_aux: bool = False, extra: Extra | None = None
) -> Step:
    """A jitted training step: (params, state, *batch) -> (params, state, metrics).

    params and state are donated: use what comes back, not what went in. Leaves of params that are not arrays
    (functions, strings, None) are carried along.

    Args:
        loss_fn: loss_fn(params, *batch) -> a scalar loss, or (loss, aux) with has_aux.
        opt: an adaptx optimizer, or any optax transformation. The loss reaches it as `value=`; what takes gradients at
            other points of the same batch, such as `adaptx.sam`, is given `grad_fn=`, a function of params.
        has_aux: whether loss_fn returns auxiliary outputs; they come back as metrics["aux"].
        extra: what the optimizer requires besides the loss (`opt.requires`), as functions of (params, *batch), such as
            an estimate of the Hessian's diagonal.

    Returns:
        The step. metrics holds "loss" and what `adaptx.metrics(state)` holds ("learning_rate", …), f32 scalars.
    """
    return _bound(_step, loss_fn, opt, has_aux, extra)


def train_epoch(
    loss_fn: Loss, opt: optax.GradientTransformation, has_aux: bool = False, extra: Extra | None = None
) -> Step:
    """Many training steps as one dispatch: (params, state, *batches) -> (params, state, metrics).

    Every array in batches has the steps along its first axis; `lax.scan` runs them in order. metrics are stacked along
    the same axis. Otherwise as `train_step`.
    """
    return _bound(_epoch, loss_fn, opt, has_aux, extra)


def _bound(run: Callable[..., PyTree], loss_fn: Loss, opt: PyTree, has_aux: bool, extra: Extra | None) -> Step:
    _check_functions(loss_fn, opt, has_aux, {} if extra is None else extra)
    value = isinstance(opt, Transformation)
    structure = (loss_fn, has_aux, None if value else opt, tuple((extra or {}).items()))
    # numbers become device arrays here, once, instead of at every call
    dynamic = jax.tree.map(jnp.asarray, opt) if value else None

    def call(
        params: PyTree, state: PyTree, *batch: PyTree, **keywords: PyTree
    ) -> tuple[PyTree, PyTree, dict[str, PyTree]]:
        if keywords:
            raise TypeError(
                f"a training step takes (params, state, *batch), got the keyword {next(iter(keywords))!r}; pass the "
                "batch by position, in the order of loss_fn."
            )
        arrays, rest = split(params)
        _check_not_donated(arrays, state)
        state = _unshared(state)
        arrays, state, out = run(structure, rest, dynamic, arrays, state, *batch)
        return join(arrays, rest), state, out

    return call


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def _step(structure, rest, dynamic_opt, arrays, state, *batch):
    return _one(structure, rest, dynamic_opt, (arrays, state), batch)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def _epoch(structure, rest, dynamic_opt, arrays, state, *batches):
    _check_lengths(batches)

    def body(carry, batch):
        arrays, state, out = _one(structure, rest, dynamic_opt, carry, batch)
        return (arrays, state), out

    (arrays, state), out = lax.scan(body, (arrays, state), batches)
    return arrays, state, out


def _one(structure, rest, dynamic_opt, carry, batch):
    (loss_fn, has_aux, static_opt, extra), (arrays, state) = structure, carry
    _check_batch(loss_fn, len(batch))

    def loss_of(trained):
        result = loss_fn(join(_merge(trained, arrays), rest), *batch)
        loss, aux = _pair(result) if has_aux else (result, None)
        _check_loss(loss, has_aux)
        return loss, aux

    def grad_fn(params, *_):  # of this batch, elsewhere; optax's sam counts its calls
        return join(jax.grad(loss_of, has_aux=True)(_trained(split(params)[0]))[0], _without(rest))

    (loss, aux), found_grads = jax.value_and_grad(loss_of, has_aux=True)(_trained(arrays))
    params, grads = join(arrays, rest), join(found_grads, _without(rest))
    more = {name: function(params, *batch) for name, function in extra}
    # for optax's line searches, and for what takes gradients at other points
    searches = {"grad": grads, "value_fn": lambda params: loss_of(split(params)[0])[0], "grad_fn": grad_fn}
    if static_opt is None:
        wanted = dynamic_opt.requires if not takes_any(dynamic_opt) else searches
        searches = {name: x for name, x in searches.items() if name in wanted}
        params, state = dynamic_opt.step(grads, state, params, value=loss, **searches, **more)
    else:
        opt = optax.with_extra_args_support(static_opt)
        updates, state = opt.update(grads, state, params, value=loss, **searches, **more)
        params = optax.apply_updates(params, updates)
    out = {"loss": loss.astype(jnp.float32), **(metrics(state) if found(state) else {})}
    return split(params)[0], state, {**out, "aux": aux} if has_aux else out


def split(params: PyTree) -> tuple[list[PyTree], Frozen]:
    """(the leaves with None for those that are not arrays, everything else as a hashable value)."""
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    arrays = [strong(x) if is_array(x) else None for x in leaves]
    return arrays, Frozen((treedef, [None if is_array(x) else x for x in leaves]))


def join(arrays: list[PyTree], rest: Frozen) -> PyTree:
    """The inverse of split."""
    treedef, others = rest.tree
    return treedef.unflatten([o if a is None else a for a, o in zip(arrays, others, strict=True)])


def is_array(x: object) -> bool:
    """Whether x is data; anything else (Python ints too: they may be shapes) is structure."""
    return isinstance(x, float) or (hasattr(x, "dtype") and hasattr(x, "shape"))


def _without(rest: Frozen) -> Frozen:
    treedef, others = rest.tree
    return Frozen((treedef, [None] * len(others)))


def _trained(arrays: list[PyTree]) -> list[PyTree]:
    return [x if is_trained(x) else None for x in arrays]


def _merge(trained: list[PyTree], arrays: list[PyTree]) -> list[PyTree]:
    return [a if t is None else t for t, a in zip(trained, arrays, strict=True)]


def _pair(result: PyTree) -> tuple[PyTree, PyTree]:
    if not (isinstance(result, tuple) and len(result) == 2):
        came = "an array" if isinstance(result, jax.Array) else type(result).__name__
        raise TypeError(f"loss_fn must return (loss, aux) because has_aux=True, got {came}; return a pair.")
    return result


def _check_functions(loss_fn: object, opt: PyTree, has_aux: object, extra: object) -> None:
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be a function of (params, *batch), got {type(loss_fn).__name__}; pass one.")
    try:
        hash(loss_fn)
    except TypeError as error:
        raise TypeError(
            f"loss_fn must be hashable, because the compiled step is looked up by it, got a {type(loss_fn).__name__} "
            "that is not; pass a plain function that calls it."
        ) from error
    if not isinstance(has_aux, bool):
        raise TypeError(f"has_aux must be True or False, got {has_aux!r} ({type(has_aux).__name__}); pass a bool.")
    if not isinstance(extra, Mapping) or not all(callable(function) for function in extra.values()):
        raise TypeError(
            f"extra must be {{name: function of (params, *batch)}}, got {extra!r}; pass functions, not their results."
        )
    if "value" in extra:
        raise TypeError("extra must not hold 'value', which is the loss and is always passed; remove it.")
    if "grad_fn" in extra:
        raise TypeError("extra must not hold 'grad_fn', which is made of loss_fn wherever it is needed; remove it.")
    if not isinstance(opt, optax.GradientTransformation):
        hint = "call it" if callable(opt) else "pass one"
        raise TypeError(f"opt must be an optimizer such as adaptx.adam(1e-3), got {type(opt).__name__}; {hint}.")
    lacking = sorted(opt.requires - {"value", "grad_fn", *extra}) if isinstance(opt, Transformation) else []
    if lacking:
        raise TypeError(
            f"the optimizer requires {lacking[0]} at every step, which cannot be computed from the loss alone; pass "
            f"extra={{{lacking[0]!r}: function of (params, *batch)}}."
        )


def _check_not_donated(arrays: list[PyTree], state: PyTree) -> None:
    for what, tree in (("params", arrays), ("state", state)):
        if any(isinstance(x, jax.Array) and x.is_deleted() for x in jax.tree.leaves(tree)):
            raise RuntimeError(
                f"the buffers of {what} were donated to an earlier step and are gone; go on with what it returned."
            )


def _unshared(state: PyTree) -> PyTree:
    """The state with a copy of every array that it holds a second time, as no buffer can be donated twice."""
    leaves, treedef = jax.tree.flatten(state)
    if len({id(x) for x in leaves}) == len(leaves):
        return state
    seen: set[int] = set()
    once = [jnp.copy(x) if isinstance(x, jax.Array) and (id(x) in seen or seen.add(id(x))) else x for x in leaves]
    return jax.tree.unflatten(treedef, once)


def _check_batch(loss_fn: Loss, count: int) -> None:
    try:
        inspect.signature(loss_fn).bind(*range(1 + count))
    except TypeError as error:
        raise TypeError(
            f"loss_fn is called as loss_fn(params, *batch), got {count} batch arguments, which it does not take "
            f"({error}); call the step as step(params, state, *batch) with what loss_fn expects."
        ) from error
    except ValueError:  # a built-in without a signature
        pass


def _check_loss(loss: PyTree, has_aux: bool) -> None:
    if isinstance(loss, tuple) and not has_aux:
        raise TypeError("loss_fn returned a tuple, expected a scalar loss; pass has_aux=True for (loss, aux).")
    if not isinstance(loss, jax.Array):
        numbers = (int, float, np.generic, np.ndarray)
        why = ", which cannot depend on params" if isinstance(loss, numbers) else ""
        raise TypeError(
            f"loss_fn must return a real scalar array, got {type(loss).__name__}{why}; compute it with jax.numpy from "
            "params, and return other things with has_aux=True."
        )
    shape, dtype = np.shape(loss), jnp.result_type(loss)
    if shape or not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"loss_fn must return a real scalar, got shape {shape} and dtype {dtype}; take the mean of the batch."
        )


def _check_lengths(batches: tuple[PyTree, ...]) -> None:
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(batches)}
    if not batches or () in lengths or len(lengths) != 1:
        raise ValueError(
            f"train_epoch scans batches along their first axis, got first axes {sorted(lengths)}; "
            "stack every batch array to (steps, batch, …) with one number of steps."
        )
