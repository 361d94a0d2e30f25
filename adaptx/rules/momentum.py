"""Momentum: heavy ball, averaged and Nesterov.

    v ← γ v + (1 − τ) g                  τ = 0 heavy ball, τ = γ an exponential average; v₀ = 0
    d = v                                or, Nesterov: d = (1 − τ) g + γ v
                                         the engine does p ← p − lr·d

Polyak, "Some methods of speeding up the convergence of iteration methods", 1964, doi:10.1016/0041-5553(64)90137-5;
Nesterov's form as in Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
Departs from the papers in: the dampening τ, which is torch's, applied from the first step on (torch leaves the first
gradient undampened).
"""

from typing import NamedTuple

from ..base import Rule, Weighed
from ..fields import rate, real, switch
from ..values import Decay, Scalar, value_class


class Velocity(NamedTuple):
    v: Weighed  # decaying sum of gradients, units of g


@value_class
class Momentum(Rule):
    """Heavy ball, averaged or Nesterov momentum. Pointwise; one slot."""

    decay: Decay | Scalar = rate(0.9)  # γ, in [0, 1)
    dampening: Scalar = real(0.0, low=0.0, high=1.0)  # τ, in [0, 1]
    nesterov: bool = switch(False)  # v a step ahead
    Slots = Velocity
    degree = 1
    momenta = ("decay",)
    reference = "doi:10.1016/0041-5553(64)90137-5"

    def advance(self, g, s, p, k):
        return Velocity(self.decay.rate * s.v + (1 - self.dampening) * g)

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return (1 - self.dampening) * g + self.decay.rate * s.v if self.nesterov else s.v
