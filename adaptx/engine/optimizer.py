"""The optimizer: rule × learning rate × storage × layout, an optax transformation that is a pytree of its numbers."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..base import Rule, Scalar, State
from .lift import Numbers, Plan, arithmetic, as_arrays, step_arrays
from .options import Options, decayed_leaves, scale_factors
from .storage import ALL as STORAGES
from .storage import Storage, fresh
from .tree import Leaves, gradients, stored_slots, take_apart
from .value import Transformation


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True, eq=False)
class Optimizer(Transformation):
    """An adaptx optimizer.

    Leaves of the pytree are the numeric hyperparameters: the rule's, the learning rate, weight_decay, max_norm and the
    factors of lr_scale; flags, names, masks and schedules are structure.
    """

    rule: Rule
    learning_rate: Scalar | Callable[[Array], Array] | None  # None: the bare direction, neither scaled nor negated
    options: Options

    @property
    def requires(self) -> frozenset[str]:
        """Names of the extra arguments that update and step must be given."""
        return frozenset()

    def init(self, params: PyTree) -> State:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Fresh state for params (arrays, tracers or ShapeDtypeStructs); shares no buffer with them."""
        leaves = take_apart(params)
        arrays = as_arrays_or_shapes(leaves.arrays)
        slots = {
            name: leaves.join([self._fresh_slot(name, p) for p in arrays], lambda _: None)
            for name in self.rule.slot_kinds()
        }
        metrics = {name: jnp.zeros((), jnp.float32) for name in self.options.metric_names(self.learning_rate)}
        return State(jnp.zeros((), jnp.int32), slots, (), metrics)

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, grads: PyTree, state: State, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, State]:
        """optax's contract: (updates in the parameter's dtype, new state); add the updates to the parameters."""
        if params is None:
            self._refuse_without_params()
        leaves = take_apart(grads if params is None else params)
        outs, state = self._run(grads, state, leaves, extra, fused=False)
        return leaves.join(outs, no_update), state

    def step(self, grads: PyTree, state: State, params: PyTree, **extra: Any) -> tuple[PyTree, State]:
        """(new parameters, new state): update and apply in one pass, rounded once to the parameter's dtype."""
        leaves = take_apart(params)
        outs, state = self._run(grads, state, leaves, extra, fused=True)
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

    def _run(self, grads: PyTree, state: State, leaves: Leaves, extra: dict, *, fused: bool) -> tuple[list, State]:
        del extra  # an open-loop rate needs none; other links of a chain may
        self._refuse_batch()
        found = gradients(grads, leaves)
        slots = stored_slots(state, tuple(self.rule.slot_kinds()), leaves)
        options = self.options
        refuse_foreign_slots(slots, leaves, options.storage)
        self._refuse_foreign_metrics(state)
        factors = scale_factors(options, leaves)
        decayed = decayed_leaves(options.decay_mask, leaves) if options.weight_decay is not None else ()
        plan = Plan(
            options.storage, options.decay_mode, decayed or (False,) * len(leaves.trained), factors is not None,
            options.skip_nonfinite, options.telemetry, fused,
        )  # fmt: skip
        numbers = Numbers(self._rate(state.step), options.weight_decay, options.max_norm, factors or ())
        outs, rows, step, metrics = step_arrays(
            plan, self.rule, numbers, as_arrays(found), slots, as_arrays(leaves.arrays), state.step, state.metrics
        )
        new = {name: leaves.join([row[name] for row in rows], lambda _: None) for name in state.slots}
        return outs, State(step, new, state.control, metrics)

    def _rate(self, step: Array) -> Any:
        return self.learning_rate(step) if callable(self.learning_rate) else self.learning_rate

    def _fresh_slot(self, name: str, p: Any) -> Array:
        return self.options.storage.init(fresh(p, self.rule.initial(name), arithmetic(p)))

    def _refuse_without_params(self) -> None:
        needs = {
            "weight_decay": self.options.weight_decay is not None,
            "telemetry of param_norm": "param_norm" in self.options.telemetry,
            f"the rule {type(self.rule).__name__}": self.rule.reads_params,
        }
        for what, needed in needs.items():
            if needed:
                raise ValueError(
                    f"update(grads, state) was called without params, which {what} needs; call "
                    "update(grads, state, params)."
                )

    def _refuse_batch(self) -> None:
        for path, leaf in jax.tree_util.tree_leaves_with_path(self):
            if np.ndim(leaf):
                raise ValueError(
                    f"{jax.tree_util.keystr(path, simple=True, separator='.')} has shape {np.shape(leaf)}: this is a "
                    f"batch of {np.shape(leaf)[0]} optimizers, expected a scalar; map over it with jax.vmap."
                )

    def _refuse_foreign_metrics(self, state: State) -> None:
        names = self.options.metric_names(self.learning_rate)
        if set(state.metrics) != set(names):
            raise ValueError(
                f"state has the metrics {sorted(state.metrics)}, but this optimizer measures {sorted(names)}; make the "
                "state with this optimizer's init(params)."
            )

    def __repr__(self) -> str:
        fields: Any = dataclasses.fields(self.rule)  # pyright: ignore[reportArgumentType]
        rule = [f"{field.name}={getattr(self.rule, field.name)!r}" for field in fields]
        rate = [] if self.learning_rate is None else [f"learning_rate={self.learning_rate!r}"]
        return f"{type(self.rule).__name__.lower()}({', '.join(rate + rule + self.options.changed())})"

    def tree_flatten_with_keys(self):
        """Children: rule, learning rate (unless it is a schedule), the options' numbers."""
        schedule = self.learning_rate if callable(self.learning_rate) else None
        rate = None if schedule is not None else self.learning_rate
        key = jax.tree_util.GetAttrKey
        return ((key("rule"), self.rule), (key("learning_rate"), rate), (key("options"), self.options)), schedule

    @classmethod
    def tree_unflatten(cls, schedule, children):
        """The inverse of flattening."""
        rule, rate, options = children
        return cls(rule, rate if schedule is None else schedule, options)


def refuse_foreign_slots(slots: list[dict[str, Any]], leaves: Leaves, storage: Storage) -> None:
    """Raise ValueError where a slot does not lie in memory as this storage keeps a slot of its parameter."""
    for k, (row, p) in enumerate(zip(slots, as_arrays_or_shapes(leaves.arrays), strict=True)):
        expected = stored_type(storage.name, np.shape(p), jax.dtypes.canonicalize_dtype(arithmetic(p)))
        for name, slot in row.items():
            came = jax.tree.map(lambda x: (np.shape(x), np.dtype(x.dtype)), slot)
            if came != expected:
                raise ValueError(
                    f"slot '{name}' of parameter '{leaves.paths[k]}' is {came}, expected {expected} for this parameter "
                    f"and storage {storage.name!r}; make the state with this optimizer's init(params)."
                )


@lru_cache(maxsize=4096)
def stored_type(storage: str, shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """(shape, dtype) of every array in the stored form of one slot."""
    stored = jax.eval_shape(lambda: STORAGES[storage]().init(jnp.zeros(shape, dtype)))
    return jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype)), stored)


def no_update(leaf: Any) -> Any:
    """The update of a leaf that is not trained: zeros for an array, so that they can be added, else None."""
    kind = getattr(leaf.dtype, "kind", None) if isinstance(leaf, (jax.Array, np.ndarray)) else None  # keys have none
    return jnp.zeros_like(leaf) if kind in ("i", "u", "b") else None


def as_arrays_or_shapes(leaves: list[Any]) -> list[Any]:
    """Leaves with a shape and dtype; Python floats become arrays."""
    return [x if hasattr(x, "dtype") else jnp.asarray(x) for x in leaves]
