"""The optimizer: rule × learning rate × storage × layout, an optax transformation that is a pytree of its numbers."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..base import Controller, Rule, State
from ..values import Scalar, Scheduled, Times
from . import cost, run
from .options import Options
from .tree import take_apart
from .value import Transformation


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Optimizer(Transformation):
    """An adaptx optimizer.

    Leaves of the pytree are the numeric hyperparameters: the rule's, the learning rate or its controller's,
    weight_decay, max_norm and the factors of lr_scale; flags, names, masks and schedules are structure.
    """

    rule: Rule
    learning_rate: Scalar | Scheduled | Times | Controller | None  # None: the bare direction, not scaled nor negated
    options: Options

    @property
    def controller(self) -> Controller | None:
        """The controller of the learning rate, None where the rate is open-loop."""
        return self.learning_rate if isinstance(self.learning_rate, Controller) else None

    @property
    def requires(self) -> frozenset[str]:
        """Names of the extra arguments that update and step must be given."""
        return self.controller.requires if self.controller is not None else frozenset()

    @property
    def rounding(self) -> str:
        """The rounding policy; a controller that needs exact parameters keeps masters where none was asked for."""
        wanted = self.options.rounding
        exact = self.controller is not None and self.controller.exact
        return "master" if exact and wanted in ("nearest", "stochastic") else wanted

    @property
    def metric_names(self) -> list[str]:
        """What is measured at every step."""
        reports = () if self.controller is None else self.controller.reports
        return [*self.options.metric_names(self.learning_rate), *reports]

    def init(self, params: PyTree) -> State:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Fresh state for params (arrays, tracers or ShapeDtypeStructs); shares no buffer with them."""
        return run.fresh_state(self, take_apart(params))

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, grads: PyTree, state: State, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, State]:
        """optax's contract: (updates in the parameter's dtype, new state); add the updates to the parameters."""
        if params is None:
            run.refuse_without_params(self)
        leaves = take_apart(grads if params is None else params)
        outs, state = run.step(self, grads, state, leaves, extra, fused=False)
        return leaves.join(outs, no_update), state

    def step(self, grads: PyTree, state: State, params: PyTree, **extra: Any) -> tuple[PyTree, State]:
        """(new parameters, new state): update and apply in one pass, rounded once to the parameter's dtype.

        Where you jit it yourself, donate parameters and state in the order of the results, as `train_step` does:
        `jax.jit(lambda p, s, g: opt.step(g, s, p), donate_argnums=(0, 1))`. jax gives donated buffers of one shape to
        the results in order; donated the other way round, every slot and parameter is copied.
        """
        leaves = take_apart(params)
        outs, state = run.step(self, grads, state, leaves, extra, fused=True)
        return leaves.join(outs, lambda leaf: leaf), state

    def over(self, values: Any) -> Array:
        """The updates for a sequence of gradients along axis 0, one after another from a fresh state, as one array.

        Needs no parameters, so it serves for bare directions: `adaptx.ema(0.9).over(losses)`.
        """
        values = jnp.asarray(values, jnp.result_type(float, jnp.asarray(values).dtype))
        if values.ndim == 0:
            raise ValueError(f"over() takes a sequence along axis 0, got the scalar {values}; pass a list or an array.")

        def one(state, value):
            out, state = self.update(value, state)
            return state, out

        return jax.lax.scan(one, self.init(jnp.zeros_like(values, shape=values.shape[1:])), values)[1]

    def state_bytes(self, params: PyTree) -> int:
        """Bytes of the state that init(params) makes; params may be ShapeDtypeStructs, and nothing is allocated."""
        return cost.state_bytes(self, params)

    def describe(self, params: PyTree) -> str:
        """A table of the trained leaves: path, shape, decay, factor on the rate, storage and bytes of the slots."""
        return cost.table(cost.costs(self, params))

    def __repr__(self) -> str:
        fields: Any = dataclasses.fields(self.rule)  # pyright: ignore[reportArgumentType]
        rule = [f"{field.name}={getattr(self.rule, field.name)!r}" for field in fields]
        rate = [] if self.learning_rate is None else [f"learning_rate={self.learning_rate!r}"]
        return f"{type(self.rule).__name__.lower()}({', '.join(rate + rule + self.options.changed())})"


def no_update(leaf: Any) -> Any:
    """The update of a leaf that is not trained: zeros for an array, so that they can be added, else None."""
    kind = getattr(leaf.dtype, "kind", None) if isinstance(leaf, (jax.Array, np.ndarray)) else None  # keys have none
    return jnp.zeros_like(leaf) if kind in ("i", "u", "b") else None
