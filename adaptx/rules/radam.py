"""RAdam: Adam, rectified while its second moment is uncertain.

    m ← β₁ m + (1 − β₁) g                first moment                 Algorithm 2, line 6
    v ← β₂ v + (1 − β₂) g²               second moment                line 5
    ρ∞ = 2 / (1 − β₂) − 1,  ρ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)              lines 1 and 8
    r = √((ρ − 4)(ρ − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρ))                   line 11
    d = r m̂ / (√v̂ + ε)  where ρ > threshold, else  d = m̂             lines 9 to 14; m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ)
                                         the engine does p ← p − lr·d

While ρ is small, d has the unit and the size of a gradient: five steps with the default β₂.
Liu et al., "On the variance of the adaptive learning rate and beyond", 2020, arXiv:1908.03265, Algorithm 2.
Departs from the paper in: threshold 5 instead of 4 (as the authors' program, torch and optax), ε (outside of the root,
after the correction of bias); √v is at least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import debias, debias_root, ema, ema_of_squares, one_minus_power, over, over_larger, positive_root, root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # mean gradient, units of g
    v: Unsigned  # mean squared gradient, units of g²


@value_class
class Radam(Rule):
    """RAdam. Pointwise; two slots."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    threshold: Scalar = real(5.0, low=4.0)  # of ρ, the number of gradients that v is made of
    Slots = Moments
    momenta = ("b1",)
    reference = "arXiv:1908.03265"

    def advance(self, g, s, p, k):
        return Moments(ema(s.m, g, self.b1), ema_of_squares(s.v, g, self.b2))

    def debiased(self):
        return {"b1": 0, "b2": 0}

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        m = debias(s.m, self.b1, k)
        length, most = self._length(k.t), 2 / self.b2.complement - 1
        certain = length > self.threshold
        rho = jnp.where(certain, length, 5)
        rectified = root((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
        size = debias_root(positive_root(s.v), self.b2, k)
        return jnp.where(certain, rectified * over(m, size, self.eps), m)

    def precondition(self, x, s):
        return over(x, positive_root(s.v), self.eps)

    def surprise(self, g, s, k):
        return over_larger(g, debias_root(positive_root(s.v), self.b2, k), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        size = jnp.where(self._length(k.t) > self.threshold, root(one_minus_power(self.b2, k.t)), 1)
        return size / one_minus_power(self.b1, k.t)

    def _length(self, t):
        """ρ_t, in f32 without the difference of two numbers near 2/(1 − β₂).

        With x = −t log β₂, 2 t β₂ᵗ/(1 − β₂ᵗ) = 2t/(eˣ − 1) = 2t/x − t + t(x/6 − x³/360 + x⁵/15120 − …), and
        ρ∞ − 2t/x = c/6 + c²/12 + 19c³/360 + … with c = 1 − β₂: small where x is, unless t < 5, where
        nothing is certain.
        """
        c = jnp.asarray(self.b2.complement)
        x = -t * jnp.log1p(-jnp.minimum(c, 1 - jnp.finfo(c.dtype).eps))
        plain = 2 / c - 1 - 2 * t / jnp.expm1(x)
        if jnp.finfo(plain.dtype).bits == 64:
            return plain
        y = jnp.minimum(x, 1)
        rest = c / 6 + c**2 / 12 + 19 * c**3 / 360 + 3 * c**4 / 80
        near = t * (1 - y / 6 + y**3 / 360 - y**5 / 15120 + y**7 / 604800) + rest
        return jnp.where(x < 1, near, plain)
