"""The optimizer that the options of `adaptx plan` describe."""

import ast
import inspect
import math
from collections.abc import Callable, Sequence

from adaptx import controllers, optimizers
from adaptx.control import Controller
from adaptx.engine.transformation import Transformation

from ..registries import ENGINE_OPTIONS, RATE, uses_rate
from ..words import InputError, check_name, meant

WORDS = {"true": True, "false": False, "none": None}
FLAGS = ("learning_rate", "storage", "storage_exclude", "rounding")  # these have a flag of their own


def optimizer(
    name: str,
    *,
    learning_rate: float | None = None,
    controller: str | None = None,
    changes: Sequence[str] = (),
    storage: str | None = None,
    exclude: Sequence[str] = (),
    rounding: str | None = None,
    flags: Sequence[str] = FLAGS,
) -> Transformation:
    """The optimizer of a name, set up as the options of the command line say; `flags` are no keys of `changes`.

    Raises:
        InputError: an unknown name, key or value; the sentence lists the valid ones.
    """
    check_name("optimizer", name, optimizers.ALL)
    make: Callable[..., Transformation] = optimizers.ALL[name]
    given: dict[str, object] = dict(_change(name, text, flags) for text in changes)
    if exclude and storage in (None, "f32"):
        raise InputError(f"--storage-exclude {exclude[0]}: nothing to exclude from; add --storage bf16 or int8.")
    if storage is not None:
        given["storage"] = _storage(storage)
    if exclude:
        given["storage_exclude"] = tuple(int(part) if part.isdecimal() else part for part in exclude)
    if rounding is not None:
        given["rounding"] = rounding
    if learning_rate is not None and not math.isfinite(learning_rate):
        raise InputError(f"--learning-rate {learning_rate}: expected a finite number, at least 0.")
    try:
        if controller is not None:
            given["learning_rate"] = _controller(controller, learning_rate)
        elif learning_rate is not None:
            given["learning_rate"] = learning_rate
        return make(**given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error


def _controller(name: str, rate: float | None) -> Controller:
    check_name("controller", name, controllers.ALL)
    if rate is not None and not uses_rate(name):
        raise InputError(f"--learning-rate {rate:g}: {name} finds the rate itself; leave --learning-rate out.")
    return controllers.ALL[name](RATE if rate is None else rate)


def keys(name: str, flags: Sequence[str]) -> list[str]:
    """What --set may change of an optimizer: its own arguments, then the engine options."""
    own = [p.name for p in inspect.signature(optimizers.ALL[name]).parameters.values() if p.kind is not p.VAR_KEYWORD]
    return [key for key in dict.fromkeys((*own, *ENGINE_OPTIONS)) if key not in flags]


def _change(name: str, text: str, flags: Sequence[str]) -> tuple[str, object]:
    key, equals, value = (part.strip() for part in text.partition("="))
    valid = keys(name, flags)
    if not equals or not key or not value:
        raise InputError(f"--set {text}: expected key=value, as b1=0.95; the keys are {', '.join(valid)}.")
    if key in flags:
        raise InputError(f"--set {text}: {key} has an option of its own; use --{key.replace('_', '-')} {value}.")
    if key not in valid:
        raise InputError(f"--set {text}: {name} has no {key!r}{meant(key, valid)}; the keys are {', '.join(valid)}.")
    if value.lower() in WORDS:
        return key, WORDS[value.lower()]
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value  # a word or a regex


def _storage(text: str) -> str | dict[str, str]:
    if "=" not in text:
        return text.strip()
    pairs = [[side.strip() for side in part.split("=")] for part in text.split(",")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise InputError(f"--storage {text}: expected a name, or slot=name pairs, as m=bf16,v=int8.")
    return dict(pairs)
