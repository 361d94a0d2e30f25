"""Adam, with AMSGrad and Nesterov forms.

    m ← β₁ m + (1 − β₁) g                first moment                 Alg. 1, line 7
    v ← β₂ v + (1 − β₂) g²               second moment                Alg. 1, line 8
    m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)                            Alg. 1, lines 9-10
    d = m̂ / (√v̂ + ε)                     the engine does p ← p − lr·d

AMSGrad: h ← max(h, v), and ĥ = h / (1 − β₂ᵗ) takes the place of v̂ (the maximum is over the uncorrected moment, as in
torch). Nesterov: m̂ = β₁ m / (1 − β₁ᵗ⁺¹) + (1 − β₁) g / (1 − β₁ᵗ). debias off: every correction is 1.
Kingma & Ba, "Adam: a method for stochastic optimization", 2015, arXiv:1412.6980, Algorithm 1; Reddi, Kale & Kumar,
"On the convergence of Adam and beyond", 2018, arXiv:1904.09237; Dozat, "Incorporating Nesterov momentum into Adam",
2016 (constant β₁).
Departs from the papers in: √v is at least 1e-19 (f32), so that 0/0 is 0 whatever ε; AMSGrad's paper has no bias
correction (debias=False gives that).
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real, switch
from ..numerics import debias, debias_root, ema, ema_of_squares, one_minus_power, over, over_larger, positive_root, root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # mean gradient, units of g
    v: Unsigned  # mean squared gradient, units of g², never negative
    h: Unsigned | None = None  # largest v so far (AMSGrad)


@value_class
class Adam(Rule):
    """Adam. Pointwise; two slots, three with amsgrad."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # ≥ 0, units of g
    debias: bool = switch(True)  # corrections of bias
    amsgrad: bool = switch(False)  # the largest v so far in place of v
    nesterov: bool = switch(False)  # m a step ahead
    Slots = Moments
    momenta = ("b1",)
    reference = "arXiv:1412.6980"

    def unused(self):
        return () if self.amsgrad else ("h",)

    def advance(self, g, s, p, k):
        m = ema(s.m, g, self.b1)
        v = ema_of_squares(s.v, g, self.b2)
        return Moments(m, v, jnp.maximum(s.h, v) if self.amsgrad else None)

    def debiased(self):
        return {"b1": int(self.nesterov), "b2": 0} if self.debias else {}

    def foreseeable(self, whole):
        return whole or not self.amsgrad  # the bound of h is taken from that of v

    def direction(self, g, s, old, p, k):
        return self._normalized(self._first(g, s.m, k), s, k if self.debias else None)

    def precondition(self, x, s):
        return self._normalized(x, s, None)

    def surprise(self, g, s, k):
        size = positive_root(s.h if self.amsgrad else s.v)
        return over_larger(g, debias_root(size, self.b2, k) if self.debias else size, self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        if not self.debias:
            return 1.0
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t)

    def _normalized(self, x, s, k):
        size = positive_root(s.h if self.amsgrad else s.v)
        return over(x, size if k is None else debias_root(size, self.b2, k), self.eps)

    def _first(self, g, m, k):
        if not self.nesterov:
            return debias(m, self.b1, k) if self.debias else m
        if self.debias:
            m, g = debias(m, self.b1, k, ahead=1), debias(g, self.b1, k)
        return self.b1.rate * m + self.b1.complement * g
