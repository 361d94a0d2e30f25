"""Learning-rate schedules: open-loop functions of the step number.

    lr_t = schedule(t),  t = 0 on the first step

Every constructor here returns a `Schedule`: a frozen value that compares and hashes by its arguments, shows them in its
`repr`, and takes a step, an array of steps or a traced step. Constructors that carry an optax name delegate to optax
(their signature and docstring are optax's); those at the end optax lacks. `Schedule` and `product` are made in
`schedule_value.py`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from .schedule_value import Curve, Number, valued
from .schedule_value import Schedule as Schedule
from .schedule_value import product as product

_DECAY_SHAPES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: 0.5 * (1 + jnp.cos(jnp.pi * x)),
    "one_minus_sqrt": lambda x: 1 - jnp.sqrt(x),
}


constant_schedule = valued(optax.constant_schedule)
linear_schedule = valued(optax.linear_schedule)
polynomial_schedule = valued(optax.polynomial_schedule)
exponential_decay = valued(optax.exponential_decay)
cosine_decay_schedule = valued(optax.cosine_decay_schedule)
piecewise_constant_schedule = valued(optax.piecewise_constant_schedule)
piecewise_interpolate_schedule = valued(optax.piecewise_interpolate_schedule)
cosine_onecycle_schedule = valued(optax.cosine_onecycle_schedule)
linear_onecycle_schedule = valued(optax.linear_onecycle_schedule)
sgdr_schedule = valued(optax.sgdr_schedule)
warmup_constant_schedule = valued(optax.warmup_constant_schedule)
warmup_cosine_decay_schedule = valued(optax.warmup_cosine_decay_schedule)
warmup_exponential_decay_schedule = valued(optax.warmup_exponential_decay_schedule)


@valued
@functools.wraps(optax.join_schedules)
def join_schedules(schedules: Sequence[optax.Schedule], boundaries: Sequence[int]) -> optax.Schedule:  # noqa: D103
    if len(boundaries) != len(schedules) - 1 or list(boundaries) != sorted(boundaries):
        expected = f"one boundary between each two of the {len(schedules)} schedules, in rising order"
        raise ValueError(f"join_schedules: expected {expected}, got {list(boundaries)}.")
    return optax.join_schedules(schedules, boundaries)


def _require(where: str, expected: str, **numbers: Any) -> None:
    """Refuses numbers that are not "> 0" or "≥ 0"; a traced one cannot be looked at and passes."""
    for name, given in numbers.items():
        holds = given > 0 if expected == "> 0" else given >= 0
        if not isinstance(holds, Tracer) and not holds:
            raise ValueError(f"{where}: expected {name} {expected}, got {given}; change {name}.")


def _warmup(t: jax.Array, init_value: Number, peak_value: Number, warmup_steps: Number) -> jax.Array:
    return init_value + (peak_value - init_value) * jnp.minimum(t / jnp.maximum(warmup_steps, 1), 1.0)


@valued
def inverse_sqrt(
    peak_value: Number, warmup_steps: int, init_value: Number = 0.0, timescale: int | None = None
) -> Curve:
    """Linear warm-up, then decay with the inverse square root of the step.

        lr_t = init + (peak − init) t / W      t < W  (W = warmup_steps)
        lr_t = peak √(s / (t − W + s))         t ≥ W  (s = timescale; with s = W this is peak √(W / t))

    The value is peak at t = W, and at t = 0 when W = 0. It has no last value: it goes on falling.
    Vaswani et al., "Attention is all you need", 2017, arXiv:1706.03762, equation 3, which counts steps from 1.
    Ranges: W ≥ 0 and s > 0, in steps; timescale None means max(W, 1). Raises ValueError outside them.
    """
    _require("inverse_sqrt", "≥ 0", warmup_steps=warmup_steps)
    scale = jnp.maximum(warmup_steps, 1) if timescale is None else timescale
    _require("inverse_sqrt", "> 0", timescale=scale)

    def schedule(t: jax.Array) -> jax.Array:
        decayed = peak_value * jnp.sqrt(scale / (jnp.maximum(t - warmup_steps, 0) + scale))
        return jnp.where(t < warmup_steps, _warmup(t, init_value, peak_value, warmup_steps), decayed)

    return schedule


@valued
def warmup_stable_decay(
    init_value: Number,
    peak_value: Number,
    warmup_steps: int,
    stable_steps: int,
    decay_steps: int,
    end_value: Number = 0.0,
    shape: str = "linear",
) -> Curve:
    """Warm-up, constant, decay (WSD).

        lr_t = init + (peak − init) t / W               t < W
        lr_t = peak                                     W ≤ t < W + S
        lr_t = end + (peak − end) f((t − W − S) / D)    W + S ≤ t < W + S + D
        lr_t = end                                      afterwards

    shape: f(x) is 1 − x ("linear"), (1 + cos πx)/2 ("cosine") or 1 − √x ("one_minus_sqrt"). A segment of zero steps is
    left out; without a decay (D = 0) the value stays at peak.
    Hu et al., "MiniCPM", 2024, arXiv:2404.06395; the shapes: Hägele et al., 2024, arXiv:2405.18392.
    Ranges: W, S and D ≥ 0, in steps. Raises ValueError for a negative one or an unknown shape.
    """
    lengths = {"warmup_steps": warmup_steps, "stable_steps": stable_steps, "decay_steps": decay_steps}
    _require("warmup_stable_decay", "≥ 0", **lengths)
    if shape not in _DECAY_SHAPES:
        raise ValueError(f"warmup_stable_decay: expected shape one of {', '.join(_DECAY_SHAPES)}, got {shape!r}.")

    def schedule(t: jax.Array) -> jax.Array:
        done = jnp.clip((t - warmup_steps - stable_steps) / jnp.maximum(decay_steps, 1), 0.0, 1.0)
        decayed = end_value + (peak_value - end_value) * _DECAY_SHAPES[shape](done)
        after = jnp.where(decay_steps > 0, decayed, peak_value)
        return jnp.where(t < warmup_steps, _warmup(t, init_value, peak_value, warmup_steps), after)

    return schedule


@valued
def reciprocal_sqrt_cooldown(
    peak_value: Number,
    warmup_steps: int,
    total_steps: int,
    cooldown_steps: int,
    timescale: int = 10_000,
    init_value: Number = 0.0,
) -> Curve:
    """Inverse square root with a linear cooldown to zero over the last steps.

        lr_t = inverse_sqrt(t) · clip((T − t) / C, 0, 1)      T = total_steps, C = cooldown_steps

    The value is 0 from t = T on; without a cooldown (C = 0) it goes on as `inverse_sqrt`.
    Zhai et al., "Scaling vision transformers", 2022, arXiv:2106.04560.
    Ranges: W and C ≥ 0, T ≥ W + C, s = timescale > 0, in steps. Raises ValueError outside them.
    """
    free = {"total_steps - warmup_steps - cooldown_steps": total_steps - warmup_steps - cooldown_steps}
    _require("reciprocal_sqrt_cooldown", "≥ 0", cooldown_steps=cooldown_steps, **free)
    base = inverse_sqrt(peak_value, warmup_steps, init_value, timescale)

    def schedule(t: jax.Array) -> jax.Array:
        cooling = jnp.clip((total_steps - t) / jnp.maximum(cooldown_steps, 1), 0.0, 1.0)
        return base(t) * jnp.where(cooldown_steps > 0, cooling, 1.0)

    return schedule


@valued
def every_epoch(init_value: Number, factor: Number, steps_per_epoch: int, epochs: int = 1) -> Curve:
    """Multiplies the rate by a factor every so many epochs.

        lr_t = init · factor^⌊⌊t / steps_per_epoch⌋ / epochs⌋

    Integer divisions: rounding never moves a boundary.
    Ranges: factor > 0, steps_per_epoch > 0, epochs > 0 (between two changes). Raises ValueError outside them.
    """
    _require("every_epoch", "> 0", factor=factor, steps_per_epoch=steps_per_epoch, epochs=epochs)
    return lambda t: init_value * jnp.power(factor, (t // steps_per_epoch // epochs).astype(float))


@valued
def half_life(init_value: Number, end_value: Number, transition_steps: int) -> Curve:
    """A decay rate whose half life grows linearly, for long memories that begin short: a schedule of `b3` or `decay`.

        h(b) = log ½ / log b                                     steps after which a weight has halved
        b_t = ½^(1 / h_t),  h_t = (1 − x) h(init) + x h(end),  x = min(t / T, 1)        T = transition_steps

    Pagliardini, Ablin & Grangier, "The AdEMAMix optimizer: better, faster, older", 2024, arXiv:2409.03137, section 3
    (their program counts steps from 1).
    Ranges: both rates in (0, 1), T > 0, in steps. Raises ValueError outside them.
    """
    _require("half_life", "> 0", transition_steps=transition_steps, init_value=init_value, end_value=end_value)
    left = {"1 - init_value": 1 - init_value, "1 - end_value": 1 - end_value}
    _require("half_life", "> 0", **left)
    # of Python numbers in their own precision: log 0.9999 has four digits less than 0.9999
    first, last = (math.log(b) if isinstance(b, float) else jnp.log(b) for b in (init_value, end_value))

    def schedule(t: jax.Array) -> jax.Array:
        x = jnp.minimum(t / transition_steps, 1.0)
        return jnp.exp(first * last / ((1 - x) * last + x * first))

    return schedule
