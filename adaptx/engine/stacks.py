"""A function of `array.py` on every leaf of a part: leaf by leaf, or leaves of one kind as one stack.

A rule that `batches` looks at whole arrays, in many operations one after another: matrix products, factorizations.
Leaves of one kind are stacked along a new first axis, which `jax.vmap` hides from the rule, and each operation is one
for all: a twelfth of the products and a quarter of the operations of twelve leaves, a quarter of the collectives of
four sharded ones. A stack is a copy (one and a half times the leaves more in temporaries), and large matrices fill a
device one by one: no stack has more elements than `MOST`.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, PyTree

from .array import calls
from .leaf import LeafPlan, Share

MOST = 1 << 24  # elements of a stack: 64 MiB in f32
Row = tuple[PyTree, ...]  # the arguments of one leaf


def on_leaves(
    function: Callable[..., PyTree],
    plan: Sequence[LeafPlan],
    shares: dict[DTypeLike, Share],
    gs: Sequence[Array | None],
    rows: Sequence[Row],
    *,
    stacked: bool,
) -> list[PyTree]:
    """function(plan, share, *row) of every leaf; None for a leaf without a gradient."""
    out: list[PyTree] = [None] * len(plan)
    each = calls(plan, gs, function)
    for group in _groups(plan, gs, rows, stacked):
        first, share = group[0], shares[plan[group[0]].dtype]
        if len(group) == 1:
            out[first] = each[first](plan[first], share, *rows[first])
        else:
            found = _together(partial(function, plan[first], share), [rows[i] for i in group])
            for i, one in zip(group, found, strict=True):
                out[i] = one
    return out


def _groups(
    plan: Sequence[LeafPlan], gs: Sequence[Array | None], rows: Sequence[Row], stacked: bool
) -> list[tuple[int, ...]]:
    """The leaves with a gradient in groups of one kind: equal plans, and arguments of equal types that lie alike."""
    here = [i for i, g in enumerate(gs) if g is not None]
    if not stacked:
        return [(i,) for i in here]
    kinds: dict[Hashable, list[int]] = {}
    for i in here:
        leaves, treedef = jax.tree.flatten(rows[i])
        kinds.setdefault((plan[i], treedef, *map(jax.typeof, leaves)), []).append(i)
    groups = []
    for kind in kinds.values():
        size = int(np.prod(gs[kind[0]].shape))  # pyright: ignore[reportOptionalMemberAccess]
        most = max(1, MOST // max(1, size))
        groups += [tuple(kind[i : i + most]) for i in range(0, len(kind), most)]
    return groups


def _together(function: Callable[..., PyTree], rows: list[Row]) -> list[PyTree]:
    """function(*row) of every row, in one call on their stack; what all rows share is not stacked."""
    columns = list(zip(*map(jax.tree.leaves, rows), strict=True))
    axes = [None if all(x is column[0] for x in column) else 0 for column in columns]
    stack = [column[0] if axis is None else jnp.stack(column) for axis, column in zip(axes, columns, strict=True)]
    treedef = jax.tree.structure(rows[0])
    found = jax.vmap(lambda *leaves: function(*treedef.unflatten(leaves)), in_axes=axes)(*stack)
    return [jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(rows))]
