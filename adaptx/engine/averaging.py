"""Averages of the iterates: an average to evaluate at, and slow weights that lead the fast ones."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..numerics import divide, ema, one_minus_power
from ..values import Decay, Scalar, static, value_class
from .layout import nothing
from .lift import as_arrays
from .tree import take_apart
from .value import Transformation
from .wrapper import Iterates, Wrapper


@value_class
class Averaged(Wrapper):
    """An average of the parameters over the steps, to evaluate at.

        decay       a ← b a + (1 − b) p,  evaluated as a / (1 − bᵗ)
        power γ     a ← (1 − w) a + w p,  w = (1 + γ) / (t + γ)           polynomial: the later steps count more

    Polyak & Juditsky, 1992, doi:10.1137/0330046; polynomial: Shamir & Zhang, 2013, arXiv:1212.1824.
    """

    inner: Transformation
    decay: Decay | None = None
    power: Scalar | None = None

    def _fresh(self, p: Array) -> dict[str, Array]:
        return {"average": jnp.zeros_like(p)}

    def _scalars(self) -> dict[str, Array]:
        return {"t": jnp.zeros((), jnp.float32)}

    def step(self, grads: PyTree, state: Iterates, params: PyTree, **extra: Any) -> tuple[PyTree, Iterates]:
        """(new parameters, new state)."""
        leaves = take_apart(params)
        averages = self._rows(state, leaves)["average"]
        params, inner = self.inner.step(grads, state.inner, params, **extra)
        moved = take_apart(params)
        averages, t = _average(self, averages, as_arrays(moved.arrays), state.scalars["t"])
        return params, Iterates(inner, {"average": leaves.join(averages, nothing)}, {"t": t})

    def eval_params(self, state: Iterates, params: PyTree) -> PyTree:
        """The average, in the parameters' dtypes; the parameters themselves before the first step."""
        leaves = take_apart(params)
        averages, t = self._rows(state, leaves)["average"], state.scalars["t"]
        if self.decay is not None:
            averages = [divide(a, one_minus_power(self.decay, t.astype(a.dtype))) for a in averages]
        current = as_arrays(leaves.arrays)
        out = [jnp.where(t > 0, a, p).astype(p.dtype) for a, p in zip(averages, current, strict=True)]
        return leaves.join(out, lambda leaf: leaf)


@jax.jit
def _average(wrapper: Averaged, averages: list[Array], ps: list[Array], t: Array) -> tuple[list[Array], Array]:
    t = t + 1

    def one(a, p):
        p = p.astype(a.dtype)
        if wrapper.decay is not None:
            return ema(a, p, jax.tree.map(lambda c: jnp.asarray(c, a.dtype), wrapper.decay))
        power = jnp.asarray(wrapper.power, a.dtype)
        return a + (1 + power) / (t.astype(a.dtype) + power) * (p - a)

    return [one(a, p) for a, p in zip(averages, ps, strict=True)], t


@value_class
class Lookahead(Wrapper):
    """Slow weights that step toward the fast ones.

        every k steps:  s ← s + α (p − s),  p ← s                        evaluated at s

    Zhang, Lucas, Hinton & Ba, "Lookahead optimizer: k steps forward, 1 step back", 2019, arXiv:1907.08610, Algorithm 1.
    The inner optimizer's slots are kept across the synchronization.
    """

    inner: Transformation
    alpha: Scalar = 0.5
    k: int = static(default=5)

    def _fresh(self, p: Array) -> dict[str, Array]:
        return {"slow": p}

    def _scalars(self) -> dict[str, Array]:
        return {"t": jnp.zeros((), jnp.float32)}

    def step(self, grads: PyTree, state: Iterates, params: PyTree, **extra: Any) -> tuple[PyTree, Iterates]:
        """(new parameters, new state)."""
        leaves = take_apart(params)
        slow = self._rows(state, leaves)["slow"]
        params, inner = self.inner.step(grads, state.inner, params, **extra)
        fast = as_arrays(take_apart(params).arrays)
        fast, slow, t = _look(self, slow, fast, state.scalars["t"])
        return leaves.join(fast, lambda leaf: leaf), Iterates(inner, {"slow": leaves.join(slow, nothing)}, {"t": t})

    def eval_params(self, state: Iterates, params: PyTree) -> PyTree:
        """The slow weights, in the parameters' dtypes."""
        leaves = take_apart(params)
        slow = self._rows(state, leaves)["slow"]
        out = [s.astype(p.dtype) for s, p in zip(slow, as_arrays(leaves.arrays), strict=True)]
        return leaves.join(out, lambda leaf: leaf)


@jax.jit
def _look(wrapper: Lookahead, slow: list[Array], fast: list[Array], t: Array) -> tuple[list[Array], list[Array], Array]:
    t = (t + 1) % wrapper.k

    def one(s, p):
        new = jnp.where(t == 0, s + jnp.asarray(wrapper.alpha, s.dtype) * (p.astype(s.dtype) - s), s)
        return jnp.where(t == 0, new.astype(p.dtype), p), new

    pairs = [one(s, p) for s, p in zip(slow, fast, strict=True)]
    return [p for p, _ in pairs], [s for _, s in pairs], t
