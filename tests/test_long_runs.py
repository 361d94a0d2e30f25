"""Long trainings: a million steps of every controller, ten thousand eager ones in flat memory, a counter at its end."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import controllers

c = controllers
LAST = 2**31 - 1
MILLION = 1_000_000
CURVATURE = jnp.geomspace(0.1, 1.0, 8)
# at the rates of a user who has tuned them a little
RATES = {"trust_ratio": 1e-3, "l4": 0.1, "cocob": 1.0}
MADE = {**controllers.ALL, "l4": lambda rate: c.l4(rate, max_lr=0.01)}  # without, noise drives it up without end
RULES = {"sgd": adaptx.sgd, "adam": adaptx.adam}


def noisy(opt, steps, seed=0):
    """(mean loss over a hundredth of the run, at its tenth and at its end, the rates) on a noisy quadratic."""

    def body(carry, key):
        x, state = carry
        loss = 0.5 * jnp.sum(CURVATURE * x**2)
        noise = jax.random.normal(key, (9,))
        g = CURVATURE * x + 0.1 * noise[:8]
        told = {"value": loss + 0.01 * (1 + noise[8])} if "value" in opt.requires else {}
        x, state = opt.step(g, state, x, **told)
        return (x, state), (loss, adaptx.read(state, "learning_rate"))

    @jax.jit
    def run(key):
        x = jnp.ones(8)
        _, (losses, rates) = jax.lax.scan(body, (x, opt.init(x)), jax.random.split(key, steps))
        part = steps // 100
        return jnp.mean(losses[steps // 10 - part : steps // 10]), jnp.mean(losses[-part:]), rates

    return run(jax.random.key(seed))


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", controllers.ALL)
def test_a_million_steps(name, rule):
    """Noise, and no end to it: the loss is no worse than at a tenth of the run, and no rate is stuck at 0."""
    opt = RULES[rule](MADE[name](RATES.get(name, 1e-2)))
    early, late, rates = noisy(opt, MILLION)
    assert np.isfinite(late)
    start = 0.5 * float(jnp.sum(CURVATURE))
    assert early < start, (float(early), start)
    assert late <= 1.5 * early, (float(early), float(late))
    assert np.all(np.asarray(rates[-1000:]) >= 0)
    assert np.max(np.asarray(rates[-1000:])) > 0


@pytest.mark.parametrize("name", ["plateau", "hypergradient", "hypergradient_additive"])
def test_a_rate_that_noise_brings_down_has_a_floor(name):
    """5,000 steps after which the loss only wanders: plateau was at exactly 0."""
    opt = adaptx.sgd(controllers.ALL[name](1e-2))
    *_, rates = noisy(opt, 20_000)
    share = {"plateau": 1e-3}.get(name, 1e-6)
    assert np.min(rates) >= 0.99 * share * np.max(rates)
    assert name != "plateau" or np.min(rates) <= 1.01 * share * np.max(rates)  # it got there


def test_a_rate_at_the_floor_rises_again():
    """Gradients that turn at every step bring it down; those that stay bring it back to where it was."""
    opt = adaptx.sgd(c.hypergradient(0.1, min_scale=1e-4))
    x = jnp.zeros(3)
    state, step = opt.init(x), jax.jit(opt.step)
    for t in range(200):
        x, state = step((-1.0) ** t * jnp.ones(3), state, x)
    np.testing.assert_allclose(adaptx.read(state, "learning_rate"), 1e-5, rtol=1e-4)
    for _ in range(200):
        x, state = step(jnp.ones(3), state, x)
    assert adaptx.read(state, "learning_rate") > 0.1


def test_a_plateau_goes_no_lower_than_its_floor():
    opt = adaptx.sgd(c.plateau(1.0, 0.1, 1, window=1))
    x = jnp.zeros(2)
    state, step = opt.init(x), jax.jit(opt.step)
    seen = []
    for _ in range(12):
        x, state = step(jnp.ones(2), state, x, value=1.0)
        seen.append(float(adaptx.read(state, "learning_rate")))
    np.testing.assert_allclose(sorted(set(seen)), [1e-3, 1e-2, 0.1, 1.0], rtol=1e-5)


def near_the_end(state):
    return state._replace(step=jnp.int32(LAST - 2))


def test_stochastic_bits_do_not_repeat_at_the_end_of_the_counter():
    """A hundred steps past 2³¹ − 1: the same number is rounded up and down, about as often as it should be."""
    opt, p = adaptx.sgd(1.0, rounding="stochastic"), {"x": jnp.full(64, 1.0, jnp.bfloat16)}
    state, ups, step = near_the_end(opt.init(p)), [], jax.jit(opt.step)
    for _ in range(200):
        new, state = step({"x": jnp.full(64, -(2.0**-9))}, state, p)  # a quarter of the way to the next number
        ups.append(np.asarray(new["x"] > p["x"]))
    assert int(state.step) == LAST
    ups = np.array(ups[5:])
    assert len({row.tobytes() for row in ups}) == len(ups)
    assert abs(ups.mean() - 0.25) < 0.02


def test_the_age_of_slots_goes_on_at_the_end_of_the_counter():
    opt, x = adaptx.adam(), jnp.ones(2)
    state = near_the_end(opt.init(x))._replace(born=jnp.int32(LAST - 2))
    fresh, step = opt.init(x), jax.jit(opt.step)
    y = x
    for _ in range(20):
        x, state = step(jnp.ones(2), state, x)
        y, fresh = step(jnp.ones(2), fresh, y)
    np.testing.assert_array_equal(x, y)
    assert int(adaptx.read(state, "step")) == LAST
    far = state._replace(born=jnp.int32(-LAST))
    x, far = step(jnp.ones(2), far, x)
    assert np.all(np.isfinite(x))
    assert int(far.born) == -LAST


@pytest.mark.slow
def test_ten_thousand_eager_steps_in_flat_memory():
    """No buffer, no trace and no program is left behind by a step."""
    opt, p = adaptx.adam(c.prodigy(), storage="int8", storage_exclude=0), {"w": jnp.ones((8, 8)), "b": jnp.zeros(8)}
    state, counts = opt.init(p), []
    for t in range(10_000):
        p, state = opt.step(jax.tree.map(jnp.cos, p), state, p)
        if t % 1000 == 999:
            gc.collect()
            counts.append((len(jax.live_arrays()), sum(x.nbytes for x in jax.live_arrays())))
    assert len(set(counts[1:])) == 1, counts
