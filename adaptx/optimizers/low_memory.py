"""Second moments in less memory than the parameters take."""

from typing import Unpack

from .. import rules
from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer, build
from ..engine.rates import Rate
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
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; the paper's is
            `lambda t: jnp.minimum(1e-2, 1 / jnp.sqrt(t + 1))`.
        decay_rate: c > 0; the second moment's decay is 1 − t^(−c).
        eps1: ε₁ ≥ 0, in units of g².
        eps2: ε₂ ≥ 0, the least size of a parameter, in its units.
        clip_threshold: > 0, the largest root mean square of an update before the parameter's size multiplies it.
        b1: of a mean of the updates, in [0, 1); None for none.
        min_dim_size_to_factor: ≥ 1; matrices with a shorter axis keep their second moment whole.
        scale_parameter: multiply steps by the root mean square of the parameter.
        **engine: see `EngineOptions`.

    The defaults are the paper's but for its schedule. optax's conventions: min_dim_size_to_factor=128, its weight decay
    is decay_mode="independent", its momentum averages what the rate and the parameter's size have multiplied already,
    and of more than two axes it factors the two longest. torch's: the rate is
    `lambda t: jnp.minimum(lr, 1 / jnp.sqrt(t + 1))`, and nothing is added to g² (eps1=1e-37), but √v̂ and the mean of r
    are bounded below by the machine's ε.

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
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
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
    """SM3: AdaGrad with sums for rows, columns and slices; an entry's sum is the least over the slices it lies in.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1), of the mean of normalized gradients; None for none.
        eps: ε ≥ 0, in units of g².
        **engine: see `EngineOptions`.

    When to use it: sparse gradients in large embeddings, where adagrad's sums do not fit.

    Anil et al., 2019, arXiv:1901.11150. Arrays with up to five axes.
    """
    return build("sm3", rules.Sm3(b1, eps), learning_rate, engine)


def galore(
    learning_rate: Rate = 1e-2,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    scale: Scalar = 0.25,
    rank: int = 128,
    gap: int = 200,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """GaLore: Adam on qᵀg, its step taken back by q: the gradient's leading singular vectors, new ones now and then.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        scale: α ≥ 0, of the step on matrices, so that others have α times their learning rate.
        rank: r ≥ 1; matrices whose shorter axis is no longer have Adam, as vectors and scalars do.
        gap: ≥ 1, steps from one decomposition to the next.
        **engine: see `EngineOptions`.

    When to use it: matrices so large that Adam's moments do not fit, gradients of low rank, time for decompositions.

    Zhao et al., 2024, arXiv:2403.03507.
    """
    return build("galore", rules.Galore(b1, b2, eps, scale, rank, gap), learning_rate, engine)


def apollo(
    learning_rate: Rate = 1e-2,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    scale: Scalar | None = 1.0,
    limit: Scalar | None = 1.01,
    rank: int = 256,
    gap: int = 200,
    scaling: str = "channel",
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """APOLLO: each channel's gradient times ‖Adam's step‖/‖gradient‖, both in a random projection to `rank` dimensions.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g, before the correction of bias.
        scale: α ≥ 0, of the step on matrices (the authors' program takes α²); None for √(shorter axis / rank).
        limit: γ ≥ 1, by which the norm of a step may grow; None for no limit.
        rank: r ≥ 1; matrices whose shorter axis is no longer have Adam, as vectors and scalars do.
        gap: ≥ 1, steps from one projection to the next.
        scaling: "channel", a factor for every entry of the longer axis, or "tensor", one for the matrix.
        **engine: see `EngineOptions`.

    When to use it: language models in the memory of SGD; no decompositions, unlike galore.

    Zhu et al., 2024, arXiv:2412.05270.
    """
    return build("apollo", rules.Apollo(b1, b2, eps, scale, limit, rank, gap, scaling), learning_rate, engine)


def apollo_mini(
    learning_rate: Rate = 1e-2,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    scale: Scalar | None = 128.0**0.5,
    limit: Scalar | None = 1.01,
    gap: int = 200,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """APOLLO-Mini: each matrix's gradient times ‖Adam's step‖/‖gradient‖, both in a random projection to one dimension.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g, before the correction of bias.
        scale: α ≥ 0, of the step on matrices (the authors' program takes α², 128); None for √(shorter axis).
        limit: γ ≥ 1, by which the norm of a step may grow; None for no limit.
        gap: ≥ 1, steps from one projection to the next.
        **engine: see `EngineOptions`.

    When to use it: as apollo, where there is no memory at all beside the parameters.

    Zhu et al., 2024, arXiv:2412.05270, section 4.3.
    """
    rule = rules.Apollo(b1, b2, eps, scale, limit, 1, gap, "tensor")
    return build("apollo_mini", rule, learning_rate, engine, ("b1", "b2", "eps", "scale", "limit", "gap"))


def sgd_sai(
    learning_rate: Rate = 1e-2, decay: Scalar = 0.9, eps: Scalar = 1e-8, **engine: Unpack[EngineOptions]
) -> Optimizer:
    """SGD-SaI: momentum, every array's rate multiplied by ‖g‖/(σ(g) + ε) of its first gradient.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        decay: μ of the mean gradient, in [0, 1).
        eps: ε ≥ 0, in units of g.
        **engine: see `EngineOptions` (the authors train with a weight_decay of 0.01).

    When to use it: half of Adam's memory where SGD fails for want of a rate for every layer. Arrays of equal entries
    at the first step have no signal to noise, and √n in its place.

    Xu et al., 2024, arXiv:2412.11768.
    """
    return build("sgd_sai", rules.SgdSai(decay, eps), learning_rate, engine)


def adam_mini(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    axis: int | None = 0,
    size: int = 1,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Adam-mini: Adam with one second moment for every block of an array, the mean square of the block's gradient.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        axis: along which blocks lie, all of the other axes inside; None for one block an array.
        size: ≥ 1, of a block along that axis: 1 for rows (axis=0) and columns (axis=-1).
        **engine: see `EngineOptions`.

    When to use it: Adam's steps for half of its memory. In transformers as `adam_mini_by_name`, which chooses blocks.

    Zhang et al., 2024, arXiv:2406.16793.
    """
    return build("adam_mini", rules.AdamMini(b1, b2, eps, axis, size), learning_rate, engine)
