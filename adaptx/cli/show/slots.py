"""What a rule or a controller keeps per parameter, and its bytes in each storage."""

import math
from typing import NamedTuple

import jax
import numpy as np

from adaptx.base import Rule, fields_of
from adaptx.control import Controller
from adaptx.engine.cost import tree_bytes
from adaptx.engine.shelves import SMALL, own_shape
from adaptx.engine.storage import NAMES, Group, Shelf, stored_type

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
    out, notes, used = [], comments(rule.Slots), rule.slots()
    for name, slot in rule.declared().items():
        each = tuple(slot_bytes(rule, name, storage) for storage in NAMES)
        out.append(
            Slot(name, "both signs" if slot.signed else "never negative", each, notes.get(name, ""), name in used)
        )
    return out


def slot_bytes(rule: Rule, name: str, storage: str) -> float:
    """Bytes per parameter of one slot in a storage, lying by itself; 0 where a matrix has none.

    A slot with a shape of its own may be too small to be stored narrow, and one that is exact never is.
    """
    slot = rule.declared()[name]
    shape = own_shape(rule, name, EXAMPLE) if slot.own else None
    if slot.own and shape is None:
        return 0.0
    kind = "f32" if slot.exact or (shape is not None and math.prod(shape) < SMALL) else storage
    alone = Group(kind, (name,), (slot.signed,), shape)
    where = Shelf((alone,), (name, alone.bound) if kind == "int8" else (name,), (), not slot.own)
    kinds = stored_type(where, EXAMPLE.shape, EXAMPLE.dtype).values()
    return tree_bytes([jax.ShapeDtypeStruct(*kind) for kind in kinds if kind is not None]) / SIDE**2


def marks_of(made: Controller) -> list[Slot]:
    """The marks of a controller; they are f32 whatever the storage."""
    marks = jax.eval_shape(made.marks, EXAMPLE)
    return [
        Slot(name, "", (tree_bytes(mark) / SIDE**2,) * len(NAMES), "")
        for name, mark in zip(fields_of(made.Marks), marks, strict=True)
    ]
