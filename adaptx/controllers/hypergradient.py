"""Hypergradient descent on the learning rate.

    h = ⟨g_t, d_{t−1}⟩, d_{−1} = 0                       minus the derivative of the loss by the last rate
    additive:         η_t = η_{t−1} + β h                                              equation (6) of the paper
    multiplicative:   η_t = η_{t−1} · exp(β c),  c = h / (‖g_t‖ ‖d_{t−1}‖), β·decrease in place of β where c < 0
    η_t clipped to [min_lr, max_lr], and not below min_scale times the largest so far

Baydin, Cornish, Martínez Rubio, Schmidt & Wood, "Online learning rate adaptation with hypergradient descent", 2018,
arXiv:1703.04782 (additive). The multiplicative form, in the cosine, is free of the scale of loss and parameters.
Departs from the paper in: the bounds (additively the rate can turn negative; multiplicatively it would be 0, and stay
there, after a long time at which successive gradients point against one another).
When not: where they do so from the start, as in short epochs of reshuffled batches, the rate collapses; from a first
rate that diverges at once it cannot recover: wrap it in `shield`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import bound, checked, number, one_of
from ..control import Controller
from ..numerics import divide, root
from ..values import Scalar, static, value_class


class Change(NamedTuple):
    factor: Scalar  # multiplicative: η over base
    offset: Scalar  # additive: η less base
    largest: Scalar  # η over base so far


class Last(NamedTuple):
    direction: Array  # d of the step before


class Cosine(NamedTuple):
    dot: Array  # ⟨g, last d⟩
    gg: Array  # ‖g‖²
    dd: Array  # ‖last d‖²


@value_class
class Hypergradient(Controller):
    """A rate that follows its own gradient. One mark (the last direction)."""

    base: Scalar = 1e-3  # first rate, a number ≥ 0 or a schedule; adapted is the ratio to it, additively the difference
    mode: str = static(default="multiplicative")  # or "additive"
    hyper_lr: Scalar | None = None  # β > 0; default 0.1 multiplicative, 1e-4 additive (in units of η / ‖g‖²)
    decrease: Scalar = 1.0  # > 0; above 1 a rate falls faster than it rises (with noisy gradients it then collapses)
    min_lr: Scalar = 0.0  # ≥ 0
    max_lr: Scalar | None = None  # ≥ min_lr; None for no bound
    min_scale: Scalar = 1e-6  # in [0, 1], least share of the largest rate so far
    scope: str = static(default="global")  # or "leaf"
    Scalars, Marks, Sums = Change, Last, Cosine
    theory = ("sgd", "momentum", "adam")
    reference = "arXiv:1703.04782"

    def __post_init__(self):
        one_of("mode", self.mode, ("multiplicative", "additive"))
        one_of("scope", self.scope, ("global", "leaf"))
        beta = {"multiplicative": 0.1, "additive": 1e-4}[self.mode] if self.hyper_lr is None else self.hyper_lr
        checked(self, base=number("base", self.base, 0.0), hyper_lr=number("hyper_lr", beta, 0.0, open_low=True))
        checked(self, decrease=number("decrease", self.decrease, 0.0, open_low=True))
        checked(self, min_lr=number("min_lr", self.min_lr, 0.0), max_lr=bound("max_lr", self.max_lr))
        checked(self, min_scale=number("min_scale", self.min_scale, 0.0, 1.0))
        if isinstance(self.min_lr, float) and isinstance(self.max_lr, float) and self.min_lr > self.max_lr:
            raise ValueError(f"hypergradient needs min_lr ≤ max_lr, got {self.min_lr:g} > {self.max_lr:g}; swap them.")

    @property
    def name(self):
        return f"hypergradient_{self.mode}"

    def start(self):
        return Change(1.0, 0.0, 1.0)

    def marks(self, p):
        return Last(jnp.zeros_like(p))

    def measure(self, leaf, c, k):
        g, last = leaf.g, leaf.marks.direction
        return Last(leaf.d), Cosine(jnp.sum(g * last), jnp.sum(g * g), jnp.sum(last * last))

    def update(self, sums, c, k):
        base = self.base_rate(k)
        if self.mode == "additive":
            rate = self._bounded(base + c.offset + self.hyper_lr * sums.dot, c, base)
            return c._replace(offset=rate - base, largest=self._largest(rate, c, base))
        cosine = divide(sums.dot, root(sums.gg) * root(sums.dd))
        beta: Scalar = self.hyper_lr
        weight = beta * jnp.where(cosine < 0, self.decrease, 1.0)
        rate = self._bounded(base * c.factor * jnp.exp(weight * cosine), c, base)
        factor = jnp.where(jnp.asarray(base) > 0, divide(rate, base), c.factor)
        return c._replace(factor=factor, largest=self._largest(rate, c, base))

    def rate(self, c, k):
        base = self.base_rate(k)
        return self._bounded(base * c.factor + c.offset, c, base)

    def _bounded(self, rate, c, base):
        least = jnp.maximum(self.min_lr, self.min_scale * c.largest * base)
        return jnp.minimum(jnp.maximum(rate, least), jnp.inf if self.max_lr is None else self.max_lr)

    def _largest(self, rate, c, base):
        return jnp.maximum(c.largest, divide(rate, base))
