"""Dion: low-rank orthonormalized momentum with error feedback.

    B = M + g                            momentum                                        Algorithm 1, line 4
    P = orthonormal basis of B Q         one power iteration, from the Q of the step before
    R = Bᵀ P
    M ← B − (1 − μ) P Rᵀ                 error feedback: what rank r missed stays whole
    Q ← R, every column divided by its length + ε
    d = √(outputs / inputs) P Qᵀ         the engine does p ← p − lr·d

B is m × n, Q n × r with r = ⌈rank_fraction · min(m, n)⌉. Rows are the outputs of a matrix. Of more than two axes the
last two are the matrix, unless `view` joins them.
Ahn et al., "Dion: distributed orthonormalized updates", 2025, arXiv:2504.05295, Algorithm 1; ε as in the authors'
program, github.com/microsoft/dion.
Departs from the paper in: the basis by Cholesky QR, shifted and three times; the first Q is uniform rather than normal,
and the same for all matrices of one shape; a column of R that is 0 leaves that of Q as it was.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, SignedOwn, Weighed
from ..fields import choice, rate, real, share
from ..matrices import columns_of, scattered
from ..numerics import divide
from ..orthogonal import OUTPUTS, VIEWS, as_before, as_matrices, orthonormal, over_norm, unit_of
from ..sharded import product
from ..values import Decay, Scalar, value_class


class LowRank(NamedTuple):
    m: Weighed  # momentum, a sum of gradients, units of g
    Q: SignedOwn  # columns of length 1, one for each rank; no unit


@value_class
class Dion(Rule):
    """Dion. Looks at whole matrices; one slot and a matrix of r columns."""

    decay: Decay | Scalar = rate(0.95)  # μ, in [0, 1)
    eps: Scalar = real(1e-8, low=0.0)  # ≥ 0, units of g
    rank_fraction: float = share(1.0)  # in (0, 1], of the shorter side
    view: str = choice(*VIEWS)  # or "first", "last": of more than two axes
    output: str = choice(*OUTPUTS)  # or "rows"
    Slots = LowRank
    pointwise = False
    batches = True
    ranks = (2, 3, 4, 5)
    momenta = None  # what a step of few directions misses is kept, whatever decay
    reference = "arXiv:2504.05295"

    def initial(self, name, p):
        if name == "m":
            return 0.0
        p = as_matrices(p, self.view, self.output)
        least = min(p.shape[-2:])
        rank = min(least, math.ceil(self.rank_fraction * least))
        return scattered(columns_of(p), rank)

    def advance(self, g, s, p, k):
        b, unit, basis, along = self._power(g, s)
        left = b - self.decay.complement * product(basis, jnp.swapaxes(along, -1, -2))
        return LowRank(as_before(unit * left, g.shape, self.output), self._columns(along, unit, s.Q))

    def direction(self, g, s, old, p, k):
        _, unit, basis, along = self._power(g, old)
        x = product(basis, jnp.swapaxes(self._columns(along, unit, old.Q), -1, -2))
        return (x.shape[-2] / max(x.shape[-1], 1)) ** 0.5 * as_before(x, g.shape, self.output)

    def means(self):
        return {"Q": f"columns of the side output={self.output!r}, view={self.view!r}"}

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def _power(self, g, s):
        """B in its unit, the unit, P, R in the unit."""
        b = as_matrices(s.m + g, self.view, self.output)
        unit = unit_of(b)
        b = divide(b, unit)
        basis = orthonormal(product(b, s.Q))
        return b, unit, basis, product(jnp.swapaxes(b, -1, -2), basis)

    def _columns(self, along, unit, before):
        there = jnp.max(jnp.abs(along), -2, keepdims=True, initial=0) != 0
        return jnp.where(there, over_norm(along, divide(self.eps, unit), (-2,)), before)
