"""Scion: the mean gradient's steepest direction in a norm chosen for the layer.

    m ← β m + (1 − β) g                  mean gradient, α = 1 − β                        Algorithm 1
    d = ρ lmo(m)                         the engine does p ← p − lr·d
    lmo(m) = √(outputs / inputs) O       norm="spectral", O the Newton-Schulz of m as in `muon`: hidden layers
    lmo(m) = sign(m) / inputs            norm="sign": the last layer, and one whose inputs are one-hot
    lmo(m) = columns mⱼ / (RMS(mⱼ) + ε)  norm="column": the first layer
    lmo(m) = rows mᵢ / (‖mᵢ‖ √inputs + ε)                                                norm="row"
    lmo(m) = m / (RMS(m) + ε)            arrays with fewer than two axes

lmo(m) is the point of the unit ball that lies furthest along m: the paper's, which minimizes, with the opposite sign.
Rows are the outputs of a matrix, columns its inputs. Of more than two axes the last two are the matrix, unless `view`
joins them.
The constrained form, p ← (1 − lr) p − lr ρ lmo(m), keeps every layer in a ball of radius ρ. It is decoupled weight
decay with the coefficient 1, the constructor's default; without decay this is the unconstrained form.
Pethick et al., "Training deep learning models with norm-constrained LMOs", 2025, arXiv:2502.07529, Algorithms 1 and 2
and Table 2; ε and the row form as in the authors' program, github.com/LIONS-EPFL/scion.
Departs from the paper in: ε, and norm="row", which are the program's; the iteration sums in f32, and on the CPU runs in
f32 throughout; a kernel of more than two axes is its matrix, without another factor for its size.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, Weighed
from ..fields import choice, count, rate, real, several_of
from ..matrices import is_matrix
from ..numerics import ema
from ..orthogonal import OUTPUTS, PRECISIONS, VIEWS, as_before, as_matrices, orthogonalized, over_norm
from ..values import Decay, Scalar, value_class


class Mean(NamedTuple):
    m: Weighed  # mean gradient, units of g


@value_class
class Scion(Rule):
    """Scion. Looks at whole arrays; one slot."""

    decay: Decay | Scalar = rate(0.9)  # β, in [0, 1)
    norm: str = choice("spectral", "sign", "column", "row")  # or "sign", "column", "row"
    radius: Scalar = real(1.0, low=0.0)  # ρ ≥ 0, units of p
    eps: Scalar = real(1e-7, low=0.0)  # ≥ 0, units of g
    coefficients: tuple[Scalar, ...] = several_of((3.4445, -4.7750, 2.0315), 3)  # a, b, c
    steps: int = count(5)  # ≥ 1
    view: str = choice(*VIEWS)  # or "first", "last": of more than two axes
    output: str = choice(*OUTPUTS)  # or "rows"
    precision: str = choice(*PRECISIONS)  # or "full", of the products
    Slots = Mean
    pointwise = False
    batches = True
    momenta = ("decay",)
    reference = "arXiv:2502.07529"

    def advance(self, g, s, p, k):
        return Mean(ema(s.m, g, self.decay))

    def foreseeable(self, whole):
        return True

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def direction(self, g, s, old, p, k):
        if not is_matrix(s.m, 0):
            return self.radius * s.m.size**0.5 * over_norm(s.m, self.eps * s.m.size**0.5, tuple(range(s.m.ndim)))
        x = self._steepest(as_matrices(s.m, self.view, self.output))
        return self.radius * as_before(x, g.shape, self.output)

    def _steepest(self, m):
        outputs, inputs = (max(n, 1) for n in m.shape[-2:])
        if self.norm == "spectral":
            orthogonal = orthogonalized(m, self.coefficients, self.steps, self.eps, self.precision)
            return (outputs / inputs) ** 0.5 * orthogonal
        if self.norm == "sign":
            return jnp.sign(m) / inputs
        if self.norm == "column":
            return outputs**0.5 * over_norm(m, self.eps * outputs**0.5, (-2,))
        return inputs**-0.5 * over_norm(m, self.eps * inputs**-0.5, (-1,))
