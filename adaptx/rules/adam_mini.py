"""Adam-mini: Adam with one second moment for a whole block of an array.

    m ← β₁ m + (1 − β₁) g                mean gradient
    v ← β₂ v + (1 − β₂) mean(g²)         over the block: one number for all of it
    d = m̂ / (√v̂ + ε)                     m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ); the engine does p ← p − lr·d

A block is `size` neighbors along one axis with all of the other axes: with axis=0 and size=1 a row, with axis=-1 a
column, with the head's size a head; with axis=None it is the whole array. Where the axis is no multiple of the size,
the last block is shorter. A vector with axis=0 is Adam.
Zhang et al., "Adam-mini: use fewer learning rates to gain more", 2024, arXiv:2406.16793;
`adaptx.adam_mini_by_name` chooses the blocks of a transformer as the authors' program does.
Departs from the paper in: √v is at least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from math import prod
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, UnsignedOwn, Weighed
from ..fields import count, rate, real
from ..numerics import capped, debias, debias_root, ema, one_minus_power, over, positive_root, root
from ..sharded import filled, gathered
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # mean gradient, units of g
    v: UnsignedOwn  # mean squared gradient of every block, a vector or a number, units of g²


@value_class
class AdamMini(Rule):
    """Adam-mini. Looks at whole blocks; one slot and a number for every block."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    axis: int | None = count(0, low=-8, optional=True)  # along which blocks lie; None for one block
    size: int = count(1)  # ≥ 1, of a block along the axis
    Slots = Moments
    pointwise = False
    momenta = ("b1",)
    reference = "arXiv:2406.16793"

    def expects(self, shape):
        if self.axis is None or not shape:
            return None
        return None if -len(shape) <= self.axis < len(shape) else f"arrays that have an axis {self.axis}"

    def initial(self, name, p):
        return filled(self._means(p), 0.0) if name == "v" else 0.0

    def advance(self, g, s, p, k):
        return Moments(ema(s.m, g, self.b1), ema(s.v, capped(self._means(g * g)), self.b2))

    def direction(self, g, s, old, p, k):
        return over(debias(s.m, self.b1, k), self._spread(debias_root(positive_root(s.v), self.b2, k), g), self.eps)

    def means(self):
        return {"v": f"mean squares of blocks along axis={self.axis}, size={self.size}"}

    def debiased(self):
        return {"b1": 0, "b2": 0}

    def precondition(self, x, s):
        return over(x, self._spread(positive_root(s.v), x), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t)

    def _others(self, x):
        """The axes that lie within a block whole."""
        kept = None if self.axis is None or x.ndim == 0 else self.axis % x.ndim
        return tuple(a for a in range(x.ndim) if a != kept)

    def _means(self, x):
        """The mean over every block."""
        others = self._others(x)
        means = jnp.sum(x / max(prod(x.shape[a] for a in others), 1), others)
        if self.size == 1 or means.ndim == 0:
            return means
        lengths = [min(self.size, means.size - start) for start in range(0, means.size, self.size)]
        blocks = jnp.pad(gathered(means), (0, -means.size % self.size)).reshape(-1, self.size)
        return jnp.sum(blocks / jnp.asarray(lengths, x.dtype)[:, None], -1)

    def _spread(self, y, x):
        """A number for every block at every element of x."""
        if y.ndim and self.size > 1:
            y = jnp.broadcast_to(y[:, None], (*y.shape, self.size)).reshape(-1)[: x.shape[self.axis]]
        return jnp.broadcast_to(jnp.expand_dims(y, self._others(x)) if y.ndim else y, x.shape)
