"""D-Adaptation: a lower bound on the distance to the solution, as the learning rate.

Under the Adam family (a step that does not grow with the gradient):

    λ = d · base · c                                    c: the rule's bias-correction factor, 1 where it has none
    n ← β n + (1 − β) λ ⟨g, s / (√v + ε)⟩               in the rule's metric, before this gradient
    s ← β s + (1 − β) λ g
    the rule sees g; what it weighs (m, and d, but not v) carries λ; x ← x − d
    d ← max(d, min(n / ((1 − β) ‖s‖₁), growth_rate · d))

Under SGD and momentum:

    λ = d · base / ‖g at the first step‖,  n ← n + λ⟨g, s⟩,  s ← s + λ g
    what the rule weighs carries λ; x ← x − d,  d ← max(d, min(factor · n / ‖s‖₂, growth_rate · d))

Defazio & Mishchenko, "Learning-rate-free learning by D-Adaptation", 2023, arXiv:2301.07733.
Departs from the paper in: factor 1 by default under SGD, for which n/‖s‖ never exceeds ‖x₀ − x*‖ on a convex problem
(the authors' code uses 2). Their Adam version has no such bound: its estimate can exceed the distance.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import bound, checked, decay, number, one_of
from ..control import Controller
from ..numerics import divide, root
from ..values import Decay, Scalar, static, value_class


class Estimate(NamedTuple):
    d: Scalar  # distance to the solution, units of the parameters
    n: Scalar  # weighted ⟨g, s⟩
    norm: Scalar  # ‖g‖ at the first step
    used: Scalar  # the rate the last step used


class Weighted(NamedTuple):
    s: Array  # weighted gradients


class Products(NamedTuple):
    dot: Array  # ⟨g, s⟩, in the rule's metric under the Adam family
    size: Array  # ‖s‖₁, or ‖s‖₂²
    gg: Array  # ‖g‖²


@value_class
class Dadapt(Controller):
    """D-Adaptation. One mark (s)."""

    base: Scalar = 1.0  # open-loop factor: a number ≥ 0 or a schedule
    d0: Scalar = 1e-6  # > 0, the first estimate, units of the parameters
    b3: Decay | Scalar = 0.999**0.5  # β in [0, 1); √β₂ of the rule
    growth_rate: Scalar | None = None  # > 1; None for no bound
    factor: Scalar = 1.0  # > 0, SGD and momentum only
    scope: str = static(default="global")  # or "leaf"
    Scalars, Marks, Sums = Estimate, Weighted, Products
    corrects = True
    reports = ("d",)
    theory = ("sgd", "momentum", "adagrad", "adam")
    reference = "arXiv:2301.07733"

    def __post_init__(self):
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=number("base", self.base, 0.0), d0=number("d0", self.d0, 0.0, open_low=True))
        checked(self, factor=number("factor", self.factor, 0.0, open_low=True), b3=decay("b3", self.b3))
        checked(self, growth_rate=bound("growth_rate", self.growth_rate, 1.0, open_low=True))

    def start(self):
        return Estimate(self.d0, 0.0, 0.0, 0.0)

    def marks(self, p):
        return Weighted(jnp.zeros_like(p))

    def weight(self, c, k):
        return c.d * self.base_rate(k) * (1.0 if k.degree else k.correction)

    def measure(self, leaf, c, k):
        weight, g, old = self.weight(c, k), leaf.g, leaf.marks.s
        if k.degree:
            s = old + weight * g
            return Weighted(s), Products(jnp.sum(g * old), jnp.sum(s * s), jnp.sum(g * g))
        s = self.b3.rate * old + self.b3.complement * weight * g
        return Weighted(s), Products(jnp.sum(g * leaf.metric(old)), jnp.sum(jnp.abs(s)), jnp.sum(g * g))

    def update(self, sums, c, k):
        weight = self.weight(c, k)
        norm = jnp.where(c.norm > 0, c.norm, root(sums.gg))
        if k.degree:
            # λ without its constant 1/‖g₀‖ is what s and n were summed with; here it enters once
            n = c.n + weight * sums.dot
            estimate = self.factor * divide(n, root(sums.size) * norm)
        else:
            n = self.b3.rate * c.n + self.b3.complement * weight * sums.dot
            estimate = divide(n, self.b3.complement * sums.size)
        if self.growth_rate is not None:
            estimate = jnp.minimum(estimate, self.growth_rate * c.d)
        return Estimate(jnp.maximum(c.d, estimate), n, norm, divide(weight, norm) if k.degree else weight)

    def rate(self, c, k):
        return c.used

    def move(self, leaf, c, k):
        return -(divide(leaf.d, c.norm) if k.degree else leaf.d), leaf.marks
