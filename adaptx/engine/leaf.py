"""What a step of one array is given and gives: structure, what all leaves share, what lies at this one.

The dtypes of its arithmetic, and slots as a rule has them or by name. What a controller sees of it is `control.Leaf`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, DTypeLike, PyTree

from ..base import Record, Rule
from ..control import Controller, Tick
from ..values import Scalar
from .extras import Extras
from .storage import Shelf, Slots, Stored

SINGLE, DOUBLE = np.dtype("float32"), np.dtype("float64")


class LeafPlan(NamedTuple):
    """What of one leaf's step is structure: equal plans on one shape are traced once."""

    storage: Shelf
    decay: str | None  # decay_mode, or None for a leaf that is not decayed
    rounding: str
    dtype: DTypeLike  # of the arithmetic
    fused: bool  # a new parameter instead of an update
    debias: bool  # whether bias corrections are the rule's


class Share(NamedTuple):
    """What all leaves of one dtype have in common in a step; numbers in that dtype, None where unused."""

    rule: Rule
    controller: Controller
    tick: Tick
    weight_decay: Scalar  # None where nothing decays
    clip: Array | None
    step: Array  # int32, 1-based
    turn: Array  # uint32, the same but where the counter has stopped; for the random bits
    good: Array | None  # whether the step counts
    extras: Extras | None  # options that change g or d


class Place(NamedTuple):
    """Everything that lies at one leaf."""

    p: Array
    kept: Array | None  # by the rounding
    slots: Stored
    marks: Record  # the controller's `Marks`
    scale: Array | None  # factor on the displacement
    extra: dict[str, Array | None]  # the arguments the rule requires
    leaf: Scalar  # its number, for the random bits


class Observed(NamedTuple):
    """What one leaf's measurement leaves for its move."""

    g: Array
    d: Array | None  # None where the direction waits for the updated scalars
    slots: Stored
    marks: Record


class Moved(NamedTuple):
    """One leaf after its step."""

    out: Array  # the new parameter, or the update
    kept: Array | None
    slots: Stored
    marks: Record


def arithmetic(p: Scalar) -> DTypeLike:
    """The dtype of the arithmetic on a leaf and of its full-precision slots: f32, or f64 for f64 parameters."""
    kind = p.dtype if hasattr(p, "dtype") else jnp.result_type(p)
    return jax.dtypes.canonicalize_dtype(kind) if kind == DOUBLE else SINGLE


def cast(tree: PyTree, dtype: DTypeLike) -> PyTree:
    """A value with its numbers in a dtype; counts and truth values stay."""

    def one(x: Scalar) -> Scalar:
        whole = hasattr(x, "dtype") and not jnp.issubdtype(x.dtype, jnp.floating)
        return x if whole else lax.convert_element_type(x, dtype)

    return jax.tree.map(one, tree)


def scalar_dtype(arrays: Sequence[Array]) -> DTypeLike:
    """The dtype of a controller's scalars: f32, or f64 where a parameter is f64."""
    return jnp.result_type(jnp.float32, *(arithmetic(p) for p in arrays))


def record(rule: Rule, slots: Slots) -> Record:
    """The slot tuple a rule reads, None at slots its flags leave out."""
    fields: PyTree = rule.Slots
    return fields(**{name: slots.get(name) for name in fields._fields})


def named(slots: Record) -> Slots:
    """The inverse of `record`."""
    return {name: x for name, x in slots._asdict().items() if x is not None}
