"""Adafactor.

    β̂ = 1 − t^(−c)                       c = decay_rate               section 7.2
    r ← β̂ r + (1 − β̂) mean over columns of (g² + ε₁)                  Algorithm 4, line 5
    q ← β̂ q + (1 − β̂) mean over rows of (g² + ε₁)                     line 6
    v̂ = r qᵀ / mean(r)                                                 line 7
    u = g / √v̂,  u ← u / max(1, RMS(u) / clip_threshold)               lines 8-9
    d = max(ε₂, RMS(p)) · u              scale_parameter; else d = u   lines 3 and 10
                                         the engine does p ← p − lr·d

The last two axes are rows and columns; those before are a batch of matrices. Arrays with fewer axes, or whose last two
are not both as long as min_dim_size_to_factor, keep v ← β̂ v + (1 − β̂)(g² + ε₁) whole. With b1, m ← b₁ m + (1 − b₁) u
takes the place of u, without correction of its bias.
Shazeer & Stern, "Adafactor: adaptive learning rates with sublinear memory cost", 2018, arXiv:1804.04235, Algorithms
4 to 6. Their relative step is a learning rate of min(10⁻², 1/√t).
Departs from the paper in: the mean in place of the sum for rows and columns, which is the same v̂; b1, which the paper
leaves at 0.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, UnsignedOwn, Weighed
from ..fields import count, rate, real, switch
from ..matrices import columns_of, is_matrix, means, over_rank_one, rms, rows_of
from ..numerics import capped, divide, ema, root
from ..sharded import filled
from ..values import Decay, Scalar, value_class


class Factors(NamedTuple):
    r: UnsignedOwn  # row means of the mean squared gradient, (…, rows), units of g²; None where not factored
    q: UnsignedOwn  # column means, (…, columns), units of g²; None where not factored
    v: UnsignedOwn  # mean squared gradient, units of g²; None where factored
    m: Weighed | None = None  # mean direction, no unit


@value_class
class Adafactor(Rule):
    """Adafactor. Looks at whole arrays; two vectors in place of a second moment, one slot more with b1."""

    decay_rate: Scalar = real(0.8, low=0.0, open_low=True)  # c > 0, power of t in β̂
    eps1: Scalar = real(1e-30, low=0.0)  # ≥ 0, units of g²
    eps2: Scalar = real(1e-3, low=0.0)  # ≥ 0, units of p
    clip_threshold: Scalar = real(1.0, low=0.0, open_low=True)  # > 0, the largest RMS of u
    b1: Decay | Scalar | None = rate(None, optional=True)  # decay of m, in [0, 1); None for no mean
    min_dim_size_to_factor: int = count(1)  # ≥ 1, elements
    scale_parameter: bool = switch(True)  # steps in proportion to the RMS of p
    Slots = Factors
    pointwise = False
    reads_params = True
    momenta = ("b1",)
    reference = "arXiv:1804.04235"

    def unused(self):
        return ("m",) if self.b1 is None else ()

    def initial(self, name, p):
        if name == "m":
            return 0.0
        if self._factored(p) == (name == "v"):
            return None
        return filled(p, 0.0) if name == "v" else rows_of(p) if name == "r" else columns_of(p)

    def advance(self, g, s, p, k):
        square = capped(g * g) + self.eps1
        weight = k.t ** (-self.decay_rate)  # 1 − β̂
        r: Scalar = None
        q: Scalar = None
        v: Scalar = None
        if self._factored(g):
            r, q = (old + weight * (mean - old) for old, mean in zip((s.r, s.q), means(square), strict=True))
        else:
            v = s.v + weight * (square - s.v)
        return Factors(r, q, v, None if self.b1 is None else ema(s.m, self._clipped(g, r, q, v), self.b1))

    def direction(self, g, s, old, p, k):
        u = self._clipped(g, s.r, s.q, s.v) if self.b1 is None else s.m
        return jnp.maximum(self.eps2, rms(p)) * u if self.scale_parameter else u

    def rescaled(self, unit):
        return replace(self, eps1=self.eps1 * unit**2)

    def precondition(self, x, s):
        return self._normalized(x, s.r, s.q, s.v)

    def _factored(self, p):
        return is_matrix(p, self.min_dim_size_to_factor)

    def _normalized(self, x, r, q, v):
        return over_rank_one(x, r, q) if self._factored(x) else divide(x, root(v))

    def _clipped(self, g, r, q, v):
        u = self._normalized(g, r, q, v)
        return u / jnp.maximum(1, rms(u) / self.clip_threshold)
