"""Settings leaf by leaf: from a tree like the parameters, from path patterns, or from a function of (path, leaf)."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..checks import flag
from ..values import Scalar, is_concrete, static, value_class
from .tree import Frozen, Leaves, is_none, paths, shortened

# what "matrices" leaves out although it has two axes or more: biases and scales stacked by a scan over layers
VECTORS = re.compile(r"(b|scale|gain|offset|beta|gamma)\d*", re.IGNORECASE)  # a whole component of the path
VECTOR_WORDS = re.compile(r"bias(es)?\d*|((layer|batch|group|instance|rms)?norm|ln)\d*", re.IGNORECASE)  # a word of one


@value_class
class Patterns:
    """Values by path pattern, in the order given."""

    values: tuple[Scalar, ...]
    patterns: tuple[str, ...] = static(default=())

    def __repr__(self) -> str:
        return repr(dict(zip(self.patterns, self.values, strict=True)))


def is_function(what: str, x: object) -> bool:
    """Whether x is a function of (path, leaf), rather than a tree that can be called.

    Raises:
        TypeError: for a function of other arguments.
    """
    if not callable(x) or isinstance(x, type) or jax.tree.leaves(x) != [x]:
        return False
    try:
        inspect.signature(x).bind("path", 0)
    except TypeError as error:
        raise TypeError(
            f"{what} must be a function of two arguments, (path, leaf), got {getattr(x, '__name__', x)!r} ({error}); "
            "write lambda path, leaf: …"
        ) from error
    except ValueError:  # a built-in without a signature
        pass
    return True


def compiled(what: str, pattern: str) -> re.Pattern[str]:
    """A path pattern; ValueError where it is no regular expression."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{what}: {pattern!r} is not a regular expression ({error}); correct the pattern.") from error


def as_patterns(given: Mapping[str, Scalar], values: Sequence[Scalar]) -> Patterns:
    """A flat mapping with checked values, which may turn out to be a tree like the parameters."""
    return Patterns(tuple(values), tuple(given))


def by_leaf(what: str, given: PyTree | Patterns, leaves: Leaves, default: Scalar | None) -> list[Scalar]:
    """The value at every trained leaf: of a tree like the parameters, else of the first pattern that its path matches.

    A leaf of the tree may stand for a branch of the parameters.

    Raises:
        ValueError: where given is neither a tree like the parameters nor patterns, each of which matches something.
    """
    if not leaves.all:
        return []  # optax looks for what is like the parameters with a tree that has no leaves
    tree = dict(zip(given.patterns, given.values, strict=True)) if isinstance(given, Patterns) else given
    treedef = jax.tree.structure(tree, is_leaf=is_none)
    flat = _spread(tree, treedef, leaves)
    if flat is not None:
        return [default if flat[i] is None else flat[i] for i in leaves.trained]
    if not isinstance(given, Patterns):
        raise ValueError(
            f"{what} must be a path regex, a function of (path, leaf), or a tree like the parameters "
            f"{shortened(paths(leaves.tree))}, got {shortened(paths(tree))}; give one of these."
        )
    out: list[Scalar] = [default] * len(leaves.trained)
    for pattern, value in reversed(list(zip(given.patterns, given.values, strict=True))):
        for i in hits(what, pattern, leaves):
            out[i] = value
    return out


def _spread(tree: PyTree, treedef: PyTree, leaves: Leaves) -> list[Scalar] | None:
    """The value at every leaf of a tree like the parameters, or whose leaves stand for branches of them; else None."""
    flat = jax.tree.leaves(tree, is_leaf=is_none)
    if treedef == leaves.treedef:
        return flat
    if treedef.num_nodes == 1:
        return None
    try:
        branches = treedef.flatten_up_to(leaves.tree)
    except ValueError:
        return None
    sizes = [jax.tree.structure(branch, is_leaf=is_none).num_leaves for branch in branches]
    return [x for x, size in zip(flat, sizes, strict=True) for _ in range(size)]


def hits(what: str, pattern: str, leaves: Leaves) -> set[int]:
    """The trained leaves whose path a pattern matches somewhere.

    Raises:
        ValueError: where it matches none.
    """
    search = compiled(what, pattern).search
    found = {i for i, path in enumerate(leaves.paths) if search(path)}
    if not found and leaves.trained and not any(map(search, leaves.known(what))):
        raise ValueError(
            f"{what}: the pattern {pattern!r} matches none of the parameters {shortened(leaves.known(what))}; correct "
            "or remove it."
        )
    return found


def is_matrix(path: str, leaf: Array) -> bool:
    """Whether a leaf has two axes or more and is not named like a bias, a scale or a norm."""
    return jnp.ndim(leaf) >= 2 and not any(
        VECTORS.fullmatch(part) or any(VECTOR_WORDS.fullmatch(word) for word in re.split(r"[_.\-]", part))
        for part in path.split("/")
    )


def one_bool(what: str, x: object) -> bool:
    """What a mask says of a leaf; TypeError for anything but one truth value."""
    if not (isinstance(x, np.bool_) or is_concrete(x)):
        raise TypeError(f"{what} must be True or False, got {x!r} ({type(x).__name__}); return one bool for the leaf.")
    return bool(x)


def mask(what: str, given: PyTree) -> str | Callable[[str, Array], bool] | Frozen | None:
    """A choice of leaves in canonical form, for `mask_of`."""
    if given is None or isinstance(given, str):
        if given is not None and given != "matrices":
            compiled(what, given)
        return given
    if is_function(what, given):
        return given
    return Frozen(jax.tree.map(lambda x: x if x is None else flag(what, x), given, is_leaf=is_none))


def mask_of(what: str, given: PyTree | Callable[[str, Array], bool] | None, leaves: Leaves) -> list[bool]:
    """Whether a mask holds for every trained leaf: None for all, "matrices", a pattern, a function, or a tree."""
    if given is None:
        return [True] * len(leaves.trained)
    if given == "matrices" or callable(given):
        holds = is_matrix if given == "matrices" else given
        pairs = zip(leaves.paths, leaves.arrays, strict=True)
        return [one_bool(f"{what} at '{path}'", holds(path, p)) for path, p in pairs]
    if isinstance(given, str):
        found = hits(what, given, leaves)
        return [i in found for i in range(len(leaves.trained))]
    return [bool(x) for x in by_leaf(what, given, leaves, False)]
