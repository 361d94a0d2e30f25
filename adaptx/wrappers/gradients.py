"""What the wrappers share that change gradients before the optimizer inside sees them, and nothing after its step."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, PyTree

from ..engine.transformation import Transformation
from ..engine.tree import Leaves, as_arrays, gradients, take_apart
from .foreign import took_step
from .wrapper import Iterates, Row, Wrapper, chosen, takes_any


class Call(NamedTuple):
    """A step of such a wrapper: what it is called with."""

    leaves: Leaves  # the parameters
    gs: list[Array | None]  # gradients of the trained leaves
    rows: list[Row]  # what lies at them
    scalars: Row
    extra: dict[str, PyTree]


class Changed(NamedTuple):
    """What the optimizer inside is called with, and what the wrapper keeps if that takes a step."""

    gs: list[PyTree]
    rows: list[Row]
    scalars: Row  # of which t is counted elsewhere
    extra: dict[str, PyTree]


class OnGradients(Wrapper):
    """Base of these wrappers: a subclass says what the optimizer inside sees in place of the gradients."""

    inner: Transformation

    def seen(self, mine: PyTree, call: Call) -> Changed:
        """What the optimizer inside sees; mine is the wrapper alone with its numbers at this step."""
        raise TypeError(f"{type(self).__name__} does not say what the optimizer inside sees of {len(call.gs)} leaves.")

    def step(self, grads: PyTree, state: Iterates, params: PyTree, **extra: PyTree) -> tuple[PyTree, Iterates]:
        """(new parameters, new state)."""
        return self._through(self.inner.step, grads, state, params, extra)

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, grads: PyTree, state: Iterates, params: PyTree | None = None, **extra: PyTree
    ) -> tuple[PyTree, Iterates]:
        """optax's contract: the updates of the optimizer inside, as they are."""
        if params is None:
            return super().update(grads, state, params, **extra)
        return self._through(self.inner.update, grads, state, params, self._taken(extra))

    def _through(
        self, verb: Callable[..., tuple[PyTree, PyTree]], grads: PyTree, state: Iterates, params: PyTree, extra: PyTree
    ) -> tuple[PyTree, Iterates]:
        leaves = take_apart(params)
        rows = self.rows(state, leaves)
        found = as_arrays(gradients(grads, leaves))
        told = self.seen(self.numbers(state), Call(leaves, found, rows, state.scalars, extra))
        gs = told.gs
        if takes_any(self.inner):  # whose state may take the dtype of what it is given
            gs = [g if g is None or old is None else g.astype(old.dtype) for g, old in zip(gs, found, strict=True)]
        out, inner = verb(leaves.join(gs, lambda leaf: None), state.inner, params, **told.extra)
        after = told.rows, {**told.scalars, "t": state.scalars["t"] + 1}
        rows, scalars = chosen(took_step(state.inner, inner), after, (rows, state.scalars))
        return out, self.after(inner, rows, scalars, leaves)

    def reset(self, state: Iterates, params: PyTree) -> Iterates:
        """The state with everything learned from gradients as `init` makes it; the number of steps goes on."""
        leaves = take_apart(params)
        fresh = super().reset(state, params)
        scalars = {**fresh.scalars, "t": state.scalars["t"]}
        return self.after(fresh.inner, self.rows(fresh, leaves), scalars, leaves)
