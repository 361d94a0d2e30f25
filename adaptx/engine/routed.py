"""What a route keeps and takes: its state, the options of the whole tree, and by what leaves are sent."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
from jaxtyping import Array, PyTree

from .choices import is_function
from .state import whose
from .tree import Frozen, shortened


class Routed(NamedTuple):
    """The state of a route."""

    step: Array  # int32, updates taken so far, saturating
    groups: dict[str, PyTree]  # name -> state; a frozen group has none
    metrics: dict[str, Array]  # of the whole tree: name -> f32 scalar


def refuse_other_state(state: object) -> None:
    """Raise TypeError for anything but the state of a route."""
    if not isinstance(state, Routed):
        raise TypeError(
            f"state must be what route(…).init(params) returned, got {whose(state)}; pass the state this route gave "
            "last."
        )


def destinations(by: PyTree, groups: tuple[str, ...]) -> PyTree:
    """`by` in canonical form: a function, pairs of a path regex and a group, or a frozen tree.

    Raises:
        TypeError: for what is none of these.
        ValueError: for a group that there is not.
    """
    if is_function("by", by):
        return by
    if by is None or isinstance(by, (str, type)):
        raise TypeError(
            "route: by must be a labelled tree, {path regex: group}, or a function of (path, leaf), "
            f"got {by!r}; pass one of these."
        )
    for name in jax.tree.leaves(by):
        if not isinstance(name, str) or name not in groups:
            raise ValueError(f"route: by names the group {name!r}, expected one of {shortened(groups)}; correct it.")
    if isinstance(by, Mapping) and all(isinstance(key, str) and isinstance(name, str) for key, name in by.items()):
        return tuple(by.items())
    return Frozen(by)
