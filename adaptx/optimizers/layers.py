"""A rate for every layer: rules under the trust ratio."""

from typing import Unpack

from .. import controllers, rules
from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer, build
from ..engine.rates import Rate, open_rate
from ..values import Scalar


def lars(
    learning_rate: Rate = 1e-2,
    decay: Scalar = 0.9,
    nesterov: bool = False,
    coefficient: Scalar = 1e-3,
    eps: Scalar = 0.0,
    max_ratio: Scalar | None = None,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """LARS: momentum on gradients scaled, leaf by leaf, by coefficient·‖p‖/(‖g + λp‖ + ε); weight decay λ is l2.

    Args:
        learning_rate: ≥ 0, a schedule, or an array for a batch; no controller: the trust ratio is one.
        decay: γ of the momentum, in [0, 1).
        nesterov: look one step ahead.
        coefficient: > 0.
        eps: ε ≥ 0, in units of g.
        max_ratio: > 0, makes the rate min(ratio, max_ratio · learning_rate) (LARC's clipping is 1); None for none.
        **engine: see `EngineOptions`.

    When to use it: convolutional networks with batches of thousands.

    You, Gitman & Ginsburg, 2017, arXiv:1708.03888.
    """
    controller = controllers.trust_ratio(
        open_rate("lars", learning_rate), coefficient, eps, None, max_ratio, before=True
    )
    rule = rules.Momentum(decay, 0.0, nesterov)
    names = ("decay", "nesterov"), ("coefficient", "eps", "max_ratio")
    return build("lars", rule, controller, engine, *names, usual={"decay_mode": "l2"})


def lamb(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    norm_bounds: tuple[Scalar, Scalar] | None = None,
    max_ratio: Scalar | None = None,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """LAMB: Adam's direction with weight decay, scaled leaf by leaf by φ(‖p‖)/‖d‖.

    Args:
        learning_rate: ≥ 0, a schedule, or an array for a batch; no controller: the trust ratio is one.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        norm_bounds: (low, high) that φ clips ‖p‖ to; None for φ(z) = z.
        max_ratio: bound on the ratio (LAMBC); None for none.
        **engine: see `EngineOptions`.

    When to use it: transformers with batches of thousands.

    You et al., 2020, arXiv:1904.00962, Algorithm 2; max_ratio: Fong et al., 2020, arXiv:2011.13584.
    """
    controller = controllers.trust_ratio(open_rate("lamb", learning_rate), 1.0, 0.0, norm_bounds, max_ratio)
    rule = rules.Adam(b1, b2, eps)
    return build("lamb", rule, controller, engine, ("b1", "b2", "eps"), ("norm_bounds", "max_ratio"))
