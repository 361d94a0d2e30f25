"""The classical rules: gradients, their momentum, their squares."""

from typing import Unpack

from .. import rules
from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer, build
from ..engine.rates import Rate
from ..values import Scalar


def sgd(learning_rate: Rate = 1e-2, **engine: Unpack[EngineOptions]) -> Optimizer:
    """Stochastic gradient descent: p ← p − lr·g.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        **engine: see `EngineOptions`.

    When to use it: gradients with little noise, convex problems, and as the baseline; wants a tuned rate and a
    schedule.

    Robbins & Monro, 1951, doi:10.1214/aoms/1177729586.
    """
    return build("sgd", rules.Sgd(), learning_rate, engine)


def momentum(
    learning_rate: Rate = 1e-2,
    decay: Scalar = 0.9,
    dampening: Scalar = 0.0,
    nesterov: bool = False,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Momentum: v ← γv + (1 − τ)g, p ← p − lr·v; Nesterov: p ← p − lr·((1 − τ)g + γv).

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        decay: γ in [0, 1).
        dampening: τ in [0, 1]; τ = γ gives the averaged form.
        nesterov: look one step ahead.
        **engine: see `EngineOptions`.

    When to use it: convolutional networks with a tuned rate and schedule; one slot.

    Polyak, 1964, doi:10.1016/0041-5553(64)90137-5.
    """
    return build("momentum", rules.Momentum(decay, dampening, nesterov), learning_rate, engine)


def adagrad(
    learning_rate: Rate = 1e-2,
    eps: Scalar = 1e-8,
    eps_in_sqrt: bool = True,
    initial_accumulator: Scalar = 0.0,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """AdaGrad: h ← h + g², p ← p − lr·g/√(h + ε), or g/(√h + ε) with eps_in_sqrt=False.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        eps: ε ≥ 0, in units of g² inside the root, of g outside.
        eps_in_sqrt: where ε stands.
        initial_accumulator: h₀ ≥ 0.
        **engine: see `EngineOptions`.

    When to use it: sparse features and short runs; its rates only fall, so long runs stall.

    Duchi, Hazan & Singer, 2011, JMLR 12.
    """
    return build("adagrad", rules.Adagrad(eps, initial_accumulator, eps_in_sqrt), learning_rate, engine)


def rmsprop(
    learning_rate: Rate = 1e-3,
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Scalar = 0.0,
    debias: bool = False,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """RMSProp: v ← βv + (1 − β)g², n = g/√(v + ε), p ← p − lr·n; with momentum b ← μb + n, p ← p − lr·b.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch.
        decay: β in [0, 1).
        eps: ε ≥ 0, in units of g² inside the root, of g outside.
        eps_in_sqrt: n = g/√(v + ε), or g/(√v + ε).
        centered: subtract the squared mean gradient from v.
        momentum: μ in [0, 1); 0 keeps no buffer. The learning rate stays outside the buffer.
        debias: divide the averages by 1 − βᵗ.
        **engine: see `EngineOptions`.

    When to use it: recurrent networks and reinforcement learning; one slot, no correction of bias unless asked for.

    Tieleman & Hinton, 2012; centered: Graves, 2013, arXiv:1308.0850.
    """
    return build("rmsprop", rules.Rmsprop(decay, eps, momentum, eps_in_sqrt, centered, debias), learning_rate, engine)
