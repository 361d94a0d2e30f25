"""Second moments in less memory than the parameters take."""

from typing import Unpack

from .. import rules
from ..engine.optimizer import Optimizer, Rate, build
from ..engine.options import EngineOptions
from ..values import Scalar


def adafactor(
    learning_rate: Rate = 1e-2,
    decay_rate: Scalar = 0.8,
    eps1: Scalar = 1e-30,
    eps2: Scalar = 1e-3,
    clip_threshold: Scalar = 1.0,
    b1: Scalar | None = None,
    min_dim_size_to_factor: int = 1,
    scale_parameter: bool = True,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Adafactor: Adam's second moment of a matrix as a row and a column, steps relative to the parameter's size.

    Args:
        learning_rate: ≥ 0, a schedule or a controller; the paper's is `lambda t: min(1e-2, 1/sqrt(t + 1))`.
        decay_rate: c > 0; the second moment's decay is 1 − t^(−c).
        eps1: ε₁ ≥ 0, in units of g².
        eps2: ε₂ ≥ 0, the least size of a parameter, in its units.
        clip_threshold: > 0, the largest root mean square of an update before the parameter's size multiplies it.
        b1: of a mean of the updates, in [0, 1); None for none.
        min_dim_size_to_factor: ≥ 1; matrices with a shorter axis keep their second moment whole.
        scale_parameter: multiply steps by the root mean square of the parameter.
        **engine: see `EngineOptions`.

    When to use it: transformers too large for Adam's second moment; no rate to tune with the paper's schedule.

    Shazeer & Stern, 2018, arXiv:1804.04235.
    """
    rule = rules.Adafactor(decay_rate, eps1, eps2, clip_threshold, b1, min_dim_size_to_factor, scale_parameter)
    return build("adafactor", rule, learning_rate, engine)


def came(
    learning_rate: Rate = 2e-4,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9999,
    eps1: Scalar = 1e-30,
    eps2: Scalar = 1e-16,
    clip_threshold: Scalar = 1.0,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """CAME: Adafactor's update, its mean divided by the root of how far updates lie from it, both factored.

    Args:
        learning_rate: ≥ 0, a schedule or a controller.
        b1: β₁ in [0, 1), of the mean update.
        b2: β₂ in [0, 1), of the squared gradient.
        b3: β₃ in [0, 1), of the squared distance.
        eps1: ε₁ ≥ 0, in units of g².
        eps2: ε₂ ≥ 0, of the squared distance.
        clip_threshold: > 0, the largest root mean square of an update.
        **engine: see `EngineOptions`.

    When to use it: as adafactor, steadier; one slot more.

    Luo et al., 2023, arXiv:2307.02047.
    """
    return build("came", rules.Came(b1, b2, b3, eps1, eps2, clip_threshold), learning_rate, engine)


def sm3(
    learning_rate: Rate = 0.1, b1: Scalar | None = 0.9, eps: Scalar = 0.0, **engine: Unpack[EngineOptions]
) -> Optimizer:
    """SM3: AdaGrad whose sums are kept for rows, columns and slices; an entry has the least of its own.

    Args:
        learning_rate: ≥ 0, a schedule or a controller.
        b1: β₁ in [0, 1), of the mean of normalized gradients; None for none.
        eps: ε ≥ 0, in units of g².
        **engine: see `EngineOptions`.

    When to use it: sparse gradients in large embeddings, where adagrad's sums do not fit.

    Anil et al., 2019, arXiv:1901.11150. Arrays with up to five axes.
    """
    return build("sm3", rules.Sm3(b1, eps), learning_rate, engine)
