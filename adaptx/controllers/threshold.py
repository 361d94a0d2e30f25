"""The gradient-threshold rate.

    η = low where |g| > τ, else high              |g|: of an element, or the Euclidean norm of a leaf or of all

A large gradient takes the small rate. g is the gradient the rule sees.
No paper; the step-size analogue of clipping (Pascanu, Mikolov & Bengio, 2013, arXiv:1211.5063).
"""

from typing import Any

import jax.numpy as jnp

from ..base import Controller
from ..values import Scalar, checked, number, one_of, open_loop, static, value_class


@value_class
class Threshold(Controller):
    """One rate above a gradient threshold, another below. No marks."""

    low: Scalar  # ≥ 0, the rate where |g| > tau
    high: Scalar  # ≥ low, the rate elsewhere
    tau: Scalar  # ≥ 0, units of g
    base: Any = 1.0  # open-loop factor
    scope: str = static(default="global")  # "global", "leaf" or "element"

    def __post_init__(self):
        checked(self, low=number("low", self.low, 0.0), high=number("high", self.high, 0.0))
        checked(self, tau=number("tau", self.tau, 0.0), base=open_loop("base", self.base))
        one_of("scope", self.scope, ("global", "leaf", "element"))
        if isinstance(self.low, float) and isinstance(self.high, float) and self.low > self.high:
            raise ValueError(f"threshold needs low ≤ high, got low={self.low:g}, high={self.high:g}; swap them.")

    def start(self):
        return {"rate": 0.0}

    def measure(self, g, d, x, metric, marks, c, k):
        if self.scope == "element":
            return marks, {"above": jnp.sum(jnp.abs(g) > self.tau), "size": jnp.full((), g.size, g.dtype)}
        return marks, {"squares": jnp.sum(g * g)}

    def update(self, sums, c, k):
        if self.scope == "element":  # the mean over elements, to be read; move uses each element's own
            share = sums["above"] / sums["size"]
            return {"rate": share * self.low + (1 - share) * self.high}
        return {"rate": jnp.where(jnp.sqrt(sums["squares"]) > self.tau, self.low, self.high)}

    def rate(self, c, k):
        return self.base_rate(k) * c["rate"]

    def move(self, g, d, x, marks, c, k):
        if self.scope != "element":
            return super().move(g, d, x, marks, c, k)
        return -self.base_rate(k) * jnp.where(jnp.abs(g) > self.tau, self.low, self.high) * d, marks
