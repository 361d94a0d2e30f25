"""Exponential averages as rules: pieces for chains rather than optimizers.

    m ← β m + (1 − β) g,   d = m / (1 − βᵗ)           Average (d = m with debias off); start="first": m₁ = g₁
    d = g / (1 − βᵗ)                                  BiasCorrection

Bias correction: Kingma & Ba, "Adam: a method for stochastic optimization", 2015, arXiv:1412.6980, section 3.
Departs from the paper in: nothing.
"""

from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Weighed
from ..fields import choice, rate, switch
from ..numerics import debias, ema
from ..values import Decay, Scalar, value_class


class Mean(NamedTuple):
    m: Weighed  # exponential average, units of g


@value_class
class Average(Rule):
    """Exponential average of what comes in. Pointwise; one slot."""

    decay: Decay | Scalar = rate(0.9)  # β, in [0, 1)
    debias: bool = switch(True)  # division by 1 − βᵗ
    start: str = choice("zero", "first")  # what m is at first: 0, or the first g
    Slots = Mean
    degree = 1
    momenta = ("decay",)
    reference = "arXiv:1412.6980"

    def __post_init__(self):
        super().__post_init__()
        if self.debias and self.start == "first":
            raise ValueError(
                "an average with start='first' has no bias to correct, got debias=True; pass debias=False."
            )

    def advance(self, g, s, p, k):
        mean = ema(s.m, g, self.decay)
        return Mean(jnp.where(k.t == 1, g, mean) if self.start == "first" else mean)

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return debias(s.m, self.decay, k) if self.debias else s.m

    def means(self):
        return {"m": f"an average with start={self.start!r}"}

    def debiased(self):
        return {"decay": 0} if self.debias else {}


@value_class
class BiasCorrection(Rule):
    """Division by 1 − βᵗ at step t. Pointwise; no slots."""

    decay: Decay | Scalar = rate(0.9)  # β, in [0, 1)
    degree = 1
    momenta = ()
    reference = "arXiv:1412.6980"

    def advance(self, g, s, p, k):
        return s

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return debias(g, self.decay, k)

    def debiased(self):
        return {"decay": 0}
