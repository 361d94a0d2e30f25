"""What a model and an optimizer take: bytes by part and by leaf, whole and on one of several devices.

On N devices a parameter is split evenly along its first axis that N divides, and replicated where there is none. What
the state keeps of it is split along the same axis, where N divides it there too.
"""

import dataclasses
import re
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np

import adaptx
from adaptx.engine.cost import LeafCost, costs, traffic, tree_bytes
from adaptx.engine.options import excluded_leaves, scale_factors
from adaptx.engine.rounding import KEPT
from adaptx.engine.run import treatment
from adaptx.engine.tree import Leaves

from ..words import InputError

SHARDING = "even split along the first axis that the number of devices divides; replicated where there is none"
Arrays = dict[str, list[jax.ShapeDtypeStruct]]  # what the state keeps of a leaf, by name


class Kind(NamedTuple):
    """What the cost of a leaf depends on."""

    shape: tuple[int, ...]
    dtype: np.dtype
    excluded: bool  # from narrow storage


@dataclass(frozen=True)
class Leaf:
    """One trained leaf."""

    cost: LeafCost
    elements: int
    split: int | None  # the axis split over devices, None where replicated
    local: dict[str, int]  # bytes on one device, of "parameters", "gradients" and every name of cost.state
    why: str  # why its slots stay f32 beside narrow ones, "" where they do not

    @property
    def traffic(self) -> int:
        """Bytes that one step moves at least on one device."""
        kept = {name: size for name, size in self.local.items() if name not in ("parameters", "gradients")}
        return traffic(self.local["parameters"], self.local["gradients"], kept)


@dataclass(frozen=True)
class Part:
    """One row of the sum."""

    name: str
    kind: str  # what it is, and how it is stored
    size: int  # bytes
    local: int  # bytes on one device


@dataclass(frozen=True)
class Budget:
    """All of it."""

    leaves: list[Leaf]  # in the order of the tree
    parts: list[Part]
    shards: int
    untrained: int  # leaves that are carried along

    @property
    def elements(self) -> int:
        """Number of trained parameters."""
        return sum(leaf.elements for leaf in self.leaves)

    @property
    def traffic(self) -> int:
        """Bytes that one step moves at least, on one device."""
        return sum(leaf.traffic for leaf in self.leaves)

    @property
    def whole_traffic(self) -> int:
        """The same with nothing split nor replicated."""
        return sum(leaf.cost.traffic for leaf in self.leaves)


def budget(opt: adaptx.Optimizer, leaves: Leaves, shards: int) -> Budget:
    """The budget of a model under an optimizer on so many devices; shapes only, nothing is allocated.

    Leaves of one shape, dtype and storage cost the same, so that one of each kind is worked out.

    Raises:
        InputError: where an option does not fit the model, such as a pattern that matches no path.
    """
    options = opt.options
    try:
        # what refuses these leaves is to do so here, by their own paths
        treatment(opt, leaves)
        scale_factors(options, leaves)
        narrow = options.storage != "f32"
        out = excluded_leaves(options.storage_exclude, leaves) if narrow else [False] * len(leaves.trained)
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    kinds = [Kind(p.shape, p.dtype, excluded) for p, excluded in zip(leaves.arrays, out, strict=True)]
    names = {kind: f"{'excluded' if kind.excluded else 'leaf'}{i}" for i, kind in enumerate(dict.fromkeys(kinds))}
    known, scalars = _known(opt, names, len(kinds))
    made = []
    for path, kind in zip(leaves.paths, kinds, strict=True):
        cost, arrays = known[names[kind]]
        elements = int(np.prod(kind.shape))
        why = _reason(options.storage_exclude, path, elements) if kind.excluded else ""
        axis = next((a for a, n in enumerate(kind.shape) if n and n % shards == 0), None) if shards > 1 else None
        local = _local(cost, arrays, axis, shards)
        made.append(Leaf(dataclasses.replace(cost, path=path), elements, axis, local, why))
    return Budget(made, _parts(opt, made, scalars), shards, len(leaves.all) - len(leaves.trained))


def _known(opt: adaptx.Optimizer, names: dict[Kind, str], count: int) -> tuple[dict[str, tuple[LeafCost, Arrays]], int]:
    """Per kind of leaf its cost and the arrays of its state by name; and the bytes of all scalars with count leaves."""
    exclude = ("^excluded",) if any(kind.excluded for kind in names) else (0,)
    options = dataclasses.replace(
        opt.options, storage_exclude=exclude, decay_mask=None, lr_scale=None, lr_scale_function=None, layout="leaf"
    )
    opt = dataclasses.replace(opt, options=options)
    tree = {name: jax.ShapeDtypeStruct(kind.shape, kind.dtype) for kind, name in names.items()}
    state = jax.eval_shape(opt.init, tree)
    control = state.control or {"scalars": {}, "marks": {}}
    columns = {**state.slots, **control["marks"]}
    arrays = {name: {key: jax.tree.leaves(column[name]) for key, column in columns.items()} for name in tree}
    per_leaf = opt.controller is not None and opt.controller.scope == "leaf"  # then scalars have an entry per leaf
    rates = tree_bytes(control["scalars"]) // (len(names) if per_leaf else 1) * (count if per_leaf else 1)
    known = {row.path: (row, arrays[row.path]) for row in costs(opt, tree)}
    return known, tree_bytes(state.step) + tree_bytes(state.metrics) + rates


def _local(cost: LeafCost, arrays: Arrays, axis: int | None, shards: int) -> dict[str, int]:
    def share(x: jax.ShapeDtypeStruct) -> int:
        cut = axis is not None and len(x.shape) > axis and x.shape[axis] % shards == 0
        return tree_bytes(x) // (shards if cut else 1)

    by = 1 if axis is None else shards
    state = {name: sum(map(share, parts)) for name, parts in arrays.items()}
    return {"parameters": cost.parameter // by, "gradients": cost.gradient // by, **state}


def _parts(opt: adaptx.Optimizer, leaves: list[Leaf], scalars: int) -> list[Part]:
    dtypes = ", ".join(dict.fromkeys(leaf.cost.dtype for leaf in leaves))
    parameters = sum(leaf.cost.parameter for leaf in leaves)
    out = [
        Part("parameters", dtypes, parameters, sum(leaf.local["parameters"] for leaf in leaves)),
        Part("gradients", dtypes, parameters, sum(leaf.local["gradients"] for leaf in leaves)),
    ]
    slots = tuple(opt.rule.slot_kinds())
    names = dict.fromkeys(name for leaf in leaves for name in leaf.cost.state)
    for name in sorted(names, key=lambda name: slots.index(name) if name in slots else len(slots)):
        stored = dict.fromkeys(leaf.cost.storage[name] for leaf in leaves if name in leaf.cost.storage)
        kind = f"slot, {', '.join(stored)}" if name in slots else "mark of the controller"
        kind = f"kept by rounding={opt.rounding}" if name in KEPT.values() else kind
        size = sum(leaf.cost.state[name] for leaf in leaves)
        out.append(Part(name, kind, size, sum(leaf.local[name] for leaf in leaves)))
    return [*out, Part("scalars", "step, controller, metrics", scalars, scalars)]


def _reason(exclude: tuple[int | str, ...], path: str, elements: int) -> str:
    """Why a leaf is excluded from narrow storage."""
    least = max((part for part in exclude if not isinstance(part, str)), default=0)
    if elements < least:
        return f"fewer than {least:,} elements"
    hit = next(part for part in exclude if isinstance(part, str) and re.search(part, path))
    return f"path matches {hit!r}"
