"""Muon: momentum, orthogonalized.

    m ← μ m + (1 − μ) g                  mean gradient
    u = (1 − μ) g + μ m                  Nesterov; else u = m
    X = u / (‖u‖_F + ε)                  transposed where it has more rows than columns, and back at the end
    `steps` times (5):  A = X Xᵀ,  X ← a X + (b A + c A²) X            Newton-Schulz: all singular values near 1
    d = s X                              the engine does p ← p − lr·d
    s = √max(1, rows / columns)          scale="spectral"
    s = 0.2 √max(rows, columns)          scale="rms": updates as long as Adam's, so that its rates and decay fit

Rows are the outputs of a matrix. Of more than two axes the last two are the matrix and those before a batch of them,
unless `view` joins them. Embeddings, heads, vectors and scalars want another optimizer.
Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024, kellerjordan.github.io/posts/muon; scale
"rms": Liu et al., "Muon is scalable for LLM training", 2025, arXiv:2502.16982, equation 4.
Departs from the papers in: the iteration sums in f32, and on the CPU runs in f32 throughout; the mean gradient in place
of the sum (torch's form), which d does not see.
"""

from dataclasses import replace
from typing import NamedTuple

from ..base import Rule, Weighed
from ..fields import choice, count, rate, real, several_of, switch
from ..numerics import ema
from ..orthogonal import OUTPUTS, PRECISIONS, VIEWS, as_before, as_matrices, orthogonalized, spectral_length
from ..values import Decay, Scalar, value_class


class Mean(NamedTuple):
    m: Weighed  # mean gradient, units of g


@value_class
class Muon(Rule):
    """Muon. Looks at whole matrices; one slot."""

    decay: Decay | Scalar = rate(0.95)  # μ, in [0, 1)
    eps: Scalar = real(1e-7, low=0.0)  # ≥ 0, units of ‖u‖
    coefficients: tuple[Scalar, ...] = several_of((3.4445, -4.7750, 2.0315), 3)  # a, b, c
    nesterov: bool = switch(True)  # m a step ahead
    steps: int = count(5)  # ≥ 1
    scale: str = choice("spectral", "rms")  # or "rms"
    view: str = choice(*VIEWS)  # or "first", "last": of more than two axes
    output: str = choice(*OUTPUTS)  # or "rows"
    precision: str = choice(*PRECISIONS)  # or "full", of the products
    Slots = Mean
    pointwise = False
    batches = True
    ranks = (2, 3, 4, 5)
    momenta = ("decay",)
    reference = "kellerjordan.github.io/posts/muon, arXiv:2502.16982"

    def advance(self, g, s, p, k):
        return Mean(ema(s.m, g, self.decay))

    def foreseeable(self, whole):
        return True

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def direction(self, g, s, old, p, k):
        u = self.decay.complement * g + self.decay.rate * s.m if self.nesterov else s.m
        x = orthogonalized(
            as_matrices(u, self.view, self.output), self.coefficients, self.steps, self.eps, self.precision
        )
        rows, columns = x.shape[-2:]
        return spectral_length(rows, columns, self.scale) * as_before(x, g.shape, self.output)
