"""An optax transformation that is a value: equal by content, hashable, printable, and a pytree of its numbers."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ..values import Scalar, same_value, value_hash
from .cost import LeafCost, table
from .tree import Leaves, take_apart


class Transformation(optax.GradientTransformationExtraArgs):
    """Base of adaptx's transformations: optax's pair of functions, as methods of a frozen dataclass.

    optax defines its pair as a NamedTuple; here the tuple is empty and indexing, iteration and length are answered by
    the methods, so that `init_fn, update_fn = opt` and every optax combinator work.
    """

    def __new__(cls, *args: object, **kwargs: object):
        """An empty tuple; the dataclass fills in the fields."""
        del args, kwargs
        return tuple.__new__(cls, ())

    @property
    def requires(self) -> frozenset[str]:
        """Names of the extra arguments that update and step must be given."""
        return frozenset()

    @property
    def axis_name(self) -> tuple[str, ...]:
        """The mesh axes along which parameters are split inside shard_map."""
        return ()

    def step(self, grads: PyTree, state: PyTree, params: PyTree, **extra: PyTree) -> tuple[PyTree, PyTree]:
        """(new parameters, new state)."""
        updates, state = self.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    def scaled(self, factor: Scalar) -> "Transformation":
        """The same with every displacement multiplied by a factor, independent weight decay aside."""
        raise TypeError(f"{type(self).__name__} cannot scale its displacements by {factor}; wrap an adaptx optimizer.")

    def rebased(self, state: PyTree, leaves: Leaves, fine: list[Array]) -> PyTree:
        """The state for parameters that were moved from outside, where they are known as finely as `fine`."""
        del leaves, fine
        return state

    def reset(self, state: PyTree, params: PyTree) -> PyTree:
        """The state with everything learned from gradients as `init` makes it, and all else as it is."""
        del state
        return self.init(params)

    def costs(self, leaves: Leaves) -> list[LeafCost]:
        """What every trained leaf costs, in the order of the tree."""
        raise TypeError(
            "describe and state_bytes need an adaptx optimizer, got another library's transformation over "
            f"{len(leaves.trained)} leaves; count the bytes of jax.eval_shape(opt.init, params)."
        )

    def scalar_bytes(self, leaves: Leaves) -> int:
        """Bytes of the state that no leaf has."""
        raise TypeError(
            "describe and state_bytes need an adaptx optimizer, got another library's transformation over "
            f"{len(leaves.trained)} leaves; count the bytes of jax.eval_shape(opt.init, params)."
        )

    def state_bytes(self, params: PyTree) -> int:
        """Bytes of the state that init(params) makes; params may be ShapeDtypeStructs, and nothing is allocated."""
        leaves = take_apart(params)
        return sum(sum(row.state.values()) for row in self.costs(leaves)) + self.scalar_bytes(leaves)

    def describe(self, params: PyTree) -> str:
        """A table of the trained leaves: path, shape, group, decay, factor on the rate, storage, bytes of the state."""
        return table(self.costs(take_apart(params)))

    def __iter__(self) -> Iterator[Callable[..., PyTree]]:
        return iter((self.init, self.update))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: PyTree) -> PyTree:
        return (self.init, self.update)[index]

    def __eq__(self, other: object) -> bool:
        return same_value(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return value_hash(self)

    def __getnewargs__(self) -> tuple[()]:
        return ()


T = TypeVar("T", bound=Transformation)


def batched(opt: T) -> T:
    """opt with every number broadcast to the common shape of those that are arrays; opt itself where none is."""
    leaves, treedef = jax.tree.flatten(opt)
    shapes = {np.shape(x) for x in leaves} - {()}
    if not shapes:
        return opt
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise ValueError(
            f"hyperparameters of a batch must broadcast together, got shapes {sorted(shapes)}; give them one shape."
        ) from error
    return treedef.unflatten([jnp.broadcast_to(jnp.asarray(x), shape) for x in leaves])
