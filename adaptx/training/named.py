"""The arrays of a training by name, and back."""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import PyTree

from ..engine.tree import is_none, paths
from .digest import rekeyed, unkeyed
from .trees import is_array, split


def named_arrays(params: PyTree, state: PyTree) -> dict[str, Any]:
    """Every array of a training, by where it lies: "params/w", "state/slots/m/w"."""
    out = {}
    for what, tree in (("params", params), ("state", state)):
        for path, x in zip(paths(tree), jax.tree.leaves(tree, is_leaf=is_none), strict=True):
            if is_array(x):
                out[f"{what}/{path}" if path else what] = unkeyed(x)
    return out


def put_back(arrays: Mapping[str, Any], params: PyTree, state: PyTree) -> tuple[list[PyTree], PyTree]:
    """(the parameters' arrays, the state), arrays by name in the places of those that are there; empty ones stay."""
    placed = []
    for what, tree in (("params", params), ("state", state)):
        leaves, treedef = jax.tree.flatten(tree, is_leaf=is_none)
        for i, (path, x) in enumerate(zip(paths(tree), leaves, strict=True)):
            found = arrays.get(f"{what}/{path}" if path else what) if is_array(x) else None
            leaves[i] = x if found is None else rekeyed(found, x)
        placed.append(treedef.unflatten(leaves))
    return split(placed[0])[0], placed[1]
