"""AdaBound: Adam whose rate for every coordinate is squeezed towards that of SGD.

    m ← β₁ m + (1 − β₁) g                first moment                 Algorithm 2
    v ← β₂ v + (1 − β₂) g²               second moment; with amsbound the largest v so far takes its place
    η = √(1 − β₂ᵗ) / ((1 − β₁ᵗ)(√v + ε))
    f = final_lr / base_lr
    d = clip(η, f (1 − 1/(γ t + 1)), f (1 + 1/(γ t))) · m             the engine does p ← p − lr·d

Luo et al., "Adaptive gradient methods with dynamic bound of learning rate", 2019, arXiv:1902.09843, Algorithms 2 and 3,
with the bounds and the correction of bias of the authors' program. final_lr is what the rate of a coordinate ends as
while the learning rate is base_lr; both bounds follow the learning rate.
Departs from the paper in: √v is at least 1e-19 (f32), so that a coordinate without a gradient has a rate.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real, switch
from ..numerics import debias, debias_root, ema, ema_of_squares, one_minus_power, over, positive_root, root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # mean gradient, units of g
    v: Unsigned  # mean squared gradient, units of g²
    h: Unsigned | None = None  # largest v so far (amsbound)


@value_class
class Adabound(Rule):
    """AdaBound. Pointwise; two slots, three with amsbound."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    final_lr: Scalar = real(0.1, low=0.0, open_low=True)  # units of a rate of SGD
    base_lr: Scalar = real(1e-3, low=0.0, open_low=True)  # the learning rate for which final_lr is meant
    gamma: Scalar = real(1e-3, low=0.0, open_low=True)  # γ, 1 / steps
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    amsbound: bool = switch(False)  # the largest v so far in place of v
    Slots = Moments
    momenta = ("b1",)
    reference = "arXiv:1902.09843"

    def unused(self):
        return () if self.amsbound else ("h",)

    def advance(self, g, s, p, k):
        v = ema_of_squares(s.v, g, self.b2)
        return Moments(ema(s.m, g, self.b1), v, jnp.maximum(s.h, v) if self.amsbound else None)

    def debiased(self):
        return {"b1": 0, "b2": 0}

    def foreseeable(self, whole):
        return whole or not self.amsbound

    def direction(self, g, s, old, p, k):
        size = positive_root(s.h if self.amsbound else s.v) + self.eps
        one = debias(jnp.ones_like(size), self.b1, k)
        low, high = (
            self.final_lr / self.base_lr * x for x in (1 - 1 / (self.gamma * k.t + 1), 1 + 1 / (self.gamma * k.t))
        )
        return jnp.clip(one / debias_root(size, self.b2, k), low, high) * s.m

    def precondition(self, x, s):
        return over(x, positive_root(s.h if self.amsbound else s.v), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit, final_lr=self.final_lr / unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t)
