"""Wrappers around any optimizer that keep better iterates; `adaptx.eval_params` reads them."""

from typing import Any

from .engine.averaging import Averaged, Lookahead
from .engine.schedule_free import ScheduleFree
from .engine.value import Transformation
from .values import Scalar, number, whole
from .values import decay as to_decay


def schedule_free(opt: Transformation, b: Scalar = 0.9, r: Scalar = 0.0, power: Scalar = 2.0) -> ScheduleFree:
    """Schedule-free learning around an optimizer: see `ScheduleFree` for the equations.

    The authors' AdamW is `schedule_free(adam(lr, b1=0.0, weight_decay=…))`; a warm-up is a learning rate of
    lr·min(1, (step + 1)/W).

    Args:
        opt: an adaptx optimizer without momentum of its own.
        b: blend of iterate and average, in (0, 1).
        r: weight of later steps, tʳ, ≥ 0.
        power: weight of the learning rate, ≥ 0.
    """
    b = number("b", b, 0.0, 1.0, open_low=True, open_high=True)
    return ScheduleFree(_wrapped("schedule_free", opt), b, number("r", r, 0.0), number("power", power, 0.0))


def lookahead(opt: Transformation, k: int = 5, alpha: Scalar = 0.5) -> Lookahead:
    """Lookahead around an optimizer: every k steps the slow weights move by α toward the fast ones, which follow.

    Args:
        opt: an adaptx optimizer.
        k: steps between synchronizations, ≥ 1.
        alpha: in (0, 1].
    """
    return Lookahead(_wrapped("lookahead", opt), number("alpha", alpha, 0.0, 1.0, open_low=True), whole("k", k, 1))


def averaged(opt: Transformation, decay: Scalar | None = 0.999, power: Scalar | None = None) -> Averaged:
    """An average of the parameters, to evaluate with `adaptx.eval_params`; training itself is unchanged.

    Args:
        opt: an adaptx optimizer.
        decay: of the exponential average, in [0, 1).
        power: γ ≥ 0 of a polynomial average in place of the exponential one (pass decay=None); 8 for DoG.
    """
    if (decay is None) == (power is None):
        raise ValueError(
            f"averaged needs either decay or power, got decay={decay!r}, power={power!r}; set one to None."
        )
    mean = None if decay is None else to_decay("decay", decay)
    return Averaged(_wrapped("averaged", opt), mean, None if power is None else number("power", power, 0.0))


def _wrapped(who: str, opt: Any) -> Transformation:
    if not isinstance(opt, Transformation):
        raise TypeError(f"{who} takes an adaptx optimizer such as adaptx.sgd(0.1), got {type(opt).__name__}; pass one.")
    return opt
