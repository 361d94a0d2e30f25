"""Adam's relatives: other second moments, other bounds."""

from typing import Unpack

from .. import rules
from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer, build
from ..engine.rates import Rate
from ..values import Scalar


def adadelta(
    learning_rate: Rate = 1.0,
    decay: Scalar = 0.9,
    eps: Scalar = 1e-6,
    eps_step: Scalar | None = None,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Adadelta: v ← ρv + (1 − ρ)g², d = √(u + ε)/√(v + ε)·g, u ← ρu + (1 − ρ)d², p ← p − lr·d.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; the paper has none.
        decay: ρ in [0, 1).
        eps: ε ≥ 0 below the line, in units of g².
        eps_step: ε ≥ 0 above it, in units of p²; None for eps.
        **engine: see `EngineOptions`.

    When to use it: where no rate is to be chosen and speed matters little; steps grow slowly from ε.

    Zeiler, 2012, arXiv:1212.5701.
    """
    return build("adadelta", rules.Adadelta(decay, eps, eps_step), learning_rate, engine)


def adabelief(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-16,
    eps_root: Scalar = 1e-16,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """AdaBelief: s ← β₂s + (1 − β₂)(g − m)² + ε_root, p ← p − lr·m̂/(√ŝ + ε).

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        eps_root: ≥ 0, in units of g²; adds up in s.
        **engine: see `EngineOptions`.

    When to use it: where Adam is too timid along directions whose gradients agree; ε matters more than in Adam.

    Zhuang et al., 2020, arXiv:2010.07468.
    """
    return build("adabelief", rules.Adabelief(b1, b2, eps, eps_root), learning_rate, engine)


def yogi(
    learning_rate: Rate = 1e-2,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-3,
    initial_accumulator: Scalar = 1e-6,
    debias: bool = True,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Yogi: v ← v − (1 − β₂)sign(v − g²)g², p ← p − lr·m̂/(√v̂ + ε).

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        initial_accumulator: v₀ ≥ 0, in units of g².
        debias: divide the moments by 1 − βᵗ, as every implementation does; the paper does not.
        **engine: see `EngineOptions`.

    When to use it: gradients whose scale jumps: the second moment moves by steps of bounded size.

    Zaheer et al., 2018, NeurIPS 31.
    """
    return build("yogi", rules.Yogi(b1, b2, eps, initial_accumulator, debias), learning_rate, engine)


def adabound(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    final_lr: Scalar = 0.1,
    base_lr: Scalar = 1e-3,
    gamma: Scalar = 1e-3,
    eps: Scalar = 1e-8,
    amsbound: bool = False,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """AdaBound: Adam's rate of every coordinate clipped to bounds that close in on SGD's, times the mean gradient.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        final_lr: > 0, what the rate of every coordinate ends as where learning_rate is base_lr.
        base_lr: > 0, the learning rate that final_lr belongs to.
        gamma: γ > 0, how fast the bounds close.
        eps: ε ≥ 0, in units of g.
        amsbound: use the largest second moment so far.
        **engine: see `EngineOptions`.

    When to use it: Adam's start and SGD's end in one run; final_lr is to be tuned like SGD's rate.

    Luo et al., 2019, arXiv:1902.09843.
    """
    rule = rules.Adabound(b1, b2, final_lr, base_lr, gamma, eps, amsbound)
    return build("adabound", rule, learning_rate, engine)


def qhadam(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.995,
    b2: Scalar = 0.999,
    nu1: Scalar = 0.7,
    nu2: Scalar = 1.0,
    eps: Scalar = 1e-8,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """QHAdam: p ← p − lr·((1 − ν₁)g + ν₁m̂)/(√((1 − ν₂)g² + ν₂v̂) + ε).

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        nu1: ν₁, the part of the mean in the step; any number, in [0, 1] for a mean.
        nu2: ν₂ in [0, 1], the part of the mean in the size.
        eps: ε ≥ 0, in units of g.
        **engine: see `EngineOptions`.

    When to use it: a knob between Adam's momentum and the plain gradient.

    Ma & Yarats, 2019, arXiv:1810.06801.
    """
    return build("qhadam", rules.Qhadam(b1, b2, nu1, nu2, eps), learning_rate, engine)


def kate(
    learning_rate: Rate = 1e-3, eta: Scalar = 0.0, eps: Scalar = 1e-8, **engine: Unpack[EngineOptions]
) -> Optimizer:
    """KATE: b² ← b² + g², m² ← m² + ηg² + g²/(b² + ε), p ← p − lr·mg/(b² + ε).

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; in units of p·g.
        eta: η ≥ 0, in units of 1/g².
        eps: ε ≥ 0, in units of g².
        **engine: see `EngineOptions`.

    When to use it: as adagrad, where features differ in scale by orders of magnitude.

    Choudhury et al., 2024, arXiv:2403.02648.
    """
    return build("kate", rules.Kate(eta, eps), learning_rate, engine)


def acprop(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-16,
    eps_root: Scalar = 1e-16,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """ACProp: p ← p − lr·g/(√ŝ + ε), then s ← β₂s + (1 − β₂)(g − m)² + ε_root; the first step is lr·g.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1), of the mean gradient m.
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        eps_root: ≥ 0, in units of g²; adds up in s.
        **engine: see `EngineOptions`.

    When to use it: as AdaBelief, but a gradient is never in its own denominator (as in ADOPT).

    Zhuang et al., 2021, arXiv:2110.05454.
    """
    return build("acprop", rules.Acprop(b1, b2, eps, eps_root), learning_rate, engine)


def madgrad(
    learning_rate: Rate = 1e-2,
    momentum: Scalar = 0.9,
    eps: Scalar = 1e-6,
    eps_rate: Scalar | None = None,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """MADGRAD: s ← s + λg, ν ← ν + λg², λ = (lr + ε)√t, p ← μp + (1 − μ)(x₀ − s/(∛ν + ε)), x₀ the first p.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch. It weighs the gradients; a controller's
            part of a rate, which comes after the rule, changes the steps but not the weights.
        momentum: μ in [0, 1).
        eps: ε ≥ 0, in units of (lr·g²)^⅓.
        eps_rate: ε ≥ 0 in λ, in units of lr; None for eps, as the authors have it, 0 for the paper.
        **engine: see `EngineOptions`; weight decay is l2 in the authors' program: decay_mode="l2".

    When to use it: where SGD generalizes better than Adam but is slow, and on sparse problems; tune the rate anew.

    Defazio & Jelassi, 2021, arXiv:2101.11075.
    """
    return build("madgrad", rules.Madgrad(momentum, eps, eps_rate), learning_rate, engine)
