"""What a model and an optimizer take: bytes by part and by leaf, whole and on one of several devices.

On N devices a parameter is split evenly along its first axis that N divides, and replicated where there is none. What
the state keeps of it is split along the same axis, where N divides it there too.
"""

import re
from dataclasses import dataclass

import jax
import numpy as np

import adaptx
from adaptx.engine.cost import LeafCost, traffic, tree_bytes
from adaptx.engine.rounding import KEPT
from adaptx.engine.route import Member, Route
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
    opts: list[adaptx.Optimizer]  # those of a route, or the one

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
        costs, members = opt.costs(leaves), members_of(opt, leaves)
        of = {
            i: (member.opt.options, out)
            for member in members
            for i, out in zip(member.leaves.trained, member.opt.options.excluded(member.leaves), strict=True)
        }
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    made = []
    for i, cost in zip(leaves.trained, costs, strict=True):
        elements, (options, excluded) = int(np.prod(cost.shape)), of[i]
        why = _reason(options.storage_exclude, cost.path, elements) if excluded and options.storage != "f32" else ""
        axis = next((a for a, n in enumerate(cost.shape) if n and n % shards == 0), None) if shards > 1 else None
        made.append(Leaf(cost, elements, axis, _local(cost, axis, shards), why))
    opts = [member.opt for member in members]
    parts = _parts(opts, made, opt.scalar_bytes(leaves))
    return Budget(made, parts, shards, len(leaves.all) - len(leaves.trained), opts)


def members_of(opt: Transformation, leaves: Leaves) -> list[Member]:
    """The optimizers of a route with their leaves, or the one with all."""
    if isinstance(opt, Route):
        return opt.members(leaves)
    assert isinstance(opt, adaptx.Optimizer), "what the constructors of the registry make is one or the other"
    return [Member((), opt, leaves)]


def _local(cost: LeafCost, axis: int | None, shards: int) -> dict[str, int]:
    def share(x: jax.ShapeDtypeStruct | None) -> int:
        cut = x is not None and axis is not None and len(x.shape) > axis and x.shape[axis] % shards == 0
        return tree_bytes(x) // (shards if cut else 1)

    by = 1 if axis is None else shards
    state = {name: share(x) for name, x in cost.arrays.items()}
    return {"parameters": cost.parameter // by, "gradients": cost.gradient // by, **state}


def _parts(opts: list[adaptx.Optimizer], leaves: list[Leaf], scalars: int) -> list[Part]:
    dtypes = ", ".join(dict.fromkeys(leaf.cost.dtype for leaf in leaves))
    parameters = sum(leaf.cost.parameter for leaf in leaves)
    out = [
        Part("parameters", dtypes, parameters, sum(leaf.local["parameters"] for leaf in leaves)),
        Part("gradients", dtypes, parameters, sum(leaf.local["gradients"] for leaf in leaves)),
    ]
    slots = tuple(dict.fromkeys(name for opt in opts for name in opt.rule.slots()))
    rounding = ", ".join(dict.fromkeys(opt.rounding for opt in opts))
    names = dict.fromkeys(name for leaf in leaves for name in leaf.cost.state)
    for name in sorted(names, key=lambda name: slots.index(name) if name in slots else len(slots)):
        stored = dict.fromkeys(leaf.cost.storage[name] for leaf in leaves if name in leaf.cost.storage)
        kind = f"slot, {', '.join(stored)}" if name in slots else "mark of the controller"
        kind = f"kept by rounding={rounding}" if name in KEPT.values() else kind
        size = sum(leaf.cost.state.get(name, 0) for leaf in leaves)
        out.append(Part(name, kind, size, sum(leaf.local.get(name, 0) for leaf in leaves)))
    return [*out, Part("scalars", "step, controller, metrics", scalars, scalars)]


def _reason(exclude: tuple[int | str, ...], path: str, elements: int) -> str:
    """Why a leaf is excluded from narrow storage."""
    least = max((part for part in exclude if not isinstance(part, str)), default=0)
    if elements < least:
        return f"fewer than {least:,} elements"
    hit = next(part for part in exclude if isinstance(part, str) and re.search(part, path))
    return f"path matches {hit!r}"
