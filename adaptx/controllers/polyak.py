"""Polyak's step for stochastic losses.

    η = [f − f*]₊ / (c ⟨g, d⟩ + ε), at most max_lr;  0 where ⟨g, d⟩ is not positive           SPS_max
    smooth: max_lr of step t is smooth · η_{t−1}, and max_lr itself at the first step

With SGD ⟨g, d⟩ is ‖g‖². f* is the least loss attainable on a batch, 0 for an interpolating model.
Loizou, Vaswani, Laradji & Lacoste-Julien, "Stochastic Polyak step-size for SGD", 2021, arXiv:2002.10542, equation (3).
Departs from the paper in: c = 1 by default (theirs is 1/2), ⟨g, d⟩ in place of ‖g‖² under other rules.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import bound, checked, number, one_of
from ..control import Controller
from ..values import Scalar, static, value_class


class Rates(NamedTuple):
    rate: Scalar
    cap: Scalar  # the most the next rate may be where it is smoothed; inf before the first step


class Slope(NamedTuple):
    slope: Array  # ⟨g, d⟩


@value_class
class Polyak(Controller):
    """The stochastic Polyak step. No marks; needs value=loss."""

    max_lr: Scalar | None = 1.0  # > 0, units of η; None for plain SPS
    f_min: Scalar = 0.0  # f*, units of the loss
    c: Scalar = 1.0  # > 0
    eps: Scalar = 0.0  # ≥ 0, units of ⟨g, d⟩
    smooth: Scalar | None = None  # ≥ 1, by how much η may grow in a step; the authors use 2^(batch/n)
    base: Scalar = 1.0  # open-loop factor
    scope: str = static(default="global")  # or "leaf"
    Scalars = Rates
    Sums = Slope
    requires = frozenset({"value"})
    theory = ("sgd",)
    reference = "arXiv:2002.10542"

    def __post_init__(self):
        checked(self, max_lr=bound("max_lr", self.max_lr, open_low=True), f_min=number("f_min", self.f_min))
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=number("base", self.base, 0.0))
        checked(self, c=number("c", self.c, 0.0, open_low=True), eps=number("eps", self.eps, 0.0))
        if self.smooth is not None:
            checked(self, smooth=number("smooth", self.smooth, 1.0))

    def start(self):
        return Rates(0.0, jnp.inf)

    def measure(self, leaf, c, k):
        return leaf.marks, Slope(jnp.sum(leaf.g * leaf.d))

    def update(self, sums, c, k):
        size = self.c * sums.slope + self.eps
        wanted = jnp.maximum(k.value - self.f_min, 0) / jnp.where(size > 0, size, 1)
        most = jnp.inf if self.max_lr is None else self.max_lr
        if self.smooth is not None:
            most = jnp.where(c.cap < jnp.inf, c.cap, most)
        rate = jnp.where(size > 0, jnp.minimum(wanted, most), 0)
        return Rates(rate, c.cap if self.smooth is None else jnp.where(rate > 0, self.smooth * rate, c.cap))

    def rate(self, c, k):
        return self.base_rate(k) * c.rate
