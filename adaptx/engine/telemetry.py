"""Asking a state what its optimizer just did, wherever the state lies."""

from typing import Any

import jax
from jaxtyping import Array

from ..base import State


def states(tree: Any) -> list[State]:
    """Every adaptx state inside a tree, such as the state of an optax.chain."""
    found = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, State))
    return [x for x in found if isinstance(x, State)]


def metrics(state: Any) -> dict[str, Array]:
    """{name: f32 scalar} as the last update left them; the states of a chain are merged.

    Raises:
        TypeError: where there is no adaptx state.
        ValueError: where two states measured the same name.
    """
    out: dict[str, Array] = {}
    for one in _some(state):
        for name, value in one.metrics.items():
            if name in out:
                raise ValueError(
                    f"two optimizers in this state measured {name!r}; read each with "
                    f"adaptx.read(state, {name!r}, index=i)."
                )
            out[name] = value
    return out


def read(state: Any, name: str, index: int | None = None) -> Array:
    """What the last update used or measured under this name: 'learning_rate', 'step', 'grad_norm', …

    Args:
        state: an adaptx state, or any tree that holds one (an optax.chain's state, a training state).
        name: 'step' or one of the names of `metrics`.
        index: which of several adaptx states, in the order of the tree; not needed where only one has the name.

    Raises:
        TypeError: where there is no adaptx state.
        KeyError: where no state has the name; the message lists the names there are.
        ValueError: where several have it and index is not given.
    """
    every = [{"step": one.step, **one.metrics} for one in _some(state)]
    found = [one[name] for one in every if name in one]
    if not found:
        names = dict.fromkeys(key for one in every for key in one)
        remedy = "; norms are measured by an optimizer made with telemetry=True" if name.endswith("_norm") else ""
        raise KeyError(f"no {name!r} in this state, which has {', '.join(names)}{remedy}.")
    if index is None and len(found) > 1:
        last = len(found) - 1
        raise ValueError(f"{len(found)} optimizers in this state have {name!r}; say which with index=0 … {last}.")
    return found[index or 0]


def _some(state: Any) -> list[State]:
    found = states(state)
    if not found:
        raise TypeError(f"no adaptx state in {type(state).__name__}; pass the state that an adaptx optimizer returned.")
    return found
