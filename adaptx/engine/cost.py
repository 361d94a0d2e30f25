"""What an optimizer will cost, before it costs anything: bytes of every slot, and the least traffic of one step."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from .leaf import arithmetic
from .options import scale_factors
from .run import treatment
from .tree import take_apart


@dataclass(frozen=True)
class LeafCost:
    """One trained leaf; sizes in bytes."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    parameter: int
    gradient: int  # of a gradient in the parameter's dtype
    state: dict[str, int]  # name of slot, kept array or mark -> bytes
    storage: dict[str, str]  # slot -> "f32", "f64", "bf16", "int8"
    decayed: bool
    lr_scale: float | None  # None where it is not one number

    @property
    def total(self) -> int:
        """Parameter, gradient and state."""
        return self.parameter + self.gradient + sum(self.state.values())

    @property
    def traffic(self) -> int:
        """Bytes one step must move at least."""
        return traffic(self.parameter, self.gradient, self.state)


def traffic(parameter: int, gradient: int, state: dict[str, int]) -> int:
    """Bytes one step must move at least: parameter, gradient and state read, parameter and state written.

    A master copy is read in place of its parameter, and x₀ is never written.
    """
    every = sum(state.values())
    read = gradient + every + (0 if state.get("master") else parameter)
    return read + parameter + every - state.get("x0", 0)


def costs(opt: Any, params: PyTree) -> list[LeafCost]:
    """The cost of every trained leaf; params may be arrays or ShapeDtypeStructs.

    Raises:
        TypeError: unless opt is an adaptx optimizer.
    """
    if not hasattr(opt, "rule"):
        raise TypeError(
            f"costs are known of adaptx optimizers, got {type(opt).__name__}; pass one such as adaptx.adam()."
        )
    opt = replace(opt, options=replace(opt.options, layout="leaf"))  # stacks cost what their leaves cost
    leaves = take_apart(params)
    _, shelves, decays = treatment(opt, leaves)
    state = jax.eval_shape(opt.init, params)
    trees = {**state.slots, **(state.control["marks"] if state.control else {})}
    columns = {name: leaves.treedef.flatten_up_to(tree) for name, tree in trees.items()}
    factors = scale_factors(opt.options, leaves)
    out = []
    for k, (i, path, p, where) in enumerate(zip(leaves.trained, leaves.paths, leaves.arrays, shelves, strict=True)):
        p = jax.eval_shape(lambda p=p: jnp.zeros_like(p))
        full = "f64" if arithmetic(p) == np.float64 else "f32"
        size = int(np.prod(p.shape)) * p.dtype.itemsize
        factor: Any = 1.0 if factors is None else factors[k]
        state_of = {name: tree_bytes(column[i]) for name, column in columns.items()}
        storage_of = {name: full if kind == "f32" else kind for name, _, kind in where.slots}
        scale = float(factor) if isinstance(factor, (int, float)) else None
        out.append(LeafCost(path, p.shape, str(p.dtype), size, size, state_of, storage_of, decays[k], scale))
    return out


def tree_bytes(tree: PyTree) -> int:
    """Bytes of all arrays or abstract arrays of a tree."""
    return sum(int(np.prod(x.shape)) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


def state_bytes(opt: Any, params: PyTree) -> int:
    """Bytes of the state that opt.init(params) makes, scalars included; nothing is allocated."""
    return tree_bytes(jax.eval_shape(opt.init, params))


def table(rows: list[LeafCost]) -> str:
    """A table of leaves: what is trained, decayed and scaled, and how its slots are stored."""
    head = ("parameter", "shape", "dtype", "decay", "lr ×", "slots", "state bytes")
    cells = [
        (
            row.path, "×".join(map(str, row.shape)) or "scalar", row.dtype, "yes" if row.decayed else "no",
            "traced" if row.lr_scale is None else f"{row.lr_scale:g}",
            " ".join(f"{name}:{kind}" for name, kind in row.storage.items()) or "none", f"{sum(row.state.values()):,}",
        )
        for row in rows
    ]  # fmt: skip
    widths = [max(len(cell[i]) for cell in (head, *cells)) for i in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)) for cell in (head, *cells)]
    return "\n".join(line.rstrip() for line in lines)
