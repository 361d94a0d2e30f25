"""ACProp: the gradient over the spread of those before it.

    m ← β₁ m + (1 − β₁) g                mean gradient
    d = g / (√ŝ + ε)                     ŝ = s / (1 − β₂ᵗ⁻¹), s before this gradient; d = g at the first step
    s ← β₂ s + (1 − β₂)(g − m)² + ε_root                              m after this gradient
                                         the engine does p ← p − lr·d

As in AdaBelief s is centered by the mean gradient; unlike there the step is g, and s is one step behind. ε_root adds
up in s.
Zhuang et al., "Momentum centering and asynchronous update for adaptive gradient methods", 2021, arXiv:2110.05454, the
algorithm ACProp; the first step and the correction of bias as in the authors' program with its rectify off.
Departs from the paper in: √s is at least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import ema, ema_of_squares, one_minus_power, over, positive_root, root
from ..values import Decay, Scalar, value_class


class Spread(NamedTuple):
    m: Weighed  # mean gradient, units of g
    s: Unsigned  # mean squared distance of gradients from it, units of g²


@value_class
class Acprop(Rule):
    """ACProp. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of s, in [0, 1)
    eps: Scalar = real(1e-16, low=0.0)  # units of g
    eps_root: Scalar = real(1e-16, low=0.0)  # units of g²
    Slots = Spread
    momenta = ()
    reference = "arXiv:2110.05454"

    def advance(self, g, s, p, k):
        distance = self.b1.rate * (g - s.m)  # g − m, by the m before: of the new one XLA would keep a copy
        return Spread(ema(s.m, g, self.b1), ema_of_squares(s.s, distance, self.b2, self.eps_root))

    def foreseeable(self, whole):
        return True

    def bound(self, g, s, k):
        distance = self.b1.rate * (g + s.m)
        return Spread(ema(s.m, g, self.b1), ema_of_squares(s.s, distance, self.b2, self.eps_root))

    def direction(self, g, s, old, p, k):
        size = positive_root(old.s)
        if k.debias:
            size = size / root(self._weights(k.t))
        return jnp.where(k.t == 1, g, over(g, size, self.eps))

    def precondition(self, x, s):
        return over(x, positive_root(s.s), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit, eps_root=self.eps_root * unit**2)

    def correction(self, k):
        return root(self._weights(k.t))

    def _weights(self, t):
        """What the weights of the gradients in s add up to."""
        return one_minus_power(self.b2, jnp.maximum(t - 1, 1))
