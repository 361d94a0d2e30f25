"""GaLore: Adam in the space of a gradient's leading singular vectors.

    q = the r leading left singular vectors of g                       at steps 1, gap + 1, 2 gap + 1, …
    R = qᵀ g                             r × n: what the moments are of Algorithm 2
    m ← β₁ m + (1 − β₁) R,  v ← β₂ v + (1 − β₂) R²                     kept as they are where q changes
    d = α q m̂ / (√v̂ + ε)                m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ); the engine does p ← p − lr·d

A matrix that is not wider than tall is transposed first, so that q's columns are as long as its shorter axis. The last
two axes are the matrix, those before a batch. Other arrays, and matrices whose shorter axis is no longer than r, have
Adam, without α.
Zhao et al., "GaLore: memory-efficient LLM training by gradient low-rank projection", 2024, arXiv:2403.03507,
Algorithm 2; square matrices and r ≥ the shorter axis as in the authors' program ("std") and as it is used.
Departs from the paper in: singular vectors have signs here, the largest entry positive, which d sees because moments
outlive q; a leaf whose first gradient comes later has its q from that; √v is at least 1e-19 (f32), so that 0/0 is 0.
Derivatives through a step take q as a constant.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, SignedOwn, UnsignedOwn, WeighedOwn
from ..fields import count, rate, real
from ..matrices import columns_by, is_matrix, leading, renewed, rows_by, wide
from ..numerics import debias, debias_root, ema, ema_of_squares, one_minus_power, over, positive_root, root, squarable
from ..sharded import filled, product
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: WeighedOwn  # mean projected gradient, (…, r, longer axis), units of g
    v: UnsignedOwn  # mean squared projected gradient, units of g²
    q: SignedOwn | None  # orthonormal columns, (…, shorter axis, r); None where there is no projection


@value_class
class Galore(Rule):
    """GaLore. Looks at whole matrices; two slots of rank × longer axis and one of shorter axis × rank."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    scale: Scalar = real(0.25, low=0.0)  # α ≥ 0, no unit
    rank: int = count(128)  # r ≥ 1
    gap: int = count(200)  # ≥ 1, steps
    Slots = Moments
    pointwise = False
    momenta = ("b1",)
    reference = "arXiv:2403.03507"

    def initial(self, name, p):
        if not self._projected(p):
            return None if name == "q" else filled(p, 0.0)
        return rows_by(wide(p, p), self.rank) if name == "q" else columns_by(wide(p, p), self.rank)

    def advance(self, g, s, p, k):
        if not self._projected(g):
            return Moments(ema(s.m, g, self.b1), ema_of_squares(s.v, g, self.b2), None)
        x = wide(g, g)
        due = (jnp.mod(k.t - 1, self.gap) == 0) | (jnp.max(jnp.abs(s.q)) == 0)
        q = renewed(due, lambda: leading(x, self.rank), s.q)
        low = product(jnp.swapaxes(q, -1, -2), x)
        return Moments(ema(s.m, low, self.b1), ema_of_squares(s.v, squarable(low), self.b2), q)

    def direction(self, g, s, old, p, k):
        size = debias_root(positive_root(s.v), self.b2, k)
        return self._back(over(debias(s.m, self.b1, k), size, self.eps), s.q, g)

    def debiased(self):
        return {"b1": 0, "b2": 0}

    def precondition(self, x, s):
        low = product(jnp.swapaxes(s.q, -1, -2), wide(x, x)) if self._projected(x) else x
        return self._back(over(low, positive_root(s.v), self.eps), s.q, x)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t)

    def _projected(self, x):
        return is_matrix(x, self.rank + 1)

    def _back(self, low, q, like):
        return self.scale * wide(product(q, low), like) if self._projected(like) else low
