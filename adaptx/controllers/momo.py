"""MoMo: the Polyak step of an averaged model of the loss.

    f̄, m, γ = bias-corrected averages of f, g and ⟨g, p⟩ with decay b
    τ = min(base, [f̄ + ⟨m, p⟩ − γ − f*]₊ / ⟨m, d⟩)                 0 where ⟨m, d⟩ is not positive

Under Adam d = m̂/(√v̂ + ε) this is MoMo-Adam, under bias-corrected averaged momentum MoMo; base, the largest rate, is the
papers' learning rate: 1 for SGD with momentum, 1e-2 for Adam.
Schaipp, Ohana, Eickenberg, Defazio & Gower, "MoMo: momentum models for adaptive learning rates", 2024,
arXiv:2305.07583, Algorithms 1 and 2.
Departs from the paper in: decoupled weight decay is part of d rather than proximal.
"""

from typing import Any

import jax.numpy as jnp

from ..base import Controller
from ..numerics import debias, ema
from ..values import Decay, Scalar, checked, decay, number, one_of, open_loop, static, value_class


@value_class
class Momo(Controller):
    """MoMo. One mark (the averaged gradient); needs value=loss."""

    base: Any = 1.0  # the largest rate: a number ≥ 0 or a schedule
    decay: Decay | Scalar = 0.9  # b, in [0, 1); the base rule's first decay rate
    f_min: Scalar = 0.0  # f*, units of the loss
    scope: str = static(default="global")  # or "leaf"
    requires = frozenset({"value"})
    reference = "arXiv:2305.07583"

    def __post_init__(self):
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=open_loop("base", self.base), f_min=number("f_min", self.f_min))
        checked(self, decay=decay("decay", self.decay))

    def start(self):
        return {"rate": 0.0, "loss": 0.0, "gamma": 0.0}

    def marks(self, p):
        return {"mean": jnp.zeros_like(p)}

    def measure(self, g, d, x, metric, marks, c, k):
        mean = ema(marks["mean"], g, self.decay)
        return {"mean": mean}, {"gx": jnp.sum(g * x), "mx": jnp.sum(mean * x), "md": jnp.sum(mean * d)}

    def update(self, sums, c, k):
        loss, gamma = ema(c["loss"], k.value, self.decay), ema(c["gamma"], sums["gx"], self.decay)
        model, mx, size = (debias(y, self.decay, k.t) for y in (loss - gamma, sums["mx"], sums["md"]))
        wanted = jnp.maximum(model + mx - self.f_min, 0) / jnp.where(size > 0, size, 1)
        rate = jnp.where(size > 0, jnp.minimum(wanted, self.base_rate(k)), 0)
        return {"rate": rate, "loss": loss, "gamma": gamma}

    def rate(self, c, k):
        return c["rate"]
