"""Who races: a name and how to build the optimizer for one learning rate."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import adaptx

from .errors import InputError


@dataclass(frozen=True)
class Contestant:
    """An optimizer of the race.

    `build` takes a learning rate, which is traced: one program trains the whole grid. A contestant that is not `tuned`
    finds its own rate; it runs once per seed, with the argument NaN, which it must not use.
    """

    name: str
    build: Callable[[Any], adaptx.Optimizer]
    tuned: bool = True


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


def choose(names: Iterable[str]) -> list[Contestant]:
    """The contestants of these names, in order, each once.

    Raises:
        InputError: an unknown name, or none at all.
    """
    chosen = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in chosen:
        if name not in CLASSICAL:
            raise InputError(f"--optimizers: there is no optimizer {name!r}; choose from {', '.join(CLASSICAL)}.")
    if not chosen:
        raise InputError(f"--optimizers: expected at least one of {', '.join(CLASSICAL)}.")
    return [CLASSICAL[name] for name in chosen]
