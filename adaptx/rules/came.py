"""CAME: Adafactor, slowed down where its updates are unsure.

    r, q: means of g² + ε₁ over columns and over rows, each with decay β₂        Algorithm 2, lines 4 and 5
    u = g / √(r qᵀ / mean(r)),  u ← u / max(1, RMS(u) / clip_threshold)          lines 6 to 8
    m ← β₁ m + (1 − β₁) u                                                        line 9
    R, C: means of (u − m)² + ε₂ over columns and over rows, with decay β₃       lines 10 to 12
    d = m / √(R Cᵀ / mean(R))            line 13; the engine does p ← p − lr·d

The last two axes are rows and columns. Arrays with fewer axes keep the mean square whole, and d = m.
Luo et al., "CAME: confidence-guided adaptive memory efficient optimization", 2023, arXiv:2307.02047,
Algorithm 2; arrays with fewer than two axes as in the authors' program.
Departs from the paper in: 0/0 is 0.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, UnsignedOwn, Weighed
from ..fields import rate, real
from ..matrices import columns_of, is_matrix, means, over_rank_one, rms, rows_of
from ..numerics import capped, divide, ema, root
from ..sharded import filled
from ..values import Decay, Scalar, value_class


class Factors(NamedTuple):
    m: Weighed  # mean update, no unit
    r: UnsignedOwn | None  # row means of the mean squared gradient, units of g²; None where not factored
    q: UnsignedOwn | None  # column means, likewise
    v: UnsignedOwn | None  # mean squared gradient; None where factored
    R: UnsignedOwn | None  # row means of the squared distance of updates from their mean, no unit; None likewise
    C: UnsignedOwn | None  # column means, likewise


@value_class
class Came(Rule):
    """CAME. Looks at whole arrays; one slot, and of matrices four vectors."""

    b1: Decay | Scalar = rate(0.9)  # β₁, in [0, 1), of updates
    b2: Decay | Scalar = rate(0.999)  # β₂, in [0, 1), of squared gradients
    b3: Decay | Scalar = rate(0.9999)  # β₃, in [0, 1), of squared distances
    eps1: Scalar = real(1e-30, low=0.0)  # units of g²
    eps2: Scalar = real(1e-16, low=0.0)  # no unit
    clip_threshold: Scalar = real(1.0, low=0.0, open_low=True)  # > 0, the largest RMS of u
    Slots = Factors
    pointwise = False
    momenta = None  # with b1 = 0 nothing is left of u − m, which it divides by
    reference = "arXiv:2307.02047"

    def initial(self, name, p):
        if name == "m":
            return 0.0
        if is_matrix(p) == (name == "v"):
            return None
        return filled(p, 0.0) if name == "v" else rows_of(p) if name in "rR" else columns_of(p)

    def advance(self, g, s, p, k):
        square = capped(g * g) + self.eps1
        if not is_matrix(g):
            v = ema(s.v, square, self.b2)
            return Factors(ema(s.m, self._clipped(divide(g, root(v))), self.b1), None, None, v, None, None)
        r, q = (ema(old, mean, self.b2) for old, mean in zip((s.r, s.q), means(square), strict=True))
        u = self._clipped(over_rank_one(g, r, q))
        m = ema(s.m, u, self.b1)
        unsure = zip((s.R, s.C), means((u - m) ** 2 + self.eps2), strict=True)
        return Factors(m, r, q, None, *(ema(old, mean, self.b3) for old, mean in unsure))

    def direction(self, g, s, old, p, k):
        return over_rank_one(s.m, s.R, s.C) if is_matrix(g) else s.m

    def rescaled(self, unit):
        return replace(self, eps1=self.eps1 * unit**2)

    def precondition(self, x, s):
        return over_rank_one(x, s.r, s.q) if is_matrix(x) else divide(x, root(s.v))

    def _clipped(self, u):
        return u / jnp.maximum(1, rms(u) / self.clip_threshold)
