"""AdaHessian: Adam with the Hessian's diagonal in place of the gradient in its second moment.

    D = |ĥ|, averaged over parts of an array
    m ← β₁ m + (1 − β₁) g                first moment                 Algorithm 1
    v ← β₂ v + (1 − β₂) D²               second moment, where an estimate ĥ of the Hessian's diagonal is given
    w ← β₂ w + (1 − β₂)                  the sum of the weights in v: 1 − β₂ᵗ if ĥ is given at every step
    d = m̂ / ((√(v/w))ᵏ + ε)              m̂ = m / (1 − β₁ᵗ), k = hessian_power; the engine does p ← p − lr·d

ĥ is the argument `hessian`, a tree like the parameters, from the first step on; None at steps without one:
`adaptx.hutchinson` gives it. D is averaged over the window of kernels with four axes (average="kernels", the authors'
program for images), also over the inputs of matrices and the window of kernels with three axes ("matrices", their
program for others), or not at all ("none"). window="first": these axes come first, as in JAX (HWIO); "last": OIHW.
Yao et al., "ADAHESSIAN: an adaptive second order optimizer for machine learning", 2021, arXiv:2006.00719, Algorithm 1.
With k < 1 d grows with the gradients, to the power 1 − k; controllers take it for free of their scale, as it is at 1.
Departs from the paper in: ε, which stands where the programs have it; w, which is theirs if ĥ is given at every step;
√v is at least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Unsigned, UnsignedOwn, Weighed
from ..fields import choice, rate, real
from ..numerics import debias, divide, ema, ema_of_squares, one_minus_power, over, positive_root
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: Weighed  # mean gradient, units of g
    v: Unsigned  # mean squared diagonal of the Hessian, units of (g/p)²
    w: UnsignedOwn  # what its weights add up to, a number in [0, 1)


@value_class
class Adahessian(Rule):
    """AdaHessian. Looks at parts of arrays; two slots and a number."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v and w, in [0, 1)
    eps: Scalar = real(1e-4, low=0.0)  # units of (g/p)^hessian_power
    hessian_power: Scalar = real(1.0, low=0.0, high=1.0)  # k, in [0, 1]
    average: str = choice("kernels", "matrices", "none")  # of which arrays parts are averaged
    window: str = choice("first", "last")  # where the axes lie that they are averaged over
    Slots = Moments
    pointwise = False
    requires = frozenset({"hessian"})
    momenta = ("b1",)
    reference = "arXiv:2006.00719"

    def initial(self, name, p):
        return jnp.zeros((), p.dtype) if name == "w" else 0.0

    def advance(self, g, s, p, k):
        m, found = ema(s.m, g, self.b1), k.extra.get("hessian")
        if found is None:
            return Moments(m, s.v, s.w)
        return Moments(m, ema_of_squares(s.v, self._averaged(found), self.b2), ema(s.w, jnp.ones_like(s.w), self.b2))

    def debiased(self):
        return {"b1": 0}

    def direction(self, g, s, old, p, k):
        return over(debias(s.m, self.b1, k), self._size(s), self.eps)

    def precondition(self, x, s):
        return over(x, self._size(s), self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit**self.hessian_power)

    def correction(self, k):
        return 1 / one_minus_power(self.b1, k.t)

    def _size(self, s):
        """(√(v/w))ᵏ. Always divided here: how often ĥ was given, which no controller knows, is in w alone."""
        return positive_root(divide(s.v, s.w)) ** self.hessian_power

    def _averaged(self, found):
        size = jnp.abs(found)
        if found.ndim < {"kernels": 4, "matrices": 2, "none": found.ndim + 1}[self.average]:
            return size
        count = max(found.ndim - 2, 1)
        axes = range(count) if self.window == "first" else range(found.ndim - count, found.ndim)
        return jnp.broadcast_to(jnp.mean(size, tuple(axes), keepdims=True), found.shape)
