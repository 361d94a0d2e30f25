"""AdaMax.

    m ← β₁ m + (1 − β₁) g                first moment                 Algorithm 2
    u ← max(β₂ u, |g| + ε)               exponentially weighted largest gradient
    d = m / ((1 − β₁ᵗ) u)                the engine does p ← p − lr·d

Kingma & Ba, "Adam: a method for stochastic optimization", 2015, arXiv:1412.6980, Algorithm 2.
Departs from the paper in: ε, which stands where torch and optax have it; 0/0 is 0.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import debias, divide, ema, one_minus_power
from ..values import Decay, Scalar, value_class


class Sizes(NamedTuple):
    m: Weighed  # mean gradient, units of g
    u: Unsigned  # largest gradient, decayed, units of g


@value_class
class Adamax(Rule):
    """AdaMax. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of u, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    Slots = Sizes
    momenta = ("b1",)
    reference = "arXiv:1412.6980"

    def advance(self, g, s, p, k):
        return Sizes(ema(s.m, g, self.b1), jnp.maximum(self.b2.rate * s.u, jnp.abs(g) + self.eps))

    def debiased(self):
        return {"b1": 0}

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return divide(debias(s.m, self.b1, k), s.u)

    def precondition(self, x, s):
        return divide(x, s.u)

    def surprise(self, g, s, k):
        return self.precondition(g, s)  # u has no bias

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        return 1 / one_minus_power(self.b1, k.t)
