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

from typing import Any

import jax.numpy as jnp

from ..base import Controller
from ..numerics import divide
from ..values import Decay, Scalar, checked, decay, flag, number, one_of, open_loop, static, value_class


@value_class
class Prodigy(Controller):
    """Prodigy. Two marks (x₀ and s)."""

    base: Any = 1.0  # open-loop factor: a number ≥ 0 or a schedule
    d0: Scalar = 1e-6  # > 0, the first estimate, units of the parameters
    d_coef: Scalar = 1.0  # > 0
    b3: Decay | Scalar = 0.999**0.5  # in [0, 1); √β₂ of the rule
    growth_rate: Scalar = jnp.inf  # > 1
    safeguard_warmup: bool = static(default=False)  # for schedules that warm up
    scope: str = static(default="global")  # or "leaf"
    exact = True
    sees_direction = False
    corrects = True
    reports = ("d",)
    reference = "arXiv:2306.06101"

    def __post_init__(self):
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=open_loop("base", self.base), d0=number("d0", self.d0, 0.0, open_low=True))
        checked(self, d_coef=number("d_coef", self.d_coef, 0.0, open_low=True), b3=decay("b3", self.b3))
        checked(self, growth_rate=number("growth_rate", self.growth_rate, 1.0, open_low=True))
        flag("safeguard_warmup", self.safeguard_warmup)

    def start(self):
        return {"d": self.d0, "largest": self.d0, "r": 0.0, "norm": 0.0, "used": 0.0}

    def marks(self, p):
        return {"x0": p, "s": jnp.zeros_like(p)}

    def unit(self, c, k):
        return None if k.degree else c["d"]

    def feed(self, g, x, c, k):
        fed = g if k.degree else c["d"] * g
        return fed, fed

    def measure(self, g, d, x, metric, marks, c, k):
        weight = c["d"] if self.safeguard_warmup else self._weight(c, k)
        s = self.b3.rate * marks["s"] + c["d"] / self.d0 * weight * g
        sums = {"dot": jnp.sum(g * (marks["x0"] - x)), "l1": jnp.sum(jnp.abs(s)), "gg": jnp.sum(g * g)}
        return {"x0": marks["x0"], "s": s}, sums

    def update(self, sums, c, k):
        d = c["d"]
        r = self.b3.rate * c["r"] + d / self.d0 * self._weight(c, k) * sums["dot"]
        largest = jnp.maximum(c["largest"], divide(self.d_coef * r, sums["l1"]))
        bound = jnp.where(d == self.d0, largest, d) * self.growth_rate
        norm = jnp.where(c["norm"] > 0, c["norm"], jnp.sqrt(sums["gg"]))
        used = divide(d * self.base_rate(k), norm) if k.degree else self._weight(c, k)
        return {"d": jnp.minimum(largest, bound), "largest": largest, "r": r, "norm": norm, "used": used}

    def rate(self, c, k):
        return c["used"]

    def _weight(self, c, k):
        return c["d"] * self.base_rate(k) * k.correction
