"""Hyperparameters as fields of a rule: each declares its default and its range in one place.

    b1: Decay = rate(0.9)
    eps: Scalar = real(1e-8, low=0.0)  # units of g
    nesterov: bool = switch(False)

`check` brings the fields of a fresh value into canonical form, or refuses them by name. `domain_of` reads off what a
field takes.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from .checks import checked, decay, flag, number, one_of, several, whole
from .values import Range, Scalar

Check = Callable[[str, Any], Any]  # (name, what came) -> its canonical form


@dataclasses.dataclass(frozen=True)
class Domain:
    """What a field takes: numbers of a range, names, or where it has neither True and False."""

    span: Range | None = None  # of its number, or of each of several
    names: tuple[str, ...] = ()
    whole: bool = False  # integers alone
    several: bool = False  # a tuple
    count: int | None = None  # of the numbers in the tuple; None for any
    optional: bool = False  # None too


def domain_of(field: dataclasses.Field) -> Domain | None:
    """What a field declared here takes; None for any other field."""
    return field.metadata.get("domain")


def _field(default: object, check: Check, domain: Domain, *, static: bool = False) -> Any:
    if domain.optional:
        check = partial(_unless_none, check)
    return dataclasses.field(default=default, metadata={"check": check, "static": static, "domain": domain})


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
    span = Range(low, high, open_low, open_high)
    return _field(default, partial(_number, span), Domain(span, optional=optional))


def _number(span: Range, name: str, value: Scalar) -> Scalar:
    return number(name, value, span.low, span.high, open_low=span.open_low, open_high=span.open_high)


def rate(default: Scalar, *, optional: bool = False) -> Any:
    """A decay rate in [0, 1), carried as a `Decay`; None too where it is optional."""
    return _field(default, decay, Domain(Range(0.0, 1.0, open_high=True), optional=optional))


def several_of(default: tuple[Scalar, ...], count: int | None = None, **span: Scalar) -> Any:
    """A tuple of numbers."""

    def check(name: str, values: object) -> tuple[Scalar, ...]:
        return several(name, values, count, **span)

    return _field(default, check, Domain(Range(**span), several=True, count=count))


def switch(default: bool) -> Any:
    """True or False, part of the structure."""
    return _field(default, flag, Domain(), static=True)


def count(default: int | None, low: int = 1, *, optional: bool = False) -> Any:
    """An integer that shapes or loops depend on, part of the structure; None too where it is optional."""

    def check(name: str, value: object) -> int:
        return whole(name, value, low)

    return _field(default, check, Domain(Range(low), whole=True, optional=optional), static=True)


def share(default: float) -> Any:
    """A fraction in (0, 1] that shapes depend on, part of the structure."""
    return _field(default, _share, Domain(Range(0.0, 1.0, open_low=True)), static=True)


def _share(name: str, value: object) -> float:
    """A plain number, which compares and hashes as structure has to."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise ValueError(f"{name} must be a number in (0, 1], got {value!r}; pass a Python number.")
    return float(value)


def choice(default: str, *others: str) -> Any:
    """One of these names, part of the structure."""
    names = (default, *others)
    return _field(default, lambda name, value: one_of(name, value, names), Domain(names=names), static=True)


def check(record: object) -> None:
    """Give every field declared here, from a __post_init__, its canonical form.

    Raises:
        TypeError, ValueError: for a value of the wrong kind or out of range, with the field's name.
    """
    for field in dataclasses.fields(record):  # pyright: ignore[reportArgumentType]
        if "check" in field.metadata:
            checked(record, **{field.name: field.metadata["check"](field.name, getattr(record, field.name))})
