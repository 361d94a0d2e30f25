"""An optax transformation as an optimizer that a wrapper can hold, and whether a step of one counted."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from ..base import State
from ..engine.routed import Routed
from ..engine.transformation import Transformation
from ..engine.tree import is_none, is_trained
from ..values import Scalar, static, value_class


@value_class
class Foreign(Transformation):
    """An optax transformation. Nothing is known of it but that its updates are added to the parameters."""

    transformation: PyTree = static(default=None)
    factor: Scalar | None = None  # on every update

    def init(self, params: PyTree) -> PyTree:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Its state."""
        return self.transformation.init(params)

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, grads: PyTree, state: PyTree, params: PyTree | None = None, **extra: PyTree
    ) -> tuple[PyTree, PyTree]:
        """Its updates."""
        updates, state = optax.with_extra_args_support(self.transformation).update(grads, state, params, **extra)
        if params is not None:  # an update that is None is one of zero
            updates = jax.tree.map(_moved, params, updates, is_leaf=is_none)
        if self.factor is not None:
            updates = jax.tree.map(lambda u: (self.factor * u).astype(u.dtype), updates)
        return updates, state

    def scaled(self, factor: Scalar) -> "Foreign":
        """The same with its updates multiplied by a factor."""
        return Foreign(self.transformation, factor if self.factor is None else self.factor * factor)

    def __repr__(self) -> str:
        return f"{type(self.transformation).__name__}(…)"


def transformation(who: str, opt: object) -> Transformation:
    """An optimizer to be wrapped.

    Raises:
        TypeError: for what is none.
    """
    if isinstance(opt, optax.GradientTransformation):
        return opt if isinstance(opt, Transformation) else Foreign(opt)
    hint = "; call it" if callable(opt) else "; pass one"
    raise TypeError(
        f"{who} takes an optimizer such as adaptx.sgd(0.1), or any optax transformation, got "
        f"{getattr(opt, '__name__', type(opt).__name__)}{hint}."
    )


def took_step(before: PyTree, after: PyTree) -> Array | None:
    """Whether the optimizer of these states took a step, rather than skip it or gather gradients; None for always."""
    kinds = (State, Routed, optax.ApplyIfFiniteState, optax.MultiStepsState)
    nodes = [_found(tree, kinds) for tree in (before, after)]
    signs = [sign for old, new in zip(*nodes, strict=True) if (sign := _took(old, new)) is not None]
    return None if not signs else jnp.all(jnp.stack(signs))


def _moved(p: PyTree, u: PyTree) -> PyTree:
    return jnp.zeros_like(p) if u is None and is_trained(p) else u


def _took(before: PyTree, after: PyTree) -> Array | None:
    if isinstance(after, (State, Routed)):
        skipped = after.metrics.get("skipped_in_a_row")
        return None if skipped is None else skipped == 0
    if isinstance(after, optax.ApplyIfFiniteState):
        return jnp.asarray(after.last_finite)
    return jnp.asarray(after.gradient_step != before.gradient_step)


def _found(tree: PyTree, kinds: tuple[type, ...]) -> list[PyTree]:
    return [x for x in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kinds)) if isinstance(x, kinds)]
