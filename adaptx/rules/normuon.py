"""NorMuon: Muon whose neurons step alike.

    m ← μ m + (1 − μ) g                  mean gradient
    u = (1 − μ) g + μ m                  Nesterov; else u = m
    O = Newton-Schulz of u               as in `muon`
    v ← β₂ v + (1 − β₂) mean of O² over each row
    Ô = O / (√v + ε)                     every row by its own
    d = s Ô / ‖Ô‖_F                      the engine does p ← p − lr·d
    s = 0.2 √(rows · columns)            scale="rms": the root mean square of d is 0.2
    s = ‖O‖_F √max(1, rows / columns)    scale="spectral": as long as Muon's step

Rows are the outputs of a matrix, its neurons. Of more than two axes the last two are the matrix, unless `view` joins
them.
Li et al., "NorMuon: making Muon more efficient and scalable", 2025, arXiv:2510.05491, Algorithm 1; Nesterov and scale
"spectral" as in the authors' program, github.com/zichongli5/NorMuon.
Departs from the paper in: the defaults are the program's, Nesterov and scale "spectral"; 0/0 is 0; no ε is added to
‖Ô‖_F.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp

from ..base import Rule, UnsignedOwn, Weighed
from ..fields import choice, count, rate, real, several_of, switch
from ..matrices import rows_of
from ..numerics import divide, ema, root
from ..orthogonal import OUTPUTS, PRECISIONS, VIEWS, as_before, as_matrices, orthogonalized, over_norm, spectral_length
from ..values import Decay, Scalar, value_class


class Neurons(NamedTuple):
    m: Weighed  # mean gradient, units of g
    v: UnsignedOwn  # mean square of each orthogonalized row, no unit


@value_class
class Normuon(Rule):
    """NorMuon. Looks at whole matrices; one slot and a number a row."""

    decay: Decay | Scalar = rate(0.95)  # μ, in [0, 1)
    b2: Decay | Scalar = rate(0.95)  # β₂, in [0, 1)
    eps: Scalar = real(1e-7, low=0.0)  # ≥ 0, units of ‖u‖
    eps2: Scalar = real(1e-10, low=0.0)  # ≥ 0, beside √v, no unit
    coefficients: tuple[Scalar, ...] = several_of((3.4445, -4.7750, 2.0315), 3)  # a, b, c
    nesterov: bool = switch(True)  # m a step ahead
    steps: int = count(5)  # ≥ 1
    scale: str = choice("spectral", "rms")  # or "rms"
    view: str = choice(*VIEWS)  # or "first", "last": of more than two axes
    output: str = choice(*OUTPUTS)  # or "rows"
    precision: str = choice(*PRECISIONS)  # or "full", of the products
    Slots = Neurons
    pointwise = False
    batches = True
    ranks = (2, 3, 4, 5)
    momenta = ("decay",)
    reference = "arXiv:2510.05491"

    def initial(self, name, p):
        return 0.0 if name == "m" else rows_of(as_matrices(p, self.view, self.output))

    def advance(self, g, s, p, k):
        m, orthogonal = self._momentum(g, s)
        return Neurons(m, ema(s.v, jnp.mean(jnp.square(orthogonal), -1), self.b2))

    def direction(self, g, s, old, p, k):
        _, orthogonal = self._momentum(g, old)  # the compiler has it from `advance`, unless slots are stored narrow
        rows, columns = orthogonal.shape[-2:]
        x = over_norm(divide(orthogonal, root(s.v)[..., None] + self.eps2), 0)
        if self.scale == "rms":
            x = 0.2 * (rows * columns) ** 0.5 * x
        else:
            length = root(jnp.sum(jnp.square(orthogonal), (-2, -1), keepdims=True))
            x = spectral_length(rows, columns, "spectral") * length * x
        return as_before(x, g.shape, self.output)

    def means(self):
        return {"v": f"mean squares of neurons along output={self.output!r}, view={self.view!r}"}

    def rescaled(self, unit):
        return replace(self, eps=self.eps * unit)

    def _momentum(self, g, s):
        """m after this gradient, O."""
        m = ema(s.m, g, self.decay)
        u = self.decay.complement * g + self.decay.rate * m if self.nesterov else m
        u = as_matrices(u, self.view, self.output)
        return m, orthogonalized(u, self.coefficients, self.steps, self.eps, self.precision)
