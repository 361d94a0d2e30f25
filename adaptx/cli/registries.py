"""What several commands know of rules, controllers and the options of every optimizer."""

import inspect
from collections.abc import Callable

from adaptx import controllers
from adaptx.engine.keywords import EngineOptions

ENGINE_OPTIONS = tuple(EngineOptions.__annotations__)
RATE = 1e-3  # what a controller starts from where no rate is given


def uses_rate(controller: str) -> bool:
    """Whether a controller of the registry starts from a given rate, so that it has one to tune."""
    return controllers.ALL[controller](0.1) != controllers.ALL[controller](0.2)  # they compare by value


def default_rate(make: Callable[..., object]) -> float:
    """The learning rate that a constructor takes where none is given."""
    default = inspect.signature(make).parameters["learning_rate"].default
    return float(default) if isinstance(default, (int, float)) else RATE


def equations(part: object) -> str:
    """The docstring of the module that the class of a rule or a controller is in."""
    return inspect.cleandoc(getattr(inspect.getmodule(type(part)), "__doc__", None) or "")
