"""SM3: AdaGrad with a number for every row, column or slice of an array.

    ν = minₐ μₐ + g²                     over the axes a, each μₐ spread along its axis    Algorithm SM3-II, line 6
    μₐ ← max of ν over all other axes    line 9
    u = g / √(ν + ε)                     line 7
    m ← β₁ m + (1 − β₁) u                (momentum)
    d = m                                d = u without momentum; the engine does p ← p − lr·d

An array with one axis or none is AdaGrad.
Anil et al., "Memory-efficient adaptive optimization", 2019, arXiv:1901.11150, Algorithm SM3-II.
Departs from the paper in: ε (optax's place; 0 is the paper's); 0/0 is 0.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, UnsignedOwn, Weighed
from ..fields import rate, real
from ..numerics import capped, divide, ema, root
from ..sharded import filled
from ..values import Decay, Scalar, value_class


class Covers(NamedTuple):
    mu0: UnsignedOwn  # largest sums along the first axis, units of g²; of the array itself where it has no axes
    mu1: UnsignedOwn | None  # along the second; None where there is none
    mu2: UnsignedOwn | None
    mu3: UnsignedOwn | None
    mu4: UnsignedOwn | None
    m: Weighed | None = None  # mean of normalized gradients, no unit


@value_class
class Sm3(Rule):
    """SM3. Looks at whole arrays; a vector for every axis, one slot more with momentum."""

    b1: Decay | Scalar | None = rate(0.9, optional=True)  # in [0, 1); None for no momentum
    eps: Scalar = real(0.0, low=0.0)  # units of g²
    Slots = Covers
    pointwise = False
    ranks = (0, 1, 2, 3, 4, 5)
    momenta = ("b1",)
    reference = "arXiv:1901.11150"

    def unused(self):
        return ("m",) if self.b1 is None else ()

    def initial(self, name, p):
        if name == "m":
            return 0.0
        axis = int(name[2:])
        if axis >= max(p.ndim, 1):
            return None
        return filled(jnp.sum(p, _others(p, axis)), 0.0)

    def advance(self, g, s, p, k):
        v = self._sums(g, s)
        covers = [jnp.max(v, _others(g, axis), initial=0) for axis in range(max(g.ndim, 1))]
        m = None if self.b1 is None else ema(s.m, self._normalized(g, v), self.b1)
        mu1, mu2, mu3, mu4 = covers[1:] + [None] * (5 - len(covers))
        return Covers(covers[0], mu1, mu2, mu3, mu4, m)

    def direction(self, g, s, old, p, k):
        return self._normalized(g, self._sums(g, old)) if self.b1 is None else s.m

    def precondition(self, x, s):
        return self._normalized(x, self._least(x, s))

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit**2)

    def _least(self, g, s):
        spread = [jnp.expand_dims(mu, _others(g, axis)) for axis, mu in enumerate(s[: max(g.ndim, 1)])]
        least = spread[0]
        for mu in spread[1:]:
            least = jnp.minimum(least, mu)
        return least

    def _sums(self, g, s):
        return capped(self._least(g, s) + g * g)

    def _normalized(self, x, v):
        return divide(x, root(jnp.where(v > 0, v + self.eps, 0)))


def _others(x, axis):
    """All axes but one."""
    return tuple(a for a in range(x.ndim) if a != axis)
