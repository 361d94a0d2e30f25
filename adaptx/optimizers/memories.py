"""Adam with another memory of gradients: longer, earlier, of their changes, of whole arrays."""

from typing import Unpack

from .. import rules
from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer, build
from ..engine.rates import Rate
from ..values import Scalar


def adan(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.98,
    b2: Scalar = 0.92,
    b3: Scalar = 0.99,
    eps: Scalar = 1e-8,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Adan: p ← p − lr·(m̂ + β₂v̂)/(√n̂ + ε), v the mean change of gradients, n the mean of (g + β₂Δ)².

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1), of the mean gradient; all three are 1 − the paper's.
        b2: β₂ in [0, 1), of the mean change.
        b3: β₃ in [0, 1), of the mean square.
        eps: ε ≥ 0, in units of g.
        **engine: see `EngineOptions`.

    When to use it: vision transformers and large batches; four slots.

    Xie et al., 2022, arXiv:2208.06677.
    """
    return build("adan", rules.Adan(b1, b2, b3, eps), learning_rate, engine)


def adopt(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.9999,
    eps: Scalar = 1e-6,
    clip: bool = True,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """ADOPT: m ← β₁m + (1 − β₁)clip(g/max(√v, ε), (t − 1)^¼), p ← p − lr·m, then v ← β₂v + (1 − β₂)g².

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch. The first step only measures.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, the least size a gradient is divided by, in its units.
        clip: bound normalized gradients by (t − 1)^¼.
        **engine: see `EngineOptions`.

    When to use it: Adam with a large b2, or where Adam does not settle.

    Taniguchi et al., 2024, arXiv:2411.02853.
    """
    return build("adopt", rules.Adopt(b1, b2, eps, clip), learning_rate, engine)


def ademamix(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    b3: Scalar = 0.9999,
    alpha: Scalar = 5.0,
    eps: Scalar = 1e-8,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """AdEMAMix: p ← p − lr·(m̂₁ + αm₂)/(√v̂ + ε), m₂ a mean with the long memory of β₃.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        b3: β₃ in [0, 1); begin long runs with `schedules.half_life(b1, b3, steps)`.
        alpha: α ≥ 0, weight of the slow mean; begin long runs with a linear schedule from 0.
        eps: ε ≥ 0, in units of g.
        **engine: see `EngineOptions`.

    When to use it: long runs with small batches (language models); three slots, alpha and b3 to be warmed up by
    schedules.

    Pagliardini, Ablin & Grangier, 2024, arXiv:2409.03137.
    """
    return build("ademamix", rules.Ademamix(b1, b2, b3, alpha, eps), learning_rate, engine)


def simplified_ademamix(
    learning_rate: Rate = 1e-5,
    b1: Scalar = 0.99,
    b2: Scalar = 0.95,
    alpha: Scalar = 0.0,
    eps: Scalar = 1e-8,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Simplified AdEMAMix: m ← β₁m + g, p ← p − lr·(αg + m)/(√v̂ + ε).

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; about 1 − b1 times Adam's, m being a sum.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        alpha: α ≥ 0, weight of the gradient itself.
        eps: ε ≥ 0, in units of g.
        **engine: see `EngineOptions`.

    When to use it: as ademamix with two slots; rates are about 1/(1 − b1) times smaller than Adam's.

    Morwani et al., 2025, arXiv:2502.02431.
    """
    return build("simplified_ademamix", rules.SimplifiedAdemamix(b1, b2, alpha, eps), learning_rate, engine)


def laprop(
    learning_rate: Rate = 4e-4,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-15,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """LaProp: m ← β₁m + (1 − β₁)g/(√v̂ + ε), p ← p − lr·m/(1 − β₁ᵗ).

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        **engine: see `EngineOptions`.

    When to use it: as adam, with any pair of b1 and b2; noisy gradients.

    Ziyin, Wang & Ueda, 2020, arXiv:2002.04839.
    """
    return build("laprop", rules.Laprop(b1, b2, eps), learning_rate, engine)


def mars(
    learning_rate: Rate = 3e-3,
    b1: Scalar = 0.95,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-8,
    gamma: Scalar = 0.025,
    limit: Scalar = 1.0,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """MARS: Adam on c = g + γβ₁/(1 − β₁)·(g − the gradient before), cut to length `limit` in every array.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of c.
        gamma: γ ≥ 0, weight of the change.
        limit: of ‖c‖, > 0, in units of c.
        **engine: see `EngineOptions`.

    When to use it: large language models with large batches; matrices by mars, the rest by adamw.

    Yuan et al., 2024, arXiv:2411.10438; the authors use it for matrices and AdamW for the rest: `adaptx.route`.
    """
    return build("mars", rules.Mars(b1, b2, eps, gamma, limit), learning_rate, engine)


def novograd(
    learning_rate: Rate = 1e-2,
    b1: Scalar = 0.95,
    b2: Scalar = 0.98,
    eps: Scalar = 1e-8,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """NovoGrad: v ← β₂v + (1 − β₂)‖g‖² of every array, m ← β₁m + g/(√v + ε), p ← p − lr·m.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        **engine: see `EngineOptions`.

    When to use it: speech and large batches; one number in place of the second moment of an array.

    Ginsburg et al., 2019, arXiv:1905.11286.
    """
    return build("novograd", rules.Novograd(b1, b2, eps), learning_rate, engine)
