"""PSGD Kron: a Kronecker-factored preconditioner QᵀQ fitted to whiten the gradient, by steps on a Lie group.

    m ← β₁ m + (1 − β₁) g,  h = m̂ = m / (1 − β₁ᵗ)                           h = g with momentum_into_precond_update off
    at some steps, V standard normal numbers of h's shape:
        h ← h + √2⁻²³ mean|h| V
        A = Q_L h Q_Rᵀ,  B = Q_L⁻ᵀ V Q_R⁻¹
        Q_L ← Q_L − μ triu(A Aᵀ − B Bᵀ) Q_L / ‖A Aᵀ + B Bᵀ‖                 μ = precond_lr
        Q_R ← Q_R − μ triu(Aᵀ A − Bᵀ B) Q_R / ‖Aᵀ A + Bᵀ B‖
    x = Q_LᵀQ_L m̂ Q_RᵀQ_R
    d = x · min(1, clip_rms / (RMS(x) + 10⁻¹²))                             the engine does p ← p − lr·d

Q_L and Q_R are upper triangles, from √precond_init_scale · I, and the norm is the lower bound ‖C c‖ / ‖c‖, c being the
product of the symmetric C with its longest column. Q is a diagonal, and the norm its largest element, for an axis of
length 1 or longer than `max_size_triangular`, and as `memory_save_mode` says: for the longer axis ("one_diag", the
columns of a square), for the longer one unless it is a square ("smart_one_diag"), for both ("all_diag"). A fit is made
when the steps since the last one are 1/P or more, P = max_prob · exp(−prob_decay (t − 1 − flat_start)) within
[min_prob, max_prob]. Before a fit in a hundred (`balance_prob`) Q_L and Q_R are brought to one largest element.

The last two axes are the matrix; those before are a batch of matrices. With `block_size` longer axes are cut into
blocks, each a matrix with factors of its own, the last one as short as it comes; the mean square is that of the whole
matrix. Arrays with fewer axes have one diagonal, from precond_init_scale.
Li, "Preconditioned stochastic gradient descent", 2015, arXiv:1512.04202; Li, "Stochastic Hessian fittings with Lie
groups", 2024, arXiv:2402.11858; schedule, bounds, clipping and diagonals as in github.com/evanatyourservice/kron_torch.
Departs from that program in: V's noise stays out of the gradient that is preconditioned; every leaf draws for itself
whether it is balanced; leading axes are a batch, where the program merges them with a neighbor; blocks. From the papers
too in: a zero h fits nothing, as Q would grow without end.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from ..base import ExactOwn, Rule, Weighed
from ..bits import counter_uniform, normals
from ..factors import (
    cut,
    gram,
    identity_of,
    inside,
    is_diagonal,
    joined,
    length,
    norm_bound,
    scaled_by,
    solved_by,
    transposed,
)
from ..fields import choice, count, rate, real, switch
from ..matrices import is_matrix
from ..numerics import debias, divide, ema
from ..sharded import filled
from ..values import Decay, Scalar, is_concrete, value_class

AXES = (-2, -1)
SMALLEST = 2.0**-11.5  # the root of what f32 rounds 1 by, whatever the arithmetic


class Factors(NamedTuple):
    m: Weighed  # mean gradient, units of g
    QL: ExactOwn | None  # of rows: (…, rows, rows), or (…, rows) where it is a diagonal; with QR 1/√g
    QR: ExactOwn | None  # of columns; None where there is but one axis
    n: ExactOwn | None  # steps since the last fit


@value_class
class PsgdKron(Rule):
    """PSGD Kron. Looks at whole matrices; one slot, and a square matrix or its diagonal for every axis."""

    b1: Decay | Scalar = rate(0.9)  # decay of m, in [0, 1)
    precond_lr: Scalar = real(0.1, low=0.0)  # μ ≥ 0
    precond_init_scale: Scalar = real(1.0, low=0.0, open_low=True)  # > 0, of QᵀQ's root
    max_prob: Scalar = real(1.0, low=0.0, high=1.0, open_low=True)  # in (0, 1]
    min_prob: Scalar = real(0.03, low=0.0, high=1.0, open_low=True)  # in (0, 1], ≤ max_prob
    prob_decay: Scalar = real(0.001, low=0.0)  # ≥ 0, per step
    flat_start: Scalar = real(500.0, low=0.0)  # ≥ 0, steps
    balance_prob: Scalar = real(0.01, low=0.0, high=1.0)  # in [0, 1], of a fit
    clip_rms: Scalar = real(1.1, low=0.0, open_low=True)  # > 0, the largest RMS of d
    momentum_into_precond_update: bool = switch(True)  # whether the mean gradient is what is whitened
    max_size_triangular: int = count(8192)  # ≥ 1, entries of the longest axis whose Q is a triangle
    memory_save_mode: str = choice("none", "smart_one_diag", "one_diag", "all_diag")  # which axes have a diagonal
    block_size: int | None = count(None, optional=True)  # ≥ 1, entries of a block's side; None for whole matrices
    Slots = Factors
    pointwise = False
    gathers = True
    draws = True
    momenta = ("b1",)
    reference = "arXiv:2402.11858"

    def __post_init__(self):
        super().__post_init__()
        if is_concrete(self.min_prob) and is_concrete(self.max_prob) and self.min_prob > self.max_prob:
            raise ValueError(f"min_prob must be at most max_prob={self.max_prob!r}, got {self.min_prob!r}; swap them.")

    def initial(self, name, p):
        if name == "m":
            return 0.0
        if jnp.size(p) == 0 or (name == "QR" and not is_matrix(p)):
            return None
        if name == "n":
            return jnp.zeros_like(p, shape=())
        x, axis = self._matrix(p), -2 if name == "QL" else -1
        if self._diagonal(x.shape, axis) or not is_matrix(p):
            ones = filled(jnp.sum(x, -3 - axis), 1.0)
        else:
            ones = identity_of(x, axis)
        return ones * self.precond_init_scale ** (0.5 if is_matrix(p) else 1.0)

    def advance(self, g, s, p, k):
        m = ema(s.m, g, self.b1)
        if s.QL is None:
            return Factors(m, None, None, None)
        h = self._mean(m, k) if self.momentum_into_precond_update else g
        prob = self.max_prob * jnp.exp(-self.prob_decay * (k.t - 1 - self.flat_start))
        due = s.n + 1 >= 1 / jnp.minimum(jnp.maximum(prob, self.min_prob), self.max_prob)
        QL, QR = lax.cond(due, self._fitted, lambda QL, QR, h, seed: (QL, QR), s.QL, s.QR, h, k.seed)
        return Factors(m, QL, QR, jnp.where(due, 0, s.n + 1))

    def direction(self, g, s, old, p, k):
        x = self.precondition(self._mean(s.m, k), s)
        flat = x if is_matrix(x) else jnp.reshape(x, (-1, 1))
        rms = length(flat) / max(flat.shape[-2] * flat.shape[-1], 1) ** 0.5
        return jnp.reshape(flat * jnp.minimum(1, self.clip_rms / (rms + 1e-12)), x.shape)

    def precondition(self, x, s):
        if s.QL is None:
            return x
        y = self._matrix(x)
        for q, axis in self._sides(s.QL, s.QR):
            y = scaled_by(q, scaled_by(q, y, axis), axis, turned=True)
        shape = x.shape if is_matrix(x) else (x.size, 1)
        return jnp.reshape(joined(y, shape, self.block_size if is_matrix(x) else None), x.shape)

    def debiased(self):
        return {"b1": 0}

    def _mean(self, m, k):
        """The mean gradient without bias: it is clipped, so that the controller cannot correct it."""
        return debias(m, self.b1, k._replace(debias=True))

    def _matrix(self, x):
        """x by blocks; an array with fewer axes as a column."""
        return cut(x, self.block_size) if is_matrix(x) else jnp.reshape(x, (-1, 1))

    def _diagonal(self, shape, axis):
        """Whether the Q of an axis is a diagonal."""
        mine, other = shape[axis], shape[-3 - axis]
        longer = mine > other or (mine == other and axis == -1)
        saved = {
            "none": False,
            "smart_one_diag": mine > other,
            "one_diag": longer,
            "all_diag": True,
        }[self.memory_save_mode]
        return saved or mine == 1 or mine > self.max_size_triangular

    def _sides(self, QL, QR):
        return [(q, axis) for q, axis in zip((QL, QR), AXES, strict=True) if q is not None]

    def _fitted(self, QL, QR, h, seed):
        """Q_L and Q_R after a fit to h."""
        x, V, ones = (self._matrix(a) for a in (h, normals(h.shape, seed, h.dtype), jnp.ones_like(h)))
        if QR is not None:
            QL, QR = self._balanced(QL, QR, x, h.shape, seed)
        mean = jnp.sum(jnp.abs(x) / jnp.sum(ones, AXES, keepdims=True), AXES, keepdims=True)
        A, B = x + SMALLEST * mean * V, V
        for q, axis in self._sides(QL, QR):
            A, B = scaled_by(q, A, axis), solved_by(q, B, axis)
        top = jnp.maximum(*(jnp.max(jnp.abs(y), AXES, keepdims=True) for y in (A, B)))
        A, B = divide(A, top), divide(B, top)
        some = mean != 0  # of NaN too
        pairs = zip((QL, QR), AXES, strict=True)
        return tuple(None if q is None else self._moved(q, A, B, some, axis) for q, axis in pairs)

    def _moved(self, q, A, B, some, axis):
        """One factor a step closer to A Aᵀ = B Bᵀ, or the transposed of both; as it is without a gradient."""
        if is_diagonal(q, A):
            a, b = (jnp.sum(x * x, -3 - axis) for x in (A, B))
            step = divide(a - b, jnp.max(a + b, -1, keepdims=True)) * q
            return jnp.where(some[..., 0], q - self.precond_lr * step, q)
        a, b = (gram(x if axis == -2 else transposed(x)) for x in (A, B))
        step = scaled_by(divide(jnp.triu(a - b), norm_bound(a + b)), q, -2)
        return jnp.where(some, q - self.precond_lr * step, q)

    def _balanced(self, QL, QR, x, shape, seed):
        """Both, now and then brought to one largest element."""
        sizes = []
        for q, axis in ((QL, -2), (QR, -1)):
            size = jnp.abs(q) if is_diagonal(q, x) else jnp.max(jnp.abs(q), -1)
            own = inside(shape, self.block_size, axis)
            sizes.append(jnp.max(size if own is None else jnp.where(own, size, 0), -1, keepdims=True))
        now = counter_uniform(0, seed) < self.balance_prob
        factors = (jnp.where(now, jnp.sqrt(divide(sizes[1 - i], sizes[i])), 1) for i in (0, 1))
        return tuple(q * (c if q.ndim == c.ndim else c[..., None]) for q, c in zip((QL, QR), factors, strict=True))
