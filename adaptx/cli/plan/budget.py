"""What a model and an optimizer take: bytes by part and by leaf, whole and on one of several devices.

On N devices a parameter is split evenly along its first axis that N divides, and replicated where there is none. What
the state keeps of it is split along the same axis, where N divides it there too.
"""

import re
from dataclasses import dataclass

import jax
import numpy as np

from adaptx import Optimizer
from adaptx.engine.cost import LeafCost, traffic, tree_bytes
from adaptx.engine.rounding import KEPT
from adaptx.engine.route import Route
from adaptx.engine.transformation import Transformation
from adaptx.engine.tree import Leaves

from ..words import InputError

SHARDING = "even split along the first axis that the number of devices divides; replicated where there is none"


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
    opts: list[Optimizer]  # the one of all leaves, or those of a route

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


def budget(opt: Transformation, leaves: Leaves, shards: int) -> Budget:
    """The budget of a model under an optimizer on so many devices; shapes only, nothing is allocated.

    Raises:
        InputError: where an option does not fit the model, such as a pattern that matches no path.
    """
    try:
        costs, whys, opts = opt.costs(leaves), {}, []
        for one, some in _members(opt, leaves):
            opts.append(one)
            whys |= _reasons(one, some)
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    made = []
    for cost in costs:
        elements, why = int(np.prod(cost.shape)), whys.get(cost.path, "")
        axis = next((a for a, n in enumerate(cost.shape) if n and n % shards == 0), None) if shards > 1 else None
        made.append(Leaf(cost, elements, axis, _local(cost, axis, shards), why))
    parts = _parts(opts, made, opt.scalar_bytes(leaves))
    return Budget(made, parts, shards, len(leaves.all) - len(leaves.trained), opts)


def _members(opt: Transformation, leaves: Leaves) -> list[tuple[Optimizer, Leaves]]:
    """Every optimizer with its leaves: one, or those of a route."""
    if isinstance(opt, Route):
        return [(member.opt, member.leaves) for member in opt.members(leaves)]
    return [(opt, leaves)] if isinstance(opt, Optimizer) else []


def _local(cost: LeafCost, axis: int | None, shards: int) -> dict[str, int]:
    def share(x: jax.ShapeDtypeStruct | None) -> int:
        cut = x is not None and axis is not None and len(x.shape) > axis and x.shape[axis] % shards == 0
        return tree_bytes(x) // (shards if cut else 1)

    by = 1 if axis is None else shards
    state = {name: share(x) for name, x in cost.arrays.items()}
    return {"parameters": cost.parameter // by, "gradients": cost.gradient // by, **state}


def _parts(opts: list[Optimizer], leaves: list[Leaf], scalars: int) -> list[Part]:
    dtypes = ", ".join(dict.fromkeys(leaf.cost.dtype for leaf in leaves))
    parameters = sum(leaf.cost.parameter for leaf in leaves)
    out = [
        Part("parameters", dtypes, parameters, sum(leaf.local["parameters"] for leaf in leaves)),
        Part("gradients", dtypes, parameters, sum(leaf.local["gradients"] for leaf in leaves)),
    ]
    slots = tuple(dict.fromkeys(name for opt in opts for name in opt.rule.slots()))
    rounding = next((opt.rounding for opt in opts if opt.rounding != "nearest"), "nearest")
    names = dict.fromkeys(name for leaf in leaves for name in leaf.cost.state)
    for name in sorted(names, key=lambda name: slots.index(name) if name in slots else len(slots)):
        stored = dict.fromkeys(leaf.cost.storage[name] for leaf in leaves if name in leaf.cost.storage)
        kind = f"slot, {', '.join(stored)}" if name in slots else "mark of the controller"
        kind = f"kept by rounding={rounding}" if name in KEPT.values() else kind
        size = sum(leaf.cost.state.get(name, 0) for leaf in leaves)
        out.append(Part(name, kind, size, sum(leaf.local.get(name, 0) for leaf in leaves)))
    return [*out, Part("scalars", "step, controller, metrics", scalars, scalars)]


def _reasons(opt: Optimizer, leaves: Leaves) -> dict[str, str]:
    """Path -> why a leaf is excluded from narrow storage, of those that are."""
    options = opt.options
    if options.storage == "f32":
        return {}
    rows = zip(leaves.paths, leaves.arrays, options.excluded(leaves), strict=True)
    return {path: _reason(options.storage_exclude, path, int(np.prod(p.shape))) for path, p, out in rows if out}


def _reason(exclude: tuple[int | str, ...], path: str, elements: int) -> str:
    """Why a leaf is excluded from narrow storage."""
    least = max((part for part in exclude if not isinstance(part, str)), default=0)
    if elements < least:
        return f"fewer than {least:,} elements"
    hit = next(part for part in exclude if isinstance(part, str) and re.search(part, path))
    return f"path matches {hit!r}"
