"""What a rule or a controller keeps per parameter, and its bytes in each storage."""

from functools import lru_cache
from typing import NamedTuple, get_args

import jax
import numpy as np

from adaptx.base import Controller, Rule, Signed
from adaptx.engine.cost import tree_bytes
from adaptx.engine.storage import NAMES, Shelf

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


@lru_cache
def slot_bytes(signed: bool, storage: str) -> float:
    """Bytes per parameter of one slot in a storage."""
    shelf = Shelf((("x", signed, storage),))
    stored = jax.eval_shape(lambda p: shelf.init(lambda _: 0.0, p, p.dtype), EXAMPLE)
    return tree_bytes(stored) / SIDE**2


def marks_of(made: Controller) -> list[Slot]:
    """The marks of a controller; they are f32 whatever the storage."""
    marks = jax.eval_shape(made.marks, EXAMPLE)
    return [Slot(name, "", (tree_bytes(mark) / SIDE**2,) * len(NAMES), "") for name, mark in marks.items()]
