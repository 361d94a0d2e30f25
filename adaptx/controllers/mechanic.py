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

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import checked, number, several
from ..control import Controller
from ..numerics import divide, root
from ..values import Scalar, value_class


class Bets(NamedTuple):
    s: Scalar  # by β: the scale it bets on
    m: Scalar  # by β: largest |h|
    v: Scalar  # by β: Σ h²
    r: Scalar  # by β: reward
    scale: Scalar  # Σs before the last update


class Start(NamedTuple):
    x0: Array  # the initial parameter


class Products(NamedTuple):
    gb: Array  # ⟨g, x₀ − x⟩
    xb: Array  # ⟨x, x₀ − x⟩
    gg: Array  # ‖g‖²
    xx: Array  # ‖x‖²


@value_class
class Mechanic(Controller):
    """Mechanic. One mark (x₀); its scalars are f32 whatever the parameters."""

    base: Scalar = 1.0  # the base optimizer's learning rate: a number ≥ 0 or a schedule
    s_init: Scalar = 1e-6  # > 0
    decay: Scalar = 1e-2  # λ ≥ 0
    eps: Scalar = 1e-8  # > 0
    betas: tuple[Scalar, ...] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)  # each in [0, 1)
    scope = "global"
    Scalars, Marks, Sums = Bets, Start, Products
    exact = True
    reports = ("s",)
    reference = "arXiv:2306.00144"

    def __post_init__(self):
        checked(self, base=number("base", self.base, 0.0), s_init=number("s_init", self.s_init, 0.0, open_low=True))
        checked(self, decay=number("decay", self.decay, 0.0), eps=number("eps", self.eps, 0.0, open_low=True))
        checked(self, betas=several("betas", self.betas, low=0.0, high=1.0, open_high=True))

    def start(self):
        zero = jnp.zeros(len(self.betas))
        return Bets(jnp.full(len(self.betas), self.s_init), zero, zero, zero, 0.0)

    def marks(self, p):
        return Start(p)

    def measure(self, leaf, c, k):
        g, x, back = leaf.g, leaf.x, leaf.marks.x0 - leaf.x
        return leaf.marks, Products(jnp.sum(g * back), jnp.sum(x * back), jnp.sum(g * g), jnp.sum(x * x))

    def update(self, sums, c, k):
        s, betas = c.s, jnp.stack([jnp.asarray(b, c.s.dtype) for b in self.betas])
        scale = jnp.sum(s)
        weight = self.decay * scale * root(sums.gg) / (root(sums.xx) + self.eps)
        h = (sums.gb + weight * sums.xb) / (scale + self.eps)
        clipped = jnp.clip(h, -c.m, c.m)
        m = jnp.maximum(betas * c.m, jnp.abs(h) + self.eps)
        v = betas**2 * c.v + h**2
        r = betas * c.r + s * clipped
        s = (self.s_init * m / len(self.betas) + jnp.maximum(r, 0)) / (root(v) + self.eps)
        return Bets(s, m, v, r, scale)

    def rate(self, c, k):
        return self.base_rate(k) * jnp.sum(c.s)

    def move(self, leaf, c, k):
        after = jnp.sum(c.s)
        before = jnp.where(k.finite, c.scale, after)  # a step that is not finite left s, hence S, as it was
        # what lies behind the leaf has its scale already, and the engine will put it on all of this
        back = divide(leaf.marks.x0 - leaf.x, jnp.asarray(leaf.scale, leaf.x.dtype))
        path = back / (before + self.eps) + self.base_rate(k) * leaf.d
        return back - after * path, leaf.marks

    def report(self, c, k):
        return {"s": jnp.sum(c.s)}
