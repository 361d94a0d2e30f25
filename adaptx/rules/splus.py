"""SPlus: the sign of the mean gradient in the eigenbasis of Shampoo's factors.

    Q_L, Q_R ← eigenvectors of L, of R                                    steps 2, every + 1, 2·every + 1, …
    m ← β₁ m + (1 − β₁) g                                                 Algorithm 1
    L ← β₂ L + (1 − β₂) g gᵀ,  R ← β₂ R + (1 − β₂) gᵀ g                   after Q_L and Q_R
    d = 2 / (rows + columns) · Q_L sign(Q_Lᵀ m Q_R) Q_Rᵀ                  the engine does p ← p − lr·d
    d = nonstandard_constant · sign(m)            where an axis has no factor, with the Q of the other if there is one

Q_L and Q_R are 1 at the first step. Evaluate at an average of the parameters, which is part of the method:
`adaptx.averaged(adaptx.splus(…), decay=0.999)`. The last two axes are the matrix; those before are a batch of matrices.
With `block_size` longer axes are cut into blocks, each a matrix with factors of its own, the last one as short as it
comes; the length of d stays that of the whole matrix. An axis, or its block, longer than `max_dim` has no factor, its Q
is the identity. Arrays with fewer axes have no factors.
Frans, Levine & Abbeel, "A stable whitening optimizer for efficient neural network training", 2025, arXiv:2506.07254,
Algorithm 1; the first refresh and nonstandard_constant as in the authors' program, which refreshes at the end of a step
what is refreshed here at the beginning of the next.
Departs from the paper in: weight decay is the engine's, which the shape does not scale; rows and columns that never had
a gradient stay, as do those whose gradients are so small that their squares are 0, below 1e-19 in f32; leading axes are
a batch; blocks.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from ..base import ExactOwn, Rule, Weighed
from ..factors import cut, eigenbasis, grams, identity_of, inside, joined, moving, sandwich, transposed, zeros_of
from ..fields import count, rate, real
from ..matrices import is_matrix
from ..numerics import ema
from ..values import Decay, Scalar, value_class


class Basis(NamedTuple):
    m: Weighed  # mean gradient, units of g
    L: ExactOwn | None  # mean of g gᵀ, (…, rows, rows), units of g²; None without this factor
    R: ExactOwn | None  # mean of gᵀ g, (…, columns, columns)
    QL: ExactOwn | None  # eigenvectors of L as columns
    QR: ExactOwn | None  # those of R


@value_class
class Splus(Rule):
    """SPlus. Looks at whole matrices; one slot, and two square matrices for every factor."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    b2: Decay | Scalar = rate(0.999)  # decay of L and R, in [0, 1)
    every: int = count(100)  # ≥ 1, steps from one refresh to the next
    max_dim: int = count(10000)  # ≥ 1, entries of the longest axis that has a factor
    block_size: int | None = count(None, optional=True)  # ≥ 1, entries of a block's side; None for whole matrices
    nonstandard_constant: Scalar = real(1e-3, low=0.0)  # ≥ 0, the size of d's elements where an axis has no factor
    Slots = Basis
    pointwise = False
    gathers = True
    momenta = ("b1",)
    reference = "arXiv:2506.07254"

    def initial(self, name, p):
        if name == "m":
            return 0.0
        axis = -2 if name[-1] == "L" else -1
        if not is_matrix(p) or cut(p, self.block_size).shape[axis] > self.max_dim:
            return None
        return (zeros_of if len(name) == 1 else identity_of)(cut(p, self.block_size), axis)

    def advance(self, g, s, p, k):
        QL, QR = self._refreshed(s, g.shape, k)
        squares = grams(cut(g, self.block_size), s.L, s.R)
        L, R = (None if a is None else ema(old, a, self.b2) for old, a in zip((s.L, s.R), squares, strict=True))
        return Basis(ema(s.m, g, self.b1), L, R, QL, QR)

    def direction(self, g, s, old, p, k):
        both = s.L is not None and s.R is not None
        size = 2 / (g.shape[-2] + g.shape[-1]) if both else self.nonstandard_constant
        x = jnp.sign(sandwich(transposed(s.QL), cut(s.m, self.block_size), s.QR))
        x = moving(sandwich(s.QL, x, transposed(s.QR)), s.L, s.R)
        return size * joined(x, g.shape, self.block_size)

    def _refreshed(self, s, shape, k):
        """(Q_L, Q_R) as this step uses them; nothing is computed unless it is its turn."""
        if s.L is None and s.R is None:
            return None, None
        own = [inside(shape, self.block_size, axis) for axis in (-2, -1)]

        def refreshed(L, R, QL, QR):
            return tuple(None if a is None else eigenbasis(a, o) for a, o in zip((L, R), own, strict=True))

        now = (k.t == 2) | ((k.t > 2) & (jnp.mod(k.t - 1, self.every) == 0))
        return lax.cond(now, refreshed, lambda L, R, QL, QR: (QL, QR), s.L, s.R, s.QL, s.QR)
