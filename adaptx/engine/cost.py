"""What an optimizer will cost, before it costs anything: bytes of every slot, and the least traffic of one step.

Nothing is allocated, and leaves of one kind are counted once: a tree of thousands of leaves takes no longer than its
kinds do.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..base import fields_of
from . import rounding
from .leaf import arithmetic, scalar_dtype
from .state import treatment
from .storage import Shelf, stored_type
from .tree import Leaves

if TYPE_CHECKING:
    from .optimizer import Optimizer


SHORT = {"float32": "f32", "float64": "f64", "bfloat16": "bf16", "float16": "f16"}


@dataclass(frozen=True)
class LeafCost:
    """One trained leaf; sizes in bytes."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    parameter: int
    gradient: int  # of a gradient in the parameter's dtype
    arrays: dict[str, jax.ShapeDtypeStruct | None]  # what is stored of a slot, kept, marked or averaged, by name
    storage: dict[str, str]  # slot -> "f32", "f64", "bf16", "int8"
    decayed: bool
    lr_scale: float | None  # None where it is not one number
    group: str = ""  # of a route

    @property
    def state(self) -> dict[str, int]:
        """Bytes of what lies beside it, by name."""
        return {name: tree_bytes(x) for name, x in self.arrays.items()}

    @property
    def forms(self) -> dict[str, str]:
        """How each of these is stored: slots in order, then what rounding, a controller and a wrapper keep."""
        beside = {name: x for name, x in self.arrays.items() if x is not None and name not in self.storage}
        return self.storage | {name: SHORT.get(str(x.dtype), str(x.dtype)) for name, x in beside.items()}

    @property
    def in_words(self) -> list[str]:
        """The narrow slots that lie in the words of the slot before."""
        narrow = [name for name, kind in self.storage.items() if kind in ("bf16", "int8")]
        lying = {name: self.arrays.get(name) for name in narrow}  # nothing, or the bounds of both
        return [name for name, x in lying.items() if x is None or x.dtype == np.float32]

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


def leaf_costs(opt: "Optimizer", leaves: Leaves) -> list[LeafCost]:
    """The cost of every trained leaf; leaves may hold arrays or ShapeDtypeStructs."""
    treatment(opt, leaves)  # refuses what a layout cannot do
    single = replace(opt, options=replace(opt.options, layout="leaf"))  # what is packed costs what its leaves cost
    how = treatment(single, leaves)
    scales = opt.options.scales(leaves)
    kinds: dict[object, dict[str, jax.ShapeDtypeStruct | None]] = {}
    out = []
    for i, (p, where) in enumerate(zip(leaves.arrays, how.shelves, strict=True)):
        shape, dtype = (
            np.shape(p),
            jax.dtypes.canonicalize_dtype(p.dtype if hasattr(p, "dtype") else jnp.result_type(p)),
        )
        kind = shape, dtype, where
        if kind not in kinds:
            kinds[kind] = arrays_of(opt, how.kept, where, jax.ShapeDtypeStruct(shape, dtype))
        size, scale = tree_bytes(jax.ShapeDtypeStruct(shape, dtype)), 1.0 if scales is None else scales[i]
        full = "f64" if arithmetic(jax.ShapeDtypeStruct(shape, dtype)) == np.float64 else "f32"
        storage = {name: full if form == "f32" else form for name, form in where.kinds().items()}
        factor = float(scale) if isinstance(scale, (int, float)) else None
        out.append(
            LeafCost(leaves.paths[i], shape, str(dtype), size, size, kinds[kind], storage, how.decayed[i], factor)
        )
    return out


def arrays_of(
    opt: "Optimizer", kept: str | None, where: Shelf, p: jax.ShapeDtypeStruct
) -> dict[str, jax.ShapeDtypeStruct | None]:
    """What the state has of one leaf, by name."""
    fine = jax.ShapeDtypeStruct(p.shape, arithmetic(p))
    stored = stored_type(where, fine.shape, fine.dtype)
    out = {name: None if x is None else jax.ShapeDtypeStruct(*x) for name, x in stored.items()}
    if kept is not None:
        out[kept] = (fine if kept == "master" else p) if rounding.is_narrow(p.dtype) else None
    marks = jax.eval_shape(opt.controller.marks, fine)
    return out | dict(zip(fields_of(opt.controller.Marks), marks, strict=True))


def tree_bytes(tree: PyTree) -> int:
    """Bytes of all arrays or abstract arrays of a tree."""
    return sum(int(np.prod(x.shape, dtype=object)) * np.dtype(x.dtype).itemsize for x in jax.tree.leaves(tree))


def scalar_bytes(opt: "Optimizer", leaves: Leaves) -> int:
    """Bytes of what is one number, or one a leaf: counters, the controller's scalars, metrics."""
    controller, each = opt.controller, np.dtype(scalar_dtype(leaves.arrays)).itemsize
    count = len(leaves.trained) if controller.scope == "leaf" else 1
    scalars = sum(int(np.prod(np.shape(x))) for x in controller.start())
    return 8 + 4 * len(opt.metric_names) + each * count * scalars


def table(rows: list[LeafCost]) -> str:
    """A table of leaves: what is trained, by which group, decayed and scaled, and how what lies beside it is stored."""
    head = ("parameter", "shape", "dtype", "group", "decay", "lr ×", "state", "state bytes")
    cells = [
        (
            row.path, "×".join(map(str, row.shape)) or "scalar", row.dtype, row.group, "yes" if row.decayed else "no",
            "traced" if row.lr_scale is None else f"{row.lr_scale:g}",
            " ".join(f"{name}:{kind}" for name, kind in row.forms.items()) or "none", f"{sum(row.state.values()):,}",
        )
        for row in rows
    ]  # fmt: skip
    shown = [i for i, name in enumerate(head) if name != "group" or any(row.group for row in rows)]
    widths = [max(len(cell[i]) for cell in (head, *cells)) for i in range(len(head))]
    lines = ["  ".join(cell[i].ljust(widths[i]) for i in shown) for cell in (head, *cells)]
    return "\n".join(line.rstrip() for line in lines)
