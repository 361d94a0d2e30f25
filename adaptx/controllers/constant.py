"""Open loop: the controllers that measure nothing.

η = base                              a number, or a schedule's value at this step             Constant
u = d                                 the bare direction, neither scaled nor negated           Direction
"""

from ..control import Controller
from ..values import Scalar, value_class


@value_class
class Constant(Controller):
    """A number or a schedule as a learning rate. No marks."""

    base: Scalar = 1e-3  # ≥ 0, or a schedule
    scope = "global"

    def rate(self, c, k):
        return self.base_rate(k)


@value_class
class Direction(Controller):
    """No learning rate: what a link of an optax.chain hands on. No marks."""

    base: Scalar = None
    scope = "global"

    @property
    def metric_names(self):
        return ()

    def rate(self, c, k):
        return -1.0

    def move(self, leaf, c, k):
        return leaf.d, leaf.marks
