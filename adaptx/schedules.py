"""Learning-rate schedules: open-loop functions of the step number.

    lr_t = schedule(t),  t = 0 on the first step

Every constructor here returns a `Schedule`: a frozen value that compares and hashes by its arguments, shows them in its
`repr`, and takes a step, an array of steps or a traced step. Constructors that carry an optax name delegate to optax
(their signature and docstring are optax's); those at the end optax lacks.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer
from jax.typing import ArrayLike

from .base import Controller
from .values import number

P = ParamSpec("P")
Number = float | jax.Array
Curve = Callable[[jax.Array], jax.Array]
_BUILDERS: dict[str, Callable[..., Callable[..., Any]]] = {}
_DECAY_SHAPES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: 0.5 * (1 + jnp.cos(jnp.pi * x)),
    "one_minus_sqrt": lambda x: 1 - jnp.sqrt(x),
}


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """A schedule as a value: the name of its constructor and every argument, defaults included.

    Calling it with a step (int, array of any shape, or traced) gives the learning rate of that step in the default
    float type (float32, or float64 when x64 is on). Arguments that cannot be hashed, such as JAX arrays and traced
    values, compare by identity.
    """

    name: str
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, step: ArrayLike) -> jax.Array:
        """The value at `step` (≥ 0); an array of steps gives an array of the same shape."""
        steps, schedule = jnp.asarray(step), self._build()
        # optax mixes integer steps with float hyperparameters, which strict promotion would refuse
        with jax.numpy_dtype_promotion("standard"):
            values = jax.vmap(schedule)(steps.ravel()) if steps.ndim else schedule(steps)
        return jnp.asarray(values, dtype=jnp.result_type(float)).reshape(steps.shape)

    def _build(self) -> Callable[..., Any]:
        return _BUILDERS[self.name](**{name: _thaw(value) for name, value in self.arguments})

    def _key(self) -> tuple[Any, ...]:
        return self.name, tuple((name, _key(value)) for name, value in self.arguments)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Schedule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __mul__(self, other: "Number | Curve") -> "Schedule":
        """The product with a number or another schedule, step by step: see `product`."""
        return NotImplemented if isinstance(other, Controller) else product(self, other)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        if self.name == "product":
            return " * ".join(repr(value) for _, value in self.arguments)
        defaults = inspect.signature(_BUILDERS[self.name]).parameters
        shown = ((name, value) for name, value in self.arguments if _key(value) != _key(defaults[name].default))
        return f"{self.name}({', '.join(f'{name}={_thaw(value)!r}' for name, value in shown)})"


class _Items(tuple):
    """A mapping frozen to its sorted items, remembered as such so that it can be given back as a dict."""


def _freeze(value: Any) -> Any:
    """Mappings and sequences as tuples, which nobody can change after the schedule was made."""
    if isinstance(value, Mapping):
        return _Items((key, _freeze(value[key])) for key in sorted(value))
    return tuple(_freeze(item) for item in value) if isinstance(value, (list, tuple, Iterator)) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, _Items):
        return {key: _thaw(item) for key, item in value}
    return [_thaw(item) for item in value] if isinstance(value, tuple) else value


def _key(value: Any) -> Any:
    """What an argument contributes to equality and hash: itself, or its identity where it has no hash (arrays)."""
    if isinstance(value, tuple):
        return type(value).__name__, tuple(_key(item) for item in value)
    try:
        hash(value)
    except TypeError:
        return "identity", id(value)
    return value


def _value(build: Callable[P, Callable[..., Any]]) -> Callable[P, Schedule]:
    """A constructor with the signature and docstring of `build` that gives a `Schedule` instead of a closure."""
    name, signature = build.__name__, inspect.signature(build)
    _BUILDERS[name] = build

    @functools.wraps(build)
    def construct(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: {error}; its arguments are {', '.join(signature.parameters)}.") from error
        bound.apply_defaults()
        schedule = Schedule(name, tuple((key, _freeze(value)) for key, value in bound.arguments.items()))
        schedule._build()  # so that wrong arguments are refused here, not at the first step
        return schedule

    construct.__module__ = __name__
    return construct


constant_schedule = _value(optax.constant_schedule)
linear_schedule = _value(optax.linear_schedule)
polynomial_schedule = _value(optax.polynomial_schedule)
exponential_decay = _value(optax.exponential_decay)
cosine_decay_schedule = _value(optax.cosine_decay_schedule)
piecewise_constant_schedule = _value(optax.piecewise_constant_schedule)
piecewise_interpolate_schedule = _value(optax.piecewise_interpolate_schedule)
cosine_onecycle_schedule = _value(optax.cosine_onecycle_schedule)
linear_onecycle_schedule = _value(optax.linear_onecycle_schedule)
sgdr_schedule = _value(optax.sgdr_schedule)
warmup_constant_schedule = _value(optax.warmup_constant_schedule)
warmup_cosine_decay_schedule = _value(optax.warmup_cosine_decay_schedule)
warmup_exponential_decay_schedule = _value(optax.warmup_exponential_decay_schedule)


@_value
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


@_value
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


@_value
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


@_value
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


@_value
def every_epoch(init_value: Number, factor: Number, steps_per_epoch: int, epochs: int = 1) -> Curve:
    """Multiplies the rate by a factor every so many epochs.

        lr_t = init · factor^⌊⌊t / steps_per_epoch⌋ / epochs⌋

    Integer divisions: rounding never moves a boundary.
    Ranges: factor > 0, steps_per_epoch > 0, epochs > 0 (between two changes). Raises ValueError outside them.
    """
    _require("every_epoch", "> 0", factor=factor, steps_per_epoch=steps_per_epoch, epochs=epochs)
    return lambda t: init_value * jnp.power(factor, (t // steps_per_epoch // epochs).astype(float))


@_value
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


@_value
def product(first: Number | Curve, second: Number | Curve) -> Curve:
    """The product of two schedules, or of a schedule and a number; what `schedule * schedule` gives.

        lr_t = first(t) · second(t)

    Raises TypeError for anything else.
    """
    for name, factor in (("first", first), ("second", second)):
        number(name, factor)
    return lambda t: _at(first, t) * _at(second, t)


def _at(factor: Number | Curve, t: jax.Array) -> jax.Array:
    return factor(t) if callable(factor) else jnp.asarray(factor)
