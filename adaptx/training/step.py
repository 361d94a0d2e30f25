"""The training step, and an epoch of them in one dispatch.

Both are module-level jitted functions that take the optimizer as an argument, so that two trainings which differ only
in numbers (learning rate, decay rates) share one compilation.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import PyTree

from ..engine.telemetry import metrics, states
from ..engine.tree import is_none, is_trained
from ..engine.value import Frozen, Transformation

Metrics = dict[str, Any]


def train_step(
    loss_fn: Callable[..., Any], opt: optax.GradientTransformation, has_aux: bool = False
) -> Callable[..., tuple[PyTree, Any, Metrics]]:
    """A jitted training step: (params, state, *batch) -> (params, state, metrics).

    params and state are donated: use what comes back, not what went in. Leaves of params that are not arrays
    (functions, strings, None) are carried along.

    Args:
        loss_fn: loss_fn(params, *batch) -> a scalar loss, or (loss, aux) with has_aux.
        opt: an adaptx optimizer, or any optax transformation. The loss reaches it as `value=`.
        has_aux: whether loss_fn returns auxiliary outputs; they come back as metrics["aux"].

    Returns:
        The step. metrics holds "loss" and what `adaptx.metrics(state)` holds ("learning_rate", …), f32 scalars.
    """
    return _bound(_step, loss_fn, opt, has_aux)


def train_epoch(
    loss_fn: Callable[..., Any], opt: optax.GradientTransformation, has_aux: bool = False
) -> Callable[..., tuple[PyTree, Any, Metrics]]:
    """Many training steps as one dispatch: (params, state, *batches) -> (params, state, metrics).

    Every array in batches has the steps along its first axis; `lax.scan` runs them in order. metrics are stacked along
    the same axis. Otherwise as `train_step`.
    """
    return _bound(_epoch, loss_fn, opt, has_aux)


def _bound(run: Callable[..., Any], loss_fn: Any, opt: Any, has_aux: bool) -> Callable[..., Any]:
    if not callable(loss_fn):
        raise TypeError(f"loss_fn must be a function of (params, *batch), got {type(loss_fn).__name__}; pass one.")
    if not isinstance(opt, optax.GradientTransformation):
        raise TypeError(f"opt must be an optimizer such as adaptx.adam(1e-3), got {type(opt).__name__}; pass one.")
    value = isinstance(opt, Transformation)
    # numbers become device arrays here, once, instead of at every call
    dynamic = jax.tree.map(jnp.asarray, opt) if value else None

    def call(params: PyTree, state: Any, *batch: Any) -> tuple[PyTree, Any, Metrics]:
        arrays, rest = split(params)
        arrays, state, out = run(loss_fn, has_aux, None if value else opt, rest, dynamic, arrays, state, *batch)
        return join(arrays, rest), state, out

    return call


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=(5, 6))
def _step(loss_fn, has_aux, static_opt, rest, dynamic_opt, arrays, state, *batch):
    return _one(loss_fn, has_aux, static_opt or dynamic_opt, rest, arrays, state, batch)


@partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=(5, 6))
def _epoch(loss_fn, has_aux, static_opt, rest, dynamic_opt, arrays, state, *batches):
    opt = static_opt or dynamic_opt
    _check_lengths(batches)

    def body(carry, batch):
        arrays, state, out = _one(loss_fn, has_aux, opt, rest, carry[0], carry[1], batch)
        return (arrays, state), out

    (arrays, state), out = lax.scan(body, (arrays, state), batches)
    return arrays, state, out


def _one(loss_fn, has_aux, opt, rest, arrays, state, batch):
    def loss_of(trained):
        result = loss_fn(join(_merge(trained, arrays), rest), *batch)
        loss, aux = _pair(result) if has_aux else (result, None)
        _check_loss(loss, has_aux)
        return loss, aux

    trained = [x if is_trained(x) else None for x in arrays]
    (loss, aux), grads = jax.value_and_grad(loss_of, has_aux=True)(trained)
    if isinstance(opt, Transformation):
        params, state = opt.step(join(grads, _without(rest)), state, join(arrays, rest), value=loss)
        arrays = split(params)[0]
    else:
        opt = optax.with_extra_args_support(opt)
        updates, state = opt.update(join(grads, _without(rest)), state, join(arrays, rest), value=loss)
        arrays = split(optax.apply_updates(join(arrays, rest), updates))[0]
    out = {"loss": loss.astype(jnp.float32), **(metrics(state) if states(state) else {})}
    return arrays, state, {**out, "aux": aux} if has_aux else out


def split(params: PyTree) -> tuple[list[Any], Frozen]:
    """(the leaves with None for those that are not arrays, everything else as a hashable value)."""
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    return [x if is_array(x) else None for x in leaves], Frozen((treedef, [None if is_array(x) else x for x in leaves]))


def join(arrays: list[Any], rest: Frozen) -> PyTree:
    """The inverse of split."""
    treedef, others = rest.tree
    return treedef.unflatten([o if a is None else a for a, o in zip(arrays, others, strict=True)])


def is_array(x: Any) -> bool:
    """Whether x is data; anything else (Python ints too: they may be shapes) is structure."""
    return isinstance(x, float) or (hasattr(x, "dtype") and hasattr(x, "shape"))


def _without(rest: Frozen) -> Frozen:
    treedef, others = rest.tree
    return Frozen((treedef, [None] * len(others)))


def _merge(trained: list[Any], arrays: list[Any]) -> list[Any]:
    return [a if t is None else t for t, a in zip(trained, arrays, strict=True)]


def _pair(result: Any) -> tuple[Any, Any]:
    if not (isinstance(result, tuple) and len(result) == 2):
        raise TypeError(
            f"loss_fn must return (loss, aux) because has_aux=True, got {type(result).__name__}; return a pair."
        )
    return result


def _check_loss(loss: Any, has_aux: bool) -> None:
    if isinstance(loss, tuple) and not has_aux:
        raise TypeError("loss_fn returned a tuple, expected a scalar loss; pass has_aux=True for (loss, aux).")
    shape = np.shape(loss)
    if shape or not jnp.issubdtype(jnp.result_type(loss), jnp.floating):
        raise TypeError(
            f"loss_fn must return a real scalar, got shape {shape} and dtype {jnp.result_type(loss)}; "
            "take the mean over the batch."
        )


def _check_lengths(batches: tuple[Any, ...]) -> None:
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(batches)}
    if not batches or () in lengths or len(lengths) != 1:
        raise ValueError(
            f"train_epoch scans batches along their first axis, got first axes {sorted(lengths)}; "
            "stack every batch array to (steps, batch, …) with one number of steps."
        )
