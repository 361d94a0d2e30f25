"""Wrappers around any optimizer: better iterates, which `adaptx.eval_params` reads, and a shield."""

from optax import GradientTransformation

from ..engine.optimizer import batched
from ..values import Scalar, number, whole
from ..values import decay as to_decay
from .averaging import Averaged, Lookahead
from .foreign import transformation
from .inside import refuse_inside, refuse_momentum
from .reading import eval_params as eval_params
from .schedule_free import ScheduleFree
from .shield import Shield
from .wrapper import wrapped_in

INSIDE_SCHEDULE_FREE = {
    "shield": "a shield inside would roll back z, not the parameters; put the shield around",
}


def schedule_free(
    opt: GradientTransformation,
    b: Scalar = 0.9,
    r: Scalar = 0.0,
    power: Scalar = 2.0,
    learning_rate: Scalar | None = None,
) -> ScheduleFree:
    """Schedule-free learning around an optimizer: see `ScheduleFree` for the equations.

    The authors' AdamW is `schedule_free(adam(lr, b1=0.0, weight_decay=…))`; a warm-up is a learning rate of
    lr·min(1, (step + 1)/W).

    Args:
        opt: an optimizer without momentum, which this takes the place of: a rule that has one is refused.
        b: blend of iterate and average, in (0, 1).
        r: weight of later steps, tʳ, ≥ 0.
        power: weight of the learning rate, ≥ 0.
        learning_rate: > 0, the one of an optax transformation, which does not tell it; None for an adaptx optimizer.
    """
    b = number("b", b, 0.0, 1.0, open_low=True, open_high=True)
    rate = None if learning_rate is None else number("learning_rate", learning_rate, 0.0, open_low=True)
    inner = transformation("schedule_free", opt)
    refuse_inside("schedule_free", inner, INSIDE_SCHEDULE_FREE)
    refuse_momentum("schedule_free", inner)
    return batched(ScheduleFree(inner, b, number("r", r, 0.0), number("power", power, 0.0), rate))


def lookahead(opt: GradientTransformation, k: int = 5, alpha: Scalar = 0.5) -> Lookahead:
    """Lookahead around an optimizer: every k steps the slow weights move by α toward the fast ones, which follow.

    Args:
        opt: an adaptx optimizer, or any optax transformation.
        k: steps between synchronizations, ≥ 1.
        alpha: in (0, 1].
    """
    alpha = number("alpha", alpha, 0.0, 1.0, open_low=True)
    return batched(Lookahead(transformation("lookahead", opt), alpha, whole("k", k, 1)))


def averaged(opt: GradientTransformation, decay: Scalar | None = 0.999, power: Scalar | None = None) -> Averaged:
    """An average of the parameters, to evaluate with `adaptx.eval_params`; training itself is unchanged.

    Args:
        opt: an adaptx optimizer, or any optax transformation.
        decay: of the exponential average, in [0, 1).
        power: γ ≥ 0 of a polynomial average in place of the exponential one (pass decay=None); 8 for DoG.
    """
    if (decay is None) == (power is None):
        raise ValueError(
            f"averaged needs either decay or power, got decay={decay!r}, power={power!r}; set one to None."
        )
    mean = None if decay is None else to_decay("decay", decay)
    power = None if power is None else number("power", power, 0.0)
    return batched(Averaged(transformation("averaged", opt), mean, power))


def shield(opt: GradientTransformation, factor: Scalar = 0.2, tolerance: Scalar = 4.0, block: int = 10) -> Shield:
    """A shield around an optimizer: back to the last good parameters where training blows up: see `Shield`.

    Needs the loss, `value=`. Through `update` too nothing is handed out that would make a finite parameter non-finite;
    where a caller of `update` cannot pass the loss, such as Flax's TrainState, this alone is what it protects from.

    Args:
        opt: an adaptx optimizer, or any optax transformation.
        factor: on the rate at every trip, in (0, 1).
        tolerance: > 0, standard deviations of the loss over the last good block.
        block: steps, ≥ 1.
    """
    inner = transformation("shield", opt)
    if wrapped_in(inner, "shield"):
        raise TypeError("shield takes an optimizer, got one that has a shield already; one is enough.")
    factor = number("factor", factor, 0.0, 1.0, open_low=True, open_high=True)
    tolerance = number("tolerance", tolerance, 0.0, open_low=True)
    return batched(Shield(inner, factor, tolerance, whole("block", block, 1)))
