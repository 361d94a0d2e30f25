"""AdaGrad.

    h ← h + g²                           sum of squared gradients, h₀ = initial_accumulator
    d = g / √(h + ε)                     or, eps_in_sqrt off: d = g / (√h + ε)
                                         the engine does p ← p − lr·d

Duchi, Hazan & Singer, "Adaptive subgradient methods for online learning and stochastic optimization", 2011,
JMLR 12, Figure 1 (diagonal form).
Departs from the paper in: ε inside the root by default (the paper's δ is added outside); the root is at least 1e-19
(f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

from ..base import Rule, Unsigned
from ..fields import real, switch
from ..numerics import capped, over_root
from ..values import Scalar, value_class


class Accumulator(NamedTuple):
    h: Unsigned  # sum of squared gradients, units of g²


@value_class
class Adagrad(Rule):
    """AdaGrad, diagonal. Pointwise; one slot."""

    eps: Scalar = real(1e-8, low=0.0)  # ≥ 0, units of g² inside the root, of g outside
    initial_accumulator: Scalar = real(0.0, low=0.0)  # ≥ 0, units of g²
    eps_in_sqrt: bool = switch(True)  # where ε stands
    Slots = Accumulator
    momenta = ()
    reference = "JMLR 12 (2011) 2121-2159"

    def initial(self, name, p):
        return self.initial_accumulator

    def advance(self, g, s, p, k):
        return Accumulator(capped(s.h + g * g))

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return self.precondition(g, s)

    def precondition(self, x, s):
        return over_root(x, s.h, self.eps, self.eps_in_sqrt)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * (unit**2 if self.eps_in_sqrt else unit))
