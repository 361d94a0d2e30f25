"""LaProp: Adam with the division before the mean.

    v ← β₂ v + (1 − β₂) g²               second moment                Algorithm 1
    m ← β₁ m + (1 − β₁) g / (√v̂ + ε)     mean of normalized gradients, v̂ = v / (1 − β₂ᵗ)
    d = m / (1 − β₁ᵗ)                    the engine does p ← p − lr·d

Ziyin, Wang & Ueda, "LaProp: separating momentum and adaptivity in Adam", 2020, arXiv:2002.04839, Algorithm 1.
Departs from the paper in: √v is at least 1e-19 (f32), so that 0/0 is 0 whatever ε; the rate stays out of m, so that a
changing one acts at once (the authors' program has it inside).
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import debias, debias_root, ema, ema_of_squares, one_minus_power, over, over_larger, positive_root, root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # mean normalized gradient, no unit
    v: Unsigned  # mean squared gradient, units of g²


@value_class
class Laprop(Rule):
    """LaProp. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-15, low=0.0)  # units of g
    Slots = Moments
    momenta = ("b1",)
    reference = "arXiv:2002.04839"

    def advance(self, g, s, p, k):
        v = ema_of_squares(s.v, g, self.b2)
        size = debias_root(positive_root(v), self.b2, k)
        return Moments(ema(s.m, over(g, size, self.eps), self.b1), v)

    def debiased(self):
        return {"b1": 0, "b2": 0}

    def foreseeable(self, whole):
        return True

    def bound(self, g, s, k):
        # v ≥ (1 − β₂) g² whatever came before, so that |g|/√v̂ ≤ √((1 − β₂ᵗ)/(1 − β₂))
        weight = one_minus_power(self.b2, k.t) if k.debias else 1.0
        most = jnp.full_like(s.m, 1.0) * jnp.sqrt(weight / self.b2.complement)
        return Moments(ema(s.m, most, self.b1), ema_of_squares(s.v, g, self.b2))

    def direction(self, g, s, old, p, k):
        return debias(s.m, self.b1, k)

    def precondition(self, x, s):
        return over(x, positive_root(s.v), self.eps)

    def surprise(self, g, s, k):
        return over_larger(g, debias_root(positive_root(s.v), self.b2, k), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t)
