"""ADOPT: Adam that converges with any β₂, because a gradient is divided by the moment before it.

    u = clip(g / max(√v, ε), ± (t − 1)^¼)                             v before this gradient
    m ← β₁ m + (1 − β₁) u                mean of normalized gradients, no unit
    d = m                                the engine does p ← p − lr·d
    v ← β₂ v + (1 − β₂) g²               second moment

The first step only sets v = g²: d = 0. Without clipping u is what is inside.
Taniguchi et al., "ADOPT: modified Adam can converge with any β₂ with the optimal rate", 2024, arXiv:2411.02853,
Algorithm 2; its step t is our t − 1.
Departs from the paper in: weight decay acts at the first step too; 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real, switch
from ..numerics import divide, ema, ema_of_squares, root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # mean normalized gradient, no unit
    v: Unsigned  # mean squared gradient, units of g²


@value_class
class Adopt(Rule):
    """ADOPT. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.9999)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-6, low=0.0)  # units of g
    clip: bool = switch(True)  # bounds on u
    Slots = Moments
    momenta = ("b1",)
    reference = "arXiv:2411.02853"

    def advance(self, g, s, p, k):
        first = k.t == 1
        u = divide(g, jnp.maximum(root(s.v), self.eps))
        if self.clip:
            most = (k.t - 1) ** 0.25
            u = jnp.clip(u, -most, most)
        m = jnp.where(first, s.m, ema(s.m, u, self.b1))
        return Moments(m, jnp.where(first, g * g, ema_of_squares(s.v, g, self.b2)))

    def direction(self, g, s, old, p, k):
        return s.m

    def precondition(self, x, s):
        return divide(x, jnp.maximum(root(s.v), self.eps))

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)
