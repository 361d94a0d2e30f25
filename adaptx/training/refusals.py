"""What a training step refuses, each in one sentence."""

import inspect
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ..engine.transformation import Transformation

Loss = Callable[..., PyTree]  # (params, *batch) -> a scalar, or (scalar, aux)
Extra = Mapping[str, Callable[..., PyTree]]  # name -> function of (params, *batch)


def pair(result: PyTree) -> tuple[PyTree, PyTree]:
    """(loss, aux) of a loss function that has aux."""
    if not (isinstance(result, tuple) and len(result) == 2):
        came = "an array" if isinstance(result, jax.Array) else type(result).__name__
        raise TypeError(f"loss_fn must return (loss, aux) because has_aux=True, got {came}; return a pair.")
    return result


def check_functions(loss_fn: object, opt: PyTree, has_aux: object, extra: object) -> None:
    """What train_step is given, the optimizer's requirements included."""
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


def check_not_donated(arrays: list[PyTree], state: PyTree) -> None:
    """That no buffer is gone."""
    for what, tree in (("params", arrays), ("state", state)):
        if any(isinstance(x, jax.Array) and x.is_deleted() for x in jax.tree.leaves(tree)):
            raise RuntimeError(
                f"the buffers of {what} were donated to an earlier step and are gone; go on with what it returned."
            )


def check_batch(loss_fn: Loss, count: int, with_rng: bool) -> None:
    """That loss_fn takes a batch of so many arguments."""
    keyword = {"rng": None} if with_rng else {}
    try:
        inspect.signature(loss_fn).bind(*range(1 + count), **keyword)
    except TypeError as error:
        rng = " and rng=key" if with_rng else ""
        raise TypeError(
            f"loss_fn is called as loss_fn(params, *batch){rng and ' with rng=key'}, got {count} batch arguments{rng}, "
            f"which it does not take ({error}); pass as many as it takes: step(params, state, *batch); to "
            "fit data=(x, y), as [x, y] are two minibatches."
        ) from error
    except ValueError:  # a built-in without a signature
        pass


def as_key(rng: PyTree) -> Array | None:
    """A seed or a random key as a typed key.

    Raises:
        TypeError: for anything else.
    """
    if rng is None:
        return None
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool) and rng >= 0:
        return jax.random.key(int(rng))
    if isinstance(rng, jax.Array) and jnp.issubdtype(rng.dtype, jax.dtypes.prng_key) and rng.ndim == 0:
        return rng
    if isinstance(rng, jax.Array) and rng.dtype == jnp.uint32 and rng.ndim == 1:
        return jax.random.wrap_key_data(rng)
    raise TypeError(
        f"rng must be a seed ≥ 0 or a random key, got {rng!r} ({type(rng).__name__}); pass an int or jax.random.key(0)."
    )


def check_loss(loss: PyTree, has_aux: bool) -> None:
    """That the loss is one real number."""
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


def check_lengths(batches: tuple[PyTree, ...]) -> None:
    """That there is one number of steps."""
    lengths = {jnp.shape(x)[:1] for x in jax.tree.leaves(batches)}
    if not batches or () in lengths or len(lengths) != 1:
        raise ValueError(
            f"train_epoch scans batches along their first axis, got first axes {sorted(lengths)}; "
            "stack every batch array to (steps, batch, …) with one number of steps."
        )
