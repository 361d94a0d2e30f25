"""AdEMAMix: Adam with a second, much longer memory of gradients.

    m₁ ← β₁ m₁ + (1 − β₁) g              fast mean                    Algorithm 1
    m₂ ← β₃ m₂ + (1 − β₃) g              slow mean
    v ← β₂ v + (1 − β₂) g²               second moment
    d = (m̂₁ + α m₂) / (√v̂ + ε)           m̂₁ = m₁ / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ); the engine does p ← p − lr·d

m₂ is not corrected. Long runs begin with α and β₃ small: `schedules.linear_schedule(0, alpha, steps)` and
`schedules.half_life(b1, b3, steps)`.
Pagliardini, Ablin & Grangier, "The AdEMAMix optimizer: better, faster, older", 2024, arXiv:2409.03137, Algorithm 1.
Departs from the paper in: √v is at least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import debias, debias_root, ema, ema_of_squares, one_minus_power, over, over_larger, positive_root, root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m1: Weighed  # fast mean gradient, units of g
    m2: Weighed  # slow mean gradient, units of g
    v: Unsigned  # mean squared gradient, units of g²


@value_class
class Ademamix(Rule):
    """AdEMAMix. Pointwise; three slots."""

    b1: Decay | Scalar = rate(0.9)  # decay of m₁, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    b3: Decay | Scalar = rate(0.9999)  # decay of m₂, in [0, 1)
    alpha: Scalar = real(5.0, low=0.0)  # α, weight of the slow mean
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    Slots = Moments
    momenta = ("b1", "alpha")
    reference = "arXiv:2409.03137"

    def advance(self, g, s, p, k):
        return Moments(ema(s.m1, g, self.b1), ema(s.m2, g, self.b3), ema_of_squares(s.v, g, self.b2))

    def debiased(self):
        return {"b1": 0, "b2": 0}

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        mixed = debias(s.m1, self.b1, k) + self.alpha * s.m2
        return over(mixed, debias_root(positive_root(s.v), self.b2, k), self.eps)

    def precondition(self, x, s):
        return over(x, positive_root(s.v), self.eps)

    def surprise(self, g, s, k):
        return over_larger(g, debias_root(positive_root(s.v), self.b2, k), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t)
