"""COCOB: a bet on every coordinate.

    L ← max(L, |d|) from ε,  G ← G + |d|,  R ← [R − d w]₊,  θ ← θ − d
    w ← θ / (L · max(G + L, α L)) · (L + R),  x ← x₀ + w

d is the base rule's direction; over SGD it is the gradient and this is the paper's method. There is no rate: base
multiplies the distance bet, 1 in the paper.
Orabona & Tommasi, "Training deep networks without learning rates through coin betting", 2017, arXiv:1705.07795,
Algorithm 2.
Departs from the paper in: x moves by the difference of two bets w, so that x₀ need not be kept and decay can act.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import checked, number
from ..control import Controller
from ..values import Scalar, value_class


class Outcome(NamedTuple):
    reward: Scalar  # ΣR
    rate: Scalar  # Σ|u| / Σ|d|


class Bet(NamedTuple):
    L: Array  # largest |d|
    G: Array  # Σ|d|
    R: Array  # reward
    theta: Array  # −Σd
    w: Array  # the bet: how far from the start


class Sizes(NamedTuple):
    reward: Array
    moved: Array  # Σ|u|
    size: Array  # Σ|d|


@value_class
class Cocob(Controller):
    """Coin betting. Five marks."""

    base: Scalar = 1.0  # open-loop factor on every displacement
    alpha: Scalar = 100.0  # ≥ 1
    eps: Scalar = 1e-8  # > 0, units of d
    scope = "global"
    Scalars, Marks, Sums = Outcome, Bet, Sizes
    exact = True
    reports = ("reward",)
    theory = ("sgd",)
    reference = "arXiv:1705.07795"

    def __post_init__(self):
        checked(self, base=number("base", self.base, 0.0), alpha=number("alpha", self.alpha, 1.0))
        checked(self, eps=number("eps", self.eps, 0.0, open_low=True))

    def start(self):
        return Outcome(0.0, 0.0)

    def marks(self, p):
        zero = jnp.zeros_like(p)
        return Bet(jnp.full_like(p, self.eps), zero, zero, zero, zero)

    def measure(self, leaf, c, k):
        d, bet = leaf.d, leaf.marks
        new = Bet(
            L=jnp.maximum(bet.L, jnp.abs(d)),
            G=bet.G + jnp.abs(d),
            R=jnp.maximum(bet.R - d * bet.w, 0),
            theta=bet.theta - d,
            w=bet.w,
        )
        moved = jnp.sum(jnp.abs(self._bet(new) - bet.w))
        return new, Sizes(jnp.sum(new.R), moved, jnp.sum(jnp.abs(d)))

    def update(self, sums, c, k):
        return Outcome(sums.reward, sums.moved / jnp.where(sums.size > 0, sums.size, 1))

    def rate(self, c, k):
        return self.base_rate(k) * c.rate  # what the bet amounted to

    def move(self, leaf, c, k):
        w = self._bet(leaf.marks)
        return self.base_rate(k) * (w - leaf.marks.w), leaf.marks._replace(w=w)

    def _bet(self, bet):
        size = bet.L * jnp.maximum(bet.G + bet.L, self.alpha * bet.L)
        return bet.theta / size * (bet.L + bet.R)
