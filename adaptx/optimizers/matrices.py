"""Rules for whole matrices."""

from typing import Unpack

from .. import rules
from ..engine.optimizer import Optimizer, Rate, build
from ..engine.options import EngineOptions
from ..values import Scalar


def muon(
    learning_rate: Rate = 0.02,
    decay: Scalar = 0.95,
    eps: Scalar = 1e-7,
    coefficients: tuple[Scalar, ...] = (3.4445, -4.7750, 2.0315),
    nesterov: bool = True,
    steps: int = 5,
    scale: str = "spectral",
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Muon: momentum made orthogonal. For matrices, and stacks of them, alone: the rest goes elsewhere by `route`.

    Args:
        learning_rate: ≥ 0, a schedule or a controller.
        decay: μ of the mean gradient, in [0, 1).
        eps: ε ≥ 0, in units of the Frobenius norm.
        coefficients: a, b and c of the Newton-Schulz iteration.
        nesterov: look one step ahead.
        steps: of the iteration, ≥ 1.
        scale: "spectral", √max(1, rows/columns), or "rms", 0.2·√max(rows, columns), which Adam's rates fit.
        **engine: see `EngineOptions`.

    When to use it: the hidden matrices of transformers; embeddings, heads and vectors want adamw beside it.

    Jordan et al., 2024; Liu et al., 2025, arXiv:2502.16982.
    """
    return build("muon", rules.Muon(decay, eps, coefficients, nesterov, steps, scale), learning_rate, engine)
