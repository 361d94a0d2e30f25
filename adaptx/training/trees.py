"""Parameters as arrays and everything else: leaves that are no arrays (functions, strings, None) are carried along."""

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..engine.tree import Frozen, is_none, strong


def split(params: PyTree) -> tuple[list[PyTree], Frozen]:
    """(the leaves with None for those that are not arrays, everything else as a hashable value)."""
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    arrays = [strong(x) if is_array(x) else None for x in leaves]
    return arrays, Frozen((treedef, [None if is_array(x) else x for x in leaves]))


def join(arrays: list[PyTree], rest: Frozen) -> PyTree:
    """The inverse of split."""
    treedef, others = rest.tree
    return treedef.unflatten([o if a is None else a for a, o in zip(arrays, others, strict=True)])


def is_array(x: object) -> bool:
    """Whether x is data; anything else (Python ints too: they may be shapes) is structure."""
    return isinstance(x, float) or (hasattr(x, "dtype") and hasattr(x, "shape"))


def without(rest: Frozen) -> Frozen:
    """The structure alone, None in place of what is not an array."""
    treedef, others = rest.tree
    return Frozen((treedef, [None] * len(others)))


def merged(trained: list[PyTree], arrays: list[PyTree]) -> list[PyTree]:
    """Arrays, those that are trained as they come."""
    return [a if t is None else t for t, a in zip(trained, arrays, strict=True)]


def unshared(state: PyTree) -> PyTree:
    """The state with a copy of every array that it holds a second time, as no buffer can be donated twice."""
    leaves, treedef = jax.tree.flatten(state)
    if len({id(x) for x in leaves}) == len(leaves):
        return state
    seen: set[int] = set()
    once = [jnp.copy(x) if isinstance(x, jax.Array) and (id(x) in seen or seen.add(id(x))) else x for x in leaves]
    return jax.tree.unflatten(treedef, once)
