"""One optimizer step, top to bottom, on lists of arrays.

    norm of the gradients, clipping factor, whether the step is good        sums.py
    open loop:    for every leaf, cast up, l2 decay, advance, encode, decode, direction, decay, apply     leaf.py
    closed loop:  for every leaf, the same up to the direction, and measure; sum; update; move            loop.py
    metrics, step counter

The step is compiled as one function of arrays whatever the caller does (inside an outer jit it is inlined), and the
call that runs a rule over one array is a function of its own, so that leaves of one shape are traced once.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ..base import Clock, Controller, Rule, Tick
from ..numerics import at_step
from . import loop
from .leaf import LeafNumbers, LeafPlan, arithmetic, step_leaf
from .storage import Shelf
from .sums import global_norm


@dataclass(frozen=True)
class Plan:
    """What of a step is structure: equal plans share one compilation."""

    storage: tuple[Shelf, ...]  # per leaf
    decay_mode: str
    decayed: tuple[bool, ...]  # per leaf, whether weight decay applies
    skip_nonfinite: bool
    telemetry: tuple[str, ...]
    rounding: str
    fused: bool  # new parameters instead of updates


class Numbers(NamedTuple):
    """The scalars of a step."""

    lr: Any  # the open-loop rate or a Controller; None for a bare direction
    value: Any  # the loss, or None
    weight_decay: Any
    max_norm: Any
    lr_scale: Any  # per-leaf factors, or None


class Rows(NamedTuple):
    """Everything that lies beside the parameters, a list with one entry per trained leaf."""

    slots: list[dict[str, Array]]  # as stored
    kept: list[Array | None]  # what the rounding keeps
    marks: list[dict[str, Array]]  # the controller's


class Carry(NamedTuple):
    """The scalars a step takes over from the one before."""

    step: Array
    scalars: dict[str, Array]  # the controller's
    metrics: dict[str, Array]


@partial(jax.jit, static_argnames="plan")
def step_arrays(plan: Plan, rule: Rule, numbers: Numbers, gs: list, rows: Rows, ps: list, carry: Carry):
    """One step on the trained leaves: (new parameters or updates, rows, carry)."""
    wants_norm = numbers.max_norm is not None or plan.skip_nonfinite or "grad_norm" in plan.telemetry
    norm: Any = global_norm([g for g in gs if g is not None]) if wants_norm else None
    good = jnp.isfinite(norm) if plan.skip_nonfinite else None
    clip = None if numbers.max_norm is None else clip_factor(norm, numbers.max_norm)
    following: Any = optax.safe_increment(carry.step)

    plans = [leaf_plan(plan, i, p, numbers) for i, p in enumerate(ps)]
    factors = [None] * len(ps) if numbers.lr_scale is None else numbers.lr_scale
    closed = isinstance(numbers.lr, Controller)
    rate = None if closed else numbers.lr
    leaf_numbers = [
        LeafNumbers(following, rate, factors[i], numbers.weight_decay, clip, np.uint32(i), good) for i in range(len(ps))
    ]
    run = closed_loop if closed else open_loop
    outs, rows, scalars, measured = run(plans, rule, numbers, leaf_numbers, gs, rows, ps, carry)
    if good is not None:
        scalars = {name: jnp.where(good, scalars[name], carry.scalars[name]) for name in scalars}
        following = jnp.where(good, following, carry.step)
    measured |= measure(plan, norm, outs, ps, carry.metrics, good)
    metrics = {name: jnp.asarray(measured[name], jnp.float32) for name in carry.metrics}
    return outs, rows, Carry(following, scalars, metrics)


def open_loop(plans, rule, numbers: Numbers, leaf_numbers, gs, rows: Rows, ps, carry: Carry):
    """Every leaf by itself, in one pass."""
    done = []
    t = leaf_numbers[0].t if ps else carry.step
    rules = {dtype: at_step(rule, t.astype(dtype), dtype) for dtype in {plan.dtype for plan in plans}}
    for plan, n, g, stored, p, kept in zip(plans, leaf_numbers, gs, rows.slots, ps, rows.kept, strict=True):
        untouched = (p if plan.fused else jnp.zeros_like(p), stored, kept)
        done.append(untouched if g is None else step_leaf(plan, rules[plan.dtype], n, g, stored, p, kept))
    outs, slots, keep = ([row[i] for row in done] for i in range(3))
    return outs, Rows(slots, keep, rows.marks), carry.scalars, {"learning_rate": numbers.lr}


def closed_loop(plans, rule: Rule, numbers: Numbers, leaf_numbers, gs, rows: Rows, ps, carry: Carry):
    """Measure every leaf, update the controller from the sums, move every leaf."""
    controller, before = numbers.lr, carry.scalars
    k = tick(controller, rule, numbers.value, leaf_numbers[0].t if ps else carry.step + 1, carry, ps)
    per_leaf = controller.scope == "leaf"
    if all(g is None for g in gs):  # nothing to measure
        outs = [p if plan.fused else jnp.zeros_like(p) for plan, p in zip(plans, ps, strict=True)]
        return outs, rows, before, {name: carry.metrics[name] for name in ("learning_rate", *controller.reports)}

    def of(c: dict, i: int) -> dict:
        return {name: value[i] for name, value in c.items()} if per_leaf else c

    everything = list(zip(plans, leaf_numbers, gs, rows.slots, rows.marks, ps, rows.kept, strict=True))
    seen: list[Any] = [None] * len(ps)
    sums: list[Any] = [None] * len(ps)
    for i, (plan, n, g, stored, marks, p, kept) in enumerate(everything):
        if g is not None:
            seen[i], sums[i] = loop.observe_leaf(plan, rule, controller, n, of(before, i), k, g, stored, marks, p, kept)
    names = next((row for row in sums if row is not None), {})
    none = {name: jnp.zeros((), jnp.float32) for name in names}
    totals = loop.total(controller, [none if row is None else row for row in sums], loop.scalar_dtype(ps))
    c, k = loop.advance_scalars(controller, totals, before, k)

    done = []
    for i, (plan, n, g, stored, marks, p, kept) in enumerate(everything):
        untouched = (p if plan.fused else jnp.zeros_like(p), stored, kept, marks)
        args = (plan, rule, controller, n, of(c, i), of(before, i), k, seen[i], stored, marks, p, kept)
        done.append(untouched if g is None else loop.move_leaf(*args))
    outs, slots, keep, marks = ([row[i] for row in done] for i in range(4))
    reported = {"learning_rate": controller.rate(c, k), **controller.report(c, k)}
    return outs, Rows(slots, keep, marks), c, {name: jnp.mean(x) for name, x in reported.items()}


def tick(controller: Controller, rule: Rule, value: Any, t: Array, carry: Carry, ps: list) -> Tick:
    """The controller's view of this step."""
    dtype = loop.scalar_dtype(ps)
    loss = jnp.asarray(value, dtype) if "value" in controller.requires else None
    wide = jax.tree.map(lambda x: jnp.asarray(x, dtype), rule)
    one = jnp.ones((), dtype)
    k = Tick(carry.step, t.astype(dtype), loss, one, None, rule.degree)
    age = jnp.max(controller.age(carry.scalars, k))  # with one entry per leaf they are alike
    return replace(k, correction=jnp.asarray(wide.correction(Clock(age, one)), dtype))


def leaf_plan(plan: Plan, i: int, p: Array, numbers: Numbers) -> LeafPlan:
    """The structural part of leaf i's step."""
    decay = plan.decay_mode if numbers.weight_decay is not None and plan.decayed[i] else None
    return LeafPlan(plan.storage[i], decay, plan.rounding, arithmetic(p), plan.fused, numbers.lr is not None)


def clip_factor(norm: Array, max_norm: Any) -> Array:
    """min(1, max_norm / norm), 1 for a zero norm."""
    bound = jnp.asarray(max_norm, norm.dtype)
    return bound / jnp.where(norm > bound, norm, bound)


def measure(plan: Plan, norm: Any, outs: list, ps: list, before: dict, good: Any) -> dict[str, Any]:
    """The engine's own metrics of this step."""
    now: dict[str, Any] = {"grad_norm": norm}
    if "update_norm" in plan.telemetry:
        moved = [o.astype(arithmetic(p)) - p for o, p in zip(outs, ps, strict=True)] if plan.fused else outs
        now["update_norm"] = global_norm(moved)
    if "param_norm" in plan.telemetry:
        now["param_norm"] = global_norm(outs if plan.fused else ps)
    if good is not None:
        now["skipped"] = before["skipped"] + jnp.where(good, 0.0, 1.0)
        now["skipped_in_a_row"] = jnp.where(good, 0.0, before["skipped_in_a_row"] + 1.0)
    return now


def as_arrays(leaves: list[Any]) -> list[Any]:
    """Leaves as jax arrays of their canonical dtype; None stays."""
    return [x if x is None or isinstance(x, (jax.Array, np.ndarray)) else jnp.asarray(x) for x in leaves]
