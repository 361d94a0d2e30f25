"""A schedule is a value: equality, hash, repr, pickle, and what its constructors refuse."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptx import schedules

F32 = 2e-6  # relative: a handful of float32 roundings
F32_NEAR_ZERO = 2e-7  # absolute: two units in the last place of a peak of 1, where a curve comes down to zero


def test_repr_shows_what_was_given():
    decay = schedules.exponential_decay(1e-3, 1000, decay_rate=0.96)
    assert repr(decay) == "exponential_decay(init_value=0.001, transition_steps=1000, decay_rate=0.96)"
    steps = schedules.piecewise_constant_schedule(1.0, {30: 0.5, 10: 0.1})
    assert repr(steps) == "piecewise_constant_schedule(init_value=1.0, boundaries_and_scales={10: 0.1, 30: 0.5})"
    assert (
        repr(schedules.join_schedules([decay, steps], [5]))
        == f"join_schedules(schedules={[decay, steps]}, boundaries=[5])"
    )


def test_a_default_spelled_out_changes_nothing():
    schedule = schedules.every_epoch(0.1, 0.5, 7)
    assert schedule == schedules.every_epoch(init_value=0.1, factor=0.5, steps_per_epoch=7, epochs=1)
    assert schedule != schedules.every_epoch(0.1, 0.5, 8)


def test_later_changes_of_an_argument_do_not_reach_the_schedule():
    boundaries = {10: 0.1}
    schedule = schedules.piecewise_constant_schedule(1.0, boundaries)
    boundaries[5] = 0.0
    assert schedule == schedules.piecewise_constant_schedule(1.0, {10: 0.1})
    assert schedule(7) == 1.0


def test_schedules_survive_pickle():
    schedule = schedules.join_schedules([schedules.inverse_sqrt(0.1, 5), schedules.constant_schedule(0.01)], [20])
    assert pickle.loads(pickle.dumps(schedule)) == schedule


def test_array_arguments_compare_by_identity_and_work():
    rate = jnp.asarray(0.1)
    assert schedules.constant_schedule(rate) == schedules.constant_schedule(rate)
    assert schedules.constant_schedule(rate) != schedules.constant_schedule(jnp.asarray(0.1))
    hash(schedules.constant_schedule(rate))


def test_traced_arguments_work():
    def last(peak, warmup):
        schedule = schedules.warmup_stable_decay(0.0, peak, warmup, 10, 10)
        hash(schedule)
        return schedule(25)

    peaks, warmups = jnp.array([0.1, 1.0]), jnp.array([5, 10])
    np.testing.assert_allclose(jax.jit(jax.vmap(last))(peaks, warmups), [0.0, 0.5], rtol=F32, atol=F32_NEAR_ZERO)
    halved = jax.vmap(lambda peak: schedules.exponential_decay(peak, 10, 0.5)(10))(peaks)
    np.testing.assert_allclose(halved, peaks / 2, rtol=F32)


def test_an_equal_schedule_compiles_nothing_new():
    traces = []

    def rate(schedule, t):
        traces.append(schedule)
        return schedule(t)

    compiled = jax.jit(rate, static_argnums=0)
    for t in range(3):
        compiled(schedules.cosine_decay_schedule(1.0, 10), t)
    assert len(traces) == 1


S = schedules  # short enough for one case a line
MISUSES = [
    (lambda: S.inverse_sqrt(1.0, -1), "inverse_sqrt: expected warmup_steps ≥ 0, got -1"),
    (lambda: S.inverse_sqrt(1.0, 1, timescale=0), "inverse_sqrt: expected timescale > 0, got 0"),
    (lambda: S.warmup_stable_decay(0.0, 1.0, 1, -2, 1), "expected stable_steps ≥ 0, got -2"),
    (lambda: S.warmup_stable_decay(0.0, 1.0, 1, 2, 1, shape="square"), "one of linear, cosine, one_minus_sqrt, got"),
    (lambda: S.reciprocal_sqrt_cooldown(1.0, 5, 10, 6), "total_steps - warmup_steps - cooldown_steps ≥ 0"),
    (lambda: S.every_epoch(0.1, 0.5, 0), "every_epoch: expected steps_per_epoch > 0, got 0"),
    (lambda: S.join_schedules([S.constant_schedule(1.0)], [5]), r"each two of the 1 schedules, .* got \[5\]"),
    (lambda: S.join_schedules([S.constant_schedule(1.0)] * 3, [5, 3]), r"in rising order, got \[5, 3\]"),
    (lambda: S.cosine_decay_schedule(1.0, 0), "positive decay_steps"),
]


@pytest.mark.parametrize(("construct", "words"), MISUSES)
def test_wrong_arguments_are_refused_at_once(construct, words):
    with pytest.raises(ValueError, match=words):
        construct()
