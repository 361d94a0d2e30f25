"""Small leaves packed together: within a step (`layout="packed"`), or as a model that is a vector from the start.

"leaf"      an array per leaf; the state is a tree like the parameters
"packed"    small leaves of one dtype and treatment as one vector, larger ones as they are

Joined leaves mean fewer, larger loops in a step and more to compile; benchmarks/layout.py says when it pays. Their
state is kept joined, under names such as 'float32[small]'. Pointwise rules only.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree
from jaxtyping import Array, PyTree

from ..base import Rule
from ..control import Controller
from .tree import Leaves, shortened, take_apart

LAYOUTS = ("leaf", "packed")
SMALL = 1 << 15  # leaves with fewer elements are packed


@dataclass(frozen=True)
class Packed(Leaves):
    """Small leaves of one dtype and treatment as one vector, larger ones as they are."""

    groups: dict[str, tuple[int, ...]] = field(default_factory=dict)  # label -> positions among the trained leaves

    @property
    def names(self) -> list[str]:
        """What to call each array in an error."""
        return list(self.groups)

    @property
    def shelved(self) -> str:
        """What a tree of the state is like, in words."""
        return f"the joined arrays of layout='packed', {shortened(self.names)}"

    def gather(self, values: list[PyTree]) -> list[PyTree]:
        """Per-leaf arrays as the arrays a rule sees.

        Raises:
            ValueError: where a packed leaf has no gradient.
        """
        for label, group in self.groups.items():
            absent = [i for i in group if values[i] is None]
            if absent and len(group) > 1:
                raise ValueError(
                    f"layout='packed' needs a gradient for every leaf of {label!r}, got None for "
                    f"'{self.paths[absent[0]]}'; use layout='leaf', or give zeros."
                )
        return [
            values[group[0]] if len(group) == 1 else jnp.concatenate([jnp.reshape(values[i], -1) for i in group])
            for group in self.groups.values()
        ]

    def scatter(self, arrays: list[PyTree]) -> list[PyTree]:
        """The inverse of gather."""
        out: list[PyTree] = [None] * len(self.trained)
        for group, array in zip(self.groups.values(), arrays, strict=True):
            for i, part in zip(group, self._cut(group, array) if len(group) > 1 else [array], strict=True):
                out[i] = part
        return out

    def pick(self, settings: Sequence[Hashable]) -> list[PyTree]:
        """A setting that is equal within every array, per array."""
        return [settings[group[0]] for group in self.groups.values()]

    def factors(self, factors: Sequence[PyTree]) -> list[PyTree]:
        """Per-leaf factors, per array: a factor for every element of a packed one."""
        return [
            factors[group[0]]
            if len(group) == 1
            else jnp.concatenate([jnp.full(self.sizes[i], jnp.asarray(factors[i], jnp.float32)) for i in group])
            for group in self.groups.values()
        ]

    def shelve(self, column: list[PyTree]) -> ArrayTree:
        """The state tree of one name from its arrays; without leaves the tree itself, as optax looks for it."""
        return dict(zip(self.groups, column, strict=True)) if self.groups else super().shelve(column)

    def column(self, tree: PyTree) -> list[PyTree]:
        """The inverse of shelve.

        Raises:
            ValueError: where the tree was not made by this layout.
        """
        if self.groups and (not isinstance(tree, dict) or set(tree) != set(self.groups)):
            raise ValueError(f"expected {sorted(self.groups)}")
        return [tree[label] for label in self.groups]

    @cached_property
    def sizes(self) -> list[int]:
        """Elements of every trained leaf."""
        return [int(np.prod(np.shape(p))) for p in self.arrays]

    def _cut(self, group: tuple[int, ...], array: Array) -> list[Array]:
        ends = np.cumsum([0, *(self.sizes[i] for i in group)])
        return [array[a:b].reshape(np.shape(self.arrays[i])) for i, a, b in zip(group, ends, ends[1:], strict=False)]


def packed(leaves: Leaves, rule: Rule, controller: Controller, treatment: list[Hashable]) -> Packed:
    """Small leaves packed where their treatment is equal.

    Raises:
        ValueError: where the rule or the controller looks at more than one element.
    """
    if not rule.pointwise:
        raise ValueError(
            f"layout='packed' needs a rule that works element by element, but {rule.name} does not; use layout='leaf'."
        )
    if controller.scope == "leaf":
        raise ValueError(
            f"layout='packed' joins leaves, but {controller.name} has one rate per leaf (scope='leaf'); use "
            "layout='leaf' or scope='global'."
        )
    groups: dict[Hashable, list[int]] = {}
    for i, (p, how) in enumerate(zip(leaves.arrays, treatment, strict=True)):
        dtype = str(jax.dtypes.canonicalize_dtype(jnp.result_type(p)))
        where = "small" if int(np.prod(np.shape(p))) < SMALL else f"leaf {i}"  # a large leaf is a group by its position
        groups.setdefault((f"{dtype}[{where}]", how), []).append(i)
    labels: dict[str, tuple[int, ...]] = {}
    for (label, _), group in groups.items():  # pyright: ignore[reportGeneralTypeIssues]
        again = sum(1 for other in labels if other.split(" #")[0] == label)
        labels[f"{label} #{again + 1}" if again else label] = tuple(group)
    return Packed(leaves.all, leaves.treedef, leaves.trained, leaves.tree, leaves.around, leaves.shared, labels)


Unpack = Callable[[Array | dict[str, Array]], PyTree]


def pack(params: PyTree) -> tuple[Array | dict[str, Array], Unpack]:
    """A parameter tree as one flat vector, to be trained as such, and the function that gives the tree back.

    Where leaves have several dtypes, flat is a dict of one vector per dtype. Take gradients through unpack:
    `jax.grad(lambda flat: loss(unpack(flat)))`. Pointwise rules give the same numbers as on the tree; masks and factors
    by path do not apply, since there are no paths left.

    Args:
        params: a tree of floating arrays; other leaves are kept by unpack as they are.
    """
    leaves = take_apart(params)
    arrays = [jnp.asarray(p) for p in leaves.arrays]
    dtypes = list(dict.fromkeys(str(p.dtype) for p in arrays))
    flat = {d: jnp.concatenate([p.reshape(-1) for p in arrays if str(p.dtype) == d]) for d in dtypes}
    shapes = [(str(p.dtype), p.shape, p.size) for p in arrays]
    lengths = {name: vector.shape for name, vector in flat.items()}

    def unpack(flat: Array | dict[str, Array]) -> PyTree:
        vectors = flat if isinstance(flat, dict) else {dtypes[0]: flat}
        if any(not hasattr(vector, "dtype") for vector in vectors.values()):
            raise TypeError(f"unpack takes the vector that pack gave, got {type(flat).__name__}; pass an array.")
        came = {name: np.shape(vector) for name, vector in vectors.items()}
        if came != lengths:
            wanted = lengths if len(dtypes) > 1 else lengths[dtypes[0]]
            raise ValueError(
                f"unpack takes what pack gave, of shape {wanted}, got "
                f"{came if isinstance(flat, dict) else np.shape(flat)}; "
                "pass the vector that is trained, whole."
            )
        offset = dict.fromkeys(dtypes, 0)
        out = []
        for dtype, shape, size in shapes:
            out.append(vectors[dtype][offset[dtype] : offset[dtype] + size].reshape(shape))
            offset[dtype] += size
        return leaves.join(out, lambda leaf: leaf)

    return (flat[dtypes[0]] if len(dtypes) == 1 else flat), unpack
