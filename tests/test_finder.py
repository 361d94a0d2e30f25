"""find_lr: below 2/L and near the best rate on quadratics, and what it says and refuses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx.training.finder import suggested
from runs import P, X, Y, loss


def quadratic(condition, dimension=20, largest=1.0):
    curvature = np.geomspace(largest / condition, largest, dimension).astype(np.float32)
    return lambda p, _: 0.5 * jnp.sum(curvature * p**2)


def nothing(t):
    return np.zeros(1, np.float32)


@pytest.mark.parametrize("largest", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("condition", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize(
    "make", [pytest.param(adaptx.sgd, id="adaptx"), pytest.param(optax.sgd, id="optax", marks=pytest.mark.slow)]
)
def test_on_quadratics_it_is_stable_and_near_the_best(condition, largest, make):
    """The best constant rate of gradient descent is 2/(L + μ)."""
    start = np.random.default_rng(0).normal(size=20).astype(np.float32)
    found = adaptx.find_lr(quadratic(condition, largest=largest), make(1.0), start, nothing, low=1e-7, high=1e5,
                           steps=240)  # fmt: skip
    best = 2 / (largest + largest / condition)
    assert best / 10 < found.suggestion < 2 / largest, found


def test_what_it_says():
    found = adaptx.find_lr(loss, adaptx.adam(), P, (X, Y), batch_size=8)
    assert found.what == "learning rate"
    assert 1e-3 < found.suggestion < 1
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= 160
    np.testing.assert_allclose(found.losses[0], loss(P, *next(rows())), rtol=1e-5)
    assert "where the loss was smallest" in found.reason
    assert "RateFound(suggestion=" in repr(found)


def rows():
    order = np.random.default_rng((0, 0)).permutation(24)
    yield X[order[:8]], Y[order[:8]]


@pytest.mark.parametrize("steps", [20, 10_000])
def test_schedules_are_held_at_their_largest(steps):
    """A warm-up that is longer than the test, and a decay that is shorter, are no part of it."""
    find = partial(adaptx.find_lr, loss, params=P, data=(X, Y), low=1e-4, high=1e4)
    rising = adaptx.schedules.warmup_cosine_decay_schedule(0.0, 0.01, steps // 2, steps)
    scheduled, constant = (find(adaptx.averaged(adaptx.adam(rate), 0.9)) for rate in (rising, 0.01))
    np.testing.assert_allclose(scheduled.suggestion, constant.suggestion, rtol=0.1)
    assert find(adaptx.recipes.rnn(steps)).what == "learning rate"


def test_rates_that_are_several_have_a_factor():
    opt = adaptx.route({"w": adaptx.adam(1e-3), "b": adaptx.sgd(1e-2)}, {"w": "w", "b": "b"})
    found = adaptx.find_lr(loss, opt, P, (X, Y), low=1e-3, high=1e4)
    assert found.what == "factor"
    assert 1 < found.suggestion < 1e3
    assert adaptx.find_lr(loss, adaptx.averaged(adaptx.adam(1e-3), 0.9), P, (X, Y), high=1e4).what == "factor"


def test_the_schedule_is_left_aside_and_the_draws_are_fits():
    def drawn(p, x, y, rng):
        return loss(p, x * jax.random.bernoulli(rng, 0.9, x.shape), y)

    one = adaptx.find_lr(drawn, adaptx.adam(0.1), P, (X, Y))
    two = adaptx.find_lr(drawn, adaptx.adam(lambda t: 0.0 * t), P, (X, Y))
    np.testing.assert_array_equal(one.losses, two.losses)
    assert adaptx.find_lr(drawn, adaptx.adam(0.1), P, (X, Y), seed=1).losses[0] != one.losses[0]


def test_a_curve_that_never_falls_and_one_that_never_ends():
    rates = np.geomspace(1e-4, 1, 50)
    flat = suggested(rates, np.full(50, 2.0), False, "learning rate")
    assert np.isnan(flat.suggestion)
    assert "fell by no more than chance" in flat.reason
    falling = suggested(rates, np.linspace(2, 1, 50), False, "learning rate")
    assert "pass a larger high=" in falling.reason
    lost = suggested(rates, np.r_[np.linspace(2, 1, 40), np.full(10, np.nan)], True, "learning rate")
    assert len(lost.rates) == 40
    assert np.isfinite(lost.suggestion)


def test_what_it_says_of_losses_that_are_none():
    lost = suggested(np.geomspace(1e-4, 1, 3), np.full(3, np.nan), True, "learning rate")
    assert np.isnan(lost.suggestion)
    assert "not finite at the first rate, 0.0001" in lost.reason
    assert np.isnan(suggested(np.geomspace(1e-4, 1, 50), np.zeros(50), False, "learning rate").suggestion)
    negative = suggested(np.geomspace(1e-4, 1, 50), np.r_[np.linspace(-1, -3, 40), np.full(10, 5.0)], True, "factor")
    assert 1e-3 < negative.suggestion < 1


def test_all_rows_are_held_once():
    """Without batch_size every minibatch is the same: 160 copies would be a lot."""
    whole = adaptx.find_lr(loss, adaptx.adam(), P, (X, Y))
    again = adaptx.find_lr(loss, adaptx.adam(), P, lambda t: (X, Y))
    np.testing.assert_allclose(whole.losses, again.losses, rtol=1e-4)


def test_rates_inside_a_trust_ratio_are_found():
    assert adaptx.find_lr(loss, adaptx.lamb(), P, (X, Y)).suggestion > 0


A = adaptx.adam()
WRONG = {
    "range": ({"low": 1.0, "high": 0.1}, ValueError, "low must be less than high"),
    "low": ({"low": 0.0}, ValueError, "low must lie in"),
    "steps": ({"steps": 3}, ValueError, "steps must be an integer ≥ 20"),
    "a controller": (
        {"opt": adaptx.adam(adaptx.controllers.prodigy())},
        TypeError,
        "that of this optimizer is prodigy's",
    ),
    "a controller inside": (
        {"opt": adaptx.averaged(adaptx.adam(adaptx.controllers.prodigy()), 0.9)},
        TypeError,
        "is prodigy's",
    ),
    "odd batches": (
        {"data": iter([(X, Y)] * 100 + [(X[:5], Y[:5])] * 60)},
        ValueError,
        "minibatches of several shapes",
    ),
    "short data": ({"data": iter([(X, Y)] * 3)}, ValueError, "data ended before 160 minibatches"),
    "no optimizer": ({"opt": adaptx.adam}, TypeError, "call it"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused(name):
    options, error, words = WRONG[name]
    given = dict(options)
    with pytest.raises(error, match=words):
        adaptx.find_lr(loss, given.pop("opt", A), P, given.pop("data", (X, Y)), **given)
