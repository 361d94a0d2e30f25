"""The verbs: bias correction, root and divide at zero, exponential averages, stochastic rounding to bf16."""

from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
import oracles
from adaptx import numerics
from adaptx.bits import counter_bits
from adaptx.checks import decay
from adaptx.engine.rounding import stochastic
from adaptx.values import Decay

CORRECTION = 3e-7  # relative, in f32: what the library promises
DECAYS = [0.0, 0.1, 0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999]
STEPS = np.unique(np.concatenate([np.arange(1, 200), np.geomspace(200, 10**6, 400).astype(np.int64)]))


def round_to_bf16(x, bits):
    """Stochastic rounding to bfloat16, as parameters are rounded."""
    return stochastic(x, jnp.bfloat16, bits)


@pytest.mark.parametrize("b", DECAYS)
def test_bias_correction_in_f32(b: float):
    """1 − bᵗ for every t sampled up to a million, from a Python float, an f32 leaf, and a rate given as an array."""
    want = oracles.bias_correction(b, STEPS.astype(np.float64))
    t = jnp.asarray(STEPS, jnp.float32)
    for c in (decay("b", b), jax.tree.map(jnp.float32, decay("b", b)), decay("b", np.float64(b)), at_array(b)):
        for function in (numerics.one_minus_power, jax.jit(numerics.one_minus_power)):
            got = np.asarray(function(c, t))
            assert got.dtype == np.float32
            assert np.max(np.abs(got / want - 1)) <= CORRECTION


def at_array(b: float) -> Decay:
    """The rate as one entry of a batch made from a float64 array."""
    return jax.tree.map(lambda x: x[1], decay("b", np.array([0.5, b])))


@pytest.mark.parametrize("b", DECAYS)
def test_bias_correction_in_f64(b: float, x64):
    got = np.asarray(numerics.one_minus_power(decay("b", b), jnp.asarray(STEPS, jnp.float64)))
    np.testing.assert_allclose(got, oracles.bias_correction(b, STEPS.astype(np.float64)), rtol=1e-13)


def test_the_oracle_of_the_correction():
    """The float64 oracle itself against 60 decimal digits."""
    with localcontext() as context:
        context.prec = 60
        for b in DECAYS[1:]:
            for t in (1, 2, 10, 1000, 10**6):
                want = 1 - Decimal(b) ** t
                assert abs(Decimal(float(oracles.bias_correction(b, t))) / want - 1) < Decimal("1e-12")


def test_bias_correction_transformation():
    """adaptx.bias_correction through the engine: u / (1 − bᵗ), the first step of 0.9999 exact to 3e-7."""
    for b in (0.9, 0.9999):
        piece = adaptx.bias_correction(b)
        state = piece.init(jnp.ones(3))
        for t in range(1, 6):
            out, state = piece.update(jnp.ones(3), state)
            np.testing.assert_allclose(out, 1 / oracles.bias_correction(b, t), rtol=2 * CORRECTION)


@pytest.mark.parametrize("debias", [True, False])
@pytest.mark.parametrize("b", [0.0, 0.5, 0.9, 0.999])
def test_ema_transformation(b: float, debias: bool):
    values = np.random.default_rng(0).uniform(-1, 1, (30, 4))
    piece = adaptx.ema(b, debias)
    inputs = jnp.asarray(values, jnp.float32)
    _, got = jax.lax.scan(lambda s, x: piece.update(x, s)[::-1], piece.init(jnp.ones(4)), inputs)
    np.testing.assert_allclose(got, oracles.ema(values, b, debias), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("b", [0.0, 0.9, 0.999])
def test_bias_correction_has_finite_slopes(b: float):
    for t in (1.0, 2.0, 1000.0):
        slope = jax.grad(lambda c, t=t: numerics.one_minus_power(Decay(c), t))(jnp.float32(1 - b))
        assert np.isfinite(slope)
        if b:
            assert float(slope) == pytest.approx(t * b ** (t - 1), rel=1e-3)


def test_ema_keeps_the_digits_of_one_minus_b():
    """With b = 0.9999 in f32, 1 − b is wrong by 1.7e-4; carried as the complement it is not."""
    c = jax.tree.map(jnp.float32, decay("b", 0.9999))
    got = numerics.ema(jnp.float32(0.0), jnp.float32(1.0), c)
    assert float(got) == pytest.approx(1e-4, rel=1e-6)


@pytest.mark.parametrize("b", [0.5, 0.999, 0.99999])
def test_the_average_of_a_constant_is_the_constant(b: float):
    """With b rounded to f32 it would be off by that rounding over 1 − b, up to 3e-4 for 0.9999, ever after."""
    c, x = jax.tree.map(jnp.float32, decay("b", b)), jnp.float32(0.7)
    for average, value in ((numerics.ema, x), (numerics.ema_of_squares, jnp.sqrt(x))):
        step = lambda _, old, average=average, value=value: average(old, value, c)  # noqa: E731
        assert float(jax.lax.fori_loop(0, 100_000, step, x)) == pytest.approx(0.7, rel=2e-5)


def test_an_average_of_squares_is_in_range_where_they_are_not():
    c = jax.tree.map(jnp.float32, decay("b", 0.999))
    got = numerics.ema_of_squares(jnp.float32(0.0), jnp.float32(1e20), c)
    assert float(got) == pytest.approx(1e37, rel=1e-5)


def test_what_is_divided_by_is_positive():
    """0 / 0 is 0 whatever ε, with a finite slope; NaN and inf stay."""
    zero, huge, none = jnp.float32(0.0), jnp.float32(jnp.inf), jnp.float32(jnp.nan)
    for inside in (True, False):
        assert float(numerics.over_root(zero, zero, 0.0, inside)) == 0.0
        assert float(numerics.over_root(jnp.float32(6.0), jnp.float32(4.0), 0.0, inside)) == 3.0
        slopes = jax.grad(numerics.over_root, argnums=(0, 1))(zero, zero, 1e-8, inside)
        assert np.all(np.isfinite(slopes))
    assert np.isnan(numerics.positive_root(none))
    assert float(numerics.positive_root(huge)) == np.inf
    assert float(jax.grad(numerics.positive_root)(zero)) == 0.0


def test_root_at_the_ends():
    x = jnp.array([0.0, -0.0, -1e-30, 4.0, jnp.inf, 1e-40, 1e-30])
    np.testing.assert_array_equal(numerics.root(x)[:5], [0, 0, 0, 2, jnp.inf])
    assert np.isnan(numerics.root(jnp.float32(jnp.nan))), "a NaN must stay visible"
    assert float(numerics.root(jnp.float32(1e-30))) == pytest.approx(1e-15)


@pytest.mark.parametrize("x", [0.0, -1e-3, 1e-12, 4.0])
def test_root_has_finite_slopes(x: float):
    slope = float(jax.grad(numerics.root)(x))
    assert slope == (0.0 if x <= 0 else pytest.approx(0.5 * x**-0.5, rel=1e-5))


def test_divide_at_zero():
    x, y = jnp.array([0.0, 3.0, -3.0, 6.0, jnp.nan]), jnp.array([0.0, 0.0, -0.0, 2.0, 1.0])
    np.testing.assert_array_equal(numerics.divide(x, y), [0, 0, 0, 3, jnp.nan])
    assert np.isnan(numerics.divide(jnp.float32(1), jnp.float32(jnp.nan)))
    for at in ((0.0, 0.0), (1.0, 0.0), (1.0, 2.0)):
        assert np.all(np.isfinite(jax.grad(numerics.divide, argnums=(0, 1))(*at)))


@pytest.mark.parametrize("y", [1e-30, 1.0, 1e30])
def test_divide_has_finite_slopes(y: float):
    slopes = jax.grad(numerics.divide, (0, 1))(jnp.float32(3 * y), jnp.float32(y))
    np.testing.assert_allclose(slopes, [1 / y, -3 / y], rtol=1e-6)


def neighbors(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two bf16 numbers around f32 numbers, toward zero and away from it, as f32."""
    word = x.astype(np.float32).view(np.uint32)
    low = word & np.uint32(0xFFFF0000)
    high = np.where(word == low, low, low + np.uint32(0x10000))
    return low.view(np.float32), high.view(np.float32)


EDGES = np.array([1.0, -1.0, 1.00390625, 3.14159, -2.7e-30, 1e-38, 1e-41, 6.5e4, -3.3e38, 2.0**-126, 0.1], np.float32)


def test_rounding_has_two_values_and_no_bias():
    """Each of 2¹⁶ values of the random bits once: the support is {floor, ceil} and the mean is x, exactly."""
    bits = jnp.arange(2**16, dtype=jnp.uint32)
    low, high = neighbors(EDGES)
    for x, a, b in zip(EDGES, low, high, strict=True):
        got = np.asarray(round_to_bf16(jnp.full(2**16, x), bits)).astype(np.float32)
        assert set(got.tolist()) <= {float(a), float(b)}, x
        if a != b and np.isfinite(b):
            assert got.astype(np.float64).mean() == pytest.approx(float(x), rel=1e-9)
            assert set(got.tolist()) == {float(a), float(b)}


def test_rounding_is_unbiased_with_the_engine_bits():
    """The mean over a million elements and steps is within four standard errors of x."""
    n = 1 << 16
    for x in (0.1, -1.003, 7.77e-20):
        low, high = (float(v[0]) for v in neighbors(np.array([x])))
        draws = [
            round_to_bf16(jnp.full(n, x), counter_bits((n,), jnp.uint32(s))).astype(jnp.float32) for s in range(16)
        ]
        mean = np.mean(np.asarray(draws, np.float64))
        assert abs(mean - float(np.float32(x))) < 4 * abs(high - low) * 0.5 / np.sqrt(16 * n)


def test_rounding_at_the_ends():
    worst = jnp.full(4, 0xFFFF, jnp.uint32)
    odd_nan = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0x7FC00000], np.uint32).view(np.float32)
    for bits in (worst, jnp.zeros(4, jnp.uint32)):
        assert np.all(np.isnan(round_to_bf16(jnp.asarray(odd_nan), bits).astype(jnp.float32))), "NaN stays NaN"
        ends = jnp.array([jnp.inf, -jnp.inf, 0.0, -0.0])
        got = np.asarray(round_to_bf16(ends, bits)).astype(np.float32)
        np.testing.assert_array_equal(got, ends)
        assert np.signbit(got[3])
    top = np.finfo(np.float32).max
    got = np.asarray(round_to_bf16(jnp.array([top, -top]), worst[:2])).astype(np.float32)
    assert np.all(np.isfinite(got)), "the largest never wraps"
    assert np.all(np.abs(got) > 3.3e38)
    assert got[1] == -got[0]
    exact = jnp.asarray(np.array([1.0, -0.5, 3.0, 2.0**-130], np.float32))
    np.testing.assert_array_equal(np.asarray(round_to_bf16(exact, worst)).astype(np.float32), exact)


def test_bits_differ_between_elements_leaves_and_steps():
    """No two of several salts share bits, and each bit is set half of the time."""
    words = np.stack([np.asarray(counter_bits((64, 64), jnp.uint32(s))).ravel() for s in range(8)])
    assert len(np.unique(words)) > 0.999 * words.size
    share = [np.mean((words >> k) & 1) for k in range(32)]
    assert np.all(np.abs(np.array(share) - 0.5) < 4 * 0.5 / np.sqrt(words.size))
    assert np.max(np.abs(np.corrcoef((words & 0xFFFF).astype(np.float64)) - np.eye(8))) < 0.07
