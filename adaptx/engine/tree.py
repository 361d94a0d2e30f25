"""Trees: which leaves are trained, under which paths, and whether gradients, parameters and state belong together."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree
from jaxtyping import Array, PyTree

VARIABLE = jax.tree_util.GetAttrKey("value")  # what an nnx.Variable has its array under


def is_none(x: object) -> bool:
    """None is a leaf here: a parameter that is not trained."""
    return x is None


def dtype_of(x: PyTree) -> np.dtype | None:
    """The dtype jax would give x, or None where x is not an array of numbers."""
    if isinstance(x, (float, complex)) and not hasattr(x, "dtype"):
        return jnp.result_type(x)
    dtype = getattr(x, "dtype", None)
    if dtype is None or not hasattr(x, "shape") or not _is_kind(dtype, jnp.number):
        return None
    return jax.dtypes.canonicalize_dtype(dtype)


@lru_cache
def _is_kind(dtype: Hashable, kind: type) -> bool:
    return jnp.issubdtype(dtype, kind)  # pyright: ignore[reportArgumentType]


def is_trained(x: object) -> bool:
    """Real floating arrays are trained; None, ints, bools, keys, strings and functions are carried along."""
    dtype = dtype_of(x)
    return dtype is not None and _is_kind(dtype, jnp.inexact)


@dataclass(frozen=True)
class Leaves:
    """A parameter tree taken apart; the arrays a rule sees are its trained leaves, one by one."""

    all: list[PyTree]
    treedef: PyTree
    trained: tuple[int, ...]  # positions of the trained leaves in `all`
    tree: PyTree
    around: tuple[int, ...] | None = None  # in a group of a route, all that the route trains
    shared: tuple[str, ...] = ()  # the options whose patterns may be for any of these

    @cached_property
    def arrays(self) -> list[Array]:
        """The trained leaves."""
        return [self.all[i] for i in self.trained]

    @cached_property
    def paths(self) -> list[str]:
        """The paths of the trained leaves, such as 'layers/0/w'."""
        every = paths(self.tree)
        return [every[i] for i in self.trained]

    def known(self, option: str) -> list[str]:
        """The paths that a pattern of this option may mean: these leaves', or those of all groups of the route."""
        if self.around is None or option not in self.shared:
            return self.paths
        every = paths(self.tree)
        return [every[i] for i in self.around]

    @property
    def names(self) -> list[str]:
        """What to call each array in an error."""
        return self.paths

    def only(self, chosen: Sequence[bool], shared: tuple[str, ...] = ()) -> "Leaves":
        """The same tree with some of the trained leaves, in order; the others are carried along.

        shared: the options whose patterns may be for leaves that are not chosen, see `route`; besides those for which
            a route around this one says so.
        """
        kept = tuple(i for i, keep in zip(self.trained, chosen, strict=True) if keep)
        shared = tuple(dict.fromkeys((*self.shared, *shared)))
        return replace(self, trained=kept, around=(self.around or self.trained) if shared else None, shared=shared)

    def join(self, arrays: Sequence[PyTree], others: Callable[[PyTree], PyTree]) -> PyTree:
        """A tree with `arrays` at the trained leaves and others(leaf) elsewhere."""
        out = [others(leaf) for leaf in self.all]
        for i, array in zip(self.trained, arrays, strict=True):
            out[i] = array
        return self.treedef.unflatten(out)

    def column(self, tree: PyTree) -> list[PyTree]:
        """What a tree of the state has at the trained leaves.

        Raises:
            ValueError: where the tree is not like the parameters'.
        """
        flat = self.treedef.flatten_up_to(tree)
        return [flat[i] for i in self.trained]

    # what a layout that joins leaves does differently: `packing.Packed`

    @property
    def shelved(self) -> str:
        """What a tree of the state is like, in words."""
        return f"that of the parameters, {shortened(paths(self.tree))}"

    def gather(self, values: list[PyTree]) -> list[PyTree]:
        """Per-leaf arrays as the arrays a rule sees."""
        return values

    def scatter(self, arrays: list[PyTree]) -> list[PyTree]:
        """The inverse of gather."""
        return arrays

    def pick(self, settings: Sequence[Hashable]) -> list[PyTree]:
        """A setting that is equal within every array, per array."""
        return list(settings)

    def factors(self, factors: Sequence[PyTree]) -> list[PyTree]:
        """Per-leaf factors, per array, shaped to multiply it."""
        return list(factors)

    def shelve(self, column: list[PyTree]) -> ArrayTree:
        """The state tree of one name from its arrays."""
        return self.join(column, nothing)


def nothing(leaf: object) -> None:
    """The state of a leaf that is not trained."""
    del leaf


def no_update(leaf: object) -> Array | None:
    """The update of a leaf that is not trained: zeros for an array, so that they can be added, else None."""
    kind = getattr(leaf.dtype, "kind", None) if isinstance(leaf, (jax.Array, np.ndarray)) else None  # keys have none
    return jnp.zeros_like(leaf) if kind in ("i", "u", "b") else None  # pyright: ignore[reportArgumentType]


def paths(tree: PyTree) -> list[str]:
    """The path of every leaf (None counts), joined with '/'.

    In a flax.nnx.State every leaf is the attribute `value` of a variable, which the same tree without its variables,
    as nnx.Optimizer hands it over at a step, does not have: it is left out.
    """
    entries, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    every = [path for path, _ in entries]
    if every and all(len(path) > 1 and path[-1] == VARIABLE for path in every):
        every = [path[:-1] for path in every]
    return [jax.tree_util.keystr(path, simple=True, separator="/") or "(root)" for path in every]


def shortened(paths: Sequence[str], most: int = 12) -> str:
    """The paths as a list, the end of a long one left out."""
    shown = ", ".join(map(repr, paths[:most]))
    return f"[{shown}]" if len(paths) <= most else f"[{shown}, … {len(paths) - most} more]"


def take_apart(params: PyTree, *, any_trained: bool = True) -> Leaves:
    """The leaves of a parameter tree.

    Args:
        params: any tree.
        any_trained: refuse a tree that has leaves, but none to train.

    Raises:
        TypeError: for complex leaves, and where nothing can be trained.
    """
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    trained = tuple(i for i, leaf in enumerate(leaves) if is_trained(leaf))
    for i in trained:
        if jnp.issubdtype(np.dtype(dtype_of(leaves[i])), jnp.complexfloating):
            raise TypeError(
                f"parameter '{paths(params)[i]}' is {dtype_of(leaves[i])}, expected a real floating array; wrap the "
                "optimizer in optax.contrib.split_real_and_imaginary to train complex parameters."
            )
    if params is None:
        raise TypeError("params are None: expected the tree of arrays that is trained; pass the parameters.")
    if any_trained and leaves and not trained:
        came = dtype_of(leaves[0]) or type(leaves[0]).__name__
        raise TypeError(
            f"no parameter can be trained: expected floating arrays, but '{paths(params)[0]}' is {came} and no other "
            "leaf floats; convert with jnp.asarray(x, jnp.float32)."
        )
    return Leaves(leaves, treedef, trained, params)


def gradients(grads: PyTree, leaves: Leaves, what: str = "gradient") -> list[PyTree]:
    """The gradients of the trained leaves in order, None where there is none (also for whole subtrees).

    Raises:
        ValueError: where the structure or a shape differs from the parameters'.
        TypeError: where a gradient is not a real floating array.
    """
    flat, treedef = jax.tree.flatten(grads, is_leaf=is_none)
    if grads is None and leaves.trained:
        raise ValueError(f"{what}s are None: expected a tree like the parameters; pass jax.grad's output for them.")
    if treedef != leaves.treedef:
        flat = _spread(flat, treedef, leaves, grads, what)
    found = [flat[i] for i in leaves.trained]
    for k, (g, p) in enumerate(zip(found, leaves.arrays, strict=True)):
        if g is None or getattr(g, "dtype", None) == jax.dtypes.float0:
            found[k] = None
            continue
        dtype = dtype_of(g)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            came = dtype or type(g).__name__
            raise TypeError(
                f"{what} '{leaves.paths[k]}' is {came}, expected a real floating array; "
                f"{_source(what, 'differentiate a real loss with jax.grad.')}"
            )
        if np.shape(g) != np.shape(p):
            raise ValueError(
                f"{what} '{leaves.paths[k]}' has shape {np.shape(g)}, but the parameter has shape {np.shape(p)}; "
                + _source(what, "gradients are jax.grad's output for the same parameters (under vmap, map both).")
            )
    return found


def _spread(flat: list[PyTree], treedef: PyTree, leaves: Leaves, grads: PyTree, what: str) -> list[PyTree]:
    """Gradients whose tree differs from the parameters' only in None standing for whole subtrees."""
    try:
        below = treedef.flatten_up_to(leaves.tree)
    except ValueError:
        below = None
    sizes = [] if below is None else [jax.tree.structure(sub, is_leaf=is_none).num_leaves for sub in below]
    if below is not None and all(g is None or n == 1 for g, n in zip(flat, sizes, strict=True)):
        return [leaf for g, n in zip(flat, sizes, strict=True) for leaf in [g] * n]
    mine, theirs = paths(leaves.tree), paths(grads)
    lacking = [path for path in mine if path not in set(theirs)]
    foreign = [path for path in theirs if path not in set(mine)]
    where = f"lack '{lacking[0]}'" if lacking else f"have '{foreign[0]}'" if foreign else "nest differently"
    whose = " which the parameters have" if lacking else " which the parameters lack" if foreign else ""
    raise ValueError(
        f"{what}s {where}{whose}: expected the tree of the parameters, {shortened(mine)}, got {shortened(theirs)}; "
        + _source(what, "pass jax.grad's output for the same parameters.")
    )


def _source(what: str, of_gradients: str) -> str:
    """Where such a tree comes from: the remedy of a message."""
    return of_gradients if "gradient" in what else f"pass a {what} of every parameter, such as adaptx.hutchinson gives."


def as_arrays(leaves: list[PyTree]) -> list[PyTree]:
    """Leaves as jax arrays of their canonical dtype, without weak types; None stays."""
    return [x if x is None else strong(x if isinstance(x, (jax.Array, np.ndarray)) else jnp.asarray(x)) for x in leaves]


def strong(x: PyTree) -> PyTree:
    """x without a weak type, which parameters that come back do not have: the second step would be compiled anew."""
    return jnp.asarray(x, x.dtype) if getattr(x, "weak_type", False) else x


def concrete(x: PyTree) -> PyTree:
    """A leaf as an array; a ShapeDtypeStruct as zeros of its shape, sharded as it says."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return jnp.zeros_like(x)
    return x if isinstance(x, (jax.Array, np.ndarray)) else jnp.asarray(x)


class Frozen:
    """A tree of structural values made hashable, so that it can be part of a pytree's structure."""

    def __init__(self, tree: PyTree):
        self.tree = tree
        leaves, treedef = jax.tree.flatten(tree)
        self._key = (treedef, tuple(x.item() if isinstance(x, (np.generic, np.ndarray)) else x for x in leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.tree)
