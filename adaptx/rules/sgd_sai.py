"""SGD-SaI: momentum, every array at a rate found from its first gradient.

    h = ‖g₁‖ / (σ(g₁) + ε)               signal to noise of the first gradient, a number for an array; σ over n − 1
    m ← μ m + (1 − μ) g                  m = g at first
    d = h m                              the engine does p ← p − lr·d

No quantity is shared between arrays: h is at least √(n − 1), and larger where the entries of g₁ have a mean.
Xu et al., "No more Adam: learning rate scaling at initialization is all you need", 2024, arXiv:2412.11768, and the
authors' program, where m begins.
Departs from the paper in: h = √n where all entries of g₁ are equal, as in an array of one element (‖g₁‖/ε there: a step
of g²/ε); a gradient of zeros decides nothing, the first one after it does (h would stay 0).
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, UnsignedOwn, Weighed
from ..fields import rate, real
from ..numerics import divide, ema, root
from ..values import Decay, Scalar, value_class


class Sizes(NamedTuple):
    m: Weighed  # mean gradient, units of g
    h: UnsignedOwn  # signal to noise of the array's first gradient, a number without unit; 0 before there was one


@value_class
class SgdSai(Rule):
    """SGD-SaI. Looks at whole arrays; one slot and a number."""

    decay: Decay | Scalar = rate(0.9)  # μ, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    Slots = Sizes
    pointwise = False
    degree = 1
    reference = "arXiv:2412.11768"

    def initial(self, name, p):
        return jnp.zeros((), p.dtype) if name == "h" else 0.0

    def advance(self, g, s, p, k):
        known = s.h > 0
        return Sizes(jnp.where(known, ema(s.m, g, self.decay), g), jnp.where(known, s.h, self._signal(g)))

    def direction(self, g, s, old, p, k):
        return s.h * s.m

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def precondition(self, x, s):
        return s.h * x

    def _signal(self, g):
        top = jnp.max(jnp.abs(g), initial=0)  # squares may be out of range
        x = divide(g, top)
        y = jnp.max(x, initial=-1) - x  # equal entries give zeros, where a mean would be rounded
        y = y - jnp.sum(y) / max(g.size, 1)
        spread = root(jnp.sum(y * y) / max(g.size - 1, 1))
        ratio = divide(root(jnp.sum(x * x)), spread + divide(self.eps, top))
        return jnp.where(spread == 0, jnp.where(top > 0, g.size**0.5, top), ratio)
