"""Signum: the sign of momentum.

    m ← β m + (1 − β) g                  mean gradient                Algorithm 2
    d = sign(m)                          the engine does p ← p − lr·d

β = 0 is signSGD. sign(0) = 0: a coordinate that never had a gradient does not move. With β = 0.965 and decoupled weight
decay it is Tiger, whose program also multiplies the rate of an array by its root mean square (`lr_scale` does that).
Bernstein et al., "signSGD: compressed optimisation for non-convex problems", 2018, arXiv:1802.04434, Algorithm 2; Su,
"Tiger: a tight-fisted optimizer", 2023, github.com/bojone/tiger.
Departs from the papers in: nothing.
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
class Signum(Rule):
    """Signum. Pointwise; one slot."""

    decay: Decay | Scalar = rate(0.9)  # β, in [0, 1)
    Slots = Mean
    momenta = ("decay",)
    reference = "arXiv:1802.04434"

    def advance(self, g, s, p, k):
        return Mean(ema(s.m, g, self.decay))

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return jnp.sign(s.m)
