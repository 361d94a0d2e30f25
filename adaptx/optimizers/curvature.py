"""Rules that are given an estimate of the Hessian's diagonal: the argument `hessian` of update and step."""

from typing import Unpack

from .. import rules
from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer, build
from ..engine.rates import Rate
from ..values import Scalar


def sophia(
    learning_rate: Rate = 1e-4,
    b1: Scalar = 0.96,
    b2: Scalar = 0.99,
    gamma: Scalar = 0.01,
    eps: Scalar = 1e-12,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Sophia: h ← β₂h + (1 − β₂)ĥ every few steps, p ← p − lr·clip(m/max(γh, ε), ±1).

    Its update and step take hessian=, ĥ as a tree like the parameters, or None for none at this step:
    `train_step(loss_fn, opt, extra={"hessian": adaptx.hutchinson(loss_fn, every=10)})` does it all,
    and so does `adaptx.gauss_newton_bartlett(logits_fn, every=10)` with gamma=0.05; logits_fn takes what loss_fn takes.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; the longest step of a coordinate, as
            Lion's.
        b1: β₁ in [0, 1), of the mean gradient.
        b2: β₂ in [0, 1), of the mean diagonal of the Hessian.
        gamma: γ ≥ 0, in units of p; 0.01 for `hutchinson` (Sophia-H), 0.05 for `gauss_newton_bartlett` (Sophia-G).
        eps: ε ≥ 0, in units of g.
        **engine: see `EngineOptions`.

    When to use it: pretraining of language models where one gradient more (`gauss_newton_bartlett`)
    or two (`hutchinson`) every ten steps are affordable.

    Liu et al., 2023, arXiv:2305.14342.
    """
    return build("sophia", rules.Sophia(b1, b2, gamma, eps), learning_rate, engine)


def adahessian(
    learning_rate: Rate = 0.15,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-4,
    hessian_power: Scalar = 1.0,
    average: str = "kernels",
    window: str = "first",
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """AdaHessian: v ← β₂v + (1 − β₂)D², D = |ĥ| averaged over parts of an array, p ← p − lr·m̂/((√v̂)ᵏ + ε).

    Its update and step take hessian=, ĥ as a tree like the parameters, or None for none at this step:
    `train_step(loss_fn, opt, extra={"hessian": adaptx.hutchinson(loss_fn)})` does it all.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of (g/p)ᵏ.
        hessian_power: k in [0, 1].
        average: "kernels" for those with four axes, "matrices" for matrices and kernels with three too, or "none".
        window: "first" where the axes that are averaged over come first (HWIO, inputs × outputs), "last" for OIHW.
        **engine: see `EngineOptions`.

    When to use it: where curvature differs much between coordinates and a step may cost three gradients.

    Yao et al., 2021, arXiv:2006.00719.
    """
    rule = rules.Adahessian(b1, b2, eps, hessian_power, average, window)
    return build("adahessian", rule, learning_rate, engine)
