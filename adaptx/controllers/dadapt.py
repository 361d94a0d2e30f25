"""D-Adaptation: a lower bound on the distance to the solution, as the learning rate.

Under the Adam family (a step that does not grow with the gradient):

    λ = d · base · c                                    c: the rule's bias-correction factor, 1 where it has none
    n ← β n + (1 − β) λ ⟨g, s / (√v + ε)⟩               in the rule's metric, before this gradient
    s ← β s + (1 − β) λ g
    the rule's signed slots see λ·g, its unsigned slots g; x ← x − direction
    d ← max(d, min(n / ((1 − β) ‖s‖₁), growth_rate · d))

Under SGD and momentum:

    λ = d · base / ‖g at the first step‖,  n ← n + λ⟨g, s⟩,  s ← s + λ g
    the rule sees λ·g; x ← x − direction,  d ← max(d, min(factor · n / ‖s‖₂, growth_rate · d))

Defazio & Mishchenko, "Learning-rate-free learning by D-Adaptation", 2023, arXiv:2301.07733.
Departs from the paper in: factor 1 by default under SGD, for which n/‖s‖ never exceeds ‖x₀ − x*‖ on a convex problem
(the authors' code uses 2). Their Adam version has no such bound: its estimate can exceed the distance.
"""

from typing import Any

import jax.numpy as jnp

from ..base import Controller
from ..numerics import divide
from ..values import Decay, Scalar, checked, decay, number, one_of, open_loop, static, value_class


@value_class
class Dadapt(Controller):
    """D-Adaptation. One mark (s)."""

    base: Any = 1.0  # open-loop factor: a number ≥ 0 or a schedule
    d0: Scalar = 1e-6  # > 0, the first estimate, units of the parameters
    b3: Decay | Scalar = 0.999**0.5  # β in [0, 1); √β₂ of the rule
    growth_rate: Scalar = jnp.inf  # > 1
    factor: Scalar = 1.0  # > 0, SGD and momentum only
    scope: str = static(default="global")  # or "leaf"
    corrects = True
    reports = ("d",)
    reference = "arXiv:2301.07733"

    def __post_init__(self):
        one_of("scope", self.scope, ("global", "leaf"))
        checked(self, base=open_loop("base", self.base), d0=number("d0", self.d0, 0.0, open_low=True))
        checked(self, factor=number("factor", self.factor, 0.0, open_low=True), b3=decay("b3", self.b3))
        checked(self, growth_rate=number("growth_rate", self.growth_rate, 1.0, open_low=True))

    def start(self):
        return {"d": self.d0, "n": 0.0, "norm": 0.0, "used": 0.0}

    def marks(self, p):
        return {"s": jnp.zeros_like(p)}

    def feed(self, g, x, c, k):
        return self._weight(c, k) * g, g if k.degree == 0 else self._weight(c, k) * g

    def decay_weight(self, c, k):
        return self._weight(c, k)

    def measure(self, g, d, x, metric, marks, c, k):
        weight, old = self._weight(c, k), marks["s"]
        if k.degree:
            s = old + weight * g
            sums = {"dot": jnp.sum(g * old), "size": jnp.sum(s * s), "gg": jnp.sum(g * g)}
        else:
            s = self.b3.rate * old + self.b3.complement * weight * g
            sums = {"dot": jnp.sum(g * metric(old)), "size": jnp.sum(jnp.abs(s)), "gg": jnp.sum(g * g)}
        return {"s": s}, sums

    def update(self, sums, c, k):
        gain, norm = self._weight(c, k) * sums["dot"], jnp.where(c["norm"] > 0, c["norm"], jnp.sqrt(sums["gg"]))
        if k.degree:
            # λ without its constant 1/‖g₀‖ is what s and n were summed with; here it enters once
            n = c["n"] + gain
            estimate = self.factor * divide(n, jnp.sqrt(sums["size"]) * norm)
        else:
            n = self.b3.rate * c["n"] + self.b3.complement * gain
            estimate = divide(n, self.b3.complement * sums["size"])
        used = divide(self._weight(c, k), norm) if k.degree else self._weight(c, k)
        return {
            "d": jnp.maximum(c["d"], jnp.minimum(estimate, self.growth_rate * c["d"])),
            "n": n,
            "norm": norm,
            "used": used,
        }

    def rate(self, c, k):
        return c["used"]

    def move(self, g, d, x, marks, c, k):
        return -(divide(d, c["norm"]) if k.degree else d), marks

    def _weight(self, c, k):
        return c["d"] * self.base_rate(k) * (1.0 if k.degree else k.correction)
