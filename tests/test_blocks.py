"""Blocks of 256 that share a bound: arrays of any shape, and one bad element among good ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx.engine import codecs
from cases import slots_of

SHAPES = [
    (), (0,), (0, 5), (5, 0), (0, 300), (5, 0, 300), (1,), (3,), (255,), (256,), (257,), (1000,), (3, 100), (64, 64),
    (2, 3, 300), (7, 1, 1), (300, 2), (2, 512), (2, 2, 2, 2, 33),
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_blocks_of_any_shape(shape: tuple[int, ...]):
    """There and back; every block is at most 256 long; blocks never cross the axis they are taken of."""
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + 1
    blocks = codecs.blocked(jnp.asarray(x))
    block, count = codecs.block_of(shape)
    view = codecs.view_shape(shape)
    assert blocks.shape == (*view[:-1], count, block)
    assert 1 <= block <= 256
    assert np.prod(view) == np.prod(shape)
    np.testing.assert_array_equal(codecs.unblocked(blocks, shape), x)
    assert np.asarray(blocks).sum() == x.sum(), "what fills up the last block is 0"
    if x.size:
        np.testing.assert_array_equal(codecs.block_bound(blocks), np.asarray(blocks).max(-1))


AT_ONCE = [(), (0, 300), (257,), (2, 3, 300)]


@pytest.mark.parametrize("storage", ["int8", "bf16"])
@pytest.mark.parametrize(
    "shape", [pytest.param(s, id=str(s), marks=() if s in AT_ONCE else pytest.mark.slow) for s in SHAPES]
)
def test_steps_of_any_shape(shape: tuple[int, ...], storage: str):
    """Two steps keep types and move every element by about the learning rate."""
    opt = adaptx.adam(1e-3, storage=storage, storage_exclude=0)
    p = jnp.ones(shape)
    x, state = p, opt.init(p)
    for _ in range(2):
        x, after = jax.jit(opt.step)(0.5 * p, state, x)
        assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(lambda a: (a.shape, a.dtype), state)
        state = after
    np.testing.assert_allclose(x, 1 - 2e-3, atol=1e-3)


# one bad element


BEFORE, STEPS, BAD = 5, 20, 300
MATES = 3.2  # learning rates: Adam's own largest step after a long pause is (1 − b1)/√(1 − b2) = 3.16


@pytest.mark.parametrize("storage", ["int8", {"m": "bf16", "v": "int8"}], ids=["int8", "mixed"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("first", [0, BEFORE])
def test_a_bad_element_does_not_poison_its_block(first: int, bad: float, storage):
    """It shows in the bad element, as in f32; its mates' steps and moments stay near those of a clean run."""
    n = 1024
    opt = adaptx.adam(1e-3, storage=storage, storage_exclude=0)
    step = jax.jit(opt.step)
    rng = np.random.default_rng(0)
    x, state = jnp.zeros(n), opt.init(jnp.zeros(n))
    clean, reference = x, state
    for t in range(STEPS):
        g = np.float32(rng.normal(size=n) + 0.3)
        clean, reference = step(jnp.asarray(g), reference, clean)
        g[BAD] = bad if t == first else g[BAD]
        before = np.asarray(x)
        x, state = step(jnp.asarray(g), state, x)
        with np.errstate(invalid="ignore"):
            moved = np.abs(np.asarray(x) - before) / 1e-3
        assert np.max(np.delete(moved, BAD)) <= MATES  # NaN is not
        assert np.isfinite(x[BAD]) == (t < first)
    v, want = (np.asarray(slots_of(opt, s, x)[0]["v"]) for s in (state, reference))
    others = np.r_[0:256, 512:1024]
    np.testing.assert_array_equal(np.asarray(x)[others], np.asarray(clean)[others], err_msg="other blocks")
    mates = np.delete(np.arange(256, 512), BAD - 256)
    assert np.all(v[mates] > 0)
    assert 0.7 < np.mean(v[mates]) / np.mean(want[mates]) < 1.3
    assert np.mean(np.abs(np.asarray(x) - np.asarray(clean))[mates]) < 5e-3
