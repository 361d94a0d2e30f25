"""Adadelta: steps in the unit of the parameter.

    v ← ρ v + (1 − ρ) g²                 mean squared gradient        Algorithm 1, line 4
    d = √(u + ε) / √(v + ε) · g          u before this step           line 5
    u ← ρ u + (1 − ρ) d²                 mean squared step            line 6
                                         the engine does p ← p − lr·d

Zeiler, "ADADELTA: an adaptive learning rate method", 2012, arXiv:1212.5701, Algorithm 1. The paper has no learning
rate: 1.
Departs from the paper in: ε may differ above and below (the one is in units of p², the other of g²); both roots are at
least 1e-19 (f32), so that 0/0 is 0 whatever ε.
"""

from dataclasses import replace
from typing import NamedTuple

from ..base import Rule, Unsigned
from ..fields import rate, real
from ..numerics import ema_of_squares, over_root, positive_root
from ..values import Decay, Scalar, value_class


class Squares(NamedTuple):
    v: Unsigned  # mean squared gradient, units of g²
    u: Unsigned  # mean squared step, units of p²


@value_class
class Adadelta(Rule):
    """Adadelta. Pointwise; two slots."""

    decay: Decay | Scalar = rate(0.9)  # ρ, decay of v and u, in [0, 1)
    eps: Scalar = real(1e-6, low=0.0)  # below the line, units of g²
    eps_step: Scalar | None = real(None, low=0.0, optional=True)  # above it, units of p²; None for eps
    Slots = Squares
    momenta = ()
    reference = "arXiv:1212.5701"

    def advance(self, g, s, p, k):
        v = ema_of_squares(s.v, g, self.decay)
        return Squares(v, ema_of_squares(s.u, self._step(g, v, s.u), self.decay))

    def direction(self, g, s, old, p, k):
        return self._step(g, s.v, old.u)

    def precondition(self, x, s):
        return over_root(x, s.v, self.eps, inside=True)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit**2, eps_step=self._least)

    @property
    def _least(self):
        return self.eps if self.eps_step is None else self.eps_step

    def _step(self, g, v, u):
        return positive_root(u + self._least) * over_root(g, v, self.eps, inside=True)
