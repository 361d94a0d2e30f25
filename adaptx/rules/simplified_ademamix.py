"""Simplified AdEMAMix: one long sum of gradients, and the gradient itself.

    m ← β₁ m + g                         decaying sum                 equation of section 4
    v ← β₂ v + (1 − β₂) g²               second moment
    d = (α g + m) / (√v̂ + ε)             v̂ = v / (1 − β₂ᵗ); the engine does p ← p − lr·d

m is a sum, 1/(1 − β₁) times as long as a mean: rates are that much smaller than Adam's.
Morwani et al., "Connections between schedule-free optimizers, AdEMAMix, and accelerated SGD variants", 2025,
arXiv:2502.02431.
Departs from the paper in: √v is at least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import debias_root, ema_of_squares, one_minus_power, over, over_larger, positive_root, root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # decaying sum of gradients, units of g
    v: Unsigned  # mean squared gradient, units of g²


@value_class
class SimplifiedAdemamix(Rule):
    """Simplified AdEMAMix. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.99)  # decay of the sum m, in [0, 1)
    b2: Decay | Scalar = rate(0.95)  # decay of v, in [0, 1)
    alpha: Scalar = real(0.0, low=0.0)  # α, weight of the gradient
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    Slots = Moments
    momenta = ("b1",)
    reference = "arXiv:2502.02431"

    def advance(self, g, s, p, k):
        return Moments(self.b1.rate * s.m + g, ema_of_squares(s.v, g, self.b2))

    def debiased(self):
        return {"b2": 0}

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return over(self.alpha * g + s.m, debias_root(positive_root(s.v), self.b2, k), self.eps)

    def precondition(self, x, s):
        return over(x, positive_root(s.v), self.eps)

    def surprise(self, g, s, k):
        return over_larger(g, debias_root(positive_root(s.v), self.b2, k), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t))
