"""What a step does to an array: cast up, clip, l2 decay, feed, advance, encode, direction, decay; measure; move, round.

To feed is to give the rule the gradient in the units the controller wants (`Controller.feed`). What `extras.py` has to
add comes before and after the rule: clipping and noise first, masks last.

`observe` goes from the gradient to the direction and what the controller measures, `move` from there to the new
parameter. Where nothing is measured both are one call. `calls` makes functions of them that leaves of one kind share.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from ..base import Clock, Record, Rule
from ..control import Leaf
from ..numerics import scaled, showing, squarable
from ..sharded import gathered, sharded_as
from . import rounding
from .leaf import LeafPlan, Moved, Observed, Place, Share, named, record
from .storage import Slots, Stored, salt

LEAST_WEIGHT = 2.0**-60  # what a weight of 0 counts as: slots that carry it are divided by it


def observe(plan: LeafPlan, share: Share, place: Place, g: Array, c: Record) -> tuple[Observed, Record]:
    """Feed and measure one array, c the controller's scalars before this step: (what its move needs, its sums)."""
    controller, k = share.controller, share.tick
    x = rounding.opened(plan.rounding, place.p, place.kept, plan.dtype)
    g = _incoming(plan, share, place, g, x)
    fed = controller.feed(g, x, c, k)
    slots = _advanced(plan, share, place, fed, x, c)
    d = _direction(plan, share, place, fed, x, slots, (c, c)) if controller.sees_direction else None
    marks, sums = place.marks, None
    if controller.measured:
        g = showing(squarable(g), g) if _bounds(share) else g
        marks, sums = controller.measure(_leaf(share, plan, place, (g, d, x), marks), c, k)
    return Observed(g, d, slots, marks), sums


def move(plan: LeafPlan, share: Share, place: Place, seen: Observed, before: Record, after: Record) -> Moved:
    """Move one array, the controller's scalars having gone from `before` to `after`."""
    controller, k = share.controller, share.tick
    x = rounding.opened(plan.rounding, place.p, place.kept, plan.dtype)
    d = seen.d
    if d is None:
        fed = controller.feed(seen.g, x, before, k)
        d = _direction(plan, share, place, fed, x, seen.slots, (before, after))
    marks = seen.marks
    if k.finite is not None:
        marks = jax.tree.map(partial(jnp.where, k.finite), marks, place.marks)
    u, left = controller.move(_leaf(share, plan, place, (seen.g, d, x), marks), after, k)
    if place.scale is not None:
        u = scaled(place.scale, u) if jnp.ndim(place.scale) == 0 else place.scale * u
    if plan.decay == "independent":
        u = u - _decay(share, d, x)
    out, kept = _rounded(plan, share, place, x, u)
    left = jax.tree.map(lambda new, old: new.astype(old.dtype), left, place.marks)
    new: PyTree = (kept, seen.slots, left)
    if share.good is not None:
        out = jnp.where(share.good, out, place.p if plan.fused else jnp.zeros_like(place.p))
        new = jax.tree.map(partial(jnp.where, share.good), new, (place.kept, place.slots, place.marks))
    return Moved(out, *new)


def observe_and_move(plan: LeafPlan, share: Share, place: Place, g: Array, before: Record, after: Record) -> Moved:
    """Both, where nothing is measured in between."""
    seen, _ = observe(plan, share, place, g, before)
    return move(plan, share, place, seen, before, after)


TRACED_ONCE = {function: jax.jit(function, static_argnums=0) for function in (observe, move, observe_and_move)}


def holds_squares(rule: Rule) -> bool:
    """Whether a rule keeps squares of gradients, which overflow before these do."""
    return not all(slot.signed for slot in rule.slots().values())


def calls(
    plans: Sequence[LeafPlan], gs: Sequence[Array | None], function: Callable[..., PyTree]
) -> list[Callable[..., PyTree]]:
    """How to call a function of this file on every leaf: leaves of one kind are traced once, as a function of its own.

    A leaf that is the only one of its kind is not worth one.
    """
    kinds = [(plan, None if g is None else (g.shape, g.dtype)) for plan, g in zip(plans, gs, strict=True)]
    often = {kind for kind, count in Counter(kinds).items() if count > 1}
    return [TRACED_ONCE[function] if kind in often else function for kind in kinds]


def _incoming(plan: LeafPlan, share: Share, place: Place, g: Array, x: Array) -> Array:
    """The gradient as the rule is to see it: cast up, clipped, with l2 decay."""
    g = g.astype(plan.dtype)
    g = g if share.clip is None else g * share.clip
    if share.extras is not None:
        g = share.extras.gradient(g, x, share.step, salt(share.turn, place.leaf))
    g = g + share.weight_decay * x if plan.decay == "l2" else g
    return g if share.extras is None else share.extras.centred(g)


def _decay(share: Share, d: Array, x: Array) -> Array:
    """What is added to direction d for decay."""
    return share.weight_decay * (x if share.extras is None else share.extras.decaying(d, x))


def _bounds(share: Share) -> bool:
    """Whether gradients are brought where their squares are in range: slots hold squares, no norm looks after that."""
    return share.clip is None and share.good is None and holds_squares(share.rule)


def _seen_in(share: Share) -> str | None:
    """The slot in which a gradient that is not finite shows where gradients are bounded; None for the direction.

    The last weighed one, else the last that is signed: `advance` makes no other of it, and its 8-bit codes have one for
    NaN. A slot that is the gradient itself would be stored twice, as it is and as it is shown.
    """
    slots = [(name, slot) for name, slot in share.rule.slots().items() if slot.signed and not slot.own]
    weighed = [name for name, slot in slots if slot.weighed]
    return next(reversed(weighed or [name for name, _ in slots]), None)


def _whole(rule: Rule, tree: PyTree) -> PyTree:
    """Arrays as the rule is to see them: gathered where they are sharded explicitly and it needs whole matrices."""
    return jax.tree.map(gathered, tree) if rule.gathers else tree


def _arguments(plan: LeafPlan, share: Share, place: Place, c: Record) -> dict[str, Array | None]:
    """The arguments that the rule requires, in the unit its gradients are fed in; None where there is none."""
    unit = share.controller.unit(c, share.tick)
    extra = {name: None if x is None else x.astype(plan.dtype) for name, x in place.extra.items()}
    return extra if unit is None else {name: None if x is None else scaled(unit, x) for name, x in extra.items()}


def _as_seen(rule: Rule, extra: dict[str, Array | None]) -> dict[str, Array | None]:
    """Arguments as the rule is to see them: where their squares are in range, which no clipping looks after."""
    if not holds_squares(rule):
        return extra
    return {name: None if x is None else squarable(x) for name, x in extra.items()}


def _clock(plan: LeafPlan, share: Share, place: Place, extra: dict[str, Array | None]) -> Clock:
    """What the rule may know besides its array."""
    rate = share.controller.base_rate(share.tick)
    seed = None
    if share.rule.draws:
        turn = lax.div(lax.sub(share.turn, np.uint32(1)), np.uint32(share.rule.holds()))
        seed = salt(lax.add(turn, np.uint32(1)), place.leaf)
    return Clock(share.tick.t, plan.debias, _as_seen(share.rule, extra), 1.0 if rate is None else rate, seed)


def _advanced(plan: LeafPlan, share: Share, place: Place, g: Array, x: Array, c: Record) -> Stored:
    """The stored slots after gradient g: advanced and encoded."""
    rule, weight = _in_unit(share, c), _weight(share, c)
    declared, extra = rule.slots(), _arguments(plan, share, place, c)
    if not declared:
        return place.slots
    given = {name: value for name, value in extra.items() if value is not None}
    bounds, shown, now = _bounds(share), _seen_in(share), _clock(plan, share, place, extra)

    def step(slots: Slots, seen: PyTree) -> Slots:
        (g, *others), whole = _whole(rule, seen), _whole(rule, slots)
        clock = now._replace(extra=_as_seen(rule, {**extra, **dict(zip(given, others[1:], strict=True))}))
        new = named(rule.advance(squarable(g) if bounds else g, record(rule, whole), others[0], clock))
        if shown is not None:
            new[shown] = reduce(showing, others[1:] + [g] * bounds, new[shown])
        return {name: sharded_as(x, slots[name]) for name, x in new.items()} if rule.gathers else new

    def foresee(bounds: Slots, top: Array) -> Slots:
        narrow, t = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), (rule, share.tick.t))
        slots = {**dict.fromkeys(declared, jnp.zeros_like(top)), **bounds}
        return named(narrow.bound(squarable(top) if bounds else top, record(rule, slots), Clock(t, plan.debias)))

    coded = [name for name, kind in plan.storage.kinds().items() if kind == "int8"]
    known = rule.foreseeable(len(coded) == len(declared)) and not given
    clock = share.step, salt(share.turn, place.leaf) if plan.storage.narrow else share.step
    steps = _weighed(rule, weight, step), _weighed(rule, weight, foresee) if known else None
    return plan.storage.advance(place.slots, [g, x, *given.values()], *steps, clock)


def _direction(
    plan: LeafPlan, share: Share, place: Place, g: Array, x: Array, slots: Stored, scalars: tuple[Record, Record]
) -> Array:
    """The rule's direction with decoupled decay, g as it is fed; ε in the unit of the later of the two scalars."""
    before, after = scalars
    rule, weight = _in_unit(share, after), _weight(share, before)
    new, old = (record(rule, _unweighed(rule, weight, read_slots(plan, s, x))) for s in (slots, place.slots))
    near = squarable(g) if _bounds(share) else g
    extra = _arguments(plan, share, place, before)
    clock, more = _clock(plan, share, place, extra), share.extras
    whole = _whole(rule, (near, new, old, x))
    d = rule.direction(whole[0], whole[1], whole[2], whole[3], clock)
    d = sharded_as(d, x) if rule.gathers else d
    if _seen_in(share) is None:
        d = reduce(showing, [e for e in extra.values() if e is not None] + [g] * (near is not g), d)
    if more is not None:
        d = more.masked(d, near)
    if plan.decay == "decoupled":
        d = d + _decay(share, d, x)
    if more is not None and more.clip_update_rms is not None:
        d = more.shortened(d, rule.surprise(near, new, clock._replace(debias=True)))
    return d if weight is None else weight * d


def read_slots(plan: LeafPlan, stored: Stored, x: Array) -> Slots:
    """The slots that a stored form stands for."""
    return plan.storage.decode(stored, x.shape, plan.dtype)


def _leaf(share: Share, plan: LeafPlan, place: Place, seen: tuple[Array, PyTree, Array], marks: Record) -> Leaf:
    """What the controller sees."""

    def metric(y: Array) -> Array:
        slots = record(share.rule, read_slots(plan, place.slots, y))
        out = share.rule.precondition(*_whole(share.rule, (y, slots)))
        return sharded_as(out, y) if share.rule.gathers else out

    return Leaf(*seen, marks, 1.0 if place.scale is None else place.scale, metric)


def _rounded(plan: LeafPlan, share: Share, place: Place, x: Array, u: Array) -> tuple[Array, Array | None]:
    """The displacement u applied and rounded once: (new parameter or update, what is kept)."""
    p = place.p
    if rounding.is_plain(plan.rounding, p.dtype) and not plan.fused:
        return u.astype(p.dtype), place.kept
    bits = salt(share.turn, place.leaf) if plan.rounding == "stochastic" else None
    out, kept = rounding.closed(plan.rounding, lax.add(x, u), p, bits)
    return out if plan.fused else (out.astype(plan.dtype) - p.astype(plan.dtype)).astype(p.dtype), kept


def _in_unit(share: Share, c: Record) -> Rule:
    """The rule in the unit its gradients are fed in."""
    unit = share.controller.unit(c, share.tick)
    return share.rule if unit is None else share.rule.rescaled(unit)


def _weight(share: Share, c: Record) -> Array | None:
    """The weight of this step's gradient in weighed slots, None for 1; never 0."""
    weight = share.controller.weight(c, share.tick)
    return None if weight is None else jnp.where(weight == 0, LEAST_WEIGHT, weight)


def _unweighed(rule: Rule, weight: Array | None, slots: Slots) -> Slots:
    """Slots in units of the weight: linear in the gradients, they are as if this one had weight 1."""
    if weight is None:
        return slots
    return {name: x / weight if rule.slots()[name].weighed else x for name, x in slots.items()}


def _weighed(
    rule: Rule, weight: Array | None, step: Callable[[Slots, PyTree], Slots]
) -> Callable[[Slots, PyTree], Slots]:
    """A step of the slots in which this gradient has the weight."""
    if weight is None:
        return step

    def weighing(slots: Slots, seen: PyTree) -> Slots:
        new = step(_unweighed(rule, weight, slots), seen)
        return {name: weight * x if rule.slots()[name].weighed else x for name, x in new.items()}

    return weighing
