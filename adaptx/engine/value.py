"""An optax transformation that is a value: equal by content, hashable, printable, and a pytree of its numbers."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import PyTree

from ..values import same_value, value_hash


class Transformation(optax.GradientTransformationExtraArgs):
    """Base of adaptx's transformations: optax's pair of functions, as methods of a frozen dataclass.

    optax defines its pair as a NamedTuple; here the tuple is empty and indexing, iteration and length are answered by
    the methods, so that `init_fn, update_fn = opt` and every optax combinator work.
    """

    def __new__(cls, *args: Any, **kwargs: Any):
        """An empty tuple; the dataclass fills in the fields."""
        del args, kwargs
        return tuple.__new__(cls, ())

    @property
    def requires(self) -> frozenset[str]:
        """Names of the extra arguments that update and step must be given."""
        return frozenset()

    def step(self, grads: PyTree, state: Any, params: PyTree, **extra: Any) -> tuple[PyTree, Any]:
        """(new parameters, new state)."""
        updates, state = self.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    def eval_params(self, state: Any, params: PyTree) -> PyTree:
        """The parameters to evaluate or save: params themselves unless the optimizer keeps better ones."""
        del state
        return params

    def __iter__(self) -> Iterator[Any]:
        return iter((self.init, self.update))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: Any) -> Any:
        return (self.init, self.update)[index]

    def __eq__(self, other: object) -> bool:
        return same_value(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return value_hash(self)

    def __getnewargs__(self) -> tuple[()]:
        return ()


class Frozen:
    """A tree of structural values made hashable, so that it can be part of a pytree's structure."""

    def __init__(self, tree: Any):
        self.tree = tree
        leaves, treedef = jax.tree.flatten(tree)
        self._key = (treedef, tuple(x.item() if isinstance(x, (np.generic, np.ndarray)) else x for x in leaves))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return repr(self.tree)
