"""One optimizer step, top to bottom, on lists of arrays.

    norm of all gradients (norms.py), clipping factor, whether the step counts            here
    for every leaf: gradient -> slots, direction, what the controller measures            array.py, storage.py
    sum over the leaves, update the controller's scalars                          inside a conditional, see `update`
    for every leaf: direction -> displacement -> new parameter                            array.py, rounding.py
    metrics, step counter

An optimizer is one part; a route has several, which share what is decided over the whole tree. The step is compiled as
one function of arrays whatever the caller does (inside an outer jit it is inlined).
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, DTypeLike

from ..base import Clock, Nothing, Record, Rule, fields_of
from ..control import Controller, Tick
from ..numerics import formed, largest_squarable
from ..sharded import tied
from ..values import Scalar
from .array import holds_squares, move, observe, observe_and_move
from .extras import Extras
from .leaf import LeafPlan, Moved, Place, Share, arithmetic, cast, scalar_dtype
from .norms import global_norm, summed, summed_rows
from .stacks import on_leaves

LAST = np.iinfo(np.int32).max  # the counter stays there, and `born` goes down from step to step


@dataclass(frozen=True)
class Guard:
    """What of the decisions over the whole tree is structure."""

    skip_nonfinite: bool
    telemetry: tuple[str, ...]
    axis_name: tuple[str, ...]
    fused: bool  # new parameters instead of updates


class Part(NamedTuple):
    """One optimizer's share of a step: its values, and its leaves as lists."""

    rule: Rule
    controller: Controller
    weight_decay: Scalar | None
    extras: Extras | None
    factor: Scalar | None  # on every displacement, with which the rate is shown
    shown: dict[str, Scalar]  # hyperparameters that are schedules, at this step
    gs: list[Array | None]
    places: list[Place]
    scalars: Record  # the controller's `Scalars`
    born: Array  # int32, the step at which the slots were fresh


class Common(NamedTuple):
    """What all parts share."""

    step: Array
    value: Array | None  # the loss
    max_norm: Scalar | None
    metrics: dict[str, Array]  # of the step before


class Now(NamedTuple):
    """What is decided over the whole tree."""

    step: Array  # int32, 1-based
    norm: Array  # of all gradients
    max_norm: Scalar | None
    good: Array | None  # whether the step counts


class Done(NamedTuple):
    """A part after the step."""

    moved: list[Moved]
    scalars: Record
    metrics: dict[str, Array]


@partial(jax.jit, static_argnames=("plans", "guard"))
def step_arrays(
    plans: tuple[tuple[LeafPlan, ...], ...], guard: Guard, parts: list[Part], common: Common
) -> tuple[list[Done], Common]:
    """One step on the trained leaves."""
    gs = [g for part in parts for g in part.gs if g is not None]
    wants_norm = common.max_norm is not None or guard.skip_nonfinite or "grad_norm" in guard.telemetry
    norm = global_norm(gs, guard.axis_name) if wants_norm else jnp.zeros((), jnp.float32)
    good = counts(norm, plans, clipped=common.max_norm is not None) if guard.skip_nonfinite else None
    extras = [x for part in parts for place in part.places for x in place.extra.values() if x is not None]
    if good is not None and extras:
        good = good & jnp.isfinite(global_norm(extras, guard.axis_name))
    following = lax.add(lax.min(common.step, np.int32(LAST - 1)), np.int32(1))
    now = Now(following, norm, common.max_norm, good)
    done = [walk(plan, guard, part, common, now) for plan, part in zip(plans, parts, strict=True)]
    measured = measure(guard, parts, done, norm, common.metrics, good)
    metrics = {name: jnp.asarray(x, jnp.float32) for name, x in measured.items()}
    after = following if good is None else jnp.where(good, following, common.step)
    return done, Common(after, None, None, metrics)


def walk(plan: tuple[LeafPlan, ...], guard: Guard, part: Part, common: Common, now: Now) -> Done:
    """Observe every leaf of a part, update its controller from the sums, move every leaf."""
    controller, dtype = part.controller, scalar_dtype([place.p for place in part.places])
    k = tick(part, common, now, dtype)
    shares = {kind: share(part, k, kind, now, guard) for kind in dict.fromkeys(leaf.dtype for leaf in plan)}
    before = scalars_by_leaf(part, part.scalars, plan)
    each = partial(on_leaves, plan=plan, gs=part.gs)
    found: list[Any] = [None] * len(plan)
    sums: list[Record] = []
    # two passes where sums come in between, and where leaves are stacked: the rule looks at the stack in the first, so
    # that in the second every parameter moves in place
    apart = controller.measured or part.rule.batches
    if apart:
        rows = list(zip(part.places, part.gs, before, strict=True))
        found = each(observe, shares=shares, rows=rows, stacked=part.rule.batches)
    if controller.measured:
        none = controller.Sums(*[jnp.zeros((), dtype) for _ in fields_of(controller.Sums)])
        sums = [none if one is None else one[1] for one in found]
    scalars, k = update(part, over_devices(sums, part, guard), k, now, dtype)
    after = scalars_by_leaf(part, scalars, plan)
    shares = {kind: old._replace(tick=cast(k, kind)) for kind, old in shares.items()}
    seen = [one and in_place(one[0], place, part.rule) for one, place in zip(found, part.places, strict=True)]
    rows = list(zip(part.places, seen if apart else part.gs, before, after, strict=True))
    # unless the controller sees directions, the rule gives them only now, at the new rate: this pass stacks leaves too
    waits = part.rule.batches and not controller.sees_direction
    moved = each(move if apart else observe_and_move, shares=shares, rows=rows, stacked=waits)
    leaves = zip(moved, plan, part.places, strict=True)
    moved = [in_place(one, place, part.rule) if one else untouched(leaf, place) for one, leaf, place in leaves]
    shown = {**part.shown, **report(part, scalars, cast(controller, dtype), k)}
    return Done(moved, scalars, {name: jnp.asarray(x, jnp.float32) for name, x in shown.items()})


def share(part: Part, k: Tick, dtype: DTypeLike, now: Now, guard: Guard) -> Share:
    """What the leaves of a dtype have in common."""
    rule, controller, extras = part.rule, part.controller, part.extras
    ahead = {} if removes_bias(controller, rule) else rule.debiased()
    return Share(
        formed(rule, ahead, k.t, dtype),
        formed(controller, controller.debiased(), k.t, dtype),
        cast(k, dtype),
        cast(part.weight_decay, dtype),
        cast(clip_factor(now, rule, dtype), dtype),
        now.step,
        turn(now.step, part.born),
        now.good,
        None if extras is None else replace(cast(extras, dtype), axes=guard.axis_name),
    )


def age(step: Array, born: Array) -> Array:
    """Steps since the slots were fresh, uint32: born may be as far below 0 as step is above."""
    return lax.sub(lax.convert_element_type(step, np.uint32), lax.convert_element_type(born, np.uint32))


def turn(step: Array, born: Array) -> Array:
    """The number of the step for random bits, uint32: another one at every step after the counter has stopped too."""
    number = lax.convert_element_type(step, np.uint32)
    return lax.select(lax.eq(step, np.int32(LAST)), lax.add(number, age(step, born)), number)


def born_after(step: Array, born: Array) -> Array:
    """`born` after a step that began with this counter."""
    return lax.select(lax.eq(step, np.int32(LAST)), lax.sub(lax.max(born, np.int32(1 - LAST)), np.int32(1)), born)


def removes_bias(controller: Controller, rule: Rule) -> bool:
    """Whether the rule's correction of bias is in the controller's rate."""
    return controller.corrects and rule.degree == 0


def tick(part: Part, common: Common, now: Now, dtype: DTypeLike) -> Tick:
    """The controller's view of this step, before its sums are known."""
    controller, rule = part.controller, part.rule
    t = lax.convert_element_type(age(now.step, part.born), dtype)
    correction: Scalar = 1.0
    if removes_bias(controller, rule):
        correction = cast(rule, dtype).correction(Clock(t))
    value = cast(common.value, dtype) if "value" in controller.requires else None
    return Tick(common.step, t, value, jnp.asarray(correction, dtype), None, rule.degree)


def scalars_by_leaf(part: Part, c: Record, plan: tuple[LeafPlan, ...]) -> list[Record]:
    """The scalars as every leaf sees them: all, or its entry of each with scope="leaf", in its dtype."""
    kinds = {leaf.dtype: cast(c, leaf.dtype) for leaf in plan}
    if part.controller.scope != "leaf":
        return [kinds[leaf.dtype] for leaf in plan]
    return [jax.tree.map(lambda x, i=i: x[i], kinds[leaf.dtype]) for i, leaf in enumerate(plan)]


def over_devices(rows: list[Record], part: Part, guard: Guard) -> list[Record]:
    """The sums of every leaf, those of leaves that devices hold parts of added over them."""
    return summed_rows(guard.axis_name, rows, [place.p for place in part.places]) if rows else rows


def update(part: Part, rows: list[Record], k: Tick, now: Now, dtype: DTypeLike) -> tuple[Record, Tick]:
    """(the controller's scalars after this step, the tick with `finite` set) from every leaf's sums.

    Inside a conditional that is always taken, which the compiler does not know: it would repeat all sums in the loop of
    every leaf. A step that is not finite, or does not count, leaves the scalars as they were.
    """
    controller, c = part.controller, part.scalars
    idle = all(g is None for g in part.gs)
    if idle or not (controller.measured or jax.tree.leaves(c)):
        return c, k
    controller = formed(controller, controller.debiased(), k.t, dtype)

    def updated() -> tuple[Record, Array]:
        sums = summed(controller, rows, dtype) if controller.measured else Nothing()
        seen = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((sums, k.value))]
        finite = jnp.all(jnp.stack(seen)) if seen else jnp.ones((), bool)
        new = controller.update(sums, c, replace(k, finite=finite))
        counted = finite if now.good is None else finite & now.good
        return jax.tree.map(lambda a, b: jnp.where(counted, a, b).astype(b.dtype), new, c), finite

    scalars, finite = lax.cond(now.step > 0, updated, lambda: (c, jnp.zeros((), bool)))
    return scalars, replace(k, finite=finite)


def report(part: Part, c: Record, controller: Controller, k: Tick) -> dict[str, Scalar]:
    """What the controller shows of this step, its numbers and scalars c being of one dtype."""
    rate = controller.rate(c, k) if part.factor is None else controller.rate(c, k) * part.factor
    shown, names = {"learning_rate": rate, **controller.report(c, k)}, controller.metric_names
    return {name: jnp.sum(x) / max(jnp.size(x), 1) if jnp.ndim(x) else x for name, x in shown.items() if name in names}


def in_place(one: Any, place: Place, rule: Rule) -> Any:
    """What was observed or moved, sharded as it was before: in a stack it lies as leaves of other shardings may."""
    if not rule.batches:
        return one
    before = {**place._asdict(), "out": place.p}
    tie = {name: jax.tree.map(tied, getattr(one, name), before[name]) for name in one._fields if name in before}
    return one._replace(**tie)


def untouched(plan: LeafPlan, place: Place) -> Moved:
    """A leaf without a gradient."""
    return Moved(place.p if plan.fused else jnp.zeros_like(place.p), place.kept, place.slots, place.marks)


def counts(norm: Array, plans: tuple[tuple[LeafPlan, ...], ...], clipped: bool) -> Array:
    """Whether a step counts by its gradients: they are finite, and so are their squares unless they are clipped."""
    narrow = any(leaf.dtype != jnp.float64 for plan in plans for leaf in plan)
    largest = jnp.finfo(jnp.float32 if narrow else jnp.float64).max
    return jnp.isfinite(norm) if clipped else norm < float(largest) ** 0.5


def clip_factor(now: Now, rule: Rule, dtype: DTypeLike) -> Array | None:
    """min(1, max_norm / norm), 1 for a zero norm; None without clipping.

    Where slots hold squares, no norm is left whose square is out of range, however large max_norm is. The factor of a
    finite norm is at least 2⁻¹²⁵ (f32): a smaller one could be flushed to 0, and nothing would move. A division at the
    end: XLA would repeat a choice in the loop of every leaf.
    """
    if now.max_norm is None:
        return None
    most = jnp.asarray(now.max_norm, now.norm.dtype)
    if holds_squares(rule):
        most = jnp.minimum(most, min(largest_squarable(dtype), float(jnp.finfo(most.dtype).max)))
    norm = jnp.where(now.norm < jnp.inf, jnp.minimum(now.norm, most / (2 * jnp.finfo(most.dtype).tiny)), now.norm)
    return jnp.where(norm > most, most, 1) / jnp.where(norm > most, norm, 1)


def measure(
    guard: Guard, parts: list[Part], done: list[Done], norm: Array, before: dict[str, Array], good: Array | None
) -> dict[str, Array]:
    """The metrics of the whole tree."""
    now: dict[str, Array] = {}
    ps = [place.p for part in parts for place in part.places]
    outs = [moved.out for part in done for moved in part.moved]
    if "grad_norm" in before:
        now["grad_norm"] = norm
    if "update_norm" in guard.telemetry:
        moves = [o.astype(arithmetic(p)) - p for o, p in zip(outs, ps, strict=True)] if guard.fused else outs
        now["update_norm"] = global_norm(moves, guard.axis_name)
    if "param_norm" in guard.telemetry:
        now["param_norm"] = global_norm(outs if guard.fused else ps, guard.axis_name)
    if good is not None:
        now["skipped"] = before["skipped"] + jnp.where(good, 0.0, 1.0)
        now["skipped_in_a_row"] = jnp.where(good, 0.0, before["skipped_in_a_row"] + 1.0)
    return now
