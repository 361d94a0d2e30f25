"""Hyperparameters as values: ranges, decay rates, schedules, dataclasses that compare by content.

How they are checked is in `checks.py`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

Scalar = Any  # a Python, NumPy or JAX number, traced or not, or a schedule of one


def is_traced(x: object) -> bool:
    """Whether x is a tracer: an array whose value is not known yet."""
    return isinstance(x, jax.core.Tracer)  # pyright: ignore[reportAttributeAccessIssue]


def is_concrete(x: object) -> bool:
    """Whether x is one number whose value can be read now (not traced, not a placeholder, not an array of several)."""
    return isinstance(x, (int, float, np.number)) or (
        isinstance(x, (np.ndarray, jax.Array)) and not is_traced(x) and x.ndim == 0
    )


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of numbers; an open end excludes its bound."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def excluded(self, value: Scalar) -> float | None:
        """An element of value outside the range, inf and NaN among them; None where all lie inside."""
        seen = np.asarray(value, np.float64)
        inside = (seen > self.low if self.open_low else seen >= self.low) & np.isfinite(seen)
        inside &= seen < self.high if self.open_high else seen <= self.high
        return None if np.all(inside) else float(seen[~inside][0]) if seen.ndim else float(seen)

    def __str__(self) -> str:
        high = ")" if self.open_high or self.high == math.inf else "]"
        return f"{'(' if self.open_low else '['}{self.low:g}, {self.high:g}{high}"


class Inverse(NamedTuple):
    """What the average of a decay rate b is multiplied by at a step."""

    plain: Array  # 1/(1 − bᵗ)
    root: Array  # its root


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False)
class Decay:
    """A decay rate b carried by its complement c = 1 − b, so that f32 keeps its digits (1 − 0.9999 would lose four)."""

    complement: Scalar  # in (0, 1], no unit
    inverses: tuple[Inverse, ...] = ()  # within a step: of this one, and as many ahead as the rule asks for

    @property
    def rate(self) -> Scalar:
        """The decay rate b = 1 − c itself."""
        return 1.0 - self.complement

    def __eq__(self, other: object) -> bool:
        return same_value(self, other)

    def __hash__(self) -> int:
        return value_hash(self)

    def __repr__(self) -> str:
        if isinstance(self.complement, Scheduled):
            return repr(self.complement)
        return f"{self.rate:.12g}" if is_concrete(self.complement) else f"1-{self.complement!r}"

    def tree_flatten_with_keys(self):
        """One leaf, the complement; within a step its inverses too."""
        key = jax.tree_util.GetAttrKey
        return ((key("complement"), self.complement), (key("inverses"), self.inverses)), None

    @classmethod
    def tree_unflatten(cls, _, children):
        """The inverse of flattening."""
        return cls(*children)


def static(*, default: PyTree) -> PyTree:
    """A dataclass field that is part of the structure (a flag or a name), not a leaf."""
    return dataclasses.field(default=default, metadata={"static": True})


def same_value(a: object, b: object) -> bool:
    """Whether two pytree values have one structure and equal leaves."""
    if type(a) is not type(b):
        return False
    (leaves_a, tree_a), (leaves_b, tree_b) = jax.tree.flatten(a), jax.tree.flatten(b)
    return tree_a == tree_b and all(
        x is y or (np.shape(x) == np.shape(y) and bool(np.all(np.asarray(x) == np.asarray(y))))
        for x, y in zip(leaves_a, leaves_b, strict=True)
    )


def value_hash(a: object) -> int:
    """A hash that agrees with `same_value`, for concrete leaves."""
    leaves, tree = jax.tree.flatten(a)
    return hash((tree, tuple((np.asarray(x, np.float64) + 0.0).tobytes() for x in leaves)))


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
    """A hyperparameter that is a function of the step number, carried as structure."""

    schedule: Callable[[Array], Scalar] = static(default=None)
    name: str = static(default="")  # of the hyperparameter
    span: Range = static(default=Range())
    complement: bool = static(default=False)  # carried as one minus what the schedule gives, as decay rates are

    def __repr__(self) -> str:
        return repr(self.schedule)

    def shown(self, value: Scalar) -> Scalar:
        """What is carried of a value of the schedule, or the value of what is carried."""
        return 1.0 - value if self.complement and not is_scheduled(value) else value

    def at(self, step: Array) -> Scalar:
        """The value at a step.

        Raises:
            TypeError: where the schedule gives anything but one real number.
            ValueError: for a concrete number out of range.
        """
        value = self.schedule(step)
        kind = jnp.result_type(value) if hasattr(value, "dtype") or isinstance(value, (int, float)) else None
        real = kind is not None and any(jnp.issubdtype(kind, x) for x in (jnp.floating, jnp.integer))
        if not real or np.shape(value):
            came = f"{kind} of shape {np.shape(value)}" if hasattr(value, "dtype") else type(value).__name__
            remedy = "call it first" if callable(value) else "return a scalar"
            raise TypeError(
                f"the schedule of {self.name} must give one real number for a step, got {came} from {self.schedule!r}; "
                f"{remedy}."
            )
        came = self.span.excluded(value) if isinstance(value, (int, float, np.number)) else None
        if came is not None:
            raise ValueError(f"the schedule of {self.name} gave {came:g}, expected a number in {self.span}; mend it.")
        return self.shown(value)


@value_class
class Times:
    """The product of two open-loop rates."""

    first: Scalar
    second: Scalar

    def __repr__(self) -> str:
        return f"{self.first!r} * {self.second!r}"


def is_scheduled(x: object) -> bool:
    """Whether x is a number of which only the step decides the value."""
    return isinstance(x, (Scheduled, Times))


def at_step(value: PyTree, step: Array) -> PyTree:
    """value with the numbers of this step in place of all its schedules."""

    def now(x: Scalar) -> Scalar:
        if isinstance(x, Times):
            return now(x.first) * now(x.second)
        return x.at(step) if isinstance(x, Scheduled) else x

    return jax.tree.map(now, value, is_leaf=is_scheduled)


def schedule_names(value: PyTree) -> tuple[str, ...]:
    """The names of the hyperparameters of value that are schedules."""
    found = (x for x in jax.tree.leaves(value, is_leaf=is_scheduled) if isinstance(x, Scheduled))
    return tuple(dict.fromkeys(x.name for x in found))
