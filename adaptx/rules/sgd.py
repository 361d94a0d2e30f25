"""Stochastic gradient descent.

    d = g                                the engine does p ← p − lr·d

Robbins & Monro, "A stochastic approximation method", 1951, doi:10.1214/aoms/1177729586.
Departs from the paper in: nothing.
"""

from ..base import Rule
from ..values import value_class


@value_class
class Sgd(Rule):
    """Gradient descent. Pointwise; no slots."""

    degree = 1
    momenta = ()
    reference = "doi:10.1214/aoms/1177729586"

    def advance(self, g, s, p, k):
        return s

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return g
