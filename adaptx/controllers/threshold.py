"""The gradient-threshold rate.

    η = low where |g| > τ, else high              |g|: of an element, or the Euclidean norm of a leaf or of all

A large gradient takes the small rate. g is the gradient the rule sees.
No paper; the step-size analogue of clipping (Pascanu, Mikolov & Bengio, 2013, arXiv:1211.5063).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import checked, number, one_of
from ..control import Controller
from ..values import Scalar, static, value_class


class Rate(NamedTuple):
    rate: Scalar  # the one in use; with scope="element" the mean over elements, to be read


class Above(NamedTuple):
    squares: Array  # ‖g‖²
    above: Array  # elements above the threshold
    size: Array  # elements


@value_class
class Threshold(Controller):
    """One rate above a gradient threshold, another below. No marks."""

    low: Scalar  # ≥ 0, the rate where |g| > tau
    high: Scalar  # ≥ low, the rate elsewhere
    tau: Scalar  # ≥ 0, units of g
    base: Scalar = 1.0  # open-loop factor
    scope: str = static(default="global")  # "global", "leaf" or "element"
    Scalars = Rate
    Sums = Above

    def __post_init__(self):
        checked(self, low=number("low", self.low, 0.0), high=number("high", self.high, 0.0))
        checked(self, tau=number("tau", self.tau, 0.0), base=number("base", self.base, 0.0))
        one_of("scope", self.scope, ("global", "leaf", "element"))
        if isinstance(self.low, float) and isinstance(self.high, float) and self.low > self.high:
            raise ValueError(f"threshold needs low ≤ high, got low={self.low:g}, high={self.high:g}; swap them.")

    def start(self):
        return Rate(0.0)

    def measure(self, leaf, c, k):
        above = jnp.sum(jnp.abs(leaf.g) > self.tau, dtype=leaf.g.dtype)
        return leaf.marks, Above(jnp.sum(leaf.g**2), above, jnp.full((), leaf.g.size, leaf.g.dtype))

    def update(self, sums, c, k):
        if self.scope != "element":
            return Rate(jnp.where(jnp.sqrt(sums.squares) > self.tau, self.low, self.high))
        share = sums.above / jnp.maximum(sums.size, 1)
        return Rate(share * self.low + (1 - share) * self.high)

    def rate(self, c, k):
        return self.base_rate(k) * c.rate

    def move(self, leaf, c, k):
        if self.scope != "element":
            return super().move(leaf, c, k)
        return -self.base_rate(k) * jnp.where(jnp.abs(leaf.g) > self.tau, self.low, self.high) * leaf.d, leaf.marks
