"""No optimizer at all, for leaves that stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..values import Scalar, value_class
from .cost import LeafCost, tree_bytes
from .groups import refuse_unknown_extra
from .transformation import Transformation
from .tree import Leaves, no_update, take_apart


@value_class
class Freeze(Transformation):
    """No optimizer: the leaf keeps its bits, and costs no state."""

    def init(self, params: PyTree) -> tuple[()]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Nothing."""
        del params
        return ()

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, grads: PyTree, state: tuple[()], params: PyTree | None = None, **extra: PyTree
    ) -> tuple[PyTree, tuple[()]]:
        """Updates of zero."""
        leaves = take_apart(grads if params is None else params)
        return leaves.join([jnp.zeros_like(p) for p in leaves.arrays], no_update), state

    def step(self, grads: PyTree, state: tuple[()], params: PyTree, **extra: PyTree) -> tuple[PyTree, tuple[()]]:
        """The parameters as they are."""
        refuse_unknown_extra(self.requires, extra)
        return params, state

    def scaled(self, factor: Scalar) -> "Freeze":
        """Itself."""
        del factor
        return self

    def costs(self, leaves: Leaves) -> list[LeafCost]:
        """Parameters alone."""
        rows = zip(leaves.paths, leaves.arrays, strict=True)
        sized = [
            (path, np.shape(p), jnp.result_type(p), tree_bytes(jax.ShapeDtypeStruct(np.shape(p), jnp.result_type(p))))
            for path, p in rows
        ]
        return [LeafCost(path, shape, str(dtype), size, 0, {}, {}, False, 0.0) for path, shape, dtype, size in sized]

    def scalar_bytes(self, leaves: Leaves) -> int:
        """None."""
        return 0

    def __repr__(self) -> str:
        return "freeze()"


def freeze() -> Freeze:
    """No optimizer: the group of leaves that keep their bits, whatever decays elsewhere, and cost no state."""
    return Freeze()
