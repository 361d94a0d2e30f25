"""L4: a fixed share of the step that would bring the linearized loss down to what is thought attainable.

    L_min = γ₀ f at the first step, min(L_min, f) after
    ĝ = bias-corrected average of g
    η = α (f − γ L_min) / (⟨ĝ, d⟩ + ε), in [0, max_lr]
    L_min ← (1 + 1/forget) L_min

Rolinek & Martius, "L4: practical loss-based stepsize adaptation for deep learning", 2018, arXiv:1802.05074,
Algorithm 1. Losses must be positive.
Departs from the paper in: the rate is not allowed to turn negative, and is bounded by max_lr.
When not: without max_lr, where noise keeps the loss above its least while slopes vanish: the rate grows without end, on
a noisy quadratic by five orders of magnitude within 10,000 steps.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import bound, checked, decay, number, one_of
from ..control import Controller
from ..numerics import debias, ema
from ..values import Decay, Scalar, static, value_class


class Least(NamedTuple):
    rate: Scalar
    least: Scalar  # L_min


class Mean(NamedTuple):
    mean: Array  # averaged gradient


class Slope(NamedTuple):
    slope: Array  # ⟨ĝ, d⟩


@value_class
class L4(Controller):
    """L4. One mark (the averaged gradient); needs value=loss."""

    alpha: Scalar = 0.15  # > 0, share of the way
    gamma: Scalar = 0.9  # in [0, 1)
    gamma0: Scalar = 0.75  # in [0, 1]
    forget: Scalar = 1000.0  # > 0, steps
    eps: Scalar = 1e-12  # ≥ 0, units of ⟨g, d⟩
    gradient_decay: Decay | Scalar = 0.9  # in [0, 1)
    max_lr: Scalar | None = None  # > 0; None for no bound
    base: Scalar = 1.0  # open-loop factor
    scope: str = static(default="global")  # or "leaf"
    Scalars, Marks, Sums = Least, Mean, Slope
    requires = frozenset({"value"})
    reports = ("least",)
    theory = ("momentum", "adam")
    reference = "arXiv:1802.05074"

    def __post_init__(self):
        checked(self, alpha=number("alpha", self.alpha, 0.0, open_low=True), eps=number("eps", self.eps, 0.0))
        checked(self, gamma=number("gamma", self.gamma, 0.0, 1.0, open_high=True))
        checked(self, gamma0=number("gamma0", self.gamma0, 0.0, 1.0))
        checked(self, forget=number("forget", self.forget, 0.0, open_low=True))
        checked(self, max_lr=bound("max_lr", self.max_lr, open_low=True))
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=number("base", self.base, 0.0))
        checked(self, gradient_decay=decay("gradient_decay", self.gradient_decay))

    def start(self):
        return Least(0.0, jnp.inf)

    def marks(self, p):
        return Mean(jnp.zeros_like(p))

    def debiased(self):
        return {"gradient_decay": 0}

    def measure(self, leaf, c, k):
        mean = ema(leaf.marks.mean, leaf.g, self.gradient_decay)
        return Mean(mean), Slope(jnp.sum(debias(mean, self.gradient_decay, k) * leaf.d))

    def update(self, sums, c, k):
        least = jnp.where(jnp.isinf(c.least), self.gamma0 * k.value, jnp.minimum(c.least, k.value))
        size = sums.slope + self.eps
        rate = self.alpha * (k.value - self.gamma * least) / jnp.where(size > 0, size, 1)
        return Least(jnp.where(size > 0, jnp.clip(rate, 0, self.max_lr), 0), (1 + 1 / self.forget) * least)

    def rate(self, c, k):
        return self.base_rate(k) * c.rate
