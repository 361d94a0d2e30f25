"""AdaBelief: Adam with the variance of gradients in place of their second moment.

    m ← β₁ m + (1 − β₁) g                first moment                 Algorithm 2
    s ← β₂ s + (1 − β₂)(g − m)² + ε_root                              m after this gradient
    d = m̂ / (√ŝ + ε)                     m̂ = m / (1 − β₁ᵗ), ŝ = s / (1 − β₂ᵗ); the engine does p ← p − lr·d

Zhuang et al., "AdaBelief optimizer: adapting stepsizes by the belief in observed gradients", 2020, arXiv:2010.07468,
Algorithm 2. ε_root adds up in s.
Departs from the paper in: √s is at least 1e-19 (f32), so that 0/0 is 0 whatever ε; the defaults of both ε are those of
the authors' program and of optax, 1e-16 (the paper's 1e-8 leaves √s no less than 3e-3).
"""

from dataclasses import replace
from typing import NamedTuple

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import debias, debias_root, ema, ema_of_squares, one_minus_power, over, positive_root, root
from ..values import Decay, Scalar, value_class


class Belief(NamedTuple):
    m: Weighed  # mean gradient, units of g
    s: Unsigned  # mean squared distance of gradients from it, units of g²


@value_class
class Adabelief(Rule):
    """AdaBelief. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of s, in [0, 1)
    eps: Scalar = real(1e-16, low=0.0)  # units of g
    eps_root: Scalar = real(1e-16, low=0.0)  # units of g²
    Slots = Belief
    momenta = None  # with b1 = 0 nothing is left of g − m, which it divides by
    reference = "arXiv:2010.07468"

    def advance(self, g, s, p, k):
        distance = self.b1.rate * (g - s.m)  # g − m, by the m before: of the new one XLA would keep a copy
        return Belief(ema(s.m, g, self.b1), ema_of_squares(s.s, distance, self.b2, self.eps_root))

    def debiased(self):
        return {"b1": 0, "b2": 0}

    def foreseeable(self, whole):
        return True

    def bound(self, g, s, k):
        distance = self.b1.rate * (g + s.m)
        return Belief(ema(s.m, g, self.b1), ema_of_squares(s.s, distance, self.b2, self.eps_root))

    def direction(self, g, s, old, p, k):
        size = debias_root(positive_root(s.s), self.b2, k)
        return over(debias(s.m, self.b1, k), size, self.eps)

    def precondition(self, x, s):
        return over(x, positive_root(s.s), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit, eps_root=self.eps_root * unit**2)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t)
