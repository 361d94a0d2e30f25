"""Exponential averages as rules: pieces for chains rather than optimizers.

    m ← β m + (1 − β) g,   d = m / (1 − βᵗ)           Average (d = m with debias off)
    d = g / (1 − βᵗ)                                  BiasCorrection

Bias correction: Kingma & Ba, "Adam: a method for stochastic optimization", 2015, arXiv:1412.6980, section 3.
Departs from the paper in: nothing.
"""

from typing import NamedTuple

from ..base import Rule, Weighed
from ..numerics import debias, ema
from ..values import Decay, Scalar, checked, decay, flag, static, value_class


class Mean(NamedTuple):
    m: Weighed  # exponential average, units of g


@value_class
class Average(Rule):
    """Exponential average of what comes in. Pointwise; one slot."""

    decay: Decay | Scalar = 0.9  # β, in [0, 1)
    debias: bool = static(default=True)
    Slots = Mean
    degree = 1
    reference = "arXiv:1412.6980"

    def __post_init__(self):
        checked(self, decay=decay("decay", self.decay))
        flag("debias", self.debias)

    def advance(self, g, s, p, k):
        return Mean(ema(s.m, g, self.decay))

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return debias(s.m, self.decay, k) if self.debias else s.m

    def debiased(self):
        return {"decay": 0} if self.debias else {}


@value_class
class BiasCorrection(Rule):
    """Division by 1 − βᵗ at step t. Pointwise; no slots."""

    decay: Decay | Scalar = 0.9  # β, in [0, 1)
    degree = 1
    reference = "arXiv:1412.6980"

    def __post_init__(self):
        checked(self, decay=decay("decay", self.decay))

    def advance(self, g, s, p, k):
        return s

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return debias(g, self.decay, k)

    def debiased(self):
        return {"decay": 0}
