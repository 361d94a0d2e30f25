"""One optimizer step, top to bottom, on lists of arrays.

    norm and clipping of the gradients       sums.py
    for every leaf: cast up, l2 decay, advance the slots, encode, decode, direction, decay, apply, cast down
    telemetry, guard, clock

The step is compiled as one function of arrays whatever the caller does (inside an outer jit it is inlined), and the
call that runs a rule over one array is a function of its own, so that leaves of one shape are traced once.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from ..base import Clock, Rule
from .storage import Storage, salt
from .sums import global_norm


@dataclass(frozen=True)
class Plan:
    """What of a step is structure: equal plans share one compilation."""

    storage: Storage
    decay_mode: str
    decayed: tuple[bool, ...]  # per leaf, whether weight decay applies
    scaled: bool  # whether lr_scale is set
    skip_nonfinite: bool
    telemetry: tuple[str, ...]
    fused: bool  # new parameters instead of updates


class Numbers(NamedTuple):
    """The scalars of a step."""

    lr: Any  # the rate, or None for a bare direction
    weight_decay: Any
    max_norm: Any
    lr_scale: Any  # per leaf factors, () where unset


class LeafPlan(NamedTuple):
    """What of one leaf's step is structure."""

    storage: Storage
    decay: str | None  # decay_mode, or None for a leaf that is not decayed
    dtype: Any  # arithmetic
    fused: bool
    negative: bool  # False for a bare direction


class LeafNumbers(NamedTuple):
    """The scalars of one leaf's step; None where unused."""

    t: Any
    lr: Any
    weight_decay: Any
    clip: Any
    salt: Any
    good: Any


def arithmetic(p: Any) -> Any:
    """The dtype of the arithmetic on a leaf and of its full-precision slots: f32, or f64 for f64 parameters."""
    return jnp.promote_types(jnp.float32, jax.dtypes.canonicalize_dtype(p.dtype))


@partial(jax.jit, static_argnames="plan")
def step_arrays(plan: Plan, rule: Rule, numbers: Numbers, gs: list, slots: list, ps: list, step: Array, metrics: dict):
    """One step on the trained leaves: (new parameters or updates, new slots, step, metrics)."""
    present = [g for g in gs if g is not None]
    wants_norm = numbers.max_norm is not None or plan.skip_nonfinite or "grad_norm" in plan.telemetry
    norm: Any = global_norm(present) if wants_norm else None
    good = jnp.isfinite(norm) if plan.skip_nonfinite else None
    clip = None if numbers.max_norm is None else clip_factor(norm, numbers.max_norm)
    following = optax.safe_increment(step)

    outs, news = [], []
    for i, (g, stored, p) in enumerate(zip(gs, slots, ps, strict=True)):
        if g is None:
            outs.append(p if plan.fused else jnp.zeros_like(p))
            news.append(stored)
            continue
        scale = numbers.lr_scale[i] if plan.scaled else None
        lr = numbers.lr if scale is None else (1.0 if numbers.lr is None else numbers.lr) * scale
        decay = plan.decay_mode if plan.decayed[i] and numbers.weight_decay is not None else None
        leaf_plan = LeafPlan(plan.storage, decay, arithmetic(p), plan.fused, numbers.lr is not None)
        leaf_numbers = LeafNumbers(following, lr, numbers.weight_decay, clip, salt(step, i), good)
        out, new = step_leaf(leaf_plan, rule, leaf_numbers, g, stored, p)
        outs.append(out)
        news.append(new)

    measured = measure(plan, numbers, norm, outs, ps, metrics, good)
    return outs, news, following if good is None else jnp.where(good, following, step), measured


@partial(jax.jit, static_argnames="plan")
def step_leaf(plan: LeafPlan, rule: Rule, numbers: LeafNumbers, g: Array, stored: dict, p: Array):
    """The rule on one array, from stored slots to stored slots, and the new parameter or update."""
    dtype = plan.dtype
    rule = jax.tree.map(lambda x: jnp.asarray(x, dtype), rule)
    lr, wd, clip = (cast(x, dtype) for x in (numbers.lr, numbers.weight_decay, numbers.clip))
    clock = Clock(numbers.t.astype(dtype), jnp.ones((), dtype) if lr is None else lr)
    g, x = g.astype(dtype), p.astype(dtype)
    if clip is not None:
        g = g * clip
    if plan.decay == "l2":
        g = g + wd * x

    kinds = rule.slot_kinds()
    old = rule_slots(rule, plan.storage.decode(stored, dtype))
    advanced = rule.advance(g, old, x, clock)
    fresh = {name: getattr(advanced, name) for name in kinds}
    encoded = plan.storage.encode(fresh, kinds, dtype, numbers.salt)
    new = rule_slots(rule, plan.storage.decode(encoded, dtype))
    d = rule.direction(g, new, old, x, clock)

    if plan.decay == "decoupled":
        d = d + wd * x
    if lr is not None:
        d = lr * d
    if plan.decay == "independent":
        d = d + wd * x
    u = -d if plan.negative else d
    out = (x + u if plan.fused else u).astype(p.dtype)
    if numbers.good is not None:
        out = jnp.where(numbers.good, out, p if plan.fused else jnp.zeros_like(p))
        encoded = jax.tree.map(partial(jnp.where, numbers.good), encoded, stored)
    return out, encoded


def cast(x: Any, dtype: Any) -> Any:
    """A scalar in the arithmetic dtype; None stays."""
    return None if x is None else jnp.asarray(x, dtype)


def rule_slots(rule: Rule, slots: dict) -> Any:
    """The slot tuple a rule reads, None at slots its flags leave out."""
    return rule.Slots(**{name: slots.get(name) for name in rule.Slots._fields})


def clip_factor(norm: Array, max_norm: Any) -> Array:
    """min(1, max_norm / norm), 1 for a zero norm."""
    bound = jnp.asarray(max_norm, norm.dtype)
    return jnp.where(norm > bound, bound / jnp.where(norm > bound, norm, 1), 1)


def measure(plan: Plan, numbers: Numbers, norm: Any, outs: list, ps: list, before: dict, good: Any) -> dict[str, Array]:
    """The metrics of this step, f32 scalars under the names `before` has."""
    now: dict[str, Any] = {"learning_rate": numbers.lr, "grad_norm": norm}
    if "update_norm" in plan.telemetry:
        moved = [o.astype(arithmetic(p)) - p for o, p in zip(outs, ps, strict=True)] if plan.fused else outs
        now["update_norm"] = global_norm(moved)
    if "param_norm" in plan.telemetry:
        now["param_norm"] = global_norm(outs if plan.fused else ps)
    if good is not None:
        now["skipped"] = before["skipped"] + jnp.where(good, 0.0, 1.0)
        now["skipped_in_a_row"] = jnp.where(good, 0.0, before["skipped_in_a_row"] + 1.0)
    return {name: jnp.asarray(now[name], jnp.float32) for name in before}


def as_arrays(leaves: list[Any]) -> list[Any]:
    """Leaves as jax arrays of their canonical dtype; None stays."""
    return [x if x is None or isinstance(x, (jax.Array, np.ndarray)) else jnp.asarray(x) for x in leaves]
