"""NovoGrad: momentum of gradients divided by the norm of their array.

    v ← ‖g‖² at first, then β₂ v + (1 − β₂) ‖g‖²                      Algorithm 1, one number for an array
    m ← β₁ m + g / (√v + ε)              decaying sum, no unit
    d = m                                the engine does p ← p − lr·d

Ginsburg et al., "Stochastic gradient methods with layer-wise adaptive moments for training of deep networks", 2019,
arXiv:1905.11286, Algorithm 1.
Departs from the paper in: weight decay λp stays out of m (the engine adds it to d); 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, UnsignedOwn, Weighed
from ..fields import rate, real
from ..numerics import capped, divide, root
from ..values import Decay, Scalar, value_class


class Sizes(NamedTuple):
    m: Weighed  # decaying sum of normalized gradients, no unit
    v: UnsignedOwn  # mean squared norm of the array's gradient, a number, units of g²


@value_class
class Novograd(Rule):
    """NovoGrad. Looks at the norm of whole arrays; one slot and a number."""

    b1: Decay | Scalar = rate(0.95)  # decay of the sum m, in [0, 1)
    b2: Decay | Scalar = rate(0.98)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    Slots = Sizes
    pointwise = False
    momenta = ("b1",)
    reference = "arXiv:1905.11286"

    def initial(self, name, p):
        return jnp.zeros((), p.dtype) if name == "v" else 0.0

    def advance(self, g, s, p, k):
        square = capped(jnp.sum(g * g))
        v = jnp.where(k.t == 1, square, s.v + self.b2.complement * (square - s.v))
        return Sizes(self.b1.rate * s.m + divide(g, root(v) + self.eps), v)

    def direction(self, g, s, old, p, k):
        return s.m

    def precondition(self, x, s):
        return divide(x, root(s.v) + self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)
