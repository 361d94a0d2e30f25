"""What recipes are put together from: options, routes, rates that rise and fall."""

from typing import Any

from .. import schedules
from ..checks import number, whole
from ..engine.keywords import PATTERNED, WHOLE
from ..engine.route import Route, route
from ..engine.transformation import Transformation

WARMUP = 0.05  # of all steps
Options = dict[str, Any]


def real(name: str, value: float, *bounds: float, **open_ends: bool) -> float:
    """A number as a float, checked."""
    return float(number(name, value, *bounds, **open_ends))  # pyright: ignore[reportArgumentType]


def merged(options: Options, **usual: Any) -> Options:
    """Options with what is usual where they do not say."""
    return usual | options


def routed(groups: dict[str, Transformation], by: dict[str, str], default: str | None, options: Options) -> Route:
    """The groups as one; options of the whole tree are the route's, and patterns are for the leaves of all groups."""
    shared = [name for name in PATTERNED if name in options]
    return route(groups, by, default, shared, **{name: x for name, x in options.items() if name in WHOLE})


def each(options: Options) -> Options:
    """The options that every group is given."""
    return {name: x for name, x in options.items() if name not in WHOLE}


def warm_cosine(total_steps: int, learning_rate: float, warmup: float = WARMUP, end: float = 0.0) -> schedules.Schedule:
    """Linear warm-up over a share of all steps, then a cosine down to a share of the rate.

    Args:
        total_steps: of the training, ≥ 1; afterwards the rate stays at its end.
        learning_rate: > 0, the largest.
        warmup: in [0, 1), share of the steps.
        end: in [0, 1], the last rate over the largest.
    """
    whole("total_steps", total_steps, 1)
    rate = real("learning_rate", learning_rate, 0.0, open_low=True)
    share = real("warmup", warmup, 0.0, 1.0, open_high=True)
    last = real("end", end, 0.0, 1.0)
    steps = round(share * total_steps)
    if steps == 0:
        return schedules.cosine_decay_schedule(rate, total_steps, last)
    return schedules.warmup_cosine_decay_schedule(rate / steps, rate, steps, max(total_steps, steps + 1), last * rate)


def falling(total_steps: int, learning_rate: float, warmup: float = 0.0) -> schedules.Schedule:
    """A rate that rises over a share of all steps, if it is to, and falls to 0 along a line.

    Args:
        total_steps: of the training, ≥ 1; afterwards the rate stays at 0.
        learning_rate: > 0, the largest.
        warmup: in [0, 1), share of the steps.
    """
    whole("total_steps", total_steps, 1)
    rate = real("learning_rate", learning_rate, 0.0, open_low=True)
    steps = round(real("warmup", warmup, 0.0, 1.0, open_high=True) * total_steps)
    down = schedules.linear_schedule(rate, 0.0, max(1, total_steps - steps))
    if steps == 0:
        return down
    return schedules.join_schedules([schedules.linear_schedule(rate / steps, rate, steps), down], [steps])
