"""Codes exhaustively: order, zero, round trip, both ends of the range, unbiased rounding, and a golden hash."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptx.engine import codecs

TOP = {True: 127, False: 255}  # largest code of a magnitude
BINADES = {True: 31, False: 39}
CODES = {True: np.r_[0:128, 129:256], False: np.arange(256)}  # 128 would be a second zero and is never written
BOUNDS = [0.0, 1e-45, 1e-40, 1.1754944e-38, 1e-37, 1e-30, 1e-20, 0.75, 1.0, 3.0, 1e10, 1e30, 1.7e38, 3.4028235e38]
TINY = float(np.finfo(np.float32).tiny)
EDGE = float(np.float32(3.4028235e38))
DICE = (0, 1, 0x7FFF, 0x8000, 0xFFFF)
SAMPLES = 1 << 16  # one of each possible dice value, so that a mean over them is the expectation
SIGMAS = 5
GOLDEN = "e3e8a3e662deacca"  # of the values of all codes at three bounds


def decode(codes, bound: float, signed: bool) -> np.ndarray:
    base = codecs.base_of(jnp.float32(bound), signed)
    return np.asarray(jax.jit(codecs.from_code, static_argnums=2)(jnp.asarray(codes, jnp.uint32), base, signed))


def encode(x, bound: float, dice, signed: bool) -> np.ndarray:
    base = codecs.base_of(jnp.float32(bound), signed)
    x, dice = jnp.broadcast_arrays(jnp.asarray(x, jnp.float32), jnp.asarray(dice, jnp.uint32))
    return np.asarray(jax.jit(codecs.to_code, static_argnums=3)(x, base, dice, signed))


def book(bound: float, signed: bool) -> np.ndarray:
    """The values of all codes in rising order."""
    magnitudes = np.arange(TOP[signed] + 1)
    values = decode(magnitudes, bound, signed)
    return np.concatenate([-values[:0:-1], values]) if signed else values


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("signed", [True, False])
def test_book(signed: bool, bound: float):
    """Rising, one zero, symmetric, finite, normal, reaching the bound, gaps of at most 25 %."""
    values = book(bound, signed)
    assert np.all(np.diff(values) > 0)
    assert np.count_nonzero(values == 0) == 1
    levels = values[values > 0]
    assert len(levels) == TOP[signed]
    assert levels[0] >= TINY
    assert levels[-1] >= min(bound, 2.0**127)
    assert float(levels[-1]) >= min(2 * bound, 2.0**127), "no room for the noise of rounding"
    assert float(levels[-1]) <= max(4 * bound, 2.0**-86), "range wasted above the bound"
    gaps = levels[1:].astype(np.float64) / levels[:-1]
    assert np.max(gaps) <= 1.25
    assert signed or np.max(gaps[-192:]) <= 1.125
    assert levels[-1] / levels[0].astype(np.float64) >= 2.0 ** BINADES[signed]
    if signed:
        np.testing.assert_array_equal(decode(np.arange(129, 256), bound, True), -decode(np.arange(1, 128), bound, True))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("signed", [True, False])
def test_every_code_comes_back(signed: bool, bound: float):
    values = decode(CODES[signed], bound, signed)
    for dice in DICE:
        np.testing.assert_array_equal(encode(values, bound, dice, signed), CODES[signed], err_msg=f"dice {dice}")


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("signed", [True, False])
def test_zero_is_code_zero(signed: bool, bound: float):
    assert decode(0, bound, signed) == 0
    for zero in (0.0, -0.0):
        assert set(encode(np.full(len(DICE), zero), bound, DICE, signed)) == {0}
    assert np.count_nonzero(decode(CODES[signed], bound, signed) == 0) == 1


@pytest.mark.parametrize("x", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("signed", [True, False])
def test_not_finite_has_a_code_of_its_own(signed: bool, x: float):
    """A signed slot shows it; an unsigned one has no code left for it."""
    codes = encode(np.full(len(DICE), x), 1.0, DICE, signed)
    assert set(codes) == {128 if signed else 0}
    assert np.all(np.isnan(decode(codes, 1.0, signed))) == signed


@pytest.mark.parametrize("bound", [1e-30, 1.0, 3.0, 1e30])
@pytest.mark.parametrize("signed", [True, False])
def test_rounding_is_unbiased_on_two_neighbors(signed: bool, bound: float):
    """Over all 65,536 dice: at most two codes, adjacent; their mean is x to the resolution of the dice."""
    values = book(bound, signed)
    rng = np.random.default_rng(0)
    inside = np.concatenate([values[:-1] + share * np.diff(values) for share in (0.003, 0.3, 0.5, 0.9)])
    inside = inside[(np.abs(inside) <= bound) & (np.abs(inside) >= values[values > 0][0])]
    inside = rng.permutation(np.float32(inside))[:150]
    dice = np.arange(SAMPLES)
    for x in inside:
        codes = encode(x, bound, dice, signed)
        got = decode(codes, bound, signed)
        low, high = values[values <= x][-1], values[values > x][0]
        assert set(np.unique(got)) <= {low, high}, x
        assert abs(np.mean(got, dtype=np.float64) - x) <= (high - low) / SAMPLES + 1e-7 * abs(x), x


@pytest.mark.parametrize("signed", [True, False])
def test_rounding_is_unbiased_to_five_sigma(signed: bool):
    """The same with the engine's own random bits, through one draw of the counter hash."""
    from adaptx.bits import counter_bits, mix

    values = book(1.0, signed)
    x = np.float32(np.random.default_rng(1).uniform(values[-60], 1.0, 64))[:, None]
    bits = counter_bits((64, 1 << 14), mix(jnp.uint32(7))) & jnp.uint32(0xFFFF)
    got = decode(encode(x, 1.0, bits, signed), 1.0, signed).astype(np.float64)
    gap = np.array([values[values > v][0] - values[values <= v][-1] for v in x[:, 0]])
    assert np.all(np.abs(got.mean(1) - x[:, 0]) <= SIGMAS * gap / (2 * np.sqrt(1 << 14)))


def test_first_moment_below_the_least_level():
    """Far below it always 0, just below it 0 or the least level."""
    least = float(decode(1, 1.0, True))
    for sign in (1, -1):
        assert set(encode(sign * least * np.array([1e-6, 0.1, 0.5]), 1.0, 0xFFFF, True)) == {0}
        got = decode(encode(sign * 0.9 * least, 1.0, np.arange(SAMPLES), True), 1.0, True)
        assert set(np.unique(got)) == {0.0, sign * least}


@pytest.mark.parametrize("bound", [b for b in BOUNDS if b >= 1e-37])
def test_second_moment_never_becomes_zero(bound: float):
    """Whatever positive and normal: it is raised to the least level."""
    x = np.geomspace(TINY, bound, 2000).astype(np.float32)
    x = np.clip(x, TINY, np.float32(bound))
    for dice in DICE:
        assert np.min(encode(x, bound, dice, False)) >= 1


@pytest.mark.parametrize("signed", [True, False])
def test_far_above_the_bound_is_clipped(signed: bool):
    assert set(encode([5.0, 1e10, EDGE], 1.0, 0xFFFF, signed)) == {TOP[signed]}
    assert np.isfinite(decode(encode(EDGE, EDGE, 0xFFFF, signed), EDGE, signed))


def test_golden_book():
    """Stored states are read by later versions: what a code stands for may not change unnoticed."""
    bits = b"".join(decode(CODES[s], b, s).astype("<f4").tobytes() for s in (True, False) for b in (1.0, 3e-5, 1e20))
    assert hashlib.sha256(bits).hexdigest()[:16] == GOLDEN


# bfloat16 in the halves of words


def test_every_bf16_comes_back():
    """All 65,536 halves: finite and infinite ones exactly, whatever the dice; NaN stays NaN."""
    halves = np.arange(1 << 16, dtype=np.uint32)
    x = jax.jit(codecs.from_bf16_half)(jnp.asarray(halves))
    np.testing.assert_array_equal(np.asarray(x).view(np.uint32) >> 16, halves)
    nan = np.isnan(np.asarray(x))
    assert nan.sum() == 2 * 127
    for dice in DICE:
        back = np.asarray(jax.jit(codecs.bf16_half)(x, jnp.full(x.shape, dice, jnp.uint32)))
        np.testing.assert_array_equal(back[~nan], halves[~nan])
        assert np.all(np.isnan(np.asarray(codecs.from_bf16_half(jnp.asarray(back[nan])))))


def test_bf16_nan_in_the_low_half_stays_nan():
    """A NaN whose payload lies in the bits that are cut off must not become inf."""
    words = jnp.asarray([0x7F800001, 0xFF800001, 0x7F80FFFF, 0x7FFFFFFF], jnp.uint32)
    for dice in DICE:
        half = codecs.bf16_half(codecs.to_float(words), jnp.full(4, dice, jnp.uint32))
        assert np.all(np.isnan(np.asarray(codecs.from_bf16_half(half))))
        assert np.all(np.asarray(half) < 1 << 16)


def test_bf16_largest_stays_finite():
    x = jnp.asarray([EDGE, -EDGE], jnp.float32)
    for dice in DICE:
        got = np.asarray(codecs.from_bf16_half(codecs.bf16_half(x, jnp.full(2, dice, jnp.uint32))))
        assert np.all(np.isfinite(got))
        assert np.all(np.sign(got) == [1, -1])


def test_bf16_is_unbiased_on_two_neighbors():
    """Over all dice the mean is exact: 16 bits are cut off and 16 random ones added."""
    rng = np.random.default_rng(2)
    for x in np.float32(rng.normal(size=40) * 10.0 ** rng.uniform(-30, 30, 40)):
        half = codecs.bf16_half(jnp.full(SAMPLES, x), jnp.arange(SAMPLES, dtype=jnp.uint32))
        got = np.asarray(codecs.from_bf16_half(half))
        assert len(np.unique(got)) <= 2
        assert np.mean(got, dtype=np.float64) == pytest.approx(float(x), rel=1e-9)
