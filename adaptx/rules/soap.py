"""SOAP: Adam in the eigenbasis of Shampoo's factors.

At the first step L and R alone move. Of every later step:

    Q_L, Q_R ← eigenvectors of L, of R, the largest eigenvalue first             second step
    Q_L ← qr(L Q_L), Q_R ← qr(R Q_R)      every further `every` steps, from columns sorted by their quotients qᵀ L q,
                                          with them v
    m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) (Q_Lᵀ g Q_R)²                   Algorithm 3, lines 3 to 7
    L ← β L + (1 − β) g gᵀ,  R ← β R + (1 − β) gᵀ g                             lines 11 and 12, β = shampoo_beta
    d = c · Q_L ((Q_Lᵀ m Q_R) / (√v + ε)) Q_Rᵀ        c = √(1 − β₂ˢ) / (1 − β₁ˢ), s = t − 1, so that ε is before it
                                          the engine does p ← p − lr·d

The last two axes are the matrix; those before are a batch of matrices. An axis longer than `max_dim` has no factor, its
Q is the identity; so has the longer one with `one_sided`. With `block_size` longer axes are cut into blocks, each a
matrix with factors of its own, the last one as short as it comes. Arrays with fewer than two axes have no factors: Adam
with ε before the correction of bias.
Vyas et al., "SOAP: improving and stabilizing Shampoo using Adam", 2024, arXiv:2409.11321, Algorithm 3; the first step,
the place of ε and of the refresh, sorting and QR as in the authors' program, which refreshes at the end of a step what
is refreshed here at the beginning of the next.
Departs from the paper in: leading axes are a batch, where the program gives every axis a factor; m lies outside of the
basis, which is the same; rows and columns that never had a gradient stay; blocks; the root is at least 1e-19 (f32), so
that 0/0 is 0 whatever ε. Derivatives through a step take the bases as constants.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from ..base import ExactOwn, ExactWeighed, Rule, Unsigned
from ..factors import (
    cut,
    eigenbasis,
    grams,
    identity_of,
    inside,
    joined,
    moving,
    sandwich,
    tracked,
    transposed,
    zeros_of,
)
from ..fields import count, rate, real, switch
from ..matrices import is_matrix
from ..numerics import ema, ema_of_squares, one_minus_power, over, positive_root, root, squarable
from ..values import Decay, Scalar, value_class


class Basis(NamedTuple):
    m: ExactWeighed  # mean gradient, units of g
    v: Unsigned  # mean square of what is rotated, in the basis, units of g²
    L: ExactOwn | None  # mean of g gᵀ, (…, rows, rows), units of g²; None without this factor
    R: ExactOwn | None  # mean of gᵀ g, (…, columns, columns)
    QL: ExactOwn | None  # eigenvectors of L as columns
    QR: ExactOwn | None  # those of R


@value_class
class Soap(Rule):
    """SOAP. Looks at whole matrices; two slots, and two square matrices for every factor."""

    b1: Decay | Scalar = rate(0.95)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.95)  # decay of v, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # ≥ 0, units of g
    shampoo_beta: Decay | Scalar | None = rate(None, optional=True)  # β of the factors, in [0, 1); None for β₂
    every: int = count(10)  # ≥ 1, steps from one refresh to the next
    max_dim: int = count(10000)  # ≥ 1, entries of the longest axis that has a factor
    block_size: int | None = count(None, optional=True)  # ≥ 1, entries of a block's side; None for whole matrices
    one_sided: bool = switch(False)  # a factor for the shorter axis alone
    Slots = Basis
    pointwise = False
    gathers = True
    momenta = ("b1",)
    reference = "arXiv:2409.11321"

    def initial(self, name, p):
        if name in "mv":
            return 0.0
        axis = -2 if name[-1] == "L" else -1
        if not self._has(p, axis):
            return None
        return (zeros_of if len(name) == 1 else identity_of)(cut(p, self.block_size), axis)

    def advance(self, g, s, p, k):
        QL, QR, v = self._refreshed(s, k)
        x = cut(g, self.block_size)
        rotated = squarable(self._joined(sandwich(transposed(QL), x, QR), g))  # may be longer than an entry of g
        moved = ema_of_squares(v, rotated, self.b2)
        later = k.t > 1
        beta = self.b2 if self.shampoo_beta is None else self.shampoo_beta
        L, R = (None if a is None else ema(old, a, beta) for old, a in zip((s.L, s.R), grams(x, s.L, s.R), strict=True))
        return Basis(jnp.where(later, ema(s.m, g, self.b1), s.m), jnp.where(later, moved, s.v), L, R, QL, QR)

    def direction(self, g, s, old, p, k):
        steps = jnp.maximum(k.t - 1, 1)
        c = root(one_minus_power(self.b2, steps)) / one_minus_power(self.b1, steps) if k.debias else 1
        return jnp.where(k.t > 1, c * self.precondition(s.m, s), g - g)  # a first gradient shows if it is NaN

    def precondition(self, x, s):
        rotated = sandwich(transposed(s.QL), cut(x, self.block_size), s.QR)
        adam = over(rotated, positive_root(cut(s.v, self.block_size)), self.eps)
        return self._joined(moving(sandwich(s.QL, adam, transposed(s.QR)), s.L, s.R), x)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def correction(self, k):
        steps = jnp.maximum(k.t - 1, 1)
        return root(one_minus_power(self.b2, steps)) / one_minus_power(self.b1, steps)

    def _has(self, p, axis):
        """Whether an axis has a factor."""
        if not is_matrix(p):
            return False
        sides = [n if self.block_size is None else min(n, self.block_size) for n in p.shape[-2:]]
        mine, other = sides[axis], sides[-3 - axis]
        shorter = mine < other or (mine == other and axis == -2)
        return mine <= self.max_dim and (shorter or not self.one_sided)

    def _joined(self, x, like):
        return joined(x, like.shape, self.block_size)

    def _refreshed(self, s, k):
        """(Q_L, Q_R, v) as this step uses them; nothing is computed unless it is its turn."""
        if s.L is None and s.R is None:
            return None, None, s.v
        own = [inside(s.v.shape, self.block_size, axis) for axis in (-2, -1)]

        def first(L, R, QL, QR, v):
            return *(None if a is None else eigenbasis(a, o) for a, o in zip((L, R), own, strict=True)), v

        def later(L, R, QL, QR, v):
            x, bases = cut(v, self.block_size), []
            for axis, a, q in ((-2, L, QL), (-1, R, QR)):
                order = None
                if a is not None:
                    q, order = tracked(a, q, own[axis])
                    x = jnp.take_along_axis(x, order[..., None] if axis == -2 else order[..., None, :], axis)
                bases.append(q)
            return *bases, self._joined(x, v)

        turn = jnp.where((k.t > 2) & (jnp.mod(k.t - 2, self.every) == 0), 2, jnp.where(k.t == 2, 1, 0))
        return lax.switch(turn, [lambda L, R, QL, QR, v: (QL, QR, v), first, later], s.L, s.R, s.QL, s.QR, s.v)
