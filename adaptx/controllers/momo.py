"""MoMo: the Polyak step of an averaged model of the loss.

    f̄, m, γ = bias-corrected averages of f, g and ⟨g, p⟩ with decay b
    τ = min(base, [f̄ + ⟨m, p⟩ − γ − f*]₊ / ⟨m, d⟩)                 0 where ⟨m, d⟩ is not positive

Under Adam d = m̂/(√v̂ + ε) this is MoMo-Adam, under bias-corrected averaged momentum MoMo; base, the largest rate, is the
papers' learning rate: 1 for SGD with momentum, 1e-2 for Adam.
Schaipp, Ohana, Eickenberg, Defazio & Gower, "MoMo: momentum models for adaptive learning rates", 2024,
arXiv:2305.07583, Algorithms 1 and 2.
Departs from the paper in: decoupled weight decay is part of d rather than proximal.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import checked, decay, number, one_of
from ..control import Controller
from ..numerics import debias, ema
from ..values import Decay, Scalar, static, value_class


class Model(NamedTuple):
    rate: Scalar
    loss: Scalar  # averaged, not yet corrected
    gamma: Scalar  # averaged ⟨g, p⟩, not yet corrected


class Mean(NamedTuple):
    mean: Array  # averaged gradient m, not yet corrected


class Products(NamedTuple):
    gx: Array  # ⟨g, p⟩
    mx: Array  # ⟨m, p⟩
    md: Array  # ⟨m, d⟩


@value_class
class Momo(Controller):
    """MoMo. One mark (the averaged gradient); needs value=loss."""

    base: Scalar = 1.0  # the largest rate: a number ≥ 0 or a schedule
    decay: Decay | Scalar = 0.9  # b, in [0, 1); the base rule's first decay rate
    f_min: Scalar = 0.0  # f*, units of the loss
    scope: str = static(default="global")  # or "leaf"
    Scalars, Marks, Sums = Model, Mean, Products
    requires = frozenset({"value"})
    theory = ("momentum", "adam")
    reference = "arXiv:2305.07583"

    def __post_init__(self):
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=number("base", self.base, 0.0), f_min=number("f_min", self.f_min))
        checked(self, decay=decay("decay", self.decay))

    def start(self):
        return Model(0.0, 0.0, 0.0)

    def marks(self, p):
        return Mean(jnp.zeros_like(p))

    def debiased(self):
        return {"decay": 0}

    def measure(self, leaf, c, k):
        mean = ema(leaf.marks.mean, leaf.g, self.decay)
        return Mean(mean), Products(jnp.sum(leaf.g * leaf.x), jnp.sum(mean * leaf.x), jnp.sum(mean * leaf.d))

    def update(self, sums, c, k):
        loss, gamma = ema(c.loss, k.value, self.decay), ema(c.gamma, sums.gx, self.decay)
        model, mx, size = (debias(y, self.decay, k) for y in (loss - gamma, sums.mx, sums.md))
        wanted = jnp.maximum(model + mx - self.f_min, 0) / jnp.where(size > 0, size, 1)
        rate = jnp.where(size > 0, jnp.minimum(wanted, self.base_rate(k)), 0)
        return Model(rate, loss, gamma)

    def rate(self, c, k):
        return c.rate
