"""Sophia: momentum divided by a light estimate of the curvature, no coordinate's step longer than the rate.

    m ← β₁ m + (1 − β₁) g                mean gradient                Algorithm 3
    h ← β₂ h + (1 − β₂) ĥ                where an estimate ĥ of the Hessian's diagonal is given; else h stays
    d = clip(m / max(γ h, ε), ±1)        the engine does p ← p − lr·d

ĥ is the argument `hessian`, a tree like the parameters every few steps (10 in the paper), None at the others:
`adaptx.hutchinson` gives that of Sophia-H (γ = 0.01 in the paper), `adaptx.gauss_newton_bartlett` that of Sophia-G
(γ = 0.05). Neither mean is corrected for its start. Where h is negative, m/ε is clipped.
Liu et al., "Sophia: a scalable stochastic second-order optimizer for language model pre-training", 2023,
arXiv:2305.14342, Algorithm 3.
Departs from the paper in: 0/0 is 0.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Signed, Weighed
from ..fields import rate, real
from ..numerics import divide, ema
from ..values import Decay, Scalar, value_class


class Means(NamedTuple):
    m: Weighed  # mean gradient, units of g
    h: Signed  # mean of the Hessian's diagonal, units of g/p


@value_class
class Sophia(Rule):
    """Sophia. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.96)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.99)  # decay of h, in [0, 1)
    gamma: Scalar = real(0.01, low=0.0)  # γ, units of p
    eps: Scalar = real(1e-12, low=0.0)  # units of g
    Slots = Means
    requires = frozenset({"hessian"})
    momenta = ("b1",)
    reference = "arXiv:2305.14342"

    def advance(self, g, s, p, k):
        found = k.extra.get("hessian")
        return Means(ema(s.m, g, self.b1), s.h if found is None else ema(s.h, found, self.b2))

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        # clip(m / size, ±1) without a quotient that is out of range
        return divide(s.m, jnp.maximum(self._size(s), jnp.abs(s.m)))

    def precondition(self, x, s):
        return divide(x, self._size(s))

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def _size(self, s):
        return jnp.maximum(self.gamma * s.h, self.eps)
