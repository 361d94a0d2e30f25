"""Narrow parameters: small updates arrive, rounding is unbiased and deterministic, and what is kept has a name."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx.bits import counter_bits, mix
from adaptx.engine import rounding
from probes import assert_identical

POLICIES = rounding.POLICIES
KEPT = {"kahan": "compensation", "master": "master"}
NARROW = {"bf16": jnp.bfloat16, "f16": jnp.float16}
# how far from 0 after 1,000 steps of −1e-3 from 1. Stochastic: root mean square over elements, 0.041 by theory, from
# 500 roundings of variance 1e-3·(ulp − 1e-3) with ulp = 2⁻⁸, then 250 with 2⁻⁹; the others: every element
ARRIVES = {"stochastic": 0.05, "kahan": 0.004, "master": 0.004}
SIGMAS = 5
SAMPLES = 1 << 16


def walk(opt, p, g, steps: int, *, fused: bool = True):
    """(parameters, state) after steps with one gradient, fused or through optax.apply_updates."""

    def body(carry, _):
        x, state = carry
        if fused:
            return opt.step(g, state, x), None
        updates, state = opt.update(g, state, x)
        return (optax.apply_updates(x, updates), state), None

    return jax.jit(lambda: jax.lax.scan(body, (p, opt.init(p)), None, length=steps)[0])()


@pytest.mark.parametrize("fused", [True, False], ids=["step", "update"])
@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("policy", ARRIVES)
def test_small_updates_arrive(policy: str, dtype: str, fused: bool):
    """1,000 steps of −1e-3 from 1, a quarter ulp of bf16 at first, arrive at 0."""
    p = jnp.ones(4096, NARROW[dtype])
    x, _ = walk(adaptx.sgd(1e-3, rounding=policy), p, jnp.ones(4096), 1000, fused=fused)
    assert x.dtype == NARROW[dtype]
    x = np.asarray(x, np.float64)
    if policy == "stochastic":
        assert np.sqrt(np.mean(x**2)) <= ARRIVES[policy]
        assert abs(np.mean(x)) <= SIGMAS * np.std(x) / 64
    else:
        assert np.max(np.abs(x)) <= ARRIVES[policy]


def test_nearest_stands_still():
    """What the policies are for: bf16 1 − 1e-3 is 1."""
    x, _ = walk(adaptx.sgd(1e-3), jnp.ones(4, jnp.bfloat16), jnp.ones(4), 1000)
    np.testing.assert_array_equal(np.asarray(x, np.float32), 1.0)


@pytest.mark.parametrize("fused", [True, False], ids=["step", "update"])
@pytest.mark.parametrize("policy", ARRIVES)
@pytest.mark.parametrize("mode", ["decoupled", "l2", "independent"])
def test_weight_decay_arrives(mode: str, policy: str, fused: bool):
    """Decay alone, 1e-4 of p a step, 1/40 of a bf16 ulp: after 1,000 steps p is exp(−0.1) of what it was."""
    weight = {"decoupled": 1e-1, "l2": 1e-1, "independent": 1e-4}[mode]
    opt = adaptx.sgd(1e-3, weight_decay=weight, decay_mode=mode, rounding=policy)
    x, _ = walk(opt, jnp.full(4096, 1.5, jnp.bfloat16), jnp.zeros(4096), 1000, fused=fused)
    x = np.asarray(x, np.float32)
    noise = SIGMAS * 0.0078125 * np.sqrt(1000 * 0.025) / np.sqrt(4096) if policy == "stochastic" else 0.004
    assert np.mean(x) == pytest.approx(1.5 * np.exp(-0.1), abs=noise)


@pytest.mark.parametrize("dtype", NARROW)
def test_stochastic_rounding_is_unbiased_on_two_neighbors(dtype: str):
    """Mean within five standard errors; never anything but the two neighbors; what is representable stays."""
    narrow = NARROW[dtype]
    low, high = (-14, 14) if dtype == "f16" else (-30, 30)
    rng = np.random.default_rng(0)
    xs = np.float32(rng.uniform(1, 2, 60) * 2.0 ** rng.integers(low, high, 60) * rng.choice([-1, 1], 60))
    if dtype == "f16":
        xs = np.append(xs, np.float32([3.3e-6, -1.7e-7, 4e-8]))  # subnormal
    for i, x in enumerate(xs):
        bits = counter_bits((SAMPLES,), mix(jnp.uint32(i)))
        got = np.asarray(rounding.stochastic(jnp.full(SAMPLES, x), narrow, bits).astype(jnp.float32), np.float64)
        near = float(jnp.asarray(x).astype(narrow).astype(jnp.float32))
        assert len(np.unique(got)) <= 2
        assert np.min(got) <= x <= np.max(got) or len(np.unique(got)) == 1
        ulp = max(np.max(got) - np.min(got), abs(near - x))
        assert abs(np.mean(got) - x) <= SIGMAS * ulp / (2 * np.sqrt(SAMPLES))


@pytest.mark.parametrize("dtype", NARROW)
def test_every_narrow_number_stays(dtype: str):
    """All 65,536 of them, NaN and inf too, at the dice that push hardest: a zero update moves nothing."""
    halves = jnp.arange(1 << 16, dtype=jnp.uint32).astype(jnp.uint16)
    p = jax.lax.bitcast_convert_type(halves, NARROW[dtype])
    for bits in (0, 0xFFFFFFFF, 0x80008000):
        got = rounding.stochastic(p.astype(jnp.float32), NARROW[dtype], jnp.full(p.shape, bits, jnp.uint32))
        wide, want = np.asarray(got.astype(jnp.float32)), np.asarray(p.astype(jnp.float32))
        normal = ~(np.abs(want) < np.finfo(np.float32).tiny)  # bf16 subnormals are flushed by arithmetic
        np.testing.assert_array_equal(wide[normal], want[normal])


def test_largest_stays_finite():
    for dtype in NARROW.values():
        top = jnp.finfo(dtype).max.astype(jnp.float32)
        x = jnp.asarray([top, -top, jnp.nextafter(top, jnp.inf), jnp.inf, -jnp.inf, jnp.nan])
        got = np.asarray(rounding.stochastic(x, dtype, jnp.full(6, 0xFFFFFFFF, jnp.uint32)).astype(jnp.float32))
        np.testing.assert_array_equal(got, [top, -top, top, np.inf, -np.inf, np.nan])


def test_tenth_of_a_thousand_small_steps():
    """p = 1 and 1,000 updates of 1e-4: nearest stays at 1, the mean of 65,536 stochastic elements is 1.1 ± 5e-4."""
    p = jnp.ones(SAMPLES, jnp.bfloat16)
    x, _ = walk(adaptx.sgd(1e-4, rounding="stochastic"), p, -jnp.ones(SAMPLES), 1000)
    assert np.mean(np.asarray(x, np.float64)) == pytest.approx(1.1, abs=5e-4)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("policy", POLICIES)
def test_not_finite_stays_where_it_is(policy: str, bad: float):
    """A parameter or gradient that is not finite is not hidden, and does not touch the other elements."""
    p = jnp.ones(8, jnp.bfloat16).at[2].set(bad)
    x, _ = walk(adaptx.sgd(0.1, rounding=policy), p, jnp.ones(8).at[5].set(bad), 3)
    x = np.asarray(x, np.float32)
    assert not np.isfinite(x[2])
    assert not np.isfinite(x[5])
    np.testing.assert_allclose(np.delete(x, [2, 5]), 0.7, atol=0.01)


@pytest.mark.parametrize("storage", ["f32", "bf16"])
@pytest.mark.parametrize("policy", POLICIES)
def test_two_runs_are_one(policy: str, storage: str):
    """Random bits are a hash of step, leaf and element: two runs are equal to the bit, and so is one interrupted."""
    opt = adaptx.adamw(1e-2, rounding=policy, storage=storage, storage_exclude=0)
    p = {"a": jnp.linspace(-1, 1, 300).astype(jnp.bfloat16), "b": jnp.ones((2, 3))}
    g = jax.tree.map(lambda x: x.astype(jnp.float32) + 0.1, p)
    step = jax.jit(opt.step)

    def run(x, state, steps: int):
        for _ in range(steps):
            x, state = step(g, state, x)
        return x, state

    first, second = run(p, opt.init(p), 6), run(p, opt.init(p), 6)
    assert_identical(first, second)
    assert_identical(run(*jax.tree.map(lambda a: jnp.asarray(np.asarray(a)), run(p, opt.init(p), 2)), 4), first)


def test_leaves_and_steps_draw_different_bits():
    opt = adaptx.sgd(1e-3, rounding="stochastic")
    p = {"a": jnp.ones(256, jnp.bfloat16), "b": jnp.ones(256, jnp.bfloat16)}
    g = jax.tree.map(lambda x: jnp.ones(x.shape), p)
    one, state = opt.step(g, opt.init(p), p)
    other, _ = opt.step(g, state, p)
    assert not np.array_equal(np.asarray(one["a"], np.float32), np.asarray(one["b"], np.float32))
    assert not np.array_equal(np.asarray(one["a"], np.float32), np.asarray(other["a"], np.float32))


@pytest.mark.parametrize("policy", POLICIES)
def test_what_is_kept(policy: str):
    """An array of the right type at narrow leaves, None at f32 leaves; the policy alone decides if there is a tree."""
    opt = adaptx.adam(1e-3, rounding=policy)
    p = {"narrow": jnp.ones(5, jnp.bfloat16), "wide": jnp.ones(3)}
    kept, name = opt.init(p).kept, KEPT.get(policy)
    assert set(kept) == set(opt.init({"wide": p["wide"]}).kept) == ({name} if name else set())
    if name:
        assert kept[name]["wide"] is None
        assert kept[name]["narrow"].dtype == (jnp.bfloat16 if policy == "kahan" else jnp.float32)
        assert kept[name]["narrow"].shape == (5,)
    bytes_kept = {"kahan": 2 * 5, "master": 4 * 5}.get(policy, 0)
    assert opt.state_bytes(p) == adaptx.adam(1e-3).state_bytes(p) + bytes_kept


@pytest.mark.parametrize("policy", POLICIES)
def test_donation(policy: str):
    """Nothing kept is the parameter itself: both may be donated, and the state keeps its types."""
    opt = adaptx.adam(1e-2, rounding=policy)
    x = {"a": jnp.ones((4, 300), jnp.bfloat16), "b": jnp.ones(7)}
    state, g = opt.init(x), jax.tree.map(lambda a: jnp.ones(a.shape), x)
    kinds = jax.tree.map(lambda a: (a.shape, a.dtype), state)
    step = jax.jit(opt.step, donate_argnums=(1, 2))
    for _ in range(3):
        x, state = step(g, state, x)
        assert jax.tree.map(lambda a: (a.shape, a.dtype), state) == kinds
    np.testing.assert_allclose(np.asarray(x["a"], np.float32), 0.97, atol=0.01)


@pytest.mark.parametrize("policy", POLICIES)
def test_wide_parameters_are_added_to(policy: str):
    """f32 parameters move alike under every policy."""
    p, g = jnp.linspace(0.1, 1, 50), jnp.linspace(-1, 1, 50)
    got, want = (walk(adaptx.adam(1e-2, rounding=name), p, g, 5)[0] for name in (policy, "nearest"))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("policy", ["stochastic", "kahan", "master"])
def test_update_is_step(policy: str):
    """Through optax.apply_updates: the same parameters to the bit while a step is shorter than half the parameter."""
    p = jnp.asarray(np.random.default_rng(0).uniform(0.5, 1, 500), jnp.bfloat16)
    g = jnp.asarray(np.random.default_rng(1).normal(size=500), jnp.float32)
    run = partial(walk, adaptx.adam(3e-3, rounding=policy), p, g, 20)
    fused, plain = run(), run(fused=False)
    assert_identical(plain[0], fused[0])
    assert_identical(plain[1].slots, fused[1].slots)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_skipped_step_leaves_what_is_kept(policy: str):
    opt = adaptx.adam(1e-2, rounding=policy, skip_nonfinite=True)
    p = jnp.full(9, 0.3, jnp.bfloat16)
    x, state = opt.step(jnp.ones(9), opt.init(p), p)
    y, after = opt.step(jnp.full(9, jnp.nan), state, x)
    assert_identical((y, after.slots, after.kept), (x, state.slots, state.kept))
