"""Matrices preconditioned by a factor for their rows and one for their columns."""

from typing import Unpack

from .. import rules
from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer, build
from ..engine.rates import Rate
from ..values import Scalar


def shampoo(
    learning_rate: Rate = 1e-3,
    b1: Scalar | None = 0.9,
    b2: Scalar | None = 0.999,
    eps: Scalar = 1e-12,
    graft: str = "adam",
    graft_b2: Scalar = 0.999,
    graft_eps: Scalar = 1e-8,
    every: int = 10,
    start: int = 10,
    max_dim: int = 8192,
    block_size: int | None = 1024,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Shampoo: gradients between the inverse roots of their second moments of rows and of columns.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; the grafted method's.
        b1: β₁ in [0, 1), of the mean gradient; None for none.
        b2: β₂ in [0, 1), of the factors; None for their sums, which is the first paper.
        eps: ε ≥ 0, added to the factors' eigenvalues, in units of g².
        graft: whose length the steps of a matrix have: "adam", "rmsprop", "adagrad", "sgd", or "none" for their own.
        graft_b2: in [0, 1), of the second moment of "adam" and "rmsprop".
        graft_eps: ≥ 0, in units of g, added to the root of that moment.
        every: ≥ 1, steps from one inverse root to the next.
        start: ≥ 1, the step of the first one; before it steps are the grafted method's.
        max_dim: ≥ 1; an axis of a block that is longer has no factor.
        block_size: ≥ 1; longer axes are cut into blocks with factors of their own. None for whole matrices.
        **engine: see `EngineOptions`.

    When to use it: where steps are dear and memory is not; Adam's learning rates carry over; it won AlgoPerf's
    tuned track.

    Gupta et al., 2018, arXiv:1802.09568; Anil et al., 2020, arXiv:2002.09018; Shi et al., 2023, arXiv:2309.06497.
    """
    rule = rules.Shampoo(b1, b2, eps, graft, graft_b2, graft_eps, every, start, max_dim, block_size)
    return build("shampoo", rule, learning_rate, engine)


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
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1), of the mean gradient.
        b2: β₂ in [0, 1), of the squared gradient in the basis.
        eps: ε ≥ 0, in units of g; added before the correction of bias.
        shampoo_beta: β of the factors, in [0, 1); None for β₂.
        every: ≥ 1, steps from one refresh of the basis to the next.
        max_dim: ≥ 1; a longer axis has no factor, and vectors and scalars have none: plain Adam.
        block_size: ≥ 1; longer axes are cut into blocks with factors of their own. None for whole matrices.
        one_sided: a factor for the shorter axis alone.
        **engine: see `EngineOptions`; the authors' weight decay is 0.01.

    When to use it: where steps are dear and memory is not; Adam's learning rates carry over; `every` is the one
    hyperparameter to choose beside Adam's.

    Vyas et al., 2024, arXiv:2409.11321.
    """
    rule = rules.Soap(b1, b2, eps, shampoo_beta, every, max_dim, block_size, one_sided)
    return build("soap", rule, learning_rate, engine)


def splus(
    learning_rate: Rate = 0.1,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    every: int = 100,
    max_dim: int = 10000,
    block_size: int | None = None,
    nonstandard_constant: Scalar = 1e-3,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """SPlus: the sign of the mean gradient in the eigenbasis of its second moments of rows and of columns.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; by its authors' rule of thumb Adam's
            times twice the width of the matrices.
        b1: β₁ in [0, 1), of the mean gradient.
        b2: β₂ in [0, 1), of the factors.
        every: ≥ 1, steps from one refresh of the basis to the next.
        max_dim: ≥ 1; a longer axis has no factor, and vectors and scalars have none.
        block_size: ≥ 1; longer axes are cut into blocks with factors of their own. None for whole matrices.
        nonstandard_constant: ≥ 0, times the sign, where an axis has no factor; `lr_scale` sets it leaf by leaf.
        **engine: see `EngineOptions`; the authors' weight decay is 0.01, and scaled as the steps of a matrix are.

    When to use it: hidden layers of transformers, evaluated at `averaged(splus(…), decay=0.999)`: not without it.

    Frans et al., 2025, arXiv:2506.07254.
    """
    rule = rules.Splus(b1, b2, every, max_dim, block_size, nonstandard_constant)
    return build("splus", rule, learning_rate, engine)


def psgd_kron(
    learning_rate: Rate = 3e-4,
    b1: Scalar = 0.9,
    precond_lr: Scalar = 0.1,
    precond_init_scale: Scalar = 1.0,
    max_prob: Scalar = 1.0,
    min_prob: Scalar = 0.03,
    prob_decay: Scalar = 0.001,
    flat_start: Scalar = 500.0,
    balance_prob: Scalar = 0.01,
    clip_rms: Scalar = 1.1,
    momentum_into_precond_update: bool = True,
    max_size_triangular: int = 8192,
    memory_save_mode: str = "none",
    block_size: int | None = None,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """PSGD Kron: a triangle for the rows and one for the columns, fitted step by step until they whiten the gradient.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; about a third of Adam's.
        b1: β₁ in [0, 1), of the mean gradient.
        precond_lr: μ ≥ 0, of the fit.
        precond_init_scale: > 0, of the preconditioner's root.
        max_prob: in (0, 1], fits a step at first.
        min_prob: in (0, 1], fits a step in the end.
        prob_decay: ≥ 0; fits a step fall as exp(−prob_decay · steps).
        flat_start: ≥ 0, steps before they do.
        balance_prob: in [0, 1], of evening out both factors before a fit.
        clip_rms: > 0, the largest root mean square of a step, in learning rates.
        momentum_into_precond_update: fit to the mean gradient instead of the gradient.
        max_size_triangular: ≥ 1; a longer axis has a diagonal.
        memory_save_mode: which axes have a diagonal: "none", "smart_one_diag" the longer one unless the matrix is a
            square, "one_diag" the longer one, "all_diag" both.
        block_size: ≥ 1; longer axes are cut into blocks with factors of their own. None for whole matrices.
        **engine: see `EngineOptions`.

    When to use it: where Shampoo's roots or SOAP's eigenvectors are too dear, or f32 too coarse for them: this has
    neither.

    Li, 2015, arXiv:1512.04202; Li, 2024, arXiv:2402.11858.
    """
    fit = (precond_lr, precond_init_scale, max_prob, min_prob, prob_decay, flat_start, balance_prob)
    shapes = (momentum_into_precond_update, max_size_triangular, memory_save_mode, block_size)
    return build("psgd_kron", rules.PsgdKron(b1, *fit, clip_rms, *shapes), learning_rate, engine)
