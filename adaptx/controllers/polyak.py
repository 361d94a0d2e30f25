"""Polyak's step for stochastic losses.

    η = [f − f*]₊ / (c ⟨g, d⟩ + ε), at most max_lr;  0 where ⟨g, d⟩ is not positive           SPS_max
    smooth: max_lr of step t is smooth · η_{t−1}, and max_lr itself at the first step

With SGD ⟨g, d⟩ is ‖g‖². f* is the least loss attainable on a batch, 0 for an interpolating model.
Loizou, Vaswani, Laradji & Lacoste-Julien, "Stochastic Polyak step-size for SGD", 2021, arXiv:2002.10542, equation (3).
Departs from the paper in: c = 1 by default (theirs is 1/2), ⟨g, d⟩ in place of ‖g‖² under other rules.
"""

from typing import Any

import jax.numpy as jnp

from ..base import Controller
from ..values import Scalar, checked, number, one_of, open_loop, static, value_class


@value_class
class Polyak(Controller):
    """The stochastic Polyak step. No marks; needs value=loss."""

    max_lr: Scalar = 1.0  # > 0, units of η; inf for plain SPS
    f_min: Scalar = 0.0  # f*, units of the loss
    c: Scalar = 1.0  # > 0
    eps: Scalar = 0.0  # ≥ 0, units of ⟨g, d⟩
    smooth: Scalar | None = None  # ≥ 1, by how much η may grow in a step; the authors use 2^(batch/n)
    base: Any = 1.0  # open-loop factor
    scope: str = static(default="global")  # or "leaf"
    requires = frozenset({"value"})
    reference = "arXiv:2002.10542"

    def __post_init__(self):
        checked(self, max_lr=number("max_lr", self.max_lr, 0.0, open_low=True), f_min=number("f_min", self.f_min))
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=open_loop("base", self.base))
        checked(self, c=number("c", self.c, 0.0, open_low=True), eps=number("eps", self.eps, 0.0))
        if self.smooth is not None:
            checked(self, smooth=number("smooth", self.smooth, 1.0))

    def start(self):
        return {"rate": 0.0, "cap": self.max_lr}

    def measure(self, g, d, x, metric, marks, c, k):
        return marks, {"slope": jnp.sum(g * d)}

    def update(self, sums, c, k):
        size = self.c * sums["slope"] + self.eps
        wanted = jnp.maximum(k.value - self.f_min, 0) / jnp.where(size > 0, size, 1)
        rate = jnp.where(size > 0, jnp.minimum(wanted, c["cap"]), 0)
        cap = c["cap"] if self.smooth is None else jnp.where(rate > 0, self.smooth * rate, c["cap"])
        return {"rate": rate, "cap": cap}

    def rate(self, c, k):
        return self.base_rate(k) * c["rate"]
