"""Adan: adaptive Nesterov momentum.

    Δ = g − g₋                           g₋ the gradient before; Δ = 0 at the first step
    m ← β₁ m + (1 − β₁) g                mean gradient                Algorithm 1, line 3
    v ← β₂ v + (1 − β₂) Δ                mean difference              line 4
    n ← β₃ n + (1 − β₃)(g + β₂ Δ)²       mean square                  line 5
    d = (m̂ + β₂ v̂) / (√n̂ + ε)           each mean divided by 1 − βᵗ  lines 6 and 7; the engine does p ← p − lr·d

Xie et al., "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models", 2022, arXiv:2208.06677,
Algorithm 1. Decays are written as in the authors' program: the paper's β is 1 − ours.
Departs from the paper in: the correction of bias, which the authors' program has; weight decay is the engine's,
p ← (1 − lr λ) p − lr d, where the paper divides by 1 + lr λ after the step (the program's no_prox does as we do); √n is
at least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Signed, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import debias, debias_root, ema, ema_of_squares, one_minus_power, over, positive_root, root
from ..values import Decay, Scalar, value_class


class Means(NamedTuple):
    m: Weighed  # mean gradient, units of g
    v: Weighed  # mean difference of gradients, units of g
    n: Unsigned  # mean square of the gradient looked ahead, units of g²
    g: Signed  # g₋, the gradient before


@value_class
class Adan(Rule):
    """Adan. Pointwise; four slots."""

    b1: Decay | Scalar = rate(0.98)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.92)  # decay of v, and how far ahead d looks, in [0, 1)
    b3: Decay | Scalar = rate(0.99)  # decay of n, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    Slots = Means
    momenta = ("b1", "b2")
    reference = "arXiv:2208.06677"

    def advance(self, g, s, p, k):
        change = g - jnp.where(k.t == 1, g, s.g)
        n = ema_of_squares(s.n, g + self.b2.rate * change, self.b3)
        return Means(ema(s.m, g, self.b1), ema(s.v, change, self.b2), n, g)

    def debiased(self):
        return {"b1": 0, "b2": 0, "b3": 0}

    def foreseeable(self, whole):
        return True

    def bound(self, g, s, k):
        change = g + s.g
        n = ema_of_squares(s.n, g + self.b2.rate * change, self.b3)
        return Means(ema(s.m, g, self.b1), ema(s.v, change, self.b2), n, g)

    def direction(self, g, s, old, p, k):
        ahead = debias(s.m, self.b1, k) + self.b2.rate * debias(s.v, self.b2, k)
        return over(ahead, debias_root(positive_root(s.n), self.b3, k), self.eps)

    def precondition(self, x, s):
        return over(x, positive_root(s.n), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        # that of m; v has another, of β₂
        return root(one_minus_power(self.b3, k.t)) / one_minus_power(self.b1, k.t)
