"""Prodigy: the distance to the solution, estimated on the way.

    λ = d · base · c                       c: the rule's bias-correction factor, 1 where it has none; η = λ, and the
                                           rule makes no correction itself
    r ← β₃ r + (d/d₀) λ ⟨g, x₀ − x⟩
    s ← β₃ s + (d/d₀) λ g                  safeguard_warmup: d in place of λ
    the rule sees d·g
    d ← max(d, d_coef · r / ‖s‖₁)
    x ← x − λ · direction                  the rule's ε in units of the new d, as the authors' code has it

growth_rate bounds d by growth_rate · d_old, except for the first rise from d₀. A schedule belongs into base:
`prodigy() * schedule`. Under a rule whose step grows with the gradient (SGD, momentum) g is not scaled and
η = d · base / ‖g at the first step‖.
Mishchenko & Defazio, "Prodigy: an expeditiously adaptive parameter-free learner", 2024, arXiv:2306.06101 (Adam
version).
Departs from the paper in: ε in units of the new d, like the authors' code; the form for SGD.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import bound, checked, decay, flag, number, one_of
from ..control import Controller
from ..numerics import divide, root
from ..values import Decay, Scalar, static, value_class


class Estimate(NamedTuple):
    d: Scalar  # distance to the solution, units of the parameters
    largest: Scalar  # the largest estimate, growth_rate aside
    r: Scalar  # weighted ⟨g, x₀ − x⟩
    norm: Scalar  # ‖g‖ at the first step
    used: Scalar  # the rate the last step used


class Path(NamedTuple):
    x0: Array  # the initial parameter
    s: Array  # weighted gradients


class Products(NamedTuple):
    dot: Array  # ⟨g, x₀ − x⟩
    l1: Array  # ‖s‖₁
    gg: Array  # ‖g‖²


@value_class
class Prodigy(Controller):
    """Prodigy. Two marks (x₀ and s)."""

    base: Scalar = 1.0  # open-loop factor: a number ≥ 0 or a schedule
    d0: Scalar = 1e-6  # > 0, the first estimate, units of the parameters
    d_coef: Scalar = 1.0  # > 0
    b3: Decay | Scalar = 0.999**0.5  # in [0, 1); √β₂ of the rule
    growth_rate: Scalar | None = None  # > 1; None for no bound
    safeguard_warmup: bool = static(default=False)  # for schedules that warm up
    scope: str = static(default="global")  # or "leaf"
    Scalars, Marks, Sums = Estimate, Path, Products
    exact = True
    sees_direction = False
    corrects = True
    reports = ("d",)
    theory = ("adam",)
    reference = "arXiv:2306.06101"

    def __post_init__(self):
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=number("base", self.base, 0.0), d0=number("d0", self.d0, 0.0, open_low=True))
        checked(self, d_coef=number("d_coef", self.d_coef, 0.0, open_low=True), b3=decay("b3", self.b3))
        checked(self, growth_rate=bound("growth_rate", self.growth_rate, 1.0, open_low=True))
        flag("safeguard_warmup", self.safeguard_warmup)

    def start(self):
        return Estimate(self.d0, self.d0, 0.0, 0.0, 0.0)

    def marks(self, p):
        return Path(p, jnp.zeros_like(p))

    def unit(self, c, k):
        return None if k.degree else c.d

    def feed(self, g, x, c, k):
        return g if k.degree else c.d * g

    def measure(self, leaf, c, k):
        g, (x0, s) = leaf.g, leaf.marks
        weight = c.d if self.safeguard_warmup else self._weight(c, k)
        s = self.b3.rate * s + c.d / self.d0 * weight * g
        return Path(x0, s), Products(jnp.sum(g * (x0 - leaf.x)), jnp.sum(jnp.abs(s)), jnp.sum(g * g))

    def update(self, sums, c, k):
        weight = self._weight(c, k)
        r = self.b3.rate * c.r + c.d / self.d0 * weight * sums.dot
        d = largest = jnp.maximum(c.largest, divide(self.d_coef * r, sums.l1))
        if self.growth_rate is not None:
            d = jnp.minimum(d, jnp.where(c.d == self.d0, largest, c.d) * self.growth_rate)
        norm = jnp.where(c.norm > 0, c.norm, root(sums.gg))
        used = divide(c.d * self.base_rate(k), norm) if k.degree else weight
        return Estimate(d, largest, r, norm, used)

    def rate(self, c, k):
        return c.used

    def _weight(self, c, k):
        return c.d * self.base_rate(k) * k.correction
