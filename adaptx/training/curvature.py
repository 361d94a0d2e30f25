"""Estimates of the Hessian's diagonal, for the optimizers that are given one: `sophia` and `adahessian`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..checks import flag, whole
from ..engine.tree import is_trained
from .trees import join, merged, split, without


def _is_key(x: PyTree) -> bool:
    """Whether x is one random key, typed or as jax had them before."""
    dtype = getattr(x, "dtype", None)
    if dtype is None:
        return False
    typed = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    return jnp.ndim(x) == (0 if typed else 1) and bool(typed or dtype == jnp.uint32)


@dataclass(frozen=True)
class Estimate(ABC):
    """An estimate from random numbers: a function of (params, key, *batch), a tree like the gradients.

    `train_step` calls it, as `extra`, at steps 0, every, 2·every, … of its optimizer, with a key of (seed, step).
    """

    function: Callable[..., PyTree]  # of (params, *batch): a loss, or logits
    every: int = 1  # ≥ 1, steps
    seed: int = 0  # ≥ 0
    has_aux: bool = False  # whether function returns (what is wanted, aux)
    name: ClassVar[str] = ""  # of what makes it
    scalar: ClassVar[bool] = True  # whether function returns a number

    def __post_init__(self) -> None:
        if not callable(self.function):
            came = type(self.function).__name__
            raise TypeError(f"{self.name} takes a function of (params, *batch), got {came}; pass the function itself.")
        whole("every", self.every, 1)
        whole("seed", self.seed, 0)
        flag("has_aux", self.has_aux)

    def __call__(self, params: PyTree, key: Array | None = None, *batch: PyTree) -> PyTree:
        """The estimate at params; None at leaves that are not trained.

        Raises:
            TypeError: where key is none, or the function returns what is not estimated from.
        """
        if key is None or not _is_key(key):
            raise TypeError(
                f"{self.name}: the second argument must be one random key, got {type(key).__name__}; call "
                "estimate(params, jax.random.key(0), *batch)."
            )
        arrays, rest = split(params)
        trained = [x if is_trained(x) else None for x in arrays]

        def value(trained: list[PyTree]) -> Array:
            found = self.function(join(merged(trained, arrays), rest), *batch)
            found = found[0] if self.has_aux else found
            if (jnp.ndim(found) == 0) != self.scalar:
                raise TypeError(
                    f"{self.name}: the function must return {'one number' if self.scalar else 'logits (…, classes)'}, "
                    f"got shape {jnp.shape(found)}; {'reduce the loss' if self.scalar else 'return them, not a loss'}."
                )
            return found

        return join(self._diagonal(value, trained, key), without(rest))

    @abstractmethod
    def _diagonal(self, value: Callable[..., Array], trained: list[PyTree], key: Array) -> list[PyTree]:
        """The estimate from value(trained), array by array."""


class Hutchinson(Estimate):
    """u ⊙ H u for signs u drawn at random: its mean is the diagonal of H."""

    name = "hutchinson"

    def _diagonal(self, value: Callable[..., Array], trained: list[PyTree], key: Array) -> list[PyTree]:
        signs = [
            None if x is None else jax.random.rademacher(jax.random.fold_in(key, i), jnp.shape(x), jnp.result_type(x))
            for i, x in enumerate(trained)
        ]
        turned = jax.jvp(jax.grad(value), (trained,), (signs,))[1]
        return jax.tree.map(jnp.multiply, signs, turned)


class GaussNewtonBartlett(Estimate):
    """n ĝ ⊙ ĝ, ĝ the gradient of the mean cross entropy of n labels drawn from the model's own logits."""

    name, scalar = "gauss_newton_bartlett", False

    def _diagonal(self, value: Callable[..., Array], trained: list[PyTree], key: Array) -> list[PyTree]:
        def drawn(trained: list[PyTree]) -> tuple[Array, int]:
            logits = value(trained)
            labels = jax.random.categorical(key, jax.lax.stop_gradient(logits))
            chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)
            return -jnp.mean(chosen), chosen.size

        grads, count = jax.grad(drawn, has_aux=True)(trained)
        return jax.tree.map(lambda g: count * (g * g), grads)


def hutchinson(
    loss_fn: Callable[..., PyTree], every: int = 1, seed: int = 0, has_aux: bool = False
) -> Callable[..., PyTree]:
    """Hutchinson's estimate of the diagonal of a loss's Hessian: u ⊙ Hu, u of random signs. Costs two gradients.

    Args:
        loss_fn: loss_fn(params, *batch) -> a scalar loss, or (loss, aux) with has_aux.
        every: ≥ 1; `train_step` computes it at every so many steps.
        seed: ≥ 0, of the numbers that `train_step` draws.
        has_aux: whether loss_fn returns auxiliary outputs.

    Returns:
        estimate(params, key, *batch) -> a tree like jax.grad's, for use under jit: what `sophia` and `adahessian`
        take as hessian=. Equal by content, so that equal ones share a compilation.

    Hutchinson, 1990, doi:10.1080/03610919008812866; Bekas, Kokiopoulou & Saad, 2007, doi:10.1016/j.apnum.2007.01.003.
    """
    return Hutchinson(loss_fn, every, seed, has_aux)


def gauss_newton_bartlett(
    logits_fn: Callable[..., PyTree], every: int = 1, seed: int = 0, has_aux: bool = False
) -> Callable[..., PyTree]:
    """The Gauss-Newton-Bartlett estimate of the diagonal of a cross entropy's Hessian, never negative. One gradient.

    Args:
        logits_fn: logits_fn(params, *batch) -> logits (…, classes), or (logits, aux) with has_aux.
        every: ≥ 1; `train_step` computes it at every so many steps.
        seed: ≥ 0, of the numbers that `train_step` draws.
        has_aux: whether logits_fn returns auxiliary outputs.

    Returns:
        estimate(params, key, *batch), as `hutchinson` does, of the mean over all leading axes of the logits.

    Liu et al., 2023, arXiv:2305.14342, Algorithm 2.
    """
    return GaussNewtonBartlett(logits_fn, every, seed, has_aux)
