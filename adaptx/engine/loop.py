"""The closed loop: feed, measure, sum, update, move. What a controller needs of the engine, on lists of arrays."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..base import Clock, Controller, Rule, Tick
from . import rounding
from .leaf import LeafNumbers, LeafPlan, advance, arithmetic, decayed, finish, incoming, read_slots, scalars


class Observed(NamedTuple):
    """What one leaf's measurement leaves for its move."""

    g: Array
    d: Any  # None where the direction waits for the updated scalars
    encoded: dict
    marks: dict


def scalar_dtype(arrays: list[Any]) -> Any:
    """The dtype of a controller's scalars: f32, or f64 where a parameter is f64."""
    return jnp.result_type(jnp.float32, *(arithmetic(p) for p in arrays))


def begin(controller: Controller, arrays: list[Array]) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    """(scalars, marks of every leaf) of a fresh controller."""
    dtype = scalar_dtype(arrays)
    fine = [p.astype(arithmetic(p)) for p in arrays]
    shape = (len(arrays),) if controller.scope == "leaf" else ()
    c = {name: jnp.broadcast_to(jnp.asarray(x, dtype), shape + jnp.shape(x)) for name, x in controller.start().items()}
    sums = total(controller, [controller.inspect(x) for x in fine], dtype)
    c = {name: jnp.array(x, dtype) for name, x in (controller.begin(sums, c) if arrays else c).items()}
    marks = [{name: jnp.array(mark) for name, mark in controller.marks(x).items()} for x in fine]
    return c, marks


def total(controller: Controller, rows: list[dict[str, Array]], dtype: Any) -> dict[str, Array]:
    """The sums of all leaves, or their vector with scope="leaf"."""
    names = rows[0] if rows else ()
    columns = {name: jnp.stack([row[name].astype(dtype) for row in rows]) for name in names}
    return columns if controller.scope == "leaf" else {name: jnp.sum(column) for name, column in columns.items()}


def advance_scalars(controller: Controller, sums: dict, c: dict, k: Tick) -> tuple[dict[str, Array], Tick]:
    """(new scalars, the tick with `finite` set): a step that is not finite leaves the scalars as they were."""
    seen = [*sums.values(), *([] if k.value is None else [k.value])]
    finite = jnp.all(jnp.asarray([jnp.all(jnp.isfinite(x)) for x in seen])) if seen else jnp.asarray(True)
    k = replace(k, finite=finite)
    new = controller.update(sums, c, k)
    if not controller.guards:
        new = {name: jnp.where(finite, new[name], c[name]) for name in c}
    return {name: jnp.asarray(new[name], c[name].dtype) for name in c}, k


@partial(jax.jit, static_argnames="plan")
def observe_leaf(
    plan: LeafPlan, rule: Rule, controller: Controller, n: LeafNumbers, c: dict, k: Tick, g, stored, marks, p, kept
):
    """Feed and measure one array: (what its move needs, its sums)."""
    n, rule, controller, c, k = narrowed(plan, n, rule, controller, c, k)
    x = rounding.opened(plan.rounding, p, kept, plan.dtype)
    g = incoming(plan, n, g, x)
    signed, unsigned = controller.feed(g, x, c, k)
    unit = controller.unit(c, k)
    clock = rule_clock(controller, c, k)
    encoded, old, new = advance(
        plan, rule if unit is None else rule.rescaled(unit), n, signed, unsigned, stored, x, clock
    )
    d = direction(plan, rule, controller, n, c, k, signed, new, old, x, clock) if controller.sees_direction else None
    marks, sums = controller.measure(g, d, x, lambda y: rule.precondition(y, old), marks, c, k)
    return Observed(g, d, encoded, marks), sums


@partial(jax.jit, static_argnames="plan")
def move_leaf(plan, rule, controller, n, c, before, k, seen: Observed, stored, marks, p, kept):
    """Move one array by the updated scalars: (new parameter or update, stored slots, what rounding keeps, marks)."""
    n, rule, controller, c, k = narrowed(plan, n, rule, controller, c, k)
    x = rounding.opened(plan.rounding, p, kept, plan.dtype)
    d = seen.d
    if d is None:
        before = {name: value.astype(plan.dtype) for name, value in before.items()}
        signed, _ = controller.feed(seen.g, x, before, k)
        old, new = (read_slots(plan, rule, s, x) for s in (stored, seen.encoded))
        d = direction(plan, rule, controller, n, c, k, signed, new, old, x, rule_clock(controller, before, k))
    finite: Any = k.finite
    held = {name: jnp.where(finite, seen.marks[name], marks[name]) for name in marks}
    u, left = controller.move(seen.g, d, x, held, c, k)
    origin = controller.origin(x, held, c)
    if origin is not x and not plan.fused and rounding.is_plain(plan.rounding, p.dtype):
        u = u + (origin - x)  # an update is added to p by its caller
    encoded = seen.encoded
    reset = controller.reset(c)
    if reset is not None:
        clean = plan.storage.init(rule.initial, p, plan.dtype)
        encoded = jax.tree.map(partial(jnp.where, reset), clean, encoded)
    out, encoded, keep = finish(plan, n, u, origin, p, kept, encoded, stored)
    if n.good is not None:
        left = {name: jnp.where(n.good, left[name], marks[name]) for name in marks}
    return out, encoded, keep, {name: left[name].astype(marks[name].dtype) for name in marks}


def direction(plan, rule: Rule, controller: Controller, n, c: dict, k: Tick, signed, new, old, x, clock) -> Array:
    """The rule's direction with decoupled decay and lr_scale, its ε in the unit it is fed in."""
    unit = controller.unit(c, k)
    rule = rule if unit is None else rule.rescaled(unit)
    d = decayed(plan, n, rule.direction(signed, new, old, x, clock), x, controller.decay_weight(c, k))
    return d if n.lr_scale is None else n.lr_scale * d


def rule_clock(controller: Controller, c: dict, k: Tick) -> Clock:
    """The rule's time: steps since its slots were fresh, or never if the controller does its bias correction."""
    age = controller.age(c, k)
    return Clock(jnp.full_like(age, jnp.inf) if controller.corrects and k.degree == 0 else age, jnp.ones_like(age))


def narrowed(plan: LeafPlan, n: LeafNumbers, rule: Rule, controller: Controller, c: dict, k: Tick):
    """Every number that enters one leaf's arithmetic, in its dtype."""
    dtype = plan.dtype
    rule, controller = jax.tree.map(lambda x: jnp.asarray(x, dtype), (rule, controller))
    c = {name: value.astype(dtype) for name, value in c.items()}
    value = None if k.value is None else k.value.astype(dtype)
    k = replace(k, t=k.t.astype(dtype), value=value, correction=jnp.asarray(k.correction, dtype))
    return scalars(plan, n), rule, controller, c, k
