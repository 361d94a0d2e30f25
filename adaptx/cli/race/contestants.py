"""Who races: a name and how to build the optimizer for one learning rate.

A name is a rule, `adam`; a rule and a controller, `adam+prodigy`; either with a cosine over the steps of the race,
`adam+cosine`, `adam+prodigy+cosine`; and any of them with a shield, `sgd+hypergradient+shield`. Every rule goes with
every controller.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from jaxtyping import Array

import adaptx
from adaptx import controllers
from adaptx.base import Controller
from adaptx.engine.transformation import Transformation
from adaptx.values import Scalar

from ..registries import uses_rate
from ..words import InputError

Rate = Scalar | Controller | Callable[[Array], Array]  # what an optimizer takes as its learning rate


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

    def optimizer(self, rate: Scalar, steps: int) -> Transformation:
        """The optimizer for this rate in a race of so many steps."""
        return self.build(rate, steps) if self.scheduled else self.build(rate)


CLASSICAL: dict[str, Contestant] = {
    contestant.name: contestant
    for contestant in (
        Contestant("sgd", adaptx.sgd),
        Contestant("momentum", adaptx.momentum),
        Contestant("nesterov", lambda rate: adaptx.momentum(rate, nesterov=True)),
        Contestant("adagrad", adaptx.adagrad),
        Contestant("rmsprop", adaptx.rmsprop),
        Contestant("adam", adaptx.adam),
        Contestant("amsgrad", lambda rate: adaptx.adam(rate, amsgrad=True)),
        Contestant("nadam", lambda rate: adaptx.adam(rate, nesterov=True)),
        Contestant("adamw", adaptx.adamw),
    )
}

# what --controllers adds: the rules that each was made for
CONTROLLED = (
    "adam+cosine", "sgd+hypergradient", "sgd+hypergradient+shield", "adam+hypergradient+shield", "adam+plateau",
    "adam+bandit", "adam+momo", "sgd+polyak", "adam+l4", "sgd+dog", "sgd+dowg", "adam+dadapt", "adam+prodigy",
    "adam+prodigy+cosine", "adam+mechanic", "sgd+cocob",
)  # fmt: skip
COSINE, SHIELD = "cosine", "shield"


def choose(names: Iterable[str]) -> list[Contestant]:
    """The contestants of these names, in order, each once.

    Raises:
        InputError: an unknown name, or none at all.
    """
    chosen = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not chosen:
        raise InputError(f"--optimizers: expected at least one of {', '.join(CLASSICAL)}.")
    return [contestant(name) for name in chosen]


def contestant(name: str) -> Contestant:
    """The contestant of one name.

    Raises:
        InputError: an unknown name.
    """
    rule, *rates = name.split("+")
    if rates[-1:] == [SHIELD]:
        inner = contestant(name.removesuffix(f"+{SHIELD}"))
        return replace(inner, name=name, build=lambda *rate: adaptx.shield(inner.build(*rate)))
    if rule not in CLASSICAL:
        raise InputError(f"--optimizers: there is no optimizer {rule!r}; choose from {', '.join(CLASSICAL)}.")
    if not rates:
        return CLASSICAL[rule]
    controller = rates.pop(0) if rates[0] != COSINE else None
    if controller is not None and controller not in controllers.ALL:
        valid = ", ".join((*controllers.ALL, COSINE, SHIELD))
        raise InputError(f"--optimizers {name}: there is no controller {controller!r}; choose from {valid}.")
    if rates not in ([], [COSINE]):
        came = "+".join(rates)
        raise InputError(
            f"--optimizers {name}: expected rule+controller, rule+controller+{COSINE}, got +{came} at the "
            f"end; +{SHIELD} may stand behind."
        )
    build = CLASSICAL[rule].build
    tuned = controller is None or uses_rate(controller)
    if not rates:
        return Contestant(name, lambda rate: build(learning_rate(controller, rate)), tuned)
    return Contestant(name, lambda rate, steps: build(learning_rate(controller, rate, steps)), tuned, scheduled=True)


def learning_rate(controller: str | None, rate: Scalar, steps: int | None = None) -> Rate:
    """The controller, or the plain rate, times a cosine to zero over `steps` where they are given."""
    made = rate if controller is None else controllers.ALL[controller](rate)
    if steps is None:
        return made
    cosine = adaptx.schedules.cosine_decay_schedule(1.0, steps)
    return made * cosine if controller is not None else lambda step: rate * cosine(step)
