"""The stages of a step on one array, from stored slots to stored slots."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..base import Clock, Rule
from . import rounding
from .storage import Shelf, salt


class LeafPlan(NamedTuple):
    """What of one leaf's step is structure: equal plans on one shape are traced once."""

    storage: Shelf
    decay: str | None  # decay_mode, or None for a leaf that is not decayed
    rounding: str
    dtype: Any  # arithmetic
    fused: bool  # a new parameter instead of an update
    negative: bool  # False for a bare direction


class LeafNumbers(NamedTuple):
    """The scalars of one leaf's step; None where unused."""

    t: Any  # int32, 1-based
    lr: Any
    lr_scale: Any
    weight_decay: Any
    clip: Any
    leaf: Any  # its number, for the random bits
    good: Any


def arithmetic(p: Any) -> Any:
    """The dtype of the arithmetic on a leaf and of its full-precision slots: f32, or f64 for f64 parameters."""
    return jnp.promote_types(jnp.float32, jax.dtypes.canonicalize_dtype(p.dtype))


def cast(x: Any, dtype: Any) -> Any:
    """A scalar in the arithmetic dtype; None stays."""
    return None if x is None else jnp.asarray(x, dtype)


@partial(jax.jit, static_argnames="plan")
def step_leaf(plan: LeafPlan, rule: Rule, n: LeafNumbers, g: Array, stored: dict, p: Array, kept: Array | None):
    """One open-loop step: (new parameter or update, stored slots, what rounding keeps); rule as `at_step` gives it."""
    n = scalars(plan, n)
    x = rounding.opened(plan.rounding, p, kept, plan.dtype)
    g = incoming(plan, n, g, x)
    lr = jnp.ones((), plan.dtype) if n.lr is None else n.lr
    clock = Clock(n.t.astype(plan.dtype), lr)
    encoded, old, new = advance(plan, rule, n, g, g, stored, x, clock)
    d = decayed(plan, n, rule.direction(g, new, old, x, clock), x)
    if n.lr is not None or n.lr_scale is not None:
        d = (lr if n.lr_scale is None else lr * n.lr_scale) * d
    return finish(plan, n, -d if plan.negative else d, x, p, kept, encoded, stored)


def scalars(plan: LeafPlan, n: LeafNumbers) -> LeafNumbers:
    """The numbers that enter arithmetic in its dtype."""
    dtype = plan.dtype
    return n._replace(
        lr=cast(n.lr, dtype), lr_scale=cast(n.lr_scale, dtype), weight_decay=cast(n.weight_decay, dtype),
        clip=cast(n.clip, dtype),
    )  # fmt: skip


def incoming(plan: LeafPlan, n: LeafNumbers, g: Array, x: Array) -> Array:
    """The gradient as the rule is to see it: cast up, clipped, with l2 decay."""
    g = g.astype(plan.dtype)
    if n.clip is not None:
        g = g * n.clip
    return g + n.weight_decay * x if plan.decay == "l2" else g


def advance(plan: LeafPlan, rule: Rule, n: LeafNumbers, signed: Array, unsigned: Array, stored: dict, x, clock: Clock):
    """(encoded slots, old slots, new slots): advanced, encoded, and read back as stored.

    Signed slots see the gradient `signed`, the others `unsigned`; usually they are one array.
    """
    kinds = rule.slot_kinds()

    def run(slots: dict, signed: Array, unsigned: Array, x: Array) -> dict[str, Array]:
        before = rule_slots(rule, slots)
        moved = rule.advance(signed, before, x, clock)
        other = moved if unsigned is signed else rule.advance(unsigned, before, x, clock)
        return {name: getattr(moved if kinds[name] else other, name) for name in kinds}

    encoded = plan.storage.advance(rule, run, stored, signed, unsigned, x, clock, salt(n.t, n.leaf)) if kinds else {}
    return encoded, read_slots(plan, rule, stored, x), read_slots(plan, rule, encoded, x)


def read_slots(plan: LeafPlan, rule: Rule, stored: dict, x: Array) -> Any:
    """The slot tuple that a stored form stands for."""
    return rule_slots(rule, plan.storage.decode(stored, x.shape, plan.dtype))


def decayed(plan: LeafPlan, n: LeafNumbers, d: Array, x: Array, weight: Any = None) -> Array:
    """The direction with decoupled decay."""
    if plan.decay != "decoupled":
        return d
    return d + (n.weight_decay if weight is None else weight * n.weight_decay) * x


def finish(plan: LeafPlan, n: LeafNumbers, u: Array, x: Array, p: Array, kept: Any, encoded: dict, stored: dict):
    """Apply the displacement u, round once, and undo all of it on a step that is not good."""
    if plan.decay == "independent":
        u = u - n.weight_decay * x
    if rounding.is_plain(plan.rounding, p.dtype) and not plan.fused:
        out, keep = u.astype(p.dtype), None
    else:
        out, keep = rounding.closed(plan.rounding, x + u, p, kept, salt(n.t, n.leaf))
        if not plan.fused:
            out = (out.astype(plan.dtype) - p.astype(plan.dtype)).astype(p.dtype)
    if n.good is not None:
        out = jnp.where(n.good, out, p if plan.fused else jnp.zeros_like(p))
        encoded, keep = jax.tree.map(partial(jnp.where, n.good), (encoded, keep), (stored, kept))
    return out, encoded, keep


def rule_slots(rule: Rule, slots: dict) -> Any:
    """The slot tuple a rule reads, None at slots its flags leave out."""
    return rule.Slots(**{name: slots.get(name) for name in rule.Slots._fields})
