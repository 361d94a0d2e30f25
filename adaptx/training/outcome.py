"""What a training leaves, where it stops, and what an evaluation gives."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..engine.tree import is_none, paths
from .history import History
from .one import LOSS_ALONE
from .trees import is_array


class Fitted(NamedTuple):
    """What a training leaves."""

    params: PyTree
    state: PyTree
    history: History


class NonFiniteError(FloatingPointError):
    """A loss or a gradient was not finite; `fitted` is the training before that step, `step` its number."""

    def __init__(self, message: str, fitted: Fitted, step: int):
        super().__init__(message)
        self.fitted, self.step = fitted, step


def non_finite(bad: int, loss: float, fitted: Fitted, step: int) -> NonFiniteError:
    """What stops a training at a step that is not finite, `bad` being the first leaf whose gradient is not."""
    where, leaves = paths(fitted.params), jax.tree.leaves(fitted.params, is_leaf=is_none)
    lost = [path for path, x in zip(where, leaves, strict=True) if is_array(x) and not finite(x)]
    if bad == LOSS_ALONE:
        first = f"the loss is {loss}, though the gradients are finite"
    else:
        first = f"'{where[bad]}' is the first leaf whose gradient is not, and the loss is {loss:.6g}"
    remedy = (
        f"parameter '{lost[0]}' was not finite before it: look at where params come from"
        if lost
        else "lower the learning rate, clip with max_norm=1.0, look at the minibatch of this step, or skip such steps "
        "with skip_nonfinite=True"
    )
    words = f"step {step} is not finite: {first}; {remedy}. The training before it is this error's .fitted."
    return NonFiniteError(words, fitted, step)


def finite(x: Any) -> bool:
    """Whether all numbers of an array are; whole numbers are."""
    return not jnp.issubdtype(x.dtype, jnp.inexact) or bool(jnp.all(jnp.isfinite(x)))


def measured(found: PyTree, under: str = "eval") -> dict[str, float]:
    """What eval_fn gave, by name.

    Raises:
        TypeError: where that is no number and no dict of numbers.
    """
    given = found if isinstance(found, Mapping) else {"": found}
    out = {}
    for name, x in given.items():
        number = isinstance(x, (int, float, np.generic, np.ndarray, jax.Array))
        if not number or np.ndim(x) or not real(jnp.result_type(x)):
            shape = f" of shape {np.shape(x)}" if number else ""
            raise TypeError(
                f"eval_fn must return a real number or a dict of them, got {type(x).__name__}{shape}"
                f"{f' at {name!r}' if name else ''}; reduce it, as in jnp.mean."
            )
        out[f"{under}/{name}" if name else under] = float(x)
    return out


def real(dtype: np.dtype) -> bool:
    """Whether its values are real numbers, or true and false."""
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))
