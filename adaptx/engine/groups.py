"""From trees to lists and back: optimizers with their leaves, states and arguments around one compiled step."""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import primitives
from jaxtyping import Array, PyTree

from ..base import Control, State, fields_of
from ..values import at_step, is_traced
from . import norms
from .leaf import LeafPlan, Place, arithmetic
from .options import Options
from .state import Treatment, rows_of, treatment
from .step import Common, Done, Guard, Part, born_after, removes_bias, step_arrays
from .tree import Leaves, as_arrays, gradients

if TYPE_CHECKING:
    from .optimizer import Optimizer

# what a trainer may pass to any optimizer, as to line searches, sam and others
COMMON = frozenset({"value", "grad", "value_fn", "grad_fn", "key"})


class Group(NamedTuple):
    """One optimizer on its leaves, about to step."""

    opt: "Optimizer"
    state: State
    leaves: Leaves
    gs: list[Array | None]  # gradients of the trained leaves


class Call(NamedTuple):
    """How a step was called."""

    step: Array  # the number of the step, 0-based
    metrics: dict[str, Array]  # of the whole tree, as the step before left them
    extra: Mapping[str, PyTree]  # arguments by name
    fused: bool  # new parameters wanted, instead of updates


def advance(groups: list[Group], whole: Options, call: Call) -> tuple[list[list[Array]], list[State], Common]:
    """One step of optimizers that share a tree: (outputs of every group's trained leaves, new states, what they share).

    whole: the options that decide over the whole tree.
    """
    hows = [treatment(group.opt, group.leaves) for group in groups]
    pairs = [prepared(group, how, call) for group, how in zip(groups, hows, strict=True)]
    parts, plans = [part for part, _ in pairs], tuple(plan for _, plan in pairs)
    before = {name: call.metrics.get(name, jnp.zeros((), jnp.float32)) for name in whole.metric_names}
    value = loss_of([group.opt for group in groups], call.extra)
    common = Common(call.step, value, at_step(whole.max_norm, call.step), before)
    guard = Guard(whole.skip_nonfinite, whole.telemetry, whole.axis_name, call.fused)
    refuse_local(guard, parts, common)
    done, common = step_arrays(plans, guard, parts, common)
    rows = list(zip(groups, hows, done, strict=True))
    outs = [finished(group.leaves, how.layout.scatter([m.out for m in part.moved])) for group, how, part in rows]
    return outs, [assembled(*row, common) for row in rows], common


def prepared(group: Group, how: Treatment, call: Call) -> tuple[Part, tuple[LeafPlan, ...]]:
    """An optimizer's share of the step: its values at this step and its leaves, and what of them is structure."""
    opt, layout, leaves = group.opt, how.layout, group.leaves
    refuse_batch(opt)
    # schedules are evaluated here, outside the compiled step: they may close over values of an outer trace
    now: Optimizer = at_step(opt, call.step) if opt.scheduled else opt
    ps = layout.gather(as_arrays(leaves.arrays))
    rows = rows_of(opt, group.state, how, ps)
    scales = at_step(now.options.scales(leaves), call.step)  # functions of (path, leaf) may give schedules
    factors = [None] * len(ps) if scales is None else layout.factors(scales)
    extras = {name: layout.gather(as_arrays(extra_of(opt, name, call.extra, leaves))) for name in opt.rule.requires}
    numbers = layout.pick(leaves.trained)  # of the leaf in the whole tree, whatever else is trained there
    given = [{name: x[i] for name, x in extras.items()} for i in range(len(ps))]
    places = [
        Place(p, rows.kept[i], rows.slots[i], rows.marks[i], factors[i], given[i], np.uint32(numbers[i]))
        for i, p in enumerate(ps)
    ]  # fmt: skip
    options, debias = opt.options, not removes_bias(opt.controller, opt.rule)
    mode = "decoupled" if options.decay_mode == "corrected" else options.decay_mode  # λ has the correction
    decays = [mode if decayed else None for decayed in how.decayed]
    plan = tuple(
        LeafPlan(where, decay, opt.rounding, arithmetic(p), call.fused, debias)
        for where, decay, p in zip(how.shelves, decays, ps, strict=True)
    )
    gs = layout.gather(as_arrays(group.gs))
    shown = opt.shown(now)
    decay, extras, factor = now.options.decay(now.learning_rate), now.options.extras, now.options.factor
    return Part(
        now.rule,
        now.controller,
        decay,
        extras,
        factor,
        shown,
        gs,
        places,
        rows.scalars,
        born_after(call.step, group.state.born),
    ), plan


def assembled(group: Group, how: Treatment, done: Done, common: Common) -> State:
    """The state after a step."""
    shelve, moved, controller = how.layout.shelve, done.moved, group.opt.controller
    scalars, marks = fields_of(controller.Scalars), fields_of(controller.Marks)
    return State(
        step=common.step,
        born=born_after(group.state.step, group.state.born),
        slots={name: shelve([m.slots[name] for m in moved]) for name in how.entries} if moved else group.state.slots,
        kept={how.kept: shelve([m.kept for m in moved])} if how.kept and moved else group.state.kept,
        control=Control(
            dict(zip(scalars, done.scalars, strict=True)),
            {name: shelve([m.marks[i] for m in moved]) for i, name in enumerate(marks)},
        ),
        metrics={**done.metrics, **{name: common.metrics[name] for name in group.opt.options.metric_names}},
        made_by=group.state.made_by,
    )


def finished(leaves: Leaves, outs: list[Array]) -> list[Array]:
    """Outputs with the weak types of the parameters, where a second step would otherwise be another program."""
    return [
        primitives.convert_element_type_p.bind(x, new_dtype=x.dtype, weak_type=True, sharding=None)
        if is_traced(p) and getattr(p, "weak_type", False)
        else x
        for x, p in zip(outs, leaves.arrays, strict=True)
    ]


def loss_of(opts: list["Optimizer"], extra: Mapping[str, PyTree]) -> Array | None:
    """The loss among the extra arguments, where a controller needs it.

    Raises:
        ValueError: where it is missing or no scalar.
    """
    needs = [opt.controller.name for opt in opts if "value" in opt.controller.requires]
    if not needs:
        return None  # other links of a chain may want what is given here
    if extra.get("value") is None:
        got = f", got {', '.join(sorted(extra))}" if extra else ""
        raise ValueError(
            f"{needs[0]} needs the loss: expected value={got}; call update(grads, state, params, value=loss), or "
            "step(…, value=loss)."
        )
    return scalar_loss(extra["value"])


def scalar_loss(value: PyTree) -> Array:
    """A loss as it may be measured.

    Raises:
        TypeError: where it is no number.
        ValueError: where it is more than one.
    """
    if not isinstance(value, (int, float, np.number, np.ndarray, jax.Array)):
        raise TypeError(f"value must be the scalar loss, got {value!r} ({type(value).__name__}); pass a number.")
    if np.shape(value):
        raise ValueError(f"value must be the scalar loss, got shape {np.shape(value)}; pass its mean.")
    return value  # pyright: ignore[reportReturnType]


def extra_of(opt: "Optimizer", name: str, extra: Mapping[str, PyTree], leaves: Leaves) -> list[Array | None]:
    """An argument that the rule requires, leaf by leaf; None given means none at this step.

    Raises:
        ValueError: where it is missing, or not like the parameters.
    """
    if name not in extra:
        raise ValueError(
            f"{opt.rule.name} needs {name}=, a tree like the parameters, at every step; pass it to update or step, or "
            f"None at steps without one."
        )
    return [None] * len(leaves.trained) if extra[name] is None else gradients(extra[name], leaves, name)


def refuse_unknown_extra(requires: frozenset[str], extra: Mapping[str, PyTree]) -> None:
    """Raise TypeError for an argument of step that nothing here takes."""
    known = sorted(requires | COMMON)
    for name in extra:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}=?" if near else "nothing here takes it."
            raise TypeError(f"step got the argument {name!r}, expected one of {', '.join(known)}; {hint}")


def refuse_batch(opt: PyTree) -> None:
    """Raise ValueError where the optimizer is a batch of optimizers."""
    if any(np.ndim(x) for x in jax.tree.leaves(opt)):
        batched = [(path, x) for path, x in jax.tree_util.tree_leaves_with_path(opt) if np.ndim(x)]
        rates = [x for path, x in batched if path[0].name == "learning_rate"]
        names = [key.name for key in batched[0][0] if getattr(key, "name", "complement") != "complement"]
        name, shape = ("learning_rate", np.shape(rates[0])) if rates else (names[-1], np.shape(batched[0][1]))
        raise ValueError(
            f"{name} has shape {shape}: this is a batch of {shape[0]} optimizers, whose every number has it, expected "
            "scalars; map over the optimizer with jax.vmap."
        )


def refuse_local(guard: Guard, parts: list[Part], common: Common) -> None:
    """Raise ValueError where a device of a shard_map sees only its part of what has to be summed over all."""
    try:
        jax.lax.axis_index(guard.axis_name) if guard.axis_name else None
    except NameError as error:
        raise ValueError(
            f"axis_name={guard.axis_name!r} names no mesh axis here, expected a step inside jax.shard_map over them; "
            "call it there, or make the optimizer without axis_name."
        ) from error
    wants = common.max_norm is not None or guard.skip_nonfinite or guard.telemetry
    measured = [f"the sums of {part.controller.name}" for part in parts if part.controller.measured]
    measured += [f"the sums of {part.extras.summed}" for part in parts if part.extras and part.extras.summed]
    if wants or measured:
        arrays = [place.p for part in parts for place in part.places]
        norms.refuse_local(guard.axis_name, arrays, "norms" if wants else measured[0])
    for part in parts:
        refuse_placed(guard.axis_name, part)


def refuse_placed(axis_name: tuple[str, ...], part: Part) -> None:
    """Raise ValueError where an option sees where in a leaf an entry lies, and a device has a part of the leaf."""
    what = part.extras.placed if part.extras else None
    known = [bool(norms.local_axes(place.p)) for place in part.places]
    if what and (any(known) or (axis_name and any(norms.varies(place.p, axis_name) for place in part.places))):
        raise ValueError(
            f"{what} sees whole leaves, but inside shard_map a device has a part of them and does not know which; "
            "leave the step to jit, which shards it by itself, or remove the option."
        )


def refuse_without_params(opt: "Optimizer") -> None:
    """Raise ValueError where an update needs the parameters."""
    needs = {
        "weight_decay": opt.options.weight_decay is not None,
        "agc": opt.options.extras is not None and opt.options.extras.agc is not None,
        "telemetry of param_norm": "param_norm" in opt.options.telemetry,
        f"the rule {opt.rule.name}": opt.rule.reads_params,
        f"rounding={opt.options.rounding!r}": opt.options.rounding != "nearest",
        "a controller": opt.controller.measured or opt.controller.exact,
    }
    for what, needed in needs.items():
        if needed:
            raise ValueError(
                f"update(grads, state) was called without params, which {what} needs; call "
                "update(grads, state, params)."
            )
