"""KATE: AdaGrad without its root, which does not depend on the scale of the data.

    b² ← b² + g²                         sum of squared gradients     Algorithm 1, line 3
    m² ← m² + η g² + g² / (b² + ε)       line 4
    d = m g / (b² + ε)                   line 5; the engine does p ← p − lr·d

d has the unit of 1/g, so that larger gradients give shorter steps: where the loss is doubled, lr has to double. Slot b
holds b², slot m holds m².
Choudhury et al., "Remove that square root: a new efficient scale-invariant version of AdaGrad", 2024, arXiv:2403.02648,
Algorithm 1.
Departs from the paper in: ε, which stands where the authors' program has it; 0/0 is 0.
"""

from dataclasses import replace
from typing import NamedTuple

from ..base import Rule, Unsigned
from ..fields import real
from ..numerics import capped, divide, root
from ..values import Scalar, value_class


class Sums(NamedTuple):
    b: Unsigned  # b², the sum of squared gradients, units of g²
    m: Unsigned  # m², no unit: the sum of g² / (b² + ε), and η times that of g²


@value_class
class Kate(Rule):
    """KATE. Pointwise; two slots."""

    eta: Scalar = real(0.0, low=0.0)  # η, units of 1/g²
    eps: Scalar = real(1e-8, low=0.0)  # units of g²
    Slots = Sums
    degree = -1
    momenta = ()
    reference = "arXiv:2403.02648"

    def advance(self, g, s, p, k):
        square = g * g
        b = capped(s.b + square)
        return Sums(b, capped(s.m + self.eta * square + divide(square, b + self.eps)))

    def direction(self, g, s, old, p, k):
        return divide(root(s.m) * g, s.b + self.eps)

    def precondition(self, x, s):
        return divide(root(s.m) * x, s.b + self.eps)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit**2, eta=self.eta / unit**2)
