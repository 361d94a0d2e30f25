"""Shampoo: a matrix preconditioned by the inverse roots of second moments of its rows and of its columns, grafted.

    L ← β₂ L + (1 − β₂) g gᵀ,  R ← β₂ R + (1 − β₂) gᵀ g   b2=None: the sums L + g gᵀ, R + gᵀ g, 1802.09568, Algorithm 1
    P_L ← (L̂ + ε I)^(−¼),  P_R ← (R̂ + ε I)^(−¼)          step `start`, then steps that `every` divides
    m ← β₁ m + (1 − β₁) g,  u = m̂                         u = g with b1=None
    x = P_L u P_R
    d = x · ‖a‖ / ‖x‖                                      the direction of one method, the length a of another:

    graft = "adam"       a = u / (√v̂ + ε_g), v ← β_g v + (1 − β_g) g²
            "rmsprop"    the same without the correction of v's bias
            "adagrad"    the same with v ← v + g²
            "sgd"        a = u
            "none"       d = x

Hats are corrections of bias, /(1 − βᵗ). Before step `start` d = a (u with graft="none"); the engine does p ← p − lr·d.

The last two axes are the matrix; those before are a batch of matrices. An axis longer than `block_size` is cut into
blocks, each a matrix with factors and a length of its own, the last one as short as it comes. A block's axis longer
than `max_dim` has no factor; the other's power is then −½, so that larger gradients still give no longer x. A vector is
a matrix with factors for its rows alone, (L̂ + ε I)^(−½), a scalar a vector of one element.
Gupta, Koren & Singer, "Shampoo: preconditioned stochastic tensor optimization", 2018, arXiv:1802.09568; grafting and
delayed roots: Anil et al., "Scalable second order optimization for deep learning", 2020, arXiv:2002.09018; the order of
a step, blocks and the moments: Shi et al., "A distributed data-parallel PyTorch implementation of the distributed
Shampoo optimizer", 2023, arXiv:2309.06497.
Departs from Gupta et al. in: ε is added where the root is taken instead of being the first factor. From all three
papers in: leading axes are a batch, where tensors have a factor for every axis; eigenvalues below the rounding of the
largest count as that; rows and columns that never had a gradient stay; 0/0 is 0.
Derivatives of a higher order than the first take the eigenvectors of factors as constants.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from ..base import ExactOwn, ExactWeighed, Rule, Unsigned
from ..factors import cut, grams, identity_of, inverse_power, joined, length, moving, sandwich, zeros_of
from ..fields import choice, count, rate, real
from ..matrices import is_matrix
from ..numerics import debias, divide, ema, ema_of_squares, one_minus_power, over, positive_root, root
from ..values import Decay, Scalar, value_class


class Factors(NamedTuple):
    m: ExactWeighed | None  # mean gradient, units of g; None without b1
    v: Unsigned | None  # mean or sum of squared gradients, units of g²; None unless the grafted method has one
    L: ExactOwn | None  # mean or sum of g gᵀ, (…, rows, rows), units of g²; None without this factor
    R: ExactOwn | None  # mean or sum of gᵀ g, (…, columns, columns)
    PL: ExactOwn | None  # inverse root of L
    PR: ExactOwn | None  # inverse root of R


@value_class
class Shampoo(Rule):
    """Shampoo. Looks at whole matrices; up to two slots, and two square matrices for every factor."""

    b1: Decay | Scalar | None = rate(0.9, optional=True)  # β₁ in [0, 1); None for no mean
    b2: Decay | Scalar | None = rate(0.999, optional=True)  # β₂ in [0, 1); None for sums
    eps: Scalar = real(1e-12, low=0.0)  # ε ≥ 0, units of g²
    graft: str = choice("adam", "rmsprop", "adagrad", "sgd", "none")  # whose length d has
    graft_b2: Decay | Scalar = rate(0.999)  # β_g in [0, 1), of "adam" and "rmsprop"
    graft_eps: Scalar = real(1e-8, low=0.0)  # ε_g ≥ 0, units of g
    every: int = count(10)  # ≥ 1, steps from one inverse root to the next
    start: int = count(10)  # ≥ 1, the step of the first one
    max_dim: int = count(8192)  # ≥ 1, entries of the longest axis that has a factor
    block_size: int | None = count(1024, optional=True)  # ≥ 1, entries of a block's side; None for whole matrices
    Slots = Factors
    pointwise = False
    gathers = True
    momenta = ("b1",)
    reference = "arXiv:1802.09568"

    @property
    def degree(self):  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of the method whose length d has."""
        return 1 if self.graft == "sgd" else 0

    def unused(self):
        m = () if self.b1 is not None else ("m",)
        return m if self.graft in ("adam", "rmsprop", "adagrad") else (*m, "v")

    def initial(self, name, p):
        if name in "mv":
            return 0.0
        axis = -2 if name[-1] == "L" else -1
        if not self._has(p, axis):
            return None
        return (zeros_of if len(name) == 1 else identity_of)(self._matrix(p), axis)

    def advance(self, g, s, p, k):
        x = self._matrix(g)
        L, R = (_mean(old, a, self.b2) for old, a in zip((s.L, s.R), grams(x, s.L, s.R), strict=True))
        PL, PR = self._roots(L, R, s, k)
        m = None if self.b1 is None else ema(s.m, g, self.b1)
        v = s.v
        if v is not None:
            v = v + g * g if self.graft == "adagrad" else ema_of_squares(v, g, self.graft_b2)
        return Factors(m, v, L, R, PL, PR)

    def direction(self, g, s, old, p, k):
        u = g if self.b1 is None else debias(s.m, self.b1, k)
        a = self._grafted(u, s.v, k)
        if s.L is None and s.R is None:
            return a
        return jnp.where(k.t < self.start, a, self._preconditioned(u, a, s))

    def precondition(self, x, s):
        return x if s.L is None and s.R is None else self._preconditioned(x, self._grafted(x, s.v, None), s)

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit**2, graft_eps=self.graft_eps * unit)

    def means(self):
        squares = "a sum of squares" if self.graft == "adagrad" else "a mean of squares"
        factor = f"a {'sum' if self.b2 is None else 'mean'} of products"
        roots = f"inverse roots from step {self.start} on"
        return {"v": squares, "L": factor, "R": factor, "PL": roots, "PR": roots}

    def aged(self):
        return (*(("m",) if self.b1 is not None else ()), *(("v",) if self.graft == "adam" else ()))

    def debiased(self):
        return {} if self.b1 is None else {"b1": 0}

    def correction(self, k):
        mean = 1.0 if self.b1 is None else 1 / one_minus_power(self.b1, k.t)
        return mean * root(one_minus_power(self.graft_b2, k.t)) if self.graft == "adam" else mean

    def _has(self, p, axis):
        """Whether an axis has a factor."""
        if jnp.size(p) == 0 or (axis == -1 and not is_matrix(p)):
            return False
        return self._matrix(p).shape[axis] <= self.max_dim

    def _matrix(self, x):
        """x by blocks; a vector as a column."""
        return cut(jnp.reshape(x, (-1, 1)) if x.ndim < 2 else x, self.block_size)

    def _roots(self, L, R, s, k):
        """The inverse roots as this step uses them; nothing is computed unless it is its turn."""
        if L is None and R is None:
            return None, None
        power = 0.5 if L is None or R is None else 0.25

        def refreshed(L, R, PL, PR):
            # a root outlives its step: this bias is never the controller's to correct
            bias = 1 if self.b2 is None else one_minus_power(self.b2, k.t)
            return tuple(None if a is None else inverse_power(a / bias, power, self.eps) for a in (L, R))

        now = (k.t == self.start) | ((k.t > self.start) & (jnp.mod(k.t, self.every) == 0))
        return lax.cond(now, refreshed, lambda L, R, PL, PR: (PL, PR), L, R, s.PL, s.PR)

    def _grafted(self, u, v, k):
        """The step of the grafted method along u, without the correction of bias where no clock is given."""
        if v is None:
            return u
        corrects = self.graft == "adam" and k is not None
        return over(u, positive_root(debias(v, self.graft_b2, k) if corrects else v), self.graft_eps)

    def _preconditioned(self, u, a, s):
        x = moving(sandwich(s.PL, self._matrix(u), s.PR), s.L, s.R)
        x = x if self.graft == "none" else x * divide(length(self._matrix(a)), length(x))
        shape = u.shape if u.ndim > 1 else (u.size, 1)
        return jnp.reshape(joined(x, shape, self.block_size), u.shape)


def _mean(old, new, decay):
    """The mean of new values, or their sum; None stays."""
    if new is None:
        return None
    return old + new if decay is None else ema(old, new, decay)
