"""The optimizer: rule × learning rate × storage × layout, an optax transformation that is a pytree of its numbers."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..base import Controller, Rule, State
from ..values import Scalar, Scheduled, Times, rate_at
from . import cost, loop, rounding
from .leaf import arithmetic
from .lift import Carry, Numbers, Plan, Rows, as_arrays, step_arrays
from .options import Options, decayed_leaves, excluded_leaves, scale_factors
from .storage import Shelf, shelf, stored_type
from .tree import Leaves, gradients, stored_rows, take_apart
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

    def init(self, params: PyTree) -> State:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Fresh state for params (arrays, tracers or ShapeDtypeStructs); shares no buffer with them."""
        leaves = take_apart(params)
        arrays = [concrete(x) for x in leaves.arrays]
        shelves = self.shelves(leaves)
        rows = [shelf.init(self.rule.initial, p, arithmetic(p)) for shelf, p in zip(shelves, arrays, strict=True)]
        columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in self.rule.slot_kinds()}
        kept = self._kept_name(arrays)
        if kept is not None:
            policy = self._rounding
            columns[kept] = [rounding.fresh_kept(policy, p) if rounding.is_narrow(p.dtype) else None for p in arrays]
        slots = {name: leaves.join(column, nothing) for name, column in columns.items()}
        metrics = {name: jnp.zeros((), jnp.float32) for name in self._metric_names()}
        return State(jnp.zeros((), jnp.int32), slots, self._fresh_control(leaves, arrays), metrics)

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

    def state_bytes(self, params: PyTree) -> int:
        """Bytes of the state that init(params) makes; params may be ShapeDtypeStructs, and nothing is allocated."""
        return cost.state_bytes(self, params)

    def describe(self, params: PyTree) -> str:
        """A table of the trained leaves: path, shape, decay, factor on the rate, storage and bytes of the slots."""
        return cost.table(cost.costs(self, params))

    def _run(self, grads: PyTree, state: State, leaves: Leaves, extra: dict, *, fused: bool) -> tuple[list, State]:
        self._refuse_batch()
        options, ps, found = self.options, as_arrays(leaves.arrays), as_arrays(gradients(grads, leaves))
        names, kept = tuple(self.rule.slot_kinds()), self._kept_name(ps)
        rows, shelves = stored_rows(state, names, kept, leaves), self.shelves(leaves)
        self._refuse_foreign(state, rows, names, leaves, shelves)
        marks = self._mark_rows(state, leaves)
        decayed = decayed_leaves(options.decay_mask, leaves) if options.weight_decay is not None else ()
        plan = Plan(
            shelves, options.decay_mode, decayed or (False,) * len(ps), options.skip_nonfinite,
            options.telemetry, self._rounding, fused,
        )  # fmt: skip
        numbers = Numbers(
            self._rate(state.step), self._loss(extra), options.weight_decay, options.max_norm,
            scale_factors(options, leaves),
        )  # fmt: skip
        carry = Carry(state.step, state.control["scalars"] if state.control else {}, state.metrics)
        slots, keeps = [{name: row[name] for name in names} for row in rows], [row.get(kept or "") for row in rows]
        outs, new, carry = step_arrays(plan, self.rule, numbers, found, Rows(slots, keeps, marks), ps, carry)
        columns = {name: [row[name] for row in new.slots] for name in names} | ({kept: new.kept} if kept else {})
        control = state.control
        if control:
            after = {name: leaves.join([row[name] for row in new.marks], nothing) for name in control["marks"]}
            control = {"scalars": carry.scalars, "marks": after}
        tree = {name: leaves.join(columns[name], nothing) for name in state.slots}
        return outs, State(carry.step, tree, control, carry.metrics)

    @property
    def _rounding(self) -> str:
        """The rounding policy; a controller that needs exact parameters keeps masters where none was asked for."""
        wanted = self.options.rounding
        exact = self.controller is not None and self.controller.exact
        return "master" if exact and wanted in ("nearest", "stochastic") else wanted

    def _kept_name(self, arrays: list[Any]) -> str | None:
        name = rounding.KEPT.get(self._rounding)
        return name if any(rounding.is_narrow(jax.dtypes.canonicalize_dtype(p.dtype)) for p in arrays) else None

    def _fresh_control(self, leaves: Leaves, arrays: list[Array]) -> Any:
        if self.controller is None:
            return ()
        scalars, rows = loop.begin(self.controller, arrays)
        names = rows[0] if rows else {}
        return {"scalars": scalars, "marks": {n: leaves.join([row[n] for row in rows], nothing) for n in names}}

    def _mark_rows(self, state: State, leaves: Leaves) -> list[dict[str, Array]]:
        """The controller's marks, leaf by leaf."""
        if self.controller is None or not state.control:
            if (self.controller is None) != (not state.control):
                raise ValueError(
                    f"state {'has no' if self.controller else 'has a'} controller's part, unlike this optimizer; make "
                    "the state with this optimizer's init(params)."
                )
            return [{} for _ in leaves.trained]
        marks = state.control["marks"]
        columns = {name: leaves.treedef.flatten_up_to(tree) for name, tree in marks.items()}
        return [{name: columns[name][i] for name in marks} for i in leaves.trained]

    def _rate(self, step: Array) -> Any:
        # a schedule is evaluated here, outside the compiled step: it may close over values of an outer trace
        return self.learning_rate if self.controller is not None else rate_at(self.learning_rate, step)

    def _loss(self, extra: dict) -> Any:
        if "value" not in self.requires:
            return None  # other links of a chain may want what is given here
        if extra.get("value") is None:
            got = f", got {', '.join(sorted(extra))}" if extra else ""
            raise ValueError(
                f"{type(self.controller).__name__.lower()} needs the loss: expected value={got}; call "
                "update(grads, state, params, value=loss), or step(…, value=loss)."
            )
        if np.shape(extra["value"]):
            raise ValueError(f"value must be the scalar loss, got shape {np.shape(extra['value'])}; pass its mean.")
        return extra["value"]

    def _refuse_without_params(self) -> None:
        needs = {
            "weight_decay": self.options.weight_decay is not None,
            "telemetry of param_norm": "param_norm" in self.options.telemetry,
            f"the rule {type(self.rule).__name__}": self.rule.reads_params,
            "a controller": self.controller is not None,
        }
        for what, needed in needs.items():
            if needed:
                raise ValueError(
                    f"update(grads, state) was called without params, which {what} needs; call "
                    "update(grads, state, params)."
                )

    def shelves(self, leaves: Leaves) -> tuple[Shelf, ...]:
        """The storage of every trained leaf."""
        setting = self.options.storage
        out = (
            excluded_leaves(self.options.storage_exclude, leaves) if setting != "f32" else [True] * len(leaves.trained)
        )
        return tuple(shelf(setting, self.rule, excluded) for excluded in out)

    def _refuse_foreign(
        self, state: State, rows: list, names: tuple, leaves: Leaves, shelves: tuple[Shelf, ...]
    ) -> None:
        """Raise ValueError where the state was not made by an optimizer like this one."""
        metrics = self._metric_names()
        if set(state.metrics) != set(metrics):
            raise ValueError(
                f"state has the metrics {sorted(state.metrics)}, but this optimizer measures {sorted(metrics)}; make "
                "the state with this optimizer's init(params)."
            )
        for k, (row, p, where) in enumerate(zip(rows, leaves.arrays, shelves, strict=True)):
            expected = stored_type(where, np.shape(p), arithmetic(concrete(p)))
            came = jax.tree.map(lambda x: (np.shape(x), np.dtype(x.dtype)), {name: row[name] for name in names})
            if came != expected:
                raise ValueError(
                    f"the slots of parameter '{leaves.paths[k]}' are {came}, expected {expected} for this parameter "
                    f"and storage {self.options.storage!r}; make the state with this optimizer's init(params)."
                )

    def _metric_names(self) -> list[str]:
        reports = () if self.controller is None else self.controller.reports
        return [*self.options.metric_names(self.learning_rate), *reports]

    def _refuse_batch(self) -> None:
        for path, leaf in jax.tree_util.tree_leaves_with_path(self):
            if np.ndim(leaf):
                raise ValueError(
                    f"{jax.tree_util.keystr(path, simple=True, separator='.')} has shape {np.shape(leaf)}: this is a "
                    f"batch of {np.shape(leaf)[0]} optimizers, expected a scalar; map over it with jax.vmap."
                )

    def __repr__(self) -> str:
        fields: Any = dataclasses.fields(self.rule)  # pyright: ignore[reportArgumentType]
        rule = [f"{field.name}={getattr(self.rule, field.name)!r}" for field in fields]
        rate = [] if self.learning_rate is None else [f"learning_rate={self.learning_rate!r}"]
        return f"{type(self.rule).__name__.lower()}({', '.join(rate + rule + self.options.changed())})"


def no_update(leaf: Any) -> Any:
    """The update of a leaf that is not trained: zeros for an array, so that they can be added, else None."""
    kind = getattr(leaf.dtype, "kind", None) if isinstance(leaf, (jax.Array, np.ndarray)) else None  # keys have none
    return jnp.zeros_like(leaf) if kind in ("i", "u", "b") else None


def nothing(leaf: Any) -> None:
    """The state of a leaf that is not trained."""
    del leaf


def concrete(x: Any) -> Any:
    """A leaf as an array; a ShapeDtypeStruct as zeros of its shape, sharded as it says."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return jnp.zeros_like(x)
    return x if isinstance(x, (jax.Array, np.ndarray)) else jnp.asarray(x)
