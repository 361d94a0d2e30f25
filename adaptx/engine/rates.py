"""The learning rate as it is given: a number, a schedule or a controller, in canonical form."""

from collections.abc import Callable

from jaxtyping import Array

from ..checks import number
from ..control import Controller
from ..values import Scalar

Rate = Scalar | Callable[[Array], Scalar] | Controller


def as_rate(who: str, rate: Rate) -> Rate:
    """A learning rate in canonical form.

    Raises:
        TypeError, ValueError: for what is none.
    """
    if isinstance(rate, Controller):
        return rate
    if rate is None:
        raise TypeError(
            f"{who} needs a learning_rate: expected a number, a schedule or a controller, got None; the bare direction "
            "is adaptx.scale_by_rule(rule)."
        )
    return number("learning_rate", rate, 0.0)


def open_rate(who: str, rate: Rate) -> Rate:
    """A learning rate in canonical form where the place of the controller is taken.

    Raises:
        TypeError, ValueError: for what is none, or a controller.
    """
    if isinstance(rate, Controller):
        raise TypeError(
            f"{who}'s learning_rate must be a number or a schedule, because its trust ratio is a controller, got "
            f"{type(rate).__name__.lower()}; use momentum or adam with that controller."
        )
    return as_rate(who, rate)
