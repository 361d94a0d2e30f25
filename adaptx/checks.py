"""Hyperparameters as they are given: checked one by one, and brought into canonical form."""

import dataclasses
import inspect
import math
import types
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .values import Decay, Range, Scalar, Scheduled, Times, is_concrete, is_traced


def number(
    name: str, value: Scalar, low: float = -math.inf, high: float = math.inf, *, open_low=False, open_high=False
) -> Scalar:
    """A hyperparameter in canonical form: a Python float, an f32 array where an array came, or a `Scheduled`.

    Raises:
        TypeError: for anything that is neither a real number nor a schedule.
        ValueError: for a concrete value that is not finite or outside [low, high] (an open end excludes its bound).
    """
    span = Range(low, high, open_low, open_high)
    if isinstance(value, (Scheduled, Times)):
        return value
    if callable(value) and not hasattr(value, "dtype"):
        return Scheduled(_schedule(name, value), name, span)
    array = hasattr(value, "dtype") and not isinstance(value, jax.ShapeDtypeStruct)
    if isinstance(value, (bool, np.bool_, str)) or not (array or isinstance(value, (int, float))):
        raise TypeError(f"{name} must be a real number, got {value!r} ({type(value).__name__}); pass a float.")
    value = _plain(value) if isinstance(value, (int, float)) else _canonical(name, value)
    came = None if is_traced(value) else span.excluded(value)
    if came is not None:
        raise ValueError(f"{name} must lie in {span}, got {came:g}; choose a value in that range.")
    return value


def bound(name: str, value: Scalar, low: float = 0.0, *, open_low: bool = False) -> Scalar | None:
    """An upper bound: a number as above, or None, which inf stands for too."""
    unbounded = value is None or (is_concrete(value) and float(value) == math.inf)
    return None if unbounded else number(name, value, low, open_low=open_low)


def _plain(value: float) -> float:
    return float(value) + 0.0  # -0.0 becomes 0.0, which it equals


def _schedule(name: str, function: Callable[..., Scalar]) -> Callable[[Array], Scalar]:
    """A function of the step, rather than a class or a constructor that somebody forgot to call."""
    called = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, type):
        raise TypeError(f"{name} must be a number or a schedule, got the class {called}; call it: {called.lower()}(…).")
    package = (getattr(function, "__module__", None) or "").split(".")[0]  # exec and eval may leave it None
    ours = isinstance(function, types.FunctionType) and package == __name__.split(".")[0]
    if ours and "<" not in function.__qualname__:
        raise TypeError(f"{name} must be a number or a schedule, got the function {called}; call it: {called}(…).")
    try:
        inspect.signature(function).bind(0)
    except TypeError as error:
        raise TypeError(
            f"{name} must be a number or a schedule of the step number, got {called}, which takes other arguments "
            f"({error}); call it first, or pass lambda step: …"
        ) from error
    except ValueError:  # a built-in without a signature
        pass
    return function


def _canonical(name: str, value: Scalar) -> Scalar:
    """An array hyperparameter: NumPy scalars as Python floats, jax arrays in f32 or f64."""
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise TypeError(f"{name} must be a real number, got an array of {value.dtype}; pass a float.")
    if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0:
        return _plain(float(value))
    return value if value.dtype == jnp.float64 and isinstance(value, jax.Array) else jnp.asarray(value, jnp.float32)


def decay(name: str, value: Scalar) -> Decay:
    """The Decay of a rate b in [0, 1); a Decay passes through. 1 − b is formed before the value becomes f32."""
    if isinstance(value, Decay):
        return value
    canonical = number(name, value, 0.0, 1.0, open_high=True)
    if isinstance(canonical, Scheduled):
        return Decay(dataclasses.replace(canonical, complement=True))
    if isinstance(value, np.ndarray) and value.ndim:
        return Decay(jnp.asarray(1.0 - value.astype(np.float64), canonical.dtype))
    return Decay(1.0 - canonical)


def flag(name: str, value: object) -> bool:
    """A structural switch: a plain bool, never traced."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__}); pass a plain bool.")
    return bool(value)


def one_of(name: str, value: object, valid: tuple[str, ...]) -> str:
    """A name among the valid ones.

    Raises:
        ValueError: for any other, listing the valid ones.
    """
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, valid))}, got {value!r}; choose one of these.")
    return value


def whole(name: str, value: object, low: int) -> int:
    """A structural count: a plain int ≥ low, never traced."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        array = f"; where arrays are made of arguments, keep it out: static_args=({name!r},)"
        remedy = array if isinstance(value, jax.Array) else "; pass a plain int"
        raise ValueError(f"{name} must be an integer ≥ {low}, got {value!r}{remedy}.")
    return int(value)


def several(name: str, values: object, count: int | None = None, **span: Scalar) -> tuple[Scalar, ...]:
    """Numbers as above, as a tuple.

    Raises:
        TypeError: for what is no tuple or list.
        ValueError: for another count of them.
    """
    if not isinstance(values, (tuple, list)):
        raise TypeError(f"{name} must be a tuple of numbers, got {values!r} ({type(values).__name__}); pass a tuple.")
    if len(values) != (count or len(values)) or not values:
        raise ValueError(f"{name} must be {count or 'some'} numbers, got {len(values)}: {values!r}; pass that many.")
    return tuple(number(name, x, **span) for x in values)


def checked(record: object, **fields: Scalar) -> None:
    """Give fields of a frozen record, from its __post_init__, their canonical form."""
    for name, value in fields.items():
        object.__setattr__(record, name, value)
