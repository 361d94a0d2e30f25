"""Distance over gradients, and its weighted form.

    DoG     r̄ = max(r̄, ‖x − x₀‖) from reps_rel·(1 + ‖x₀‖);  G ← G + ‖d‖² from ε;  η = r̄ / √G         per leaf: L-DoG
    DoWG    r̄² = max(r̄², ‖x − x₀‖²) from ε;  v ← v + r̄²‖d‖²;  η = r̄² / (√v + ε)

Ivgi, Hinder & Carmon, "DoG is SGD's best friend", 2023, arXiv:2302.12022; Khaled, Mishchenko & Jin, "DoWG unleashed",
2023, arXiv:2305.16284, Algorithm 1 (ε in the root's sum as in the authors' code).
Departs from the papers in: under rules other than SGD the direction takes the place of the gradient in the sums. DoG's
theory is for averaged iterates: wrap the optimizer in `adaptx.averaged`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import checked, number, one_of
from ..control import Controller, Leaf
from ..numerics import root
from ..values import Scalar, static, value_class


class Start(NamedTuple):
    x0: Array  # the initial parameter


class Moved(NamedTuple):
    away: Array  # ‖x − x₀‖²
    dd: Array  # ‖d‖²


class Norm(NamedTuple):
    squares: Array  # ‖x₀‖²


class Distance(NamedTuple):
    distance: Scalar  # r̄
    total: Scalar  # G


class Weighted(NamedTuple):
    squared: Scalar  # r̄²
    total: Scalar  # v


def moved(leaf: Leaf) -> Moved:
    """How far a leaf has come, and the length of its direction."""
    away = leaf.x - leaf.marks.x0
    return Moved(jnp.sum(away * away), jnp.sum(leaf.d * leaf.d))  # pyright: ignore[reportOptionalOperand]


@value_class
class Dog(Controller):
    """Distance over gradients. One mark (x₀)."""

    base: Scalar = 1.0  # open-loop factor
    reps_rel: Scalar = 1e-6  # > 0, the first distance relative to 1 + ‖x₀‖
    eps: Scalar = 1e-8  # > 0, units of ‖d‖²
    scope: str = static(default="global")  # or "leaf"
    Scalars, Marks, Sums = Distance, Start, Moved
    exact = True
    reports = ("distance",)
    theory = ("sgd",)
    reference = "arXiv:2302.12022"

    def __post_init__(self):
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=number("base", self.base, 0.0), eps=number("eps", self.eps, 0.0, open_low=True))
        checked(self, reps_rel=number("reps_rel", self.reps_rel, 0.0, open_low=True))

    def start(self):
        return Distance(0.0, self.eps)

    def inspect(self, p):
        return Norm(jnp.sum(p * p))

    def begin(self, sums, c):
        return c._replace(distance=self.reps_rel * (1 + root(sums.squares)))

    def marks(self, p):
        return Start(p)

    def measure(self, leaf, c, k):
        return leaf.marks, moved(leaf)

    def update(self, sums, c, k):
        return Distance(jnp.maximum(c.distance, root(sums.away)), c.total + sums.dd)

    def rate(self, c, k):
        return self.base_rate(k) * c.distance / jnp.sqrt(c.total)


def ldog(base: Scalar = 1.0, reps_rel: Scalar = 1e-6, eps: Scalar = 1e-8) -> Dog:
    """L-DoG: `dog` with one distance and one rate per leaf."""
    return Dog(base, reps_rel, eps, scope="leaf")


@value_class
class Dowg(Controller):
    """Distance over weighted gradients. One mark (x₀). Made for SGD; over Adam it can diverge."""

    base: Scalar = 1.0  # open-loop factor
    eps: Scalar = 1e-4  # > 0
    scope: str = static(default="global")  # or "leaf"
    Scalars, Marks, Sums = Weighted, Start, Moved
    exact = True
    reports = ("distance",)
    theory = ("sgd",)
    reference = "arXiv:2305.16284"

    def __post_init__(self):
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=number("base", self.base, 0.0), eps=number("eps", self.eps, 0.0, open_low=True))

    def start(self):
        return Weighted(self.eps, 0.0)

    def marks(self, p):
        return Start(p)

    def measure(self, leaf, c, k):
        return leaf.marks, moved(leaf)

    def update(self, sums, c, k):
        squared = jnp.maximum(c.squared, sums.away)
        return Weighted(squared, c.total + squared * sums.dd)

    def rate(self, c, k):
        return self.base_rate(k) * c.squared / (jnp.sqrt(c.total) + self.eps)

    def report(self, c, k):
        return {"distance": jnp.sqrt(c.squared)}
