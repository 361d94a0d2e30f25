"""What a rule or a controller keeps per parameter, and its bytes in each storage."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adaptx.base import Controller, Rule, fields_of
from adaptx.engine.cost import tree_bytes
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
    """Bytes per parameter of one slot in a storage, lying by itself."""
    slot = rule.declared()[name]
    shape = jax.eval_shape(lambda p: jnp.asarray(rule.initial(name, p)), EXAMPLE).shape if slot.own else EXAMPLE.shape
    alone = Group(storage, (name,), (slot.signed,), shape if slot.own else None)
    where = Shelf((alone,), (name, alone.bound) if storage == "int8" else (name,), (), not slot.own)
    kinds = stored_type(where, EXAMPLE.shape, EXAMPLE.dtype).values()
    return tree_bytes([jax.ShapeDtypeStruct(*kind) for kind in kinds if kind is not None]) / SIDE**2


def marks_of(made: Controller) -> list[Slot]:
    """The marks of a controller; they are f32 whatever the storage."""
    marks = jax.eval_shape(made.marks, EXAMPLE)
    return [
        Slot(name, "", (tree_bytes(mark) / SIDE**2,) * len(NAMES), "")
        for name, mark in zip(fields_of(made.Marks), marks, strict=True)
    ]
