"""From trees to lists and back: what an optimizer does around the compiled step."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..base import State
from ..values import rate_at
from . import loop, rounding
from .layout import Layout, arrange
from .leaf import arithmetic
from .lift import Carry, Numbers, Plan, Rows, as_arrays, step_arrays
from .options import decayed_leaves, excluded_leaves, scale_factors
from .storage import Shelf, shelf, stored_type
from .tree import Leaves, gradients

Optimizer = Any  # optimizer.Optimizer, whose file imports this one


def fresh_state(opt: Optimizer, leaves: Leaves) -> State:
    """The state before the first step."""
    arrays = [concrete(x) for x in leaves.arrays]
    layout, shelves, _ = treatment(opt, leaves)
    arrays = layout.gather(arrays)
    rows = [shelf.init(opt.rule.initial, p, arithmetic(p)) for shelf, p in zip(shelves, arrays, strict=True)]
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in opt.rule.slot_kinds()}
    kept = kept_name(opt, arrays)
    if kept is not None:
        narrow = [rounding.is_narrow(p.dtype) for p in arrays]
        fresh = [rounding.fresh_kept(opt.rounding, p) if n else None for n, p in zip(narrow, arrays, strict=True)]
        columns[kept] = fresh
    control: Any = ()
    if opt.controller is not None:
        scalars, marks = loop.begin(opt.controller, arrays)
        names = marks[0] if marks else {}
        control = {"scalars": scalars, "marks": {n: layout.shelve([row[n] for row in marks]) for n in names}}
    metrics = {name: jnp.zeros((), jnp.float32) for name in opt.metric_names}
    slots = {name: layout.shelve(column) for name, column in columns.items()}
    return State(jnp.zeros((), jnp.int32), slots, control, metrics)


def step(opt: Optimizer, grads: PyTree, state: State, leaves: Leaves, extra: dict, *, fused: bool):
    """One step: (new parameters or updates of the trained leaves, new state)."""
    refuse_batch(opt)
    options = opt.options
    layout, shelves, decayed = treatment(opt, leaves)
    found, ps = layout.gather(as_arrays(gradients(grads, leaves))), layout.gather(as_arrays(leaves.arrays))
    names, kept = tuple(opt.rule.slot_kinds()), kept_name(opt, ps)
    rows = stored(opt, state, layout, names, kept, shelves, ps)
    plan = Plan(shelves, options.decay_mode, decayed, options.skip_nonfinite, options.telemetry, opt.rounding, fused)
    # a schedule is evaluated here, outside the compiled step: it may close over values of an outer trace
    rate = opt.learning_rate if opt.controller is not None else rate_at(opt.learning_rate, state.step)
    factors = layout.factors(scale_factors(options, leaves))
    numbers = Numbers(rate, loss_of(opt, extra), options.weight_decay, options.max_norm, factors)
    carry = Carry(state.step, state.control["scalars"] if state.control else {}, state.metrics)
    outs, rows, carry = step_arrays(plan, opt.rule, numbers, found, rows, ps, carry)

    columns = {name: [row[name] for row in rows.slots] for name in names} | ({kept: rows.kept} if kept else {})
    control = state.control
    if control:
        marks = {name: layout.shelve([row[name] for row in rows.marks]) for name in control["marks"]}
        control = {"scalars": carry.scalars, "marks": marks}
    slots = {name: layout.shelve(columns[name]) for name in state.slots}
    return layout.scatter(outs), State(carry.step, slots, control, carry.metrics)


def treatment(opt: Optimizer, leaves: Leaves) -> tuple[Layout, tuple[Shelf, ...], tuple[bool, ...]]:
    """(layout, storage per array, whether decayed per array)."""
    options, count = opt.options, len(leaves.trained)
    narrow = options.storage != "f32"
    excluded = excluded_leaves(options.storage_exclude, leaves) if narrow else [True] * count
    decays = options.weight_decay is not None
    decayed = decayed_leaves(options.decay_mask, leaves) if decays else (False,) * count
    layout = arrange(options.layout, leaves, opt.rule, opt.controller, list(zip(excluded, decayed, strict=True)))
    shelves = tuple(shelf(options.storage, opt.rule, out) for out in layout.pick(excluded))
    return layout, shelves, tuple(layout.pick(list(decayed)))


def kept_name(opt: Optimizer, arrays: list[Any]) -> str | None:
    """The slot name of what the rounding keeps, None where no parameter is narrow."""
    name = rounding.KEPT.get(opt.rounding)
    return name if any(rounding.is_narrow(jax.dtypes.canonicalize_dtype(p.dtype)) for p in arrays) else None


def stored(opt: Optimizer, state: Any, layout: Layout, names: tuple, kept: str | None, shelves: tuple, ps: list):
    """The state's rows, one per array.

    Raises:
        TypeError: if state is not an adaptx state.
        ValueError: if it was made for another optimizer or other parameters.
    """
    again = "make the state with this optimizer's init(params)."
    if not isinstance(state, State):
        raise TypeError(
            f"state must be the State that opt.init(params) returned, got {type(state).__name__}; pass the state this "
            "optimizer gave last."
        )
    expected = [*names, *([kept] if kept else [])]
    if set(state.slots) != set(expected):
        raise ValueError(f"state has slots {sorted(state.slots)}, but this optimizer keeps {sorted(expected)}; {again}")
    if set(state.metrics) != set(opt.metric_names):
        have, want = sorted(state.metrics), sorted(opt.metric_names)
        raise ValueError(f"state has the metrics {have}, but this optimizer measures {want}; {again}")
    if (opt.controller is None) != (not state.control):
        has = "has no" if opt.controller else "has a"
        raise ValueError(f"state {has} controller's part, unlike this optimizer; {again}")
    columns = {name: _column(f"slot '{name}'", state.slots[name], layout) for name in expected}
    slots = [{name: columns[name][i] for name in names} for i in range(len(ps))]
    refuse_foreign_slots(layout, slots, shelves, ps, opt.options.storage)
    marks = state.control["marks"] if state.control else {}
    marked = {name: _column(f"mark '{name}'", tree, layout) for name, tree in marks.items()}
    rows = [{name: marked[name][i] for name in marks} for i in range(len(ps))]
    keeps: list[Array | None] = columns[kept] if kept else [None] * len(ps)
    return Rows(slots, keeps, rows)


def _column(what: str, tree: PyTree, layout: Layout) -> list[Any]:
    try:
        return layout.column(tree)
    except ValueError as error:
        raise ValueError(
            f"{what} of the state has the tree {jax.tree.structure(tree)}, expected that of the parameters, "
            f"{layout.leaves.treedef}; call opt.init on these parameters."
        ) from error


def refuse_foreign_slots(layout: Layout, slots: list, shelves: tuple[Shelf, ...], ps: list, storage: Any) -> None:
    """Raise ValueError where slots do not lie as this storage keeps them for these parameters."""
    for k, (row, p, where) in enumerate(zip(slots, ps, shelves, strict=True)):
        expected = stored_type(where, np.shape(p), arithmetic(p))
        came = jax.tree.map(lambda x: (np.shape(x), np.dtype(x.dtype)), row)
        for name in came:
            if came[name] != expected[name]:
                raise ValueError(
                    f"slot '{name}' of parameter '{layout.names()[k]}' is {came[name]}, expected {expected[name]} for "
                    f"this parameter and storage {storage!r}; make the state with this optimizer's init(params)."
                )


def loss_of(opt: Optimizer, extra: dict[str, Any]) -> Array | None:
    """The loss among the extra arguments, where the controller needs it.

    Raises:
        ValueError: where it is missing or no scalar.
    """
    if "value" not in opt.requires:
        return None  # other links of a chain may want what is given here
    if extra.get("value") is None:
        got = f", got {', '.join(sorted(extra))}" if extra else ""
        raise ValueError(
            f"{type(opt.controller).__name__.lower()} needs the loss: expected value={got}; call "
            "update(grads, state, params, value=loss), or step(…, value=loss)."
        )
    if np.shape(extra["value"]):
        raise ValueError(f"value must be the scalar loss, got shape {np.shape(extra['value'])}; pass its mean.")
    return extra["value"]


def refuse_without_params(opt: Optimizer) -> None:
    """Raise ValueError where an update needs the parameters."""
    needs = {
        "weight_decay": opt.options.weight_decay is not None,
        "telemetry of param_norm": "param_norm" in opt.options.telemetry,
        f"the rule {type(opt.rule).__name__}": opt.rule.reads_params,
        "a controller": opt.controller is not None,
    }
    for what, needed in needs.items():
        if needed:
            raise ValueError(
                f"update(grads, state) was called without params, which {what} needs; call "
                "update(grads, state, params)."
            )


def refuse_batch(opt: Optimizer) -> None:
    """Raise ValueError where the optimizer is a batch of optimizers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(opt):
        if np.ndim(leaf):
            raise ValueError(
                f"{jax.tree_util.keystr(path, simple=True, separator='.')} has shape {np.shape(leaf)}: this is a batch "
                f"of {np.shape(leaf)[0]} optimizers, expected a scalar; map over it with jax.vmap."
            )


def concrete(x: Any) -> Any:
    """A leaf as an array; a ShapeDtypeStruct as zeros of its shape, sharded as it says."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return jnp.zeros_like(x)
    return x if isinstance(x, (jax.Array, np.ndarray)) else jnp.asarray(x)
