"""Adam and its nearest kin: what divides a mean of gradients by their size."""

from typing import Unpack

from .. import rules
from ..base import Rule
from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer, build
from ..engine.rates import Rate
from ..values import Scalar


def adam(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    debias: bool = True,
    amsgrad: bool = False,
    nesterov: bool = False,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Adam: m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← p − lr·m̂/(√v̂ + ε).

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g, outside the root and after the bias correction.
        debias: divide the moments by 1 − βᵗ.
        amsgrad: use the largest second moment so far (of the uncorrected one, as torch does).
        nesterov: Dozat's look-ahead with constant β₁.
        **engine: see `EngineOptions`.

    When to use it: a first try on almost anything; with weight decay take adamw.

    Kingma & Ba, 2015, arXiv:1412.6980; amsgrad: Reddi et al., 2018, arXiv:1904.09237; nesterov: Dozat, 2016.
    """
    return build("adam", rules.Adam(b1, b2, eps, debias, amsgrad, nesterov), learning_rate, engine)


def adamw(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    debias: bool = True,
    amsgrad: bool = False,
    nesterov: bool = False,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Adam with decoupled weight decay λ = 0.01: p ← p − lr·(m̂/(√v̂ + ε) + λp).

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g, outside the root and after the bias correction.
        debias: divide the moments by 1 − βᵗ.
        amsgrad: use the largest second moment so far (of the uncorrected one, as torch does).
        nesterov: Dozat's look-ahead with constant β₁.
        **engine: see `EngineOptions`; weight_decay is 0.01 here.

    When to use it: transformers, and the baseline that everything else here has to beat.

    Loshchilov & Hutter, "Decoupled weight decay regularization", 2019, arXiv:1711.05101 (as torch scales it: by lr).
    """
    return build(
        "adamw", rules.Adam(b1, b2, eps, debias, amsgrad, nesterov), learning_rate, engine, usual={"weight_decay": 1e-2}
    )


def nadam(
    learning_rate: Rate = 2e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    momentum_decay: Scalar | None = 4e-3,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """NAdam: Adam that looks one step ahead, d = m̂/(√v̂ + ε), m̂ = μₜ₊₁m/(1 − Πₜ₊₁) + (1 − μₜ)g/(1 − Πₜ).

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1); μₜ = β₁(1 − ½·0.96^(ψt)) and Πₜ = μ₁…μₜ.
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        momentum_decay: ψ ≥ 0; None for a constant μ = β₁, as optax has it.
        **engine: see `EngineOptions`.

    When to use it: where Adam's momentum lags behind: short runs, few steps of warmup.

    Dozat, 2016, openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.
    """
    return build("nadam", _nesterov(b1, b2, eps, momentum_decay), learning_rate, engine)


def nadamw(
    learning_rate: Rate = 2e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    momentum_decay: Scalar | None = 4e-3,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """NAdam with decoupled weight decay λ = 0.01: p ← p − lr·(m̂/(√v̂ + ε) + λp), m̂ as in `nadam`.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        momentum_decay: ψ ≥ 0; None for a constant μ = β₁, as optax has it.
        **engine: see `EngineOptions`; weight_decay is 0.01 here.

    When to use it: as nadam, with weight decay.

    Dozat, 2016, openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ; the decay: Loshchilov & Hutter, 2019, arXiv:1711.05101.
    """
    return build("nadamw", _nesterov(b1, b2, eps, momentum_decay), learning_rate, engine, usual={"weight_decay": 1e-2})


def _nesterov(b1: Scalar, b2: Scalar, eps: Scalar, momentum_decay: Scalar | None) -> Rule:
    if momentum_decay is None:
        return rules.Adam(b1, b2, eps, nesterov=True)
    return rules.Nadam(b1, b2, eps, momentum_decay)


def radam(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    threshold: Scalar = 5.0,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """RAdam: Adam's direction times r where the second moment is known well enough, else the mean gradient alone.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; the first steps (five with this b2) are
            lr·m̂, as SGD's.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        threshold: ≥ 4, of the number of gradients that the second moment is made of.
        **engine: see `EngineOptions`.

    When to use it: Adam without a warmup of your own.

    Liu et al., 2020, arXiv:1908.03265.
    """
    return build("radam", rules.Radam(b1, b2, eps, threshold), learning_rate, engine)


def adamax(
    learning_rate: Rate = 2e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """AdaMax: u ← max(β₂u, |g| + ε), p ← p − lr·m̂/u.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        **engine: see `EngineOptions`.

    When to use it: gradients with rare large entries (embeddings): a maximum forgets more evenly than a mean square.

    Kingma & Ba, 2015, arXiv:1412.6980, Algorithm 2.
    """
    return build("adamax", rules.Adamax(b1, b2, eps), learning_rate, engine)


def stableadamw(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.99,
    eps: Scalar = 1e-6,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """StableAdamW: AdamW (λ = 0.01) whose rate is lr/max(1, RMS(g/√max(v̂, ε²))), leaf by leaf.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        **engine: see `EngineOptions`; clip_update_rms is 1 here.

    When to use it: AdamW at rates or batches where its loss spikes; no clipping of your own beside it.

    Wortsman et al., "Stable and low-precision training for large-scale vision-language models", 2023,
    arXiv:2304.13013, Algorithm 2; β₂, ε and λ as in the library optimi.
    """
    usual = {"weight_decay": 1e-2, "clip_update_rms": 1.0}
    return build("stableadamw", rules.Adam(b1, b2, eps), learning_rate, engine, ("b1", "b2", "eps"), usual=usual)
