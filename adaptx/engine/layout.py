"""Which arrays a rule sees: the trained leaves one by one, or leaves of one shape stacked together.

"leaf"      an array per leaf; the state is a tree like the parameters
"stacked"   leaves of one shape, dtype and treatment as one array with a leading axis
"packed"    small leaves of one dtype and treatment as one vector, larger ones as they are

Joined leaves mean fewer, larger loops in a step and more to compile; benchmarks/layout.py says when it pays. Their
state is kept joined, under names such as 'float32[64]'. Pointwise rules only.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..base import Controller, Rule
from .tree import Leaves

LAYOUTS = ("leaf", "stacked", "packed")
SMALL = 1 << 15  # leaves with fewer elements are packed


@dataclass(frozen=True)
class Leafwise:
    """One array per trained leaf."""

    leaves: Leaves

    def names(self) -> list[str]:
        """What to call each array in an error."""
        return self.leaves.paths

    def gather(self, values: list[Any]) -> list[Any]:
        """Per-leaf arrays as the arrays a rule sees."""
        return values

    def scatter(self, arrays: list[Any]) -> list[Any]:
        """The inverse of gather."""
        return arrays

    def pick(self, settings: list[Any]) -> list[Any]:
        """A setting that is equal within every array, per array."""
        return settings

    def factors(self, factors: tuple[Any, ...] | None) -> list[Any] | None:
        """Per-leaf factors on the rate, per array."""
        return None if factors is None else list(factors)

    def shelve(self, column: list[Any]) -> PyTree:
        """The state tree of one name from its arrays."""
        return self.leaves.join(column, nothing)

    def column(self, tree: PyTree) -> list[Any]:
        """The inverse of shelve.

        Raises:
            ValueError: where the tree is not like the parameters'.
        """
        flat = self.leaves.treedef.flatten_up_to(tree)
        return [flat[i] for i in self.leaves.trained]


@dataclass(frozen=True)
class Stacked:
    """Leaves of one kind as one array; kinds met once stay as they are."""

    leaves: Leaves
    members: tuple[tuple[int, ...], ...]  # positions among the trained leaves, per array
    labels: tuple[str, ...]

    def names(self) -> list[str]:
        """What to call each array in an error."""
        return list(self.labels)

    def gather(self, values: list[Any]) -> list[Any]:
        """Per-leaf arrays as the arrays a rule sees.

        Raises:
            ValueError: where a leaf of a stack has no gradient.
        """
        self._refuse_absent(values)
        return [values[g[0]] if len(g) == 1 else jnp.stack([values[i] for i in g]) for g in self.members]

    def _refuse_absent(self, values: list[Any]) -> None:
        for label, group in zip(self.labels, self.members, strict=True):
            absent = [i for i in group if values[i] is None]
            if absent and len(group) > 1:
                raise ValueError(
                    f"layout={type(self).__name__.lower()!r} needs a gradient for every leaf of {label!r}, got None "
                    f"for '{self.leaves.paths[absent[0]]}'; use layout='leaf', or give zeros."
                )

    def scatter(self, arrays: list[Any]) -> list[Any]:
        """The inverse of gather."""
        out: list[Any] = [None] * len(self.leaves.trained)
        for group, array in zip(self.members, arrays, strict=True):
            for k, i in enumerate(group):
                out[i] = array if len(group) == 1 else array[k]
        return out

    def pick(self, settings: list[Any]) -> list[Any]:
        """A setting that is equal within every array, per array."""
        return [settings[group[0]] for group in self.members]

    def factors(self, factors: tuple[Any, ...] | None) -> list[Any] | None:
        """Per-leaf factors on the rate, per array, shaped to multiply it."""
        if factors is None:
            return None
        ranks = [jnp.ndim(self.leaves.arrays[group[0]]) for group in self.members]
        return [
            factors[group[0]]
            if len(group) == 1
            else jnp.stack([jnp.asarray(factors[i], jnp.float32) for i in group]).reshape(-1, *[1] * rank)
            for group, rank in zip(self.members, ranks, strict=True)
        ]

    def shelve(self, column: list[Any]) -> PyTree:
        """The state tree of one name from its arrays."""
        return dict(zip(self.labels, column, strict=True))

    def column(self, tree: PyTree) -> list[Any]:
        """The inverse of shelve.

        Raises:
            ValueError: where the tree was not made by this layout.
        """
        if not isinstance(tree, dict) or set(tree) != set(self.labels):
            raise ValueError(f"expected stacks {sorted(self.labels)}")
        return [tree[label] for label in self.labels]


@dataclass(frozen=True)
class Packed(Stacked):
    """Small leaves of one dtype and treatment as one vector, larger ones as they are."""

    def gather(self, values: list[Any]) -> list[Any]:
        """Per-leaf arrays as the arrays a rule sees.

        Raises:
            ValueError: where a packed leaf has no gradient.
        """
        self._refuse_absent(values)
        return [
            values[group[0]] if len(group) == 1 else jnp.concatenate([jnp.reshape(values[i], -1) for i in group])
            for group in self.members
        ]

    def scatter(self, arrays: list[Any]) -> list[Any]:
        """The inverse of gather."""
        out: list[Any] = [None] * len(self.leaves.trained)
        for group, array in zip(self.members, arrays, strict=True):
            offset = 0
            for i in group:
                p = self.leaves.arrays[i]
                end = offset + jnp.size(p)
                out[i] = array if len(group) == 1 else array[offset:end].reshape(jnp.shape(p))
                offset = end
        return out

    def factors(self, factors: tuple[Any, ...] | None) -> list[Any] | None:
        """Per-leaf factors on the rate, per array: a factor for every element of a packed one."""
        if factors is None:
            return None
        sizes = [jnp.size(p) for p in self.leaves.arrays]
        return [
            factors[group[0]]
            if len(group) == 1
            else jnp.concatenate([jnp.full(sizes[i], jnp.asarray(factors[i], jnp.float32)) for i in group])
            for group in self.members
        ]


Layout = Leafwise | Stacked


def arrange(name: str, leaves: Leaves, rule: Rule, controller: Controller | None, treatment: list[Any]) -> Layout:
    """The layout of a name for these leaves; leaves are stacked only where their treatment is equal.

    Raises:
        ValueError: where the rule or the controller looks at more than one element.
    """
    if name == "leaf":
        return Leafwise(leaves)
    if not rule.pointwise:
        raise ValueError(
            f"layout={name!r} needs a rule that works element by element, but {type(rule).__name__.lower()} does not; "
            "use layout='leaf'."
        )
    if controller is not None and controller.scope == "leaf":
        raise ValueError(
            f"layout={name!r} joins leaves, but {type(controller).__name__.lower()} has one rate per leaf "
            "(scope='leaf'); use layout='leaf' or scope='global'."
        )
    groups: dict[Any, list[int]] = {}
    packed = name == "packed"
    for i, (p, how) in enumerate(zip(leaves.arrays, treatment, strict=True)):
        dtype = str(jax.dtypes.canonicalize_dtype(jnp.result_type(p)))
        # what is packed has no shape of its own; a large leaf is a group by its position
        shape = jnp.shape(p) if not packed else "small" if jnp.size(p) < SMALL else f"leaf {i}"
        groups.setdefault((shape, dtype, how), []).append(i)
    members = tuple(tuple(group) for group in groups.values())
    labels: list[str] = []
    for shape, dtype, _ in groups:
        label = f"{dtype}[{shape if packed else ','.join(map(str, shape))}]"
        again = sum(1 for other in labels if other.split(" #")[0] == label)
        labels.append(f"{label} #{again + 1}" if again else label)
    return (Packed if packed else Stacked)(leaves, members, tuple(labels))


def nothing(leaf: Any) -> None:
    """The state of a leaf that is not trained."""
    del leaf


def pack(params: PyTree) -> tuple[Array | dict[str, Array], Any]:
    """A parameter tree as one flat vector, to be trained as such, and the function that gives the tree back.

    Where leaves have several dtypes, flat is a dict of one vector per dtype. Take gradients through unpack:
    `jax.grad(lambda flat: loss(unpack(flat)))`. Pointwise rules give the same numbers as on the tree; masks and factors
    by path do not apply, since there are no paths left.

    Args:
        params: a tree of floating arrays; other leaves are kept by unpack as they are.
    """
    from .tree import take_apart

    leaves = take_apart(params)
    arrays = [jnp.asarray(p) for p in leaves.arrays]
    dtypes = list(dict.fromkeys(str(p.dtype) for p in arrays))
    flat = {d: jnp.concatenate([p.reshape(-1) for p in arrays if str(p.dtype) == d]) for d in dtypes}
    shapes = [(str(p.dtype), p.shape, p.size) for p in arrays]

    def unpack(flat: Array | dict[str, Array]) -> PyTree:
        vectors = flat if isinstance(flat, dict) else dict.fromkeys(dtypes, flat)
        offset = dict.fromkeys(dtypes, 0)
        out = []
        for dtype, shape, size in shapes:
            out.append(vectors[dtype][offset[dtype] : offset[dtype] + size].reshape(shape))
            offset[dtype] += size
        return leaves.join(out, lambda leaf: leaf)

    return (flat[dtypes[0]] if len(dtypes) == 1 else flat), unpack
