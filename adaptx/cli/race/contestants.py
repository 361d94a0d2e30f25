"""Who races: a name and how to build the optimizer for one learning rate.

A name is an optimizer, `adam`; an optimizer and a controller, `adam+prodigy`; either with a cosine over the steps of
the race, `adam+cosine`, `adam+prodigy+cosine`; and any of them with a shield, `sgd+hypergradient+shield`. In the place
of the optimizer `all` stands for all of them and a family for its members, `signs+cosine`.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

from jaxtyping import Array

import adaptx
from adaptx import controllers, optimizers
from adaptx.control import Controller
from adaptx.engine.route import Route
from adaptx.engine.transformation import Transformation
from adaptx.values import Scalar

from ..registries import RATE, default_rate, uses_rate
from ..words import InputError, meant

Rate = Scalar | Controller | Callable[[Array], Array]  # what an optimizer takes as its learning rate
Rates = Callable[[float], Rate]  # factor -> the learning rate times the factor


@dataclass(frozen=True)
class Contestant:
    """An optimizer of the race.

    `build` takes a learning rate, which is traced: one program trains the whole grid. A contestant that is not `tuned`
    finds its own rate; it runs once per seed, with the argument NaN, which it must not use. One that is `scheduled`
    is built from the number of steps too.
    """

    name: str
    build: Callable[..., Transformation]
    tuned: bool = True
    scheduled: bool = False
    default_rate: float = 1.0  # > 0, the unit of a relative grid
    routed: bool = False  # several optimizers in one: arrays that one does not take go to another

    def optimizer(self, rate: Scalar, steps: int) -> Transformation:
        """The optimizer for this rate in a race of so many steps."""
        return self.build(rate, steps) if self.scheduled else self.build(rate)


OPTIMIZERS: dict[str, Callable[..., Transformation]] = {
    **optimizers.ALL,
    "nesterov": partial(adaptx.momentum, nesterov=True),
    "amsgrad": partial(adaptx.adam, amsgrad=True),
}
SHAPES = (2, 2), (2,)  # as the arrays of the model have: weights and biases

# what --controllers adds: the rules that each was made for
CONTROLLED = (
    "adam+cosine", "sgd+hypergradient", "sgd+hypergradient+shield", "adam+hypergradient+shield", "adam+plateau",
    "adam+bandit", "adam+momo", "sgd+polyak", "adam+l4", "sgd+dog", "sgd+dowg", "adam+dadapt", "adam+prodigy",
    "adam+prodigy+cosine", "adam+mechanic", "sgd+cocob",
)  # fmt: skip
COSINE, SHIELD, ALL = "cosine", "shield", "all"
FAMILIES = optimizers.FAMILIES
GROUPS: dict[str, Iterable[str]] = {ALL: OPTIMIZERS, **FAMILIES}


def choose(names: Iterable[str], left_out: Callable[[str], None] = lambda reason: None) -> list[Contestant]:
    """The contestants of these names, in order, each once.

    Args:
        names: see above.
        left_out: called with the reason for every member of a group that cannot race so.

    Raises:
        InputError: an unknown name, none at all, or one that cannot race.
    """
    chosen = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not chosen:
        raise InputError(f"--optimizers: expected {_valid()}.")
    return list({one.name: one for name in chosen for one in _expanded(name, left_out)}.values())


def _expanded(name: str, left_out: Callable[[str], None]) -> list[Contestant]:
    """The contestant of a name; of a group those of its members that can race so."""
    first, plus, rest = name.partition("+")
    if first in OPTIMIZERS:
        return [contestant(name)]
    if first not in GROUPS:
        near = meant(first, (*OPTIMIZERS, *GROUPS))
        raise InputError(f"--optimizers: there is no optimizer {first!r}{near}; expected {_valid()}.")
    found, refused = [], []
    for member in GROUPS[first]:
        try:
            found.append(contestant(f"{member}{plus}{rest}"))
        except InputError as error:
            refused.append(error)
    if not found:
        raise refused[0]
    for error in refused:
        left_out(str(error))
    return found


def _valid() -> str:
    return f"{ALL}, a family ({', '.join(FAMILIES)}), or at least one of {', '.join(OPTIMIZERS)}"


def contestant(name: str) -> Contestant:
    """The contestant of the name of one optimizer, with what stands behind it.

    Raises:
        InputError: an unknown name, or what does not go together.
    """
    rule, *rates = name.split("+")
    if rates[-1:] == [SHIELD]:
        inner = contestant(name.removesuffix(f"+{SHIELD}"))
        return replace(inner, name=name, build=lambda *rate: adaptx.shield(inner.build(*rate)))
    controller = rates.pop(0) if rates and rates[0] != COSINE else None
    if controller is not None and controller not in controllers.ALL:
        words = (*controllers.ALL, COSINE, SHIELD)
        near = meant(controller, words)
        raise InputError(
            f"--optimizers {name}: there is no controller {controller!r}{near}; choose from {', '.join(words)}."
        )
    if rates not in ([], [COSINE]):
        came = "+".join(rates)
        raise InputError(
            f"--optimizers {name}: expected rule+controller, rule+controller+{COSINE}, got +{came} at the "
            f"end; +{SHIELD} may stand behind."
        )
    make, tuned = OPTIMIZERS[rule], controller is None or uses_rate(controller)

    def build(rate: Scalar, steps: int | None = None) -> Transformation:
        return routed(make, lambda factor: learning_rate(controller, rate * factor, steps))

    made = Contestant(name, build, tuned, bool(rates), default_rate(make))
    return replace(made, routed=isinstance(_tried(made), Route))


def _tried(one: Contestant) -> Transformation:
    """The optimizer for some rate.

    Raises:
        InputError: it does not take the controller, or needs what the race does not give.
    """
    try:
        made = one.optimizer(RATE, 1)
    except (TypeError, ValueError) as error:
        raise InputError(f"--optimizers {one.name}: {error}") from error
    missing = sorted(made.requires - {"value"})
    if missing:
        needs = ", ".join(f"{argument}=" for argument in missing)
        raise InputError(
            f"--optimizers {one.name}: it needs {needs} at every step, and the race has gradients and the loss alone; "
            "leave it out."
        )
    return made


def routed(make: Callable[..., Transformation], rates: Rates) -> Transformation:
    """The optimizer; where it does not take every array, adamw takes the others.

    Both rates are then equal multiples of their defaults.
    """
    beside = rates(default_rate(adaptx.adamw) / default_rate(make))
    if "adamw" in inspect.signature(make).parameters:  # it routes by itself, and adamw's arguments are one of its own
        return make(rates(1.0), adamw={"learning_rate": beside})
    made = make(rates(1.0))
    if not isinstance(made, adaptx.Optimizer) or not any(made.rule.expects(shape) for shape in SHAPES):
        return made
    rest = adaptx.adamw(beside)
    return adaptx.route(
        {"adamw": rest, "own": made}, by=lambda path, leaf: "adamw" if made.rule.expects(leaf.shape) else "own"
    )


def learning_rate(controller: str | None, rate: Scalar, steps: int | None = None) -> Rate:
    """The controller, or the plain rate, times a cosine to zero over `steps` where they are given."""
    made = rate if controller is None else controllers.ALL[controller](rate)
    if steps is None:
        return made
    cosine = adaptx.schedules.cosine_decay_schedule(1.0, steps)
    return made * cosine if controller is not None else lambda step: rate * cosine(step)


# those that race where nobody is named
CLASSICAL: dict[str, Contestant] = {
    name: contestant(name)
    for name in ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "amsgrad", "nadam", "adamw")
}
