"""Yogi: Adam whose second moment moves by a bounded amount.

    m ← β₁ m + (1 − β₁) g                first moment
    v ← v − (1 − β₂) sign(v − g²) g²     second moment, v₀ = initial_accumulator
    d = m̂ / (√v̂ + ε)                     the engine does p ← p − lr·d

With debias m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ), else m and v.
Zaheer et al., "Adaptive methods for nonconvex optimization", 2018 (NeurIPS 31), Algorithm 2.
Departs from the paper in: the correction of bias, which every implementation has and the paper has not (debias=False);
the root is at least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real, switch
from ..numerics import debias, debias_root, ema, one_minus_power, over, over_larger, positive_root, root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # mean gradient, units of g
    v: Unsigned  # second moment, units of g²


@value_class
class Yogi(Rule):
    """Yogi. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-3, low=0.0)  # units of g
    initial_accumulator: Scalar = real(1e-6, low=0.0)  # units of g²
    debias: bool = switch(True)  # corrections of bias
    Slots = Moments
    momenta = ("b1",)
    reference = "NeurIPS 31 (2018)"

    def initial(self, name, p):
        return self.initial_accumulator if name == "v" else 0.0

    def advance(self, g, s, p, k):
        square = g * g
        return Moments(ema(s.m, g, self.b1), s.v - self.b2.complement * jnp.sign(s.v - square) * square)

    def debiased(self):
        return {"b1": 0, "b2": 0} if self.debias else {}

    def foreseeable(self, whole):
        return True

    def bound(self, g, s, k):
        return Moments(ema(s.m, g, self.b1), s.v + self.b2.complement * g * g)

    def direction(self, g, s, old, p, k):
        m, size = s.m, positive_root(s.v)
        if self.debias:
            m, size = debias(m, self.b1, k), debias_root(size, self.b2, k)
        return over(m, size, self.eps)

    def precondition(self, x, s):
        return over(x, positive_root(s.v), self.eps)

    def surprise(self, g, s, k):
        size = positive_root(s.v)
        return over_larger(g, debias_root(size, self.b2, k) if self.debias else size, self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t) if self.debias else 1.0
