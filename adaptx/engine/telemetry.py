"""Asking a state what its optimizer just did, wherever the state lies."""

from typing import NamedTuple

import jax
from jaxtyping import Array, PyTree

from ..base import State


class Found(NamedTuple):
    """A state that shows something: an optimizer's, a wrapper's or a route's."""

    label: str  # where it lies, by the keys and positions on the way: 'decoder', '1/encoder'
    grouped: bool  # whether it is one of a route's, whose metrics always carry the label
    shown: dict[str, Array]


def _is_shown(x: object) -> bool:
    return isinstance(x, tuple) and "metrics" in getattr(x, "_fields", ())


def found(tree: PyTree, label: tuple[str, ...] = (), grouped: bool = False) -> list[Found]:
    """Every state inside a tree that shows something, in order."""
    out = []
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_shown):
        if not _is_shown(node):
            continue
        keys = (getattr(key, "key", getattr(key, "idx", None)) for key in path)
        here = (*label, *(str(key) for key in keys if key is not None))
        own = {"step": node.step} if "step" in node._fields and not grouped else {}  # a route's groups step together
        out.append(Found("/".join(here), grouped, {**own, **node.metrics}))
        out += found(getattr(node, "inner", None), here, grouped)
        for name, state in getattr(node, "groups", {}).items():
            out += found(state, (*here, name), True)
    return out


def states(tree: PyTree) -> list[State]:
    """Every optimizer's state inside a tree, such as the state of an optax.chain."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, State))
    return [x for x in nodes if isinstance(x, State)]


def _named(state: PyTree) -> list[tuple[str, str, Array]]:
    """(name, name with its label, value) of everything shown."""
    every = found(state)
    if not every:
        raise TypeError(f"no adaptx state in {type(state).__name__}; pass the state that an adaptx optimizer returned.")
    rows = [(name, one, value) for one in every for name, value in one.shown.items()]
    return [(name, f"{one.label}/{name}" if one.label else name, value) for name, one, value in rows]


def metrics(state: PyTree) -> dict[str, Array]:
    """{name: f32 scalar} as the last update left them; the states of a chain are merged.

    What several optimizers measured under one name, and everything that a route's group did, is named by where its
    state lies: 'decoder/learning_rate'.

    Raises:
        TypeError: where there is no adaptx state.
    """
    _named(state)
    rows = [(name, one) for one in found(state) for name in one.shown if name != "step"]
    often = {name for name, _ in rows if sum(name == other for other, _ in rows) > 1}
    return {
        f"{one.label}/{name}" if one.label and (one.grouped or name in often) else name: one.shown[name]
        for name, one in rows
    }


def read(state: PyTree, name: str, index: int | None = None) -> Array:
    """What the last update used or measured under this name: 'learning_rate', 'step', 'grad_norm', …

    Args:
        state: an adaptx state, or any tree that holds one (an optax.chain's state, a training state).
        name: 'step' or one of the names of `metrics`, such as 'decoder/learning_rate'.
        index: which of several adaptx states, in the order of the tree; not needed where only one has the name.

    Raises:
        TypeError: where there is no adaptx state.
        KeyError: where no state has the name; the message lists the names there are.
        ValueError: where several have it and index is not given.
    """
    if not isinstance(name, str):
        raise TypeError(f"read takes (state, name), got the name {name!r}; pass a string such as 'learning_rate'.")
    rows = _named(state)
    values = [value for _, full, value in rows if full == name] or [value for plain, _, value in rows if plain == name]
    if not values:
        names = dict.fromkeys(full for _, full, _ in rows)
        remedy = "; norms are measured by an optimizer made with telemetry=True" if name.endswith("_norm") else ""
        raise KeyError(f"no {name!r} in this state, which has {', '.join(names)}{remedy}.")
    if index is None and len(values) > 1:
        full = ", ".join(full for plain, full, _ in rows if plain == name)
        raise ValueError(
            f"{len(values)} optimizers in this state have {name!r}; say which by its whole name ({full}), or with "
            f"index=0 … {len(values) - 1}."
        )
    if index is not None and not -len(values) <= index < len(values):
        raise ValueError(
            f"{len(values)} optimizers in this state have {name!r}, got index={index}; pass a smaller one."
        )
    return values[index or 0]
