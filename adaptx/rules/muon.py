"""Muon: momentum, orthogonalized.

    m ← μ m + (1 − μ) g                  mean gradient
    u = (1 − μ) g + μ m                  Nesterov; else u = m
    X = u / (‖u‖_F + ε)                  transposed where it has more rows than columns, and back at the end
    five times:  A = X Xᵀ,  X ← a X + (b A + c A²) X                   Newton-Schulz: all singular values near 1
    d = s X                              the engine does p ← p − lr·d
    s = √max(1, rows / columns)          scale="spectral"
    s = 0.2 √max(rows, columns)          scale="rms": updates as long as Adam's, so that its rates and decay fit

The last two axes are the matrix; those before are a batch of matrices. Embeddings, heads, vectors and scalars want
another optimizer: `adaptx.route`.
Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, kellerjordan.github.io/posts/muon; scale
"rms": Liu et al., "Muon is scalable for LLM training", 2025, arXiv:2502.16982, equation 4.
Departs from the papers in: the iteration runs in f32 rather than bf16; the mean gradient in place of the sum (torch's
form), which d does not see.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Weighed
from ..fields import choice, count, rate, real, several_of, switch
from ..numerics import divide, ema, product, root
from ..values import Decay, Scalar, value_class


class Mean(NamedTuple):
    m: Weighed  # mean gradient, units of g


@value_class
class Muon(Rule):
    """Muon. Looks at whole matrices; one slot."""

    decay: Decay | Scalar = rate(0.95)  # μ, in [0, 1)
    eps: Scalar = real(1e-7, low=0.0)  # ≥ 0, units of ‖u‖
    coefficients: tuple[Scalar, ...] = several_of((3.4445, -4.7750, 2.0315), 3)  # a, b, c
    nesterov: bool = switch(True)
    steps: int = count(5)  # ≥ 1
    scale: str = choice("spectral", "rms")  # or "rms"
    Slots = Mean
    pointwise = False
    ranks = (2, 3)
    momenta = ("decay",)
    reference = "arXiv:2502.16982"

    def advance(self, g, s, p, k):
        return Mean(ema(s.m, g, self.decay))

    def foreseeable(self, whole):
        return True

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def direction(self, g, s, old, p, k):
        rows, columns = g.shape[-2:]
        taller = max(1.0, rows / max(columns, 1))
        longer = taller**0.5 if self.scale == "spectral" else 0.2 * max(rows, columns) ** 0.5
        u = self.decay.complement * g + self.decay.rate * s.m if self.nesterov else s.m
        return longer * self._orthogonal(u)

    def _orthogonal(self, u):
        turned = u.shape[-2] > u.shape[-1]
        x = jnp.swapaxes(u, -1, -2) if turned else u
        top = jnp.max(jnp.abs(x), (-2, -1), keepdims=True, initial=0)  # squares of x, and its norm, may be out of range
        x = divide(x, top)
        x = divide(x, root(jnp.sum(x * x, (-2, -1), keepdims=True)) + divide(self.eps, top))
        a, b, c = self.coefficients
        for _ in range(self.steps):
            gram = product(x, jnp.swapaxes(x, -1, -2))
            x = a * x + product(b * gram + c * product(gram, gram), x)
        return jnp.swapaxes(x, -1, -2) if turned else x
