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
from ..engine.tree import is_trained
from ..wrappers.sam import takes_second
from ..wrappers.wrapper import takes_any
from .curvature import Estimate
from .trees import join, merged, split, without

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
        extra: what the optimizer requires besides the loss (`opt.requires`), by name, as functions of (params, *batch)
            or as `hutchinson` and `gauss_newton_bartlett` make them: {"hessian": adaptx.hutchinson(loss_fn, every=10)}.

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
        result = loss_fn(join(merged(trained, arrays), rest), *batch)
        loss, aux = _pair(result) if has_aux else (result, None)
        _check_loss(loss, has_aux)
        return loss, aux

    def grad_fn(params):  # of this batch, elsewhere
        return join(jax.grad(loss_of, has_aux=True)(_trained(split(params)[0]))[0], without(rest))

    (loss, aux), found_grads = jax.value_and_grad(loss_of, has_aux=True)(_trained(arrays))
    params, grads = join(arrays, rest), join(found_grads, without(rest))
    searches = {"grad": grads, "value_fn": lambda params: loss_of(split(params)[0])[0]}  # for optax's line searches
    searches = searches if static_opt is not None or takes_any(dynamic_opt) else {}
    if takes_second(state):  # not otherwise: a line search refuses what it does not know
        searches["grad_fn"] = grad_fn

    def moved(more):
        if static_opt is None:
            after, new = dynamic_opt.step(grads, state, params, value=loss, **searches, **more)
        else:
            opt = optax.with_extra_args_support(static_opt)
            updates, new = opt.update(grads, state, params, value=loss, **searches, **more)
            after = optax.apply_updates(params, updates)
        return split(after)[0], new

    new_arrays, new_state = _with_extra(moved, extra, (params, state, batch), {})
    out = {"loss": loss.astype(jnp.float32), **(metrics(new_state) if found(new_state) else {})}
    return new_arrays, new_state, {**out, "aux": aux} if has_aux else out


def _with_extra(moved, extra, now, more):
    """moved(more), more with all extra arguments; an estimate that is not due at this step is None."""
    if not extra:
        return moved(more)
    (name, function), *rest = extra
    params, state, batch = now

    def go(value):
        return _with_extra(moved, rest, now, {**more, name: value})

    if not isinstance(function, Estimate):
        return go(function(params, *batch))
    steps = [one.shown["step"] for one in found(state) if "step" in one.shown]
    if not steps:
        raise TypeError(
            f"extra[{name!r}] is an estimate, which is drawn and due by the number of the step, but the state is "
            f"{type(state).__name__}, expected that of an adaptx optimizer; pass a function of (params, *batch)."
        )
    key = jax.random.fold_in(jax.random.key(function.seed), steps[0])
    if function.every == 1:
        return go(function(params, key, *batch))
    due = steps[0] % function.every == 0
    return lax.cond(due, lambda: go(function(params, key, *batch)), lambda: go(None))


def _trained(arrays: list[PyTree]) -> list[PyTree]:
    return [x if is_trained(x) else None for x in arrays]


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
        makers = {"hessian": "adaptx.hutchinson(loss_fn, every=10)"}
        raise TypeError(
            f"the optimizer requires {lacking[0]}, which cannot be computed from the loss alone; pass "
            f"extra={{{lacking[0]!r}: {makers.get(lacking[0], 'function of (params, *batch)')}}}."
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
