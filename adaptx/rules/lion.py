"""Lion.

    d = sign(β₁ m + (1 − β₁) g)          m before this gradient       Algorithm 2
    m ← β₂ m + (1 − β₂) g                mean gradient
                                         the engine does p ← p − lr·d

sign(0) = 0: a coordinate that never had a gradient does not move. Steps have length lr whatever the gradient, so that
rates are three to ten times smaller than Adam's and weight decay as much larger.
Chen et al., "Symbolic discovery of optimization algorithms", 2023, arXiv:2302.06675, Algorithm 2.
Departs from the paper in: nothing.
"""

from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Weighed
from ..fields import rate
from ..numerics import ema
from ..values import Decay, Scalar, value_class


class Mean(NamedTuple):
    m: Weighed  # mean gradient, units of g


@value_class
class Lion(Rule):
    """Lion. Pointwise; one slot."""

    b1: Decay | Scalar = rate(0.9)  # share of m in d, in [0, 1)
    b2: Decay | Scalar = rate(0.99)  # decay of m, in [0, 1)
    Slots = Mean
    momenta = ("b1",)
    reference = "arXiv:2302.06675"

    def advance(self, g, s, p, k):
        return Mean(ema(s.m, g, self.b2))

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return jnp.sign(ema(old.m, g, self.b1))
