"""Iterates beside the parameters: wrappers around any adaptx optimizer, with one protocol.

The parameters the caller holds are those to take gradients at; `eval_params(opt, state, params)` gives those to
evaluate or save. Iterates are kept in f32 (f64 beside f64 parameters).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .layout import nothing
from .leaf import arithmetic
from .lift import as_arrays
from .optimizer import no_update
from .run import concrete
from .tree import Leaves, take_apart
from .value import Transformation


class Iterates(NamedTuple):
    """The state of a wrapper."""

    inner: Any  # the state of the optimizer inside
    iterates: dict[str, PyTree]  # name -> tree like the parameters, None at leaves that are not trained
    scalars: dict[str, Array]  # name -> f32


class Wrapper(Transformation):
    """Base of the wrappers: what they share is how state is made and how a step enters the one inside."""

    inner: Transformation

    @property
    def requires(self) -> frozenset[str]:
        """Names of the extra arguments that update and step must be given."""
        return self.inner.requires

    def init(self, params: PyTree) -> Iterates:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Fresh state for params; shares no buffer with them."""
        leaves = take_apart(params)
        rows = [self._fresh(copied(concrete(p))) for p in leaves.arrays]
        names = dict.fromkeys(name for row in rows for name in row)
        iterates = {name: leaves.join([row.get(name) for row in rows], nothing) for name in names}
        return Iterates(self.inner.init(params), iterates, self._scalars())

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, grads: PyTree, state: Iterates, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, Iterates]:
        """optax's contract: (updates in the parameter's dtype, new state); add the updates to the parameters."""
        if params is None:
            raise ValueError(
                f"{type(self).__name__} moves parameters: expected update(grads, state, params), got no params; pass "
                "them."
            )
        moved, after = self.step(grads, state, params, **extra)
        old, new = take_apart(params), take_apart(moved)
        deltas = [(n - o).astype(n.dtype) for o, n in zip(as_arrays(old.arrays), as_arrays(new.arrays), strict=True)]
        return old.join(deltas, no_update), after

    def _fresh(self, p: Array) -> dict[str, Array]:
        """The iterates of one leaf at the start, none by default; p is a copy, in the arithmetic dtype."""
        del p
        return {}

    def _scalars(self) -> dict[str, Array]:
        return {}

    def _rows(self, state: Any, leaves: Leaves) -> dict[str, list[Any]]:
        if not isinstance(state, Iterates):
            raise TypeError(
                f"state must be what {type(self).__name__}.init(params) returned, got {type(state).__name__}; pass the "
                "state this optimizer gave last."
            )
        columns = {name: leaves.treedef.flatten_up_to(tree) for name, tree in state.iterates.items()}
        return {name: [column[i] for i in leaves.trained] for name, column in columns.items()}


def copied(p: Array) -> Array:
    """An array in the arithmetic dtype that is not p's buffer."""
    return jnp.array(p, arithmetic(p), copy=True)


def eval_params(opt: Any, state: Any, params: PyTree) -> PyTree:
    """The parameters to evaluate or save, for any optimizer: params themselves unless it keeps better ones.

    Args:
        opt: an adaptx optimizer or wrapper; for any other optax transformation params come back.
        state: its state.
        params: the parameters it trains.
    """
    return opt.eval_params(state, params) if isinstance(opt, Transformation) else params
