"""QHAdam: quasi-hyperbolic Adam, a mean of gradient and moment in the numerator and in the denominator.

    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²                    equations of section 5
    d = ((1 − ν₁) g + ν₁ m̂) / (√((1 − ν₂) g² + ν₂ v̂) + ε)            m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
                                         the engine does p ← p − lr·d

ν₁ = ν₂ = 1 is Adam; ν₁ = 0, ν₂ = 1 is RMSProp with the bias of v corrected; ν₁ = 0.7, β₁ = 0.995 is what the paper
suggests beside ν₂ = 1.
Ma & Yarats, "Quasi-hyperbolic momentum and Adam for deep learning", 2019, arXiv:1810.06801, section 5.
Departs from the paper in: the root is at least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import debias, debias_root, ema, ema_of_squares, one_minus_power, over, over_larger, positive_root, root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # mean gradient, units of g
    v: Unsigned  # mean squared gradient, units of g²


@value_class
class Qhadam(Rule):
    """QHAdam. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.995)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    nu1: Scalar = real(0.7)  # ν₁, any number; in [0, 1] for a mean
    nu2: Scalar = real(1.0, low=0.0, high=1.0)  # ν₂, in [0, 1]
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    Slots = Moments
    momenta = ("b1",)
    reference = "arXiv:1810.06801"

    def advance(self, g, s, p, k):
        return Moments(ema(s.m, g, self.b1), ema_of_squares(s.v, g, self.b2))

    def debiased(self):
        return {"b1": 0, "b2": 0}

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        mean = g + self.nu1 * (debias(s.m, self.b1, k) - g)
        square = g * g * (1 - self.nu2) + self.nu2 * debias(s.v, self.b2, k)
        return over(mean, positive_root(square), self.eps)

    def precondition(self, x, s):
        return over(x, positive_root(s.v), self.eps)

    def surprise(self, g, s, k):
        return over_larger(g, debias_root(positive_root(s.v), self.b2, k), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t)
