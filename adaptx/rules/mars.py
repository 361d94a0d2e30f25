"""MARS: Adam on gradients corrected by how they changed.

    c = g + γ β₁ / (1 − β₁) · (g − g₋)   g₋ the gradient before, 0 at first   Algorithm 2, line 5
    c ← c / max(1, ‖c‖ / limit)          norm of the array, limit = 1         line 6
    m ← β₁ m + (1 − β₁) c                first moment                         line 7
    v ← β₂ v + (1 − β₂) c²               second moment                        line 8
    d = m̂ / (√v̂ + ε)                     m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ); the engine does p ← p − lr·d

Yuan et al., "MARS: unleashing the power of variance reduction for training large models", 2024, arXiv:2411.10438,
Algorithm 2 in its approximate form (the gradient before, of its own batch). The authors train arrays with another
number of axes than two by AdamW: `adaptx.route`.
But for ε and the limit, d does not depend on the scale of the gradients.
Departs from the paper in: √v is at least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Signed, Unsigned, Weighed
from ..fields import rate, real
from ..numerics import debias, debias_root, ema, ema_of_squares, one_minus_power, over, positive_root, root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # mean corrected gradient, units of g, at most `limit` long
    v: Unsigned  # mean square of it, units of g²
    g: Signed  # g₋, the gradient before, units of g


@value_class
class Mars(Rule):
    """MARS. Looks at the norm of whole arrays; three slots."""

    b1: Decay | Scalar = rate(0.95)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.99)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # units of c
    gamma: Scalar = real(0.025, low=0.0)  # γ, weight of the correction
    limit: Scalar = real(1.0, low=0.0, open_low=True)  # of ‖c‖, units of c; the paper's 1, in the unit of gradients
    Slots = Moments
    pointwise = False
    momenta = ("b1",)
    reference = "arXiv:2411.10438"

    def advance(self, g, s, p, k):
        c = g + self.gamma * self.b1.rate / self.b1.complement * (g - s.g)
        largest = jnp.maximum(jnp.max(jnp.abs(c), initial=0), self.limit)  # the norm may be out of range
        c = c / largest
        c = self.limit * (c / jnp.maximum(root(jnp.sum(c * c)), self.limit / largest))
        return Moments(ema(s.m, c, self.b1), ema_of_squares(s.v, c, self.b2), g)

    def debiased(self):
        return {"b1": 0, "b2": 0}

    def direction(self, g, s, old, p, k):
        size = debias_root(positive_root(s.v), self.b2, k)
        return over(debias(s.m, self.b1, k), size, self.eps)

    def precondition(self, x, s):
        return over(x, positive_root(s.v), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit, limit=self.limit * unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t)
