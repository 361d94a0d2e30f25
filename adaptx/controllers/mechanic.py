"""Mechanic: the scale of any optimizer's path, by betting.

    S = Σ s,  Δ = (x₀ − x) / (S + ε)                                  the base optimizer's own path, unscaled
    h = ⟨Δ, g + λ S ‖g‖ x / (‖x‖ + ε)⟩
    for each β:  h_c = clip(h, ±m),  m ← max(β m, |h| + ε),  v ← β² v + h²,  r ← β r + s h_c
                 s ← (s_init m / n + [r]₊) / (√v + ε)                  n the number of βs
    x ← x₀ − Σs · (Δ + base · d)

Cutkosky, Defazio & Mehta, "Mechanic: a learning rate tuner", 2023, arXiv:2306.00144, Algorithm 1, in the clipped form
its authors added later (the one in optax); their PyTorch package is another algorithm.
Departs from the paper in: Δ is recomputed from x, as in optax, rather than kept.
"""

from typing import Any

import jax.numpy as jnp

from ..base import Controller
from ..values import Scalar, checked, number, open_loop, value_class


@value_class
class Mechanic(Controller):
    """Mechanic. One mark (x₀); its scalars are f32 whatever the parameters."""

    base: Any = 1.0  # the base optimizer's learning rate: a number ≥ 0 or a schedule
    s_init: Scalar = 1e-6  # > 0
    decay: Scalar = 1e-2  # λ ≥ 0
    eps: Scalar = 1e-8  # > 0
    betas: tuple[Scalar, ...] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)  # each in [0, 1)
    scope = "global"
    exact = True
    reports = ("s",)
    reference = "arXiv:2306.00144"

    def __post_init__(self):
        checked(self, base=open_loop("base", self.base), s_init=number("s_init", self.s_init, 0.0, open_low=True))
        checked(self, decay=number("decay", self.decay, 0.0), eps=number("eps", self.eps, 0.0, open_low=True))
        checked(self, betas=tuple(number("betas", b, 0.0, 1.0, open_high=True) for b in self.betas))

    def start(self):
        zero = jnp.zeros(len(self.betas))
        return {"s": jnp.full(len(self.betas), self.s_init), "m": zero, "v": zero, "r": zero, "scale": 0.0}

    def marks(self, p):
        return {"x0": p}

    def measure(self, g, d, x, metric, marks, c, k):
        back = marks["x0"] - x
        return marks, {"gb": jnp.sum(g * back), "xb": jnp.sum(x * back), "gg": jnp.sum(g * g), "xx": jnp.sum(x * x)}

    def update(self, sums, c, k):
        s, betas = c["s"], jnp.stack([jnp.asarray(b, c["s"].dtype) for b in self.betas])
        scale = jnp.sum(s)
        weight = self.decay * scale * jnp.sqrt(sums["gg"]) / (jnp.sqrt(sums["xx"]) + self.eps)
        h = (sums["gb"] + weight * sums["xb"]) / (scale + self.eps)
        clipped = jnp.clip(h, -c["m"], c["m"])
        m = jnp.maximum(betas * c["m"], jnp.abs(h) + self.eps)
        v = betas**2 * c["v"] + h**2
        r = betas * c["r"] + s * clipped
        s = (self.s_init * m / len(self.betas) + jnp.maximum(r, 0)) / (jnp.sqrt(v) + self.eps)
        return {"s": s, "m": m, "v": v, "r": r, "scale": scale}

    def rate(self, c, k):
        return self.base_rate(k) * jnp.sum(c["s"])

    def move(self, g, d, x, marks, c, k):
        scale = jnp.sum(c["s"])
        before = jnp.where(k.finite, c["scale"], scale)  # a step that is not finite left s, hence S, as it was
        path = (marks["x0"] - x) / (before + self.eps) + self.base_rate(k) * d
        return marks["x0"] - scale * path - x, marks

    def report(self, c, k):
        return {"s": jnp.sum(c["s"])}
