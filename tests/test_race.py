"""The contest itself: vmapped members equal single runs, and the summary of known courses is known."""

import jax
import numpy as np
import optax
import pytest

import adaptx
from adaptx.cli.race import contest, contestants, data, problem, summary

VMAPPED_30_STEPS = 1e-4  # relative; float32 sums in another order, carried through 30 steps
SETTINGS = contest.Settings(steps=30, batch_size=16, hidden=8, seeds=2, grid=(1e-3, 1e-1, 3), evaluations=4)


@pytest.fixture(scope="module")
def wine():
    return data.load("wine")


def single_run(contestant, dataset, settings, rate, seed):
    """One member on its own: no vmap, no loop of JAX, updates applied by optax."""
    params = problem.init(jax.random.key(seed), dataset.features, settings.hidden, len(dataset.classes))
    optimizer = contestant.build(rate)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, x, y):
        value, grads = jax.value_and_grad(problem.loss)(params, x, y)
        updates, state = optimizer.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state

    for rows in contest.batches(dataset, settings)[seed]:
        params, state = step(params, state, dataset.train.x[rows], dataset.train.y[rows])
    return (
        problem.loss(params, dataset.train.x, dataset.train.y),
        problem.loss(params, dataset.validation.x, dataset.validation.y),
        problem.accuracy(params, dataset.test.x, dataset.test.y),
        adaptx.read(state, "learning_rate"),
    )


SLOW = [name for name in contestants.CLASSICAL if name != "adam"]


@pytest.mark.parametrize("name", ["adam", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_member_equals_its_single_run(wine, name):
    contestant = contestants.CLASSICAL[name]
    course = contest.run(contestant, wine, SETTINGS)
    for index, seed in ((0, 1), (2, 0)):
        member = [values[index, seed, -1] for values in course.measured]
        alone = single_run(contestant, wine, SETTINGS, SETTINGS.rates[index], seed)
        np.testing.assert_allclose(member, alone, rtol=VMAPPED_30_STEPS)


def test_a_race_repeats_itself_and_is_traced_once(wine):
    traces = []

    def build(rate):
        traces.append(rate)
        return adaptx.adam(rate)

    ticks = []
    one = contest.run(contestants.Contestant("adam", build), wine, SETTINGS, ticks.append)
    assert len(traces) == 2, "expected one trace of init and one of the training, whatever the grid and the seeds"
    assert ticks == ["compiling"] + ["training"] * len(SETTINGS.evaluated)
    two = contest.run(contestants.CLASSICAL["adam"], wine, SETTINGS)
    for first, second in zip(one.measured, two.measured, strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_course_records_what_was_used(wine):
    course = contest.run(contestants.CLASSICAL["sgd"], wine, SETTINGS)
    np.testing.assert_array_equal(course.steps, [0, 8, 15, 22, 30])
    assert all(values.shape == (3, 2, 5) for values in course.measured)
    assert np.all(np.isnan(course.measured.learning_rate[..., 0]))
    used = np.broadcast_to(SETTINGS.rates[:, None, None], (3, 2, 4))
    np.testing.assert_allclose(course.measured.learning_rate[..., 1:], used, rtol=1e-6)
    start = course.measured.train_loss[..., 0]
    np.testing.assert_array_equal(
        start, np.broadcast_to(start[:1], start.shape), "initial weights depend on the seed alone"
    )
    assert start[0, 0] != start[0, 1]
    assert np.all(course.measured.train_loss[-1, :, -1] < start[-1])


def test_every_epoch_sees_every_row_once(wine):
    settings = contest.Settings(steps=20, batch_size=16, hidden=8, seeds=2, grid=(0.1, 1, 2))
    rows = contest.batches(wine, settings)
    count = len(wine.train.y)
    assert rows.shape == (2, 20, 16)
    assert rows.dtype == np.int32
    for seed in rows.reshape(2, -1):
        np.testing.assert_array_equal(np.sort(seed[:count]), np.arange(count))
        np.testing.assert_array_equal(np.sort(seed[count : 2 * count]), np.arange(count))
    assert np.any(rows[0] != rows[1])


def test_few_steps_are_evaluated_after_each():
    settings = contest.Settings(steps=3, batch_size=1, hidden=1, seeds=1, grid=(0.1, 1, 2))
    np.testing.assert_array_equal(settings.evaluated, [0, 1, 2, 3])


def test_a_diverged_run_counts_as_infinite(wine):
    settings = contest.Settings(steps=30, batch_size=16, hidden=8, seeds=2, grid=(0.1, 1e30, 2), evaluations=4)
    wild = contest.run(contestants.CLASSICAL["sgd"], wine, settings)
    (row,) = summary.summarize([wild]).rows
    assert row.best == 0
    assert row.diverged == 1
    assert np.isinf(row.final_losses[1])
    assert np.isfinite(row.validation_loss)


def test_a_contestant_without_a_rate_runs_once_per_seed(wine):
    free = contestants.Contestant("free", lambda rate: adaptx.adam(0.01), tuned=False)
    course = contest.run(free, wine, SETTINGS)
    assert course.measured.train_loss.shape == (1, 2, 5)
    (row,) = summary.summarize([course]).rows
    assert row.best_rate == pytest.approx(0.01)
    assert np.isnan(row.width)
    assert not row.on_edge


def known_course(name, losses, accuracies=0.5):
    """A course of two seeds whose validation loss falls from 2 to `losses` (rates) over the steps 0, 10, 20, 30."""
    falling = np.stack([np.linspace(2.0, loss, 4) if np.isfinite(loss) else [2, 1, np.nan, np.nan] for loss in losses])
    values = np.repeat(falling[:, None], 2, axis=1)
    rates = 10.0 ** np.arange(-3, len(losses) - 3)
    measured = contest.Measured(values, values, values * 0 + accuracies, values * 0 + rates[:, None, None])
    return contest.Course(name, rates, np.arange(0, 40, 10), measured, 1.0, 2.0)


def test_the_summary_of_known_courses():
    good = known_course("good", [1.5, 1.0, 0.5, np.nan], np.array([[[0.6], [0.8]]]))
    poor = known_course("poor", [1.9, 1.8, 1.9, 1.9])
    table = summary.summarize([poor, good])
    assert [row.name for row in table.rows] == ["good", "poor"]
    assert table.target_loss == pytest.approx(0.5 + 0.05 * 1.5)
    best, worst = table.rows
    assert (best.best, best.best_rate, best.on_edge, best.diverged) == (2, pytest.approx(0.1), False, 1)
    assert best.validation_loss == 0.5
    assert best.seconds == 3.0
    assert best.accuracy_mean == pytest.approx(0.7)
    assert best.accuracy_sd == pytest.approx(0.2 / np.sqrt(2))
    assert best.steps_to_target == 30
    assert np.isinf(worst.steps_to_target)
    # 0.075 above the best on a slope of 0.5 per decade to the left; the rate to the right diverged
    assert best.width == pytest.approx(0.15)
    assert best.high == pytest.approx(0.1)
    assert not best.cut


@pytest.mark.parametrize(
    ("losses", "expected", "cut"),
    [
        ([3.0, 1.0, 3.0], 1.0, False),  # threshold 2: half a decade to each side
        ([1.0, 2.0, 3.0], 1.0, True),  # the best is the first; exactly at the threshold still counts
        ([1.5, 1.0, 1.5], 2.0, True),
        ([np.inf, 1.0, np.inf], 0.0, False),
        ([1.0, 5.0, 1.0], 0.25, True),  # a second valley does not count
        ([1.0], np.nan, False),
        ([np.inf, np.inf], np.nan, False),
    ],
)
def test_the_good_range_is_linear_between_rates(losses, expected, cut):
    rates = 10.0 ** np.arange(len(losses))
    low, high, was_cut = summary.good_range(rates, np.array(losses), 2.0)
    np.testing.assert_allclose(np.log10(high / low), expected, atol=1e-12)
    assert was_cut == cut


def test_everything_diverged_is_still_a_summary():
    table = summary.summarize([known_course("lost", [np.nan, np.nan])])
    (row,) = table.rows
    assert np.isinf(row.validation_loss)
    assert np.isnan(row.best_rate)
    assert np.isnan(row.width)
    assert row.diverged == 2
    assert np.isnan(table.target_loss)
