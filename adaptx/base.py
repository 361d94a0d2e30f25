"""The nouns of adaptx: what a rule is, what it sees, what it declares. No mathematics.

A rule is written on one array. It declares its slots as a NamedTuple whose annotations look like types and act as
storage declarations: `Signed` takes both signs, `Unsigned` is never negative, and from that alone the storage decides
how a slot lies in memory. A rule never multiplies by the learning rate, never casts, never sees a tree.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, dataclass_transform, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

Signed = Annotated[Array, "takes both signs"]
Unsigned = Annotated[Array, "never negative"]
Scalar = Any  # a Python, NumPy or JAX number, traced or not


class Clock(NamedTuple):
    """What a rule may know of time and rate, as scalars of the arithmetic dtype."""

    t: Scalar  # 1-based number of this step
    lr: Scalar  # the learning rate this step uses; 1 where only a direction is asked for


class State(NamedTuple):
    """The state of an adaptx optimizer, every entry under a stable name."""

    step: Array  # int32, updates taken so far, saturating
    slots: dict[str, PyTree]  # name -> tree like the parameters, None at leaves that are not trained
    control: PyTree  # the controller's state, () for open-loop rates
    metrics: dict[str, Array]  # name -> f32 scalar, as the last update left it


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False)
class Decay:
    """A decay rate b carried by its complement c = 1 − b, so that f32 keeps its digits (1 − 0.9999 would lose four)."""

    complement: Scalar  # in (0, 1], no unit

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
        """One leaf, the complement."""
        return ((jax.tree_util.GetAttrKey("complement"), self.complement),), None

    @classmethod
    def tree_unflatten(cls, _, children):
        """The inverse of flattening."""
        return cls(*children)


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
        x = object.__new__(cls)
        for name, value in zip(numeric + fixed, (*children, *structure), strict=True):
            object.__setattr__(x, name, value)
        return x

    jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
    return cls


class Rule(ABC):
    """Base of all rules: an adaptive step on one array.

    A subclass is a `value_class` that names its slots in `Slots`, its source in `reference`, and writes two functions:
    `advance(g, s, p, k)`, how the slots move, and `direction(g, s, old, p, k)`, the d of p ← p − lr·d read off the new
    slots s (and, for a few rules, the old ones). g, s, p are arrays of one shape in f32 or f64; k is the Clock.
    """

    Slots: ClassVar[type]  # NamedTuple of Signed and Unsigned
    pointwise: ClassVar[bool] = True  # commutes with concatenation: element i sees nothing but element i
    reads_params: ClassVar[bool] = False  # whether advance or direction looks at p
    reference: ClassVar[str] = ""  # arXiv number or citation

    def unused(self) -> tuple[str, ...]:
        """Slots that the present flags leave out; they are None in `s` and take no memory."""
        return ()

    def slot_kinds(self) -> Mapping[str, bool]:
        """Name -> whether the slot takes both signs, in order, of the slots in use."""
        hints = self.Slots.__annotations__
        used = [name for name in self.Slots._fields if name not in self.unused()]
        return {name: Signed in (hints[name], *get_args(hints[name])) for name in used}

    def initial(self, name: str) -> Scalar:
        """The value every element of a fresh slot has."""
        del name
        return 0.0

    @abstractmethod
    def advance(self, g, s, p, k) -> Any:
        """The slots after seeing gradient g."""

    @abstractmethod
    def direction(self, g, s, old, p, k) -> Any:
        """The direction d of p ← p − lr·d."""
