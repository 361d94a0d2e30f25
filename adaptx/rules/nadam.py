"""NAdam: Nesterov's momentum in Adam, with a decay that grows.

    m ← β₁ m + (1 − β₁) g                first moment
    v ← β₂ v + (1 − β₂) g²               second moment
    μ_t = β₁ (1 − ½ · 0.96^(ψ t))        ψ = momentum_decay
    Π_t = μ_1 μ_2 … μ_t
    m̂ = μ_{t+1} m / (1 − Π_{t+1}) + (1 − μ_t) g / (1 − Π_t),   v̂ = v / (1 − β₂ᵗ)
    d = m̂ / (√v̂ + ε)                     the engine does p ← p − lr·d

With a constant μ = β₁ this is `Adam(nesterov=True)`. Π needs no slot: log Π_t = t log β₁ + Σᵢ log(1 − ½ qⁱ) with
q = 0.96^ψ, and the sum over i of the logarithm's series in qⁱ is one of geometric sums.
Dozat, "Incorporating Nesterov momentum into Adam", 2016, openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ, Algorithm 2 with
the schedule of section 3 of its report, as torch.optim.NAdam has it.
Departs from the paper in: √v is at least 1e-19 (f32), so that 0/0 is 0 whatever ε; β₁ that is a schedule counts in Π as
if it had always been what it is now.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import debias_root, ema, ema_of_squares, one_minus_power, over, over_larger, positive_root, root
from ..values import Decay, Scalar, value_class

TERMS = 48  # of the logarithm's series at ½: what is left out is 2⁻⁴⁸/48 a step


class Moments(NamedTuple):
    m: Weighed  # mean gradient, units of g
    v: Unsigned  # mean squared gradient, units of g²


@value_class
class Nadam(Rule):
    """NAdam. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    momentum_decay: Scalar = real(4e-3, low=0.0)  # ψ
    Slots = Moments
    momenta = ("b1",)
    reference = "openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ"

    def advance(self, g, s, p, k):
        return Moments(ema(s.m, g, self.b1), ema_of_squares(s.v, g, self.b2))

    def debiased(self):
        return {"b2": 0}

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        now, ahead = self._factor(k.t), self._factor(k.t + 1)
        m, g = ahead * s.m, (1 - now) * g
        if k.debias:
            m, g = m / self._missing(k.t + 1), g / self._missing(k.t)
        return over(m + g, debias_root(positive_root(s.v), self.b2, k), self.eps)

    def precondition(self, x, s):
        return over(x, positive_root(s.v), self.eps)

    def surprise(self, g, s, k):
        return over_larger(g, debias_root(positive_root(s.v), self.b2, k), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / self._missing(k.t)

    def _factor(self, t):
        """μ_t."""
        return self.b1.rate * (1 - 0.5 * 0.96 ** (self.momentum_decay * t))

    def _missing(self, t):
        """1 − Π_t."""
        n = jnp.arange(1, TERMS + 1, dtype=jnp.result_type(t))
        log = n * self.momentum_decay * jnp.log(jnp.asarray(0.96, n.dtype))  # of qⁿ
        still = log == 0
        safe = jnp.where(still, -1, log)
        sums = jnp.where(still, t, jnp.exp(safe) * jnp.expm1(safe * t) / jnp.expm1(safe))  # Σᵢ qⁿⁱ, i = 1 … t
        return 1 - (1 - one_minus_power(self.b1, t)) * jnp.exp(-jnp.sum(0.5**n / n * sums))
