"""Rprop: a step size of its own for every coordinate, from signs alone. For gradients without noise.

    e ← clip(e · η⁺, least, most)  where g g₋ > 0                     g₋ the gradient before
    e ← clip(e · η⁻, least, most)  where g g₋ < 0, and there g ← 0    this coordinate waits a step
    d = e sign(g)                        the engine does p ← p − lr·d
    g₋ ← g

e starts at 1: the learning rate is the first step's length, and `step_sizes` are in units of it.
Riedmiller & Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm", 1993,
doi:10.1109/ICNN.1993.298623; without stepping back (the form torch has, iRprop−).
Departs from the paper in: step sizes relative to the learning rate, which may be a schedule.
"""

from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Signed, Unsigned
from ..fields import real, several_of
from ..numerics import showing
from ..values import Scalar, value_class


class Steps(NamedTuple):
    e: Unsigned  # length of this coordinate's step, in learning rates
    g: Signed  # sign of the gradient before, 0 after a change of it


@value_class
class Rprop(Rule):
    """Rprop. Pointwise; two slots."""

    eta_minus: Scalar = real(0.5, low=0.0, high=1.0, open_low=True, open_high=True)  # η⁻
    eta_plus: Scalar = real(1.2, low=1.0, open_low=True)  # η⁺
    step_sizes: tuple[Scalar, Scalar] = several_of((1e-4, 5e3), 2, low=0.0)  # least and most, in learning rates
    Slots = Steps
    momenta = ()
    reference = "doi:10.1109/ICNN.1993.298623"

    def initial(self, name, p):
        return 1.0 if name == "e" else 0.0

    def advance(self, g, s, p, k):
        sign = jnp.sign(g)
        agrees = sign * s.g
        factor = jnp.where(agrees > 0, self.eta_plus, jnp.where(agrees < 0, self.eta_minus, 1.0))
        least, most = self.step_sizes
        e = showing(jnp.clip(s.e * factor, least, most), sign)
        return Steps(e, jnp.where(agrees < 0, 0.0, sign))

    def direction(self, g, s, old, p, k):
        return s.e * s.g
