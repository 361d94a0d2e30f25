"""Matrices preconditioned by a factor for their rows and one for their columns."""

from typing import Unpack

from .. import rules
from ..engine.optimizer import Optimizer, Rate, build
from ..engine.options import EngineOptions
from ..values import Scalar


def soap(
    learning_rate: Rate = 3e-3,
    b1: Scalar = 0.95,
    b2: Scalar = 0.95,
    eps: Scalar = 1e-8,
    shampoo_beta: Scalar | None = None,
    every: int = 10,
    max_dim: int = 10000,
    block_size: int | None = None,
    one_sided: bool = False,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """SOAP: Adam in the eigenbasis of the gradient's second moments of rows and of columns. Its first step only looks.

    Args:
        learning_rate: ≥ 0, a schedule or a controller.
        b1: β₁ in [0, 1), of the mean gradient.
        b2: β₂ in [0, 1), of the squared gradient in the basis.
        eps: ε ≥ 0, in units of g; added before the correction of bias.
        shampoo_beta: β of the factors, in [0, 1); None for β₂.
        every: ≥ 1, steps from one refresh of the basis to the next.
        max_dim: ≥ 1; a longer axis has no factor, and vectors and scalars have none: plain Adam.
        block_size: ≥ 1; longer axes are cut into blocks with factors of their own. None for whole matrices.
        one_sided: a factor for the shorter axis alone.
        **engine: see `EngineOptions`; the authors' weight decay is 0.01.

    When to use it: where steps are dear and memory is not; Adam's rates fit, and one hyperparameter more than Adam's.

    Vyas et al., 2024, arXiv:2409.11321.
    """
    rule = rules.Soap(b1, b2, eps, shampoo_beta, every, max_dim, block_size, one_sided)
    return build("soap", rule, learning_rate, engine)
