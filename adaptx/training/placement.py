"""Where parameters and state lie after every step."""

from dataclasses import dataclass

import jax
from jax.sharding import Sharding
from jaxtyping import PyTree

from ..engine.tree import Frozen
from .trees import is_array, join, split


@dataclass(frozen=True)
class Placement:
    """Trees of shardings, None where the compiler decides."""

    params: Frozen
    state: Frozen


def _is_sharding(x: object) -> bool:
    return x is None or isinstance(x, Sharding)


def as_placement(sharding: PyTree) -> Placement | None:
    """What a user gave as sharding=.

    Raises:
        TypeError: where that is no pair of trees of shardings.
    """
    if sharding is None:
        return None
    if not isinstance(sharding, tuple) or len(sharding) != 2:
        raise TypeError(
            f"sharding must be (of params, of the state), got {type(sharding).__name__}; pass two shardings, two trees "
            "of them, or None for one of the two."
        )
    for what, tree in zip(("params", "the state"), sharding, strict=True):
        for leaf in jax.tree.leaves(tree, is_leaf=_is_sharding):
            if not _is_sharding(leaf):
                raise TypeError(
                    f"sharding of {what} holds a {type(leaf).__name__}, expected jax.sharding.Sharding or None; pass "
                    "for example NamedSharding(mesh, PartitionSpec('data'))."
                )
    return Placement(Frozen(sharding[0]), Frozen(sharding[1]))


def held(placement: Placement | None, rest: Frozen, arrays: list[PyTree], state: PyTree) -> tuple[list[PyTree], PyTree]:
    """Parameters' arrays and state, held to their places."""
    if placement is None:
        return arrays, state
    params = _constrained("params", placement.params.tree, join(arrays, rest))
    return split(params)[0], _constrained("the state", placement.state.tree, state)


def _constrained(what: str, shardings: PyTree, tree: PyTree) -> PyTree:
    def at(sharding: Sharding | None, branch: PyTree) -> PyTree:
        if sharding is None:
            return branch
        place = lambda x: jax.lax.with_sharding_constraint(x, sharding) if is_array(x) else x  # noqa: E731
        return jax.tree.map(place, branch)

    try:
        return jax.tree.map(at, shardings, tree, is_leaf=_is_sharding)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"sharding of {what} does not fit it ({str(error).splitlines()[0]}); pass a tree like it, one sharding for "
            "a whole branch, or None."
        ) from error
