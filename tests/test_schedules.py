"""Schedules: closed forms in float64 for ours, optax for optax's; arrays, traced and vmapped steps equal a loop."""

import copy
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import schedules

F32 = 2e-6  # relative: a handful of float32 roundings
F32_NEAR_ZERO = 2e-7  # absolute: two units in the last place of a peak of 1, where a curve comes down to zero

QUOTED = [text for path in Path(adaptx.__file__).parent.rglob("*.py")
          for text in re.findall(r"`(lambda t: [^`]*)`", path.read_text(encoding="utf-8"))]  # fmt: skip

STEPS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 14, 15, 19, 20, 21, 29, 30, 31, 40, 44, 45, 49, 50, 51, 59])

# a name and the arguments of the optax schedule, among them zero-length segments and boundaries at 0
COSINES = [
    {"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 20},
    {"init_value": 0.0, "peak_value": 0.5, "warmup_steps": 0, "decay_steps": 20},
]
OPTAX_CASES = [
    ("constant_schedule", 0.1),
    ("linear_schedule", 0.0, 1.0, 20, 5),
    ("linear_schedule", 0.5, 1.0, 0),
    ("polynomial_schedule", 1.0, 0.1, 2.0, 30),
    ("exponential_decay", 1e-3, 10, 0.96),
    ("exponential_decay", 1e-3, 10, 0.5, 0, True),
    ("exponential_decay", 1.0, 4, 0.5, 0, False, 0.1),
    ("exponential_decay", 1.0, 0, 0.5),
    ("cosine_decay_schedule", 1.0, 40, 0.1),
    ("piecewise_constant_schedule", 1.0, {10: 0.1, 30: 0.5}),
    ("piecewise_constant_schedule", 1.0),
    ("piecewise_interpolate_schedule", "linear", 1.0, {0: 0.5, 10: 0.1, 30: 3.0}),
    ("piecewise_interpolate_schedule", "cosine", 1.0, {10: 0.1, 30: 3.0}),
    ("piecewise_interpolate_schedule", "cosine", 1.0),
    ("cosine_onecycle_schedule", 50, 1.0),
    ("cosine_onecycle_schedule", 1, 1.0),
    ("linear_onecycle_schedule", 50, 1.0),
    ("linear_onecycle_schedule", 1, 1.0),
    ("sgdr_schedule", COSINES),
    ("warmup_constant_schedule", 0.0, 1.0, 10),
    ("warmup_constant_schedule", 1.0, 1.0, 0),
    ("warmup_cosine_decay_schedule", 0.0, 1.0, 10, 50, 0.1),
    ("warmup_cosine_decay_schedule", 0.0, 1.0, 0, 50),
    ("warmup_cosine_decay_schedule", 0.0, 0.0, 5, 50),
    ("warmup_exponential_decay_schedule", 0.0, 1.0, 10, 10, 0.5),
    ("warmup_exponential_decay_schedule", 0.0, 1.0, 0, 10, 0.5),
    ("join_schedules", [schedules.linear_schedule(0.0, 1.0, 10), schedules.exponential_decay(1.0, 10, 0.5)], [10]),
    ("join_schedules", [schedules.constant_schedule(1.0), lambda t: 0.5 + 0 * t, lambda t: t], [7, 7]),
    ("join_schedules", [schedules.constant_schedule(1.0)], []),
]


def inverse_sqrt(t, peak_value, warmup_steps, init_value=0.0, timescale=None):
    scale = max(warmup_steps, 1) if timescale is None else timescale
    if t < warmup_steps:
        return init_value + (peak_value - init_value) * t / warmup_steps
    return peak_value * np.sqrt(scale / (t - warmup_steps + scale))


def warmup_stable_decay(
    t, init_value, peak_value, warmup_steps, stable_steps, decay_steps, end_value=0.0, shape="linear"
):
    if t < warmup_steps:
        return init_value + (peak_value - init_value) * t / warmup_steps
    if t < warmup_steps + stable_steps or decay_steps == 0:
        return peak_value
    x = min((t - warmup_steps - stable_steps) / decay_steps, 1.0)
    factor = {"linear": 1 - x, "cosine": (1 + np.cos(np.pi * x)) / 2, "one_minus_sqrt": 1 - np.sqrt(x)}[shape]
    return end_value + (peak_value - end_value) * factor


def reciprocal_sqrt_cooldown(
    t, peak_value, warmup_steps, total_steps, cooldown_steps, timescale=10_000, init_value=0.0
):
    cooling = 1.0 if cooldown_steps == 0 else min(max((total_steps - t) / cooldown_steps, 0.0), 1.0)
    return cooling * inverse_sqrt(t, peak_value, warmup_steps, init_value, timescale)


def every_epoch(t, init_value, factor, steps_per_epoch, epochs=1):
    return init_value * factor ** (t // (steps_per_epoch * epochs))


def half_life(t, init_value, end_value, transition_steps):
    share = min(t / transition_steps, 1)
    return 0.5 ** (1 / sum(part / np.log2(1 / b) for part, b in ((1 - share, init_value), (share, end_value))))


OUR_CASES = [
    (inverse_sqrt, 0.3, 10),
    (inverse_sqrt, 0.3, 0),
    (inverse_sqrt, 0.3, 7, 0.1, 100),
    (warmup_stable_decay, 0.1, 1.0, 10, 20, 15, 0.2),
    (warmup_stable_decay, 0.1, 1.0, 10, 20, 15, 0.2, "cosine"),
    (warmup_stable_decay, 0.1, 1.0, 10, 20, 15, 0.2, "one_minus_sqrt"),
    (warmup_stable_decay, 0.1, 1.0, 0, 20, 15),
    (warmup_stable_decay, 0.1, 1.0, 10, 0, 15),
    (warmup_stable_decay, 0.1, 1.0, 10, 20, 0),
    (warmup_stable_decay, 0.1, 1.0, 0, 0, 0),
    (reciprocal_sqrt_cooldown, 1.0, 5, 50, 20),
    (reciprocal_sqrt_cooldown, 1.0, 0, 50, 0, 10),
    (every_epoch, 0.1, 0.9, 7),
    (every_epoch, 0.1, 0.5, 3, 4),
    (half_life, 0.9, 0.9999, 40),
]
EVERY_CASE = OPTAX_CASES + [(oracle.__name__, *arguments) for oracle, *arguments in OUR_CASES]
NAMES = sorted({name for name, *_ in EVERY_CASE})


def make(case):
    name, *arguments = case
    return getattr(schedules, name)(*arguments)


@pytest.mark.parametrize("case", OPTAX_CASES, ids=lambda case: case[0])
def test_optax_schedules_are_optax(case):
    ours, theirs = make(case), getattr(optax, case[0])(*case[1:])
    with jax.numpy_dtype_promotion("standard"):
        expected = [theirs(int(t)) for t in STEPS]
    np.testing.assert_allclose([ours(int(t)) for t in STEPS], expected, rtol=F32, atol=F32_NEAR_ZERO)


@pytest.mark.parametrize("case", OUR_CASES, ids=lambda case: case[0].__name__)
def test_our_schedules_are_their_closed_form(case):
    oracle, *arguments = case
    expected = [oracle(int(t), *arguments) for t in STEPS]
    np.testing.assert_allclose(make((oracle.__name__, *arguments))(STEPS), expected, rtol=F32, atol=F32_NEAR_ZERO)


@pytest.mark.parametrize("case", EVERY_CASE, ids=lambda case: case[0])
def test_arrays_traced_and_vmapped_steps_equal_a_loop(case):
    schedule = make(case)
    loop = np.array([schedule(int(t)) for t in STEPS])
    steps = jnp.asarray(STEPS, jnp.int32)
    for values in (schedule(STEPS), jax.jit(schedule)(steps), jax.vmap(schedule)(steps), jax.lax.map(schedule, steps)):
        assert values.shape == STEPS.shape
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, loop, rtol=F32, atol=F32_NEAR_ZERO)
    assert schedule(STEPS.reshape(2, -1)).shape == (2, 13)
    assert schedule(0).shape == ()
    assert schedule(0).dtype == jnp.float32
    assert np.all(np.isfinite(loop)), "a segment of zero steps gave NaN or infinity"
    assert np.isfinite(schedule(10**9)), "not finite long after the end"


@pytest.mark.parametrize("case", EVERY_CASE, ids=lambda case: case[0])
def test_equal_calls_are_equal_values(case):
    one, two = make(case), make(case)
    assert one == two
    assert hash(one) == hash(two)
    assert one is not two
    assert copy.deepcopy(one) == one
    assert one != schedules.constant_schedule(123.0)
    assert one != "a schedule"
    assert repr(one).startswith(f"{case[0]}(")


@pytest.mark.parametrize("name", NAMES)
def test_signature_and_documentation_are_there(name):
    construct = getattr(schedules, name)
    assert inspect.getdoc(construct)
    if hasattr(optax, name):
        assert list(inspect.signature(construct).parameters) == list(inspect.signature(getattr(optax, name)).parameters)


def test_boundaries_belong_to_the_segment_they_begin():
    join = schedules.join_schedules([schedules.constant_schedule(1.0), schedules.constant_schedule(2.0)], [10])
    np.testing.assert_array_equal(join([9, 10, 11]), [1.0, 2.0, 2.0])
    stairs = schedules.every_epoch(1.0, 0.5, 1000)
    np.testing.assert_array_equal(stairs([999, 1000, 1999, 2000]), [1.0, 0.5, 0.5, 0.25])
    wsd = schedules.warmup_stable_decay(0.0, 1.0, 10, 10, 10)
    np.testing.assert_allclose(wsd([0, 10, 20, 30, 31]), [0.0, 1.0, 1.0, 0.0, 0.0], atol=F32_NEAR_ZERO)
    cooled = schedules.reciprocal_sqrt_cooldown(1.0, 10, 100, 20)
    np.testing.assert_allclose(cooled([0, 10, 100, 101]), [0.0, 1.0, 0.0, 0.0], atol=F32_NEAR_ZERO)


@pytest.mark.usefixtures("x64")
def test_x64_gives_float64():
    schedule, theirs = schedules.exponential_decay(1e-3, 10, 0.96), optax.exponential_decay(1e-3, 10, 0.96)
    assert schedule(STEPS).dtype == jnp.float64
    np.testing.assert_allclose(schedule(STEPS), theirs(STEPS.astype(float)), rtol=1e-14)


def test_step_t_of_an_optimizer_uses_the_value_at_t():
    schedule = schedules.warmup_stable_decay(0.1, 1.0, 2, 1, 3)
    optimizer, params = adaptx.sgd(schedule), jnp.ones(2)
    assert optimizer == adaptx.sgd(schedules.warmup_stable_decay(0.1, 1.0, 2, 1, 3))
    state, used = optimizer.init(params), []
    for _ in range(7):
        params, state = optimizer.step(jnp.ones(2), state, params)
        used.append(adaptx.read(state, "learning_rate"))
    np.testing.assert_allclose(used, schedule(np.arange(7)), rtol=F32, atol=F32_NEAR_ZERO)


def test_schedules_in_docstrings_run_in_a_jitted_step():
    assert len(QUOTED) >= 2
    for text in QUOTED:
        opt = adaptx.adafactor(eval(text, {"jnp": jnp, "lr": 1e-2}))
        p = jnp.ones((2, 3))
        assert jnp.all(jax.jit(opt.step)(p, opt.init(p), p)[0] != p), text
