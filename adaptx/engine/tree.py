"""Trees: which leaves are trained, under which paths, and whether gradients, parameters and state belong together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


def is_none(x: Any) -> bool:
    """None is a leaf here: a parameter that is not trained."""
    return x is None


def dtype_of(x: Any) -> Any:
    """The dtype jax would give x, or None where x is not an array of numbers."""
    if isinstance(x, (float, complex)) and not hasattr(x, "dtype"):
        return jnp.result_type(x)
    dtype = getattr(x, "dtype", None)
    if dtype is None or not hasattr(x, "shape") or not jnp.issubdtype(dtype, jnp.number):
        return None
    return jax.dtypes.canonicalize_dtype(dtype)


def is_trained(x: Any) -> bool:
    """Real floating arrays are trained; None, ints, bools, keys, strings and functions are carried along."""
    dtype = dtype_of(x)
    return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


@dataclass(frozen=True)
class Leaves:
    """A parameter tree taken apart."""

    all: list[Any]
    treedef: Any
    trained: tuple[int, ...]  # positions of the trained leaves in `all`
    tree: PyTree

    @property
    def arrays(self) -> list[Any]:
        """The trained leaves."""
        return [self.all[i] for i in self.trained]

    @property
    def paths(self) -> list[str]:
        """The paths of the trained leaves, such as 'layers/0/w'."""
        every = paths(self.tree)
        return [every[i] for i in self.trained]

    def join(self, arrays: list[Any], others: Callable[[Any], Any]) -> PyTree:
        """A tree with `arrays` at the trained leaves and others(leaf) elsewhere."""
        out = [None] * len(self.all)
        for i, leaf in enumerate(self.all):
            out[i] = others(leaf)
        for i, array in zip(self.trained, arrays, strict=True):
            out[i] = array
        return self.treedef.unflatten(out)


def paths(tree: PyTree) -> list[str]:
    """The path of every leaf (None counts), joined with '/'."""
    entries, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_none)
    return [jax.tree_util.keystr(path, simple=True, separator="/") or "(root)" for path, _ in entries]


def take_apart(params: PyTree) -> Leaves:
    """The leaves of a parameter tree.

    Raises:
        TypeError: for complex leaves, and for a tree of arrays of which none is floating.
    """
    leaves, treedef = jax.tree.flatten(params, is_leaf=is_none)
    trained = tuple(i for i, leaf in enumerate(leaves) if is_trained(leaf))
    for i in trained:
        if jnp.issubdtype(dtype_of(leaves[i]), jnp.complexfloating):
            raise TypeError(
                f"parameter '{paths(params)[i]}' is {dtype_of(leaves[i])}, expected a real floating array; wrap the "
                "optimizer in optax.contrib.split_real_and_imaginary to train complex parameters."
            )
    if not trained and any(dtype_of(leaf) is not None or isinstance(leaf, int) for leaf in leaves):
        first = next(i for i, leaf in enumerate(leaves) if dtype_of(leaf) is not None or isinstance(leaf, int))
        raise TypeError(
            f"no parameter can be trained: expected floating arrays, but '{paths(params)[first]}' is "
            f"{dtype_of(leaves[first]) or type(leaves[first]).__name__} and no other leaf floats; convert with "
            "jnp.asarray(x, jnp.float32)."
        )
    return Leaves(leaves, treedef, trained, params)


def gradients(grads: PyTree, leaves: Leaves) -> list[Any]:
    """The gradients of the trained leaves in order, None where there is none (also for whole subtrees).

    Raises:
        ValueError: where the structure or a shape differs from the parameters'.
        TypeError: where a gradient is not a real floating array.
    """
    flat, treedef = jax.tree.flatten(grads, is_leaf=is_none)
    if treedef != leaves.treedef:
        flat = _spread(flat, treedef, leaves, grads)
    found = [flat[i] for i in leaves.trained]
    for k, (g, p) in enumerate(zip(found, leaves.arrays, strict=True)):
        if g is None or getattr(g, "dtype", None) == jax.dtypes.float0:
            found[k] = None
            continue
        dtype = dtype_of(g)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            came = dtype or type(g).__name__
            raise TypeError(
                f"gradient '{leaves.paths[k]}' is {came}, expected a real floating array; differentiate a real loss "
                "with jax.grad."
            )
        if np.shape(g) != np.shape(p):
            raise ValueError(
                f"gradient '{leaves.paths[k]}' has shape {np.shape(g)}, but the parameter has shape {np.shape(p)}; "
                "gradients are jax.grad's output for the same parameters (under vmap, map both)."
            )
    return found


def _spread(flat: list[Any], treedef: Any, leaves: Leaves, grads: PyTree) -> list[Any]:
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
        f"gradients {where}{whose}: expected the tree of the parameters, {leaves.treedef}, got {treedef}; "
        "pass jax.grad's output for the same parameters."
    )
