"""Hyperparameters as fields of a rule or a controller: each declares its default and its range in one place.

    b1: Decay = rate(0.9)
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    nesterov: bool = switch(False)

`check` brings the fields of a fresh value into canonical form, or refuses them by name.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from .values import Scalar, checked, decay, flag, number, one_of, several, whole

Check = Callable[[str, Any], Any]  # (name, what came) -> its canonical form


def _field(default: object, check: Check, *, static: bool = False) -> Any:
    return dataclasses.field(default=default, metadata={"check": check, "static": static})


def _unless_none(check: Check, name: str, value: object) -> object:
    return None if value is None else check(name, value)


def real(
    default: Scalar,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
    optional: bool = False,
) -> Any:
    """A number in a range, with an end that is open left out; None too where it is optional."""
    check = partial(_number, low, high, open_low, open_high)
    return _field(default, partial(_unless_none, check) if optional else check)


def _number(low: float, high: float, open_low: bool, open_high: bool, name: str, value: Scalar) -> Scalar:
    return number(name, value, low, high, open_low=open_low, open_high=open_high)


def rate(default: Scalar, *, optional: bool = False) -> Any:
    """A decay rate in [0, 1), carried as a `Decay`; None too where it is optional."""
    return _field(default, partial(_unless_none, decay) if optional else decay)


def several_of(default: tuple[Scalar, ...], count: int | None = None, **span: Scalar) -> Any:
    """A tuple of numbers."""
    return _field(default, lambda name, values: several(name, values, count, **span))


def switch(default: bool) -> Any:
    """True or False, part of the structure."""
    return _field(default, flag, static=True)


def count(default: int | None, low: int = 1, *, optional: bool = False) -> Any:
    """An integer that shapes or loops depend on, part of the structure; None too where it is optional."""

    def check(name: str, value: object) -> int:
        return whole(name, value, low)

    return _field(default, partial(_unless_none, check) if optional else check, static=True)


def share(default: float) -> Any:
    """A fraction in (0, 1] that shapes depend on, part of the structure."""
    return _field(default, _share, static=True)


def _share(name: str, value: object) -> float:
    """A plain number, which compares and hashes as structure has to."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise ValueError(f"{name} must be a number in (0, 1], got {value!r}; pass a Python number.")
    return float(value)


def choice(default: str, *others: str) -> Any:
    """One of these names, part of the structure."""
    return _field(default, lambda name, value: one_of(name, value, (default, *others)), static=True)


def check(record: object) -> None:
    """Give every field declared here, from a __post_init__, its canonical form.

    Raises:
        TypeError, ValueError: for a value of the wrong kind or out of range, with the field's name.
    """
    for field in dataclasses.fields(record):  # pyright: ignore[reportArgumentType]
        if "check" in field.metadata:
            checked(record, **{field.name: field.metadata["check"](field.name, getattr(record, field.name))})
