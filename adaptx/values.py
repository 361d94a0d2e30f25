"""Hyperparameters as values: canonical numbers, decay rates, open-loop rates, dataclasses that compare by content."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

Scalar = Any  # a Python, NumPy or JAX number, traced or not


def is_traced(x: Any) -> bool:
    """Whether x is a tracer: an array whose value is not known yet."""
    return isinstance(x, jax.core.Tracer)  # pyright: ignore[reportAttributeAccessIssue]


def is_concrete(x: Any) -> bool:
    """Whether x is one number whose value can be read now (not traced, not a placeholder, not an array of several)."""
    return isinstance(x, (int, float, np.number)) or (
        isinstance(x, (np.ndarray, jax.Array)) and not is_traced(x) and x.ndim == 0
    )


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, open_low=False, open_high=False):
    """A hyperparameter in canonical form: a Python float, or an f32 array where an array came.

    Raises:
        TypeError: for anything that is not a real number.
        ValueError: for a concrete value that is NaN or outside [low, high] (an open end excludes its bound).
    """
    if isinstance(value, (bool, np.bool_, str)) or not (hasattr(value, "dtype") or isinstance(value, (int, float))):
        raise TypeError(f"{name} must be a real number, got {value!r} ({type(value).__name__}); pass a float.")
    value = float(value) if isinstance(value, (int, float)) else _canonical(name, value)
    if not is_traced(value):
        seen = np.asarray(value, np.float64)
        inside = (seen > low if open_low else seen >= low) & (seen < high if open_high else seen <= high)
        if not np.all(inside):
            ends = "(" if open_low else "[", ")" if open_high or high == math.inf else "]"
            came = float(seen[~inside][0]) if seen.ndim else float(seen)
            raise ValueError(
                f"{name} must lie in {ends[0]}{low:g}, {high:g}{ends[1]}, got {came:g}; choose a value in that range."
            )
    return value


def _canonical(name: str, value: Any) -> Any:
    """An array hyperparameter: NumPy scalars as Python floats, jax arrays in f32 or f64."""
    if not (jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)):
        raise TypeError(f"{name} must be a real number, got an array of {value.dtype}; pass a float.")
    if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0:
        return float(value)
    return value if value.dtype == jnp.float64 and isinstance(value, jax.Array) else jnp.asarray(value, jnp.float32)


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False)
class Decay:
    """A decay rate b carried by its complement c = 1 − b, so that f32 keeps its digits (1 − 0.9999 would lose four)."""

    complement: Scalar  # in (0, 1], no unit
    inverses: tuple[Scalar, Scalar] | None = None  # 1/(1 − bᵗ) at this step and the next, once the engine formed them

    @property
    def rate(self) -> Scalar:
        """The decay rate b = 1 − c itself."""
        return 1.0 - self.complement

    def __eq__(self, other: object) -> bool:
        return same_value(self, other)

    def __hash__(self) -> int:
        return value_hash(self)

    def __repr__(self) -> str:
        return f"{self.rate:.12g}" if is_concrete(self.complement) else f"1-{self.complement!r}"

    def tree_flatten_with_keys(self):
        """One leaf, the complement; within a step the two inverses too."""
        key = jax.tree_util.GetAttrKey
        return ((key("complement"), self.complement), (key("inverses"), self.inverses)), None

    @classmethod
    def tree_unflatten(cls, _, children):
        """The inverse of flattening."""
        return cls(*children)


def decay(name: str, value: Any) -> Decay:
    """The Decay of a rate b in [0, 1); a Decay passes through. 1 − b is formed before the value becomes f32."""
    if isinstance(value, Decay):
        return value
    canonical = number(name, value, 0.0, 1.0, open_high=True)
    if isinstance(value, np.ndarray) and value.ndim:
        return Decay(jnp.asarray(1.0 - value.astype(np.float64), canonical.dtype))
    return Decay(1.0 - canonical)


def flag(name: str, value: Any) -> bool:
    """A structural switch: a plain bool, never traced."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r} ({type(value).__name__}); it cannot be traced.")
    return bool(value)


def static(*, default: Any) -> Any:
    """A dataclass field that is part of the structure (a flag or a name), not a leaf."""
    return dataclasses.field(default=default, metadata={"static": True})


def same_value(a: Any, b: Any) -> bool:
    """Whether two pytree values have one structure and equal leaves."""
    if type(a) is not type(b):
        return False
    (leaves_a, tree_a), (leaves_b, tree_b) = jax.tree.flatten(a), jax.tree.flatten(b)
    return tree_a == tree_b and all(
        x is y or (np.shape(x) == np.shape(y) and bool(np.all(np.asarray(x) == np.asarray(y))))
        for x, y in zip(leaves_a, leaves_b, strict=True)
    )


def value_hash(a: Any) -> int:
    """A hash that agrees with `same_value`, for concrete leaves."""
    leaves, tree = jax.tree.flatten(a)
    return hash((tree, tuple(np.asarray(x, np.float64).tobytes() for x in leaves)))


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, static))
def value_class(cls):
    """Class decorator: a frozen dataclass that is a pytree of its numeric fields, compares and hashes by value."""
    cls = dataclasses.dataclass(frozen=True, eq=False)(cls)
    cls.__eq__ = same_value
    cls.__hash__ = value_hash
    fixed = [f.name for f in dataclasses.fields(cls) if f.metadata.get("static")]
    numeric = [f.name for f in dataclasses.fields(cls) if f.name not in fixed]

    def flatten(x):
        keyed = [(jax.tree_util.GetAttrKey(name), getattr(x, name)) for name in numeric]
        return keyed, tuple(getattr(x, name) for name in fixed)

    def unflatten(structure, children):
        # past __init__: the leaves may be placeholders, axes or cotangents, which no range check should see
        x = cls.__new__(cls)
        for name, value in zip(numeric + fixed, (*children, *structure), strict=True):
            object.__setattr__(x, name, value)
        return x

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls


@value_class
class Scheduled:
    """An open-loop rate: a function of the step number, carried as structure."""

    schedule: Callable[[Array], Array] = static(default=None)

    def __repr__(self) -> str:
        return repr(self.schedule)


@value_class
class Times:
    """The product of two open-loop rates."""

    first: Any
    second: Any

    def __repr__(self) -> str:
        return f"{self.first!r} * {self.second!r}"


def open_loop(name: str, value: Any, low: float = 0.0) -> Any:
    """An open-loop rate in canonical form: a number ≥ low, or a schedule `step -> value`."""
    if isinstance(value, (Scheduled, Times)):
        return value
    if not callable(value):
        return number(name, value, low)
    schedule: Any = value
    return Scheduled(schedule)


def rate_at(rate: Any, step: Array) -> Any:
    """The value of an open-loop rate at a step."""
    if isinstance(rate, Times):
        return rate_at(rate.first, step) * rate_at(rate.second, step)
    return rate.schedule(step) if isinstance(rate, Scheduled) else rate


def one_of(name: str, value: Any, valid: tuple[str, ...]) -> str:
    """A name among the valid ones.

    Raises:
        ValueError: for any other, listing the valid ones.
    """
    if not isinstance(value, str) or value not in valid:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, valid))}, got {value!r}; choose one of these.")
    return value


def whole(name: str, value: Any, low: int) -> int:
    """A structural count: a plain int ≥ low, never traced."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(f"{name} must be an integer ≥ {low}, got {value!r}; pass a plain int.")
    return int(value)


def checked(record: Any, **fields: Any) -> None:
    """Give fields of a frozen record, from its __post_init__, their canonical form."""
    for name, value in fields.items():
        object.__setattr__(record, name, value)
