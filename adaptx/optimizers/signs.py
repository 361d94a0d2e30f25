"""Steps of a length that gradients do not decide: signs alone."""

from typing import Unpack

from .. import rules
from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer, build
from ..engine.rates import Rate
from ..values import Scalar


def lion(learning_rate: Rate = 1e-4, b1: Scalar = 0.9, b2: Scalar = 0.99, **engine: Unpack[EngineOptions]) -> Optimizer:
    """Lion: p ← p − lr·sign(β₁m + (1 − β₁)g), then m ← β₂m + (1 − β₂)g.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; three to ten times smaller than Adam's.
        b1: β₁ in [0, 1), of the step.
        b2: β₂ in [0, 1), of the mean.
        **engine: see `EngineOptions`; weight_decay three to ten times larger than AdamW's.

    When to use it: half of Adam's memory at large batches; rates 3 to 10 times smaller and decay as much larger than
    AdamW's.

    Chen et al., 2023, arXiv:2302.06675.
    """
    return build("lion", rules.Lion(b1, b2), learning_rate, engine)


def signum(learning_rate: Rate = 1e-4, decay: Scalar = 0.9, **engine: Unpack[EngineOptions]) -> Optimizer:
    """Signum: m ← βm + (1 − β)g, p ← p − lr·sign(m); decay 0 is signSGD.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; the length of every coordinate's step.
        decay: β in [0, 1).
        **engine: see `EngineOptions`.

    When to use it: one slot, or gradients compressed to signs; rates as lion's.

    Bernstein et al., 2018, arXiv:1802.04434.
    """
    return build("signum", rules.Signum(decay), learning_rate, engine)


def tiger(learning_rate: Rate = 1e-3, decay: Scalar = 0.965, **engine: Unpack[EngineOptions]) -> Optimizer:
    """Tiger: Signum with β = 0.965 and decoupled weight decay λ = 0.01.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; the length of every coordinate's step.
        decay: β in [0, 1).
        **engine: see `EngineOptions`; weight_decay is 0.01 here.

    When to use it: as lion with one coefficient, for language models trained with little memory.

    Su, 2023, github.com/bojone/tiger.
    """
    return build("tiger", rules.Signum(decay), learning_rate, engine, usual={"weight_decay": 1e-2})


def rprop(
    learning_rate: Rate = 1e-2,
    eta_minus: Scalar = 0.5,
    eta_plus: Scalar = 1.2,
    step_sizes: tuple[Scalar, Scalar] = (1e-4, 5e3),
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Rprop: every coordinate's step grows by η⁺ while gradients agree in sign, shrinks by η⁻ where they change it.

    For gradients of the whole data; batches confuse it.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; the length of the first step, and the
            unit of step_sizes.
        eta_minus: η⁻ in (0, 1).
        eta_plus: η⁺ > 1.
        step_sizes: least and most, in learning rates (torch's 1e-6 and 50 at its rate of 1e-2).
        **engine: see `EngineOptions`.

    When to use it: full batches alone: noise in a sign destroys its step sizes.

    Riedmiller & Braun, 1993, doi:10.1109/ICNN.1993.298623.
    """
    return build("rprop", rules.Rprop(eta_minus, eta_plus, step_sizes), learning_rate, engine)
