"""RMSProp, plain, centered, with momentum.

    v ← β v + (1 − β) g²                 mean squared gradient
    a ← β a + (1 − β) g                  mean gradient (centered)
    n = g / √(v − a² + ε)                or, eps_in_sqrt off: n = g / (√(v − a²) + ε); a = 0 if not centered
    b ← μ b + n                          (momentum)
    d = b                                d = n without momentum; the engine does p ← p − lr·d

With debias, v and a are divided by 1 − βᵗ first.
Tieleman & Hinton, "Lecture 6.5: RMSProp", 2012; centered: Graves, "Generating sequences with recurrent neural
networks", 2013, arXiv:1308.0850, equations 38-45.
Departs from the papers in: the momentum buffer holds n without the learning rate (as torch has it), so that a changing
rate acts at once; v − a² is raised to 0 where rounding made it negative; the root is at least 1e-19 (f32) if not
centered, so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Signed, Unsigned, Weighed
from ..checks import checked
from ..fields import rate, real, switch
from ..numerics import debias, divide, ema, ema_of_squares, one_minus_power, over_root, root
from ..values import Decay, Scalar, is_concrete, value_class


class Means(NamedTuple):
    v: Unsigned  # mean squared gradient, units of g²
    a: Signed | None = None  # mean gradient, units of g
    b: Weighed | None = None  # decaying sum of normalized gradients, no unit


@value_class
class Rmsprop(Rule):
    """RMSProp. Pointwise; one slot, one more if centered, one more with momentum."""

    decay: Decay | Scalar = rate(0.9)  # β, decay of v and a, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # ≥ 0, units of g² inside the root, of g outside
    momentum: Decay | Scalar | None = rate(None, optional=True)  # μ, in [0, 1); None, or 0, for no buffer
    eps_in_sqrt: bool = switch(True)  # where ε stands
    centered: bool = switch(False)  # the variance of g in place of its mean square
    debias: bool = switch(False)  # corrections of bias
    Slots = Means
    momenta = ("momentum",)
    reference = "arXiv:1308.0850"

    def __post_init__(self):
        super().__post_init__()
        mu = self.momentum
        if mu is not None and is_concrete(mu.complement) and float(mu.complement) == 1.0:
            checked(self, momentum=None)

    def foreseeable(self, whole):
        return not (self.centered and self.momentum is not None)

    def bound(self, g, s, k):
        v, a = ema_of_squares(s.v, g, self.decay), ema(s.a, g, self.decay) if self.centered else None
        if self.momentum is None:
            return Means(v, a, None)
        # v ≥ (1 − β)g² whatever came before, so that |n| ≤ 1/√(1 − β), or √((1 − βᵗ)/(1 − β)) after debias
        weight = one_minus_power(self.decay, k.t) if self.debias and k.debias else 1.0
        return Means(v, a, self.momentum.rate * s.b + jnp.sqrt(weight / self.decay.complement))

    def unused(self):
        return ("a",) * (not self.centered) + ("b",) * (self.momentum is None)

    def advance(self, g, s, p, k):
        v = ema_of_squares(s.v, g, self.decay)
        a = ema(s.a, g, self.decay) if self.centered else None
        b = self.momentum.rate * s.b + self._normalized(g, v, a, k) if self.momentum is not None else None
        return Means(v, a, b)

    def direction(self, g, s, old, p, k):
        return self._normalized(g, s.v, s.a, k) if self.momentum is None else s.b

    def precondition(self, x, s):
        v = jnp.maximum(s.v - s.a**2, 0.0) if self.centered else s.v
        return self._divided(x, v)

    def surprise(self, g, s, k):
        return self._normalized(g, s.v, s.a, k)

    def aged(self):
        return ("a",) if self.debias else ()

    def debiased(self):
        return {"decay": 0} if self.debias else {}

    def rescaled(self, unit):
        return replace(self, eps=self.eps * (unit**2 if self.eps_in_sqrt else unit))

    def correction(self, k):
        return root(one_minus_power(self.decay, k.t)) if self.debias else 1.0

    def _normalized(self, g, v, a, k):
        if self.debias:
            v, a = debias(v, self.decay, k), debias(a, self.decay, k) if self.centered else None
        return self._divided(g, jnp.maximum(v - a**2, 0.0) if self.centered else v)

    def _divided(self, x, v):
        if self.centered:  # a variance may be 0 beside a gradient that is not
            return divide(x, root(v + self.eps) if self.eps_in_sqrt else root(v) + self.eps)
        return over_root(x, v, self.eps, self.eps_in_sqrt)
