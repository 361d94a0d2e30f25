"""COCOB: a bet on every coordinate.

    L ← max(L, |d|) from ε,  G ← G + |d|,  R ← [R − d w]₊,  θ ← θ − d
    w ← θ / (L · max(G + L, α L)) · (L + R),  x ← x₀ + w

d is the base rule's direction; over SGD it is the gradient and this is the paper's method. There is no rate: base
multiplies the distance bet, 1 in the paper.
Orabona & Tommasi, "Training deep networks without learning rates through coin betting", 2017, arXiv:1705.07795,
Algorithm 2.
Departs from the paper in: x moves by the difference of two bets w, so that x₀ need not be kept and decay can act.
"""

from typing import Any

import jax.numpy as jnp

from ..base import Controller
from ..values import Scalar, checked, number, open_loop, value_class


@value_class
class Cocob(Controller):
    """Coin betting. Five marks."""

    base: Any = 1.0  # open-loop factor on every displacement
    alpha: Scalar = 100.0  # ≥ 1
    eps: Scalar = 1e-8  # > 0, units of d
    scope = "global"
    exact = True
    reports = ("reward",)
    reference = "arXiv:1705.07795"

    def __post_init__(self):
        checked(self, base=open_loop("base", self.base), alpha=number("alpha", self.alpha, 1.0))
        checked(self, eps=number("eps", self.eps, 0.0, open_low=True))

    def start(self):
        return {"reward": 0.0, "rate": 0.0}

    def marks(self, p):
        zero = jnp.zeros_like(p)
        return {"L": jnp.full_like(p, self.eps), "G": zero, "R": zero, "theta": zero, "w": zero}

    def measure(self, g, d, x, metric, marks, c, k):
        new = {
            "L": jnp.maximum(marks["L"], jnp.abs(d)),
            "G": marks["G"] + jnp.abs(d),
            "R": jnp.maximum(marks["R"] - d * marks["w"], 0),
            "theta": marks["theta"] - d,
            "w": marks["w"],
        }
        moved = jnp.sum(jnp.abs(self._bet(new) - marks["w"]))
        return new, {"reward": jnp.sum(new["R"]), "moved": moved, "size": jnp.sum(jnp.abs(d))}

    def update(self, sums, c, k):
        return {"reward": sums["reward"], "rate": sums["moved"] / jnp.where(sums["size"] > 0, sums["size"], 1)}

    def rate(self, c, k):
        return self.base_rate(k) * c["rate"]  # what the bet amounted to: Σ|u| / Σ|d|

    def move(self, g, d, x, marks, c, k):
        w = self._bet(marks)
        return self.base_rate(k) * (w - marks["w"]), {**marks, "w": w}

    def _bet(self, marks):
        size = marks["L"] * jnp.maximum(marks["G"] + marks["L"], self.alpha * marks["L"])
        return marks["theta"] / size * (marks["L"] + marks["R"])
