"""APOLLO: gradients scaled channel by channel as Adam would in a random space of low rank.

    R = qᵀ g                             q: normal numbers of variance 1/r, new ones every `gap` steps   Algorithm 1
    m ← β₁ m + (1 − β₁) R,  v ← β₂ v + (1 − β₂) R²                     r × n, kept where q changes
    u = m / (√v + ε)
    G = g diag(s), sⱼ = ‖uⱼ‖ / ‖Rⱼ‖      of every channel, a column (scaling="channel"); s = ‖u‖ / ‖R‖ ("tensor")
    G ← G · min(1, γ n / ‖G‖),  n ← ‖G‖  norm-growth limiter: n is the norm before; none without γ or where n = 0
    d = α c G                            c = √(1 − β₂ᵗ) / (1 − β₁ᵗ); the engine does p ← p − lr·d

A matrix that is not wider than tall is transposed first: q mixes its shorter axis, a channel is an entry of the longer.
The last two axes are the matrix, those before a batch; norms of G and s of "tensor" are of the whole array. Other
arrays, and matrices whose shorter axis is no longer than r, have Adam with d = c u. q is not kept but drawn again at
every step, from a seed that stays the same for `gap` steps. α = √(shorter axis / r) makes up for the norms that r
dimensions lack (scale=None). APOLLO-Mini is r = 1, "tensor" and α = √128.
Zhu et al., "APOLLO: SGD-like memory, AdamW-level performance", 2024, arXiv:2412.05270, Algorithm 1; c, and its place
after the limiter, as in the authors' program.
Departs from the paper in: 0/0 is 0 (the program adds 1e-8 to ‖R‖ and n, whatever the unit of g); after a step without a
gradient the limiter begins anew; √v is at least 1e-19 (f32).
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, UnsignedOwn, WeighedOwn
from ..fields import choice, count, rate, real
from ..matrices import columns_by, is_matrix, random_columns, wide
from ..numerics import divide, ema, ema_of_squares, one_minus_power, over, positive_root, root
from ..sharded import filled, product
from ..values import Decay, Scalar, value_class


class Moments(NamedTuple):
    m: WeighedOwn  # mean projected gradient, (…, r, longer axis), units of g
    v: UnsignedOwn  # mean squared projected gradient, units of g²
    n: UnsignedOwn | None = None  # norm of the scaled gradient before, a number without unit; None where not projected


@value_class
class Apollo(Rule):
    """APOLLO. Looks at whole matrices; two slots of rank × longer axis and a number."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-6, low=0.0)  # units of g
    scale: Scalar | None = real(1.0, low=0.0, optional=True)  # α ≥ 0, no unit; None for √(shorter axis / r)
    limit: Scalar | None = real(1.01, low=1.0, optional=True)  # γ ≥ 1, growth of a norm in a step; None for any
    rank: int = count(256)  # r ≥ 1
    gap: int = count(200)  # ≥ 1, steps
    scaling: str = choice("channel", "tensor")  # a factor for every entry of the longer axis, or one for all
    Slots = Moments
    pointwise = False
    draws = True
    momenta = ("b1",)
    reference = "arXiv:2412.05270"

    def unused(self):
        return ("n",) if self.limit is None else ()

    def holds(self):
        return self.gap

    def initial(self, name, p):
        if name == "n":
            return jnp.zeros((), p.dtype) if self._projected(p) else None
        return columns_by(wide(p, p), self.rank) if self._projected(p) else filled(p, 0.0)

    def advance(self, g, s, p, k):
        low = self._low(g, k)
        new = Moments(ema(s.m, low, self.b1), ema_of_squares(s.v, low, self.b2))
        if self.limit is None or not self._projected(g):
            return new
        size = _norm(self._scaled(g, low, new))
        most = self.limit * s.n
        return new._replace(n=jnp.where((s.n > 0) & (size > most), most, size))

    def direction(self, g, s, old, p, k):
        c = self.correction(k) if k.debias else 1.0
        if not self._projected(g):
            return c * over(s.m, positive_root(s.v), self.eps)
        x = self._scaled(g, self._low(g, k), s)
        alpha = (min(g.shape[-2:]) / self.rank) ** 0.5 if self.scale is None else self.scale
        return alpha * c * x if self.limit is None else alpha * c * divide(s.n, _norm(x)) * x

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        return root(one_minus_power(self.b2, k.t)) / one_minus_power(self.b1, k.t)

    def _projected(self, x):
        return is_matrix(x, self.rank + 1)

    def _low(self, g, k):
        """R; g itself where it is not projected."""
        if not self._projected(g):
            return g
        x = wide(g, g)
        return product(jnp.swapaxes(random_columns(x, self.rank, k.seed), -1, -2), x)

    def _scaled(self, g, low, s):
        """G before the limiter."""
        axes = -2 if self.scaling == "channel" else None
        top = jnp.max(jnp.abs(low), axes, keepdims=True, initial=0)  # squares may be out of range
        x, u = divide(low, top), over(s.m, positive_root(s.v), self.eps)
        ratio = divide(root(jnp.sum(u * u, axes, keepdims=True)), root(jnp.sum(x * x, axes, keepdims=True)))
        return wide(divide(wide(g, g), top) * ratio, g)


def _norm(x):
    return root(jnp.sum(x * x))
