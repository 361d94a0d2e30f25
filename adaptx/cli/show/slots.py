"""What a rule or a controller keeps per parameter, and its bytes in each storage."""

from typing import Any, NamedTuple, get_args

import jax
import numpy as np

from adaptx.base import Controller, Rule, Signed
from adaptx.engine.cost import tree_bytes
from adaptx.engine.storage import NAMES, Shelf, stored_type

from .source import comments

SIDE = 1024  # of the matrix that bytes per parameter are counted on
EXAMPLE = jax.ShapeDtypeStruct((SIDE, SIDE), np.float32)


class Slot(NamedTuple):
    """A slot of a rule, or a mark of a controller."""

    name: str
    sign: str
    bytes: tuple[float, ...]  # per parameter, in each of NAMES
    meaning: str
    used: bool = True  # with the default flags


def slots_of(rule: Rule) -> list[Slot]:
    """The slots of a rule, those that its flags leave out too."""
    out, notes, kinds = [], comments(rule.Slots), rule.slot_kinds()
    for name, hint in rule.Slots.__annotations__.items():
        signed = Signed in (hint, *get_args(hint))
        each = tuple(slot_bytes(signed, storage) for storage in NAMES)
        sign = "both signs" if signed else "never negative"
        out.append(Slot(name, sign, each, notes.get(name, ""), name in kinds))
    return out


def slot_bytes(signed: bool, storage: str) -> float:
    """Bytes per parameter of one slot in a storage."""
    stored = stored_type(Shelf((("x", signed, storage),)), EXAMPLE.shape, EXAMPLE.dtype)
    arrays = jax.tree.map(lambda pair: jax.ShapeDtypeStruct(*pair), stored, is_leaf=_is_pair)
    return tree_bytes(arrays) / SIDE**2


def _is_pair(x: Any) -> bool:
    return type(x) is tuple and len(x) == 2 and isinstance(x[1], np.dtype)


def marks_of(made: Controller) -> list[Slot]:
    """The marks of a controller; they are f32 whatever the storage."""
    marks = jax.eval_shape(made.marks, EXAMPLE)
    return [Slot(name, "", (tree_bytes(mark) / SIDE**2,) * len(NAMES), "") for name, mark in marks.items()]
