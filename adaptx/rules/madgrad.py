"""MADGRAD: momentumized, adaptive, dual averaged gradients.

    λ = (lr + ε) √t                      weight of step t, from 1     Algorithm 1; 0 where lr is 0
    s ← s + λ g                          weighted sum of gradients
    ν ← ν + λ g²                         of their squares
    z = x₀ − s / (∛ν + ε)                dual averaging
    p ← μ p + (1 − μ) z                  the engine does p ← p − lr·d, d = (p − that) / lr

With the distance y = x₀ − p in place of x₀, the last two lines are y ← μ y + (1 − μ) s / (∛ν + ε), and d is
(y − y before) / lr. Slot v holds ν, slot x holds y.
The way grows with lr^(2/3); under a schedule every gradient keeps the weight of its step. Nothing in s is forgotten, so
that 8-bit storage of it makes p wander.
Defazio & Jelassi, "Adaptivity without compromise: a momentumized, adaptive, dual averaged gradient method for
stochastic optimization", 2021, arXiv:2101.11075, Algorithm 1; ε in λ as in the authors' program (eps_rate=0 without).
Departs from the paper in: x₀ − p is kept and not x₀, so that decoupled decay and factors on the displacement stay what
they are elsewhere, where p would be drawn back to z; where lr is 0, p stands still; 0/0 is 0.
"""

from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import capped, divide, ema, over, positive_cube_root
from ..values import Decay, Scalar, value_class


class Sums(NamedTuple):
    s: Weighed  # weighted sum of gradients, units of lr·g
    v: Unsigned  # ν, weighted sum of squared gradients, units of lr·g²
    x: Weighed  # y, how far p has come, x₀ − p, units of p


@value_class
class Madgrad(Rule):
    """MADGRAD. Pointwise; three slots."""

    momentum: Decay | Scalar = rate(0.9)  # μ, in [0, 1)
    eps: Scalar = real(1e-6, low=0.0)  # units of (lr·g²)^⅓
    eps_rate: Scalar | None = real(None, low=0.0, optional=True)  # units of lr; None for eps
    Slots = Sums
    degree = Fraction(1, 3)
    momenta = ("momentum",)
    reference = "arXiv:2101.11075"

    def advance(self, g, s, p, k):
        weight = self._weight(k)
        total, square = s.s + weight * g, capped(s.v + weight * (g * g))
        x = ema(s.x, over(total, positive_cube_root(square), self.eps), self.momentum)
        return Sums(total, square, jnp.where(k.rate == 0, s.x, x))

    def direction(self, g, s, old, p, k):
        return divide(s.x - old.x, k.rate)

    def precondition(self, x, s):
        return over(x, positive_cube_root(s.v), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit ** (2 / 3), eps_rate=self._eps_rate())

    def _weight(self, k):
        return jnp.where(k.rate == 0, 0, (k.rate + self._eps_rate()) * k.t**0.5)

    def _eps_rate(self):
        return self.eps if self.eps_rate is None else self.eps_rate
