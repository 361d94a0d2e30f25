"""Reductions against NumPy at large shapes, and the program that one compiler got wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import nn

from adaptx.engine.norms import global_norm

SUM = 2e-5  # relative, of 10⁶ f32 numbers: XLA on CPU adds some shapes in a tree (1e-7), some in sequence (6e-6)
SHAPES = [
    (16, 40, 256, 4),
    (2**22,),
    (2048, 2049),
    (3, 1_000_003),
    (64, 64, 64, 5),
    (1, 2**21),
    (2**21, 1),
    (97, 89, 83),
]
AFFECTED = (
    "this JAX compiles a plain sum of a softmax cross entropy to wrong numbers on this machine (known of jax 0.10.2 on "
    "CPU): use another version, or set XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type="
)


def numbers(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_norm_of_one_large_array(shape: tuple[int, ...]):
    x = numbers(shape)
    want = np.linalg.norm(x.astype(np.float64))
    assert float(jax.jit(lambda a: global_norm([a]))(x)) == pytest.approx(want, rel=SUM)
    half = x.astype(jnp.bfloat16)
    want = np.linalg.norm(half.astype(np.float64))
    assert float(jax.jit(lambda a: global_norm([a]))(half)) == pytest.approx(want, rel=SUM)


def test_norm_of_many_arrays():
    """Small leaves joined, large ones apart, all at once."""
    shapes = [(8, 8), (2**16,), (300, 301), (7,), (), (33, 5)] * 5
    xs = [numbers(shape, seed) for seed, shape in enumerate(shapes)]
    want = np.sqrt(sum(np.sum(x.astype(np.float64) ** 2) for x in xs))
    assert float(jax.jit(global_norm)(xs)) == pytest.approx(want, rel=SUM)


def test_norm_under_vmap():
    x = numbers((3, 5, 2**16))
    got = jax.jit(jax.vmap(lambda row: global_norm([*row])))(x)
    np.testing.assert_allclose(got, np.sqrt(np.sum(x.astype(np.float64) ** 2, axis=(1, 2))), rtol=SUM)


@pytest.mark.parametrize("leading", [(16, 40), (4, 4), (16, 8), (3, 50)], ids=str)
def test_the_compiler_sums_a_cross_entropy_right(leading: tuple[int, int]):
    """Weighted softmax cross entropies of shape (batches, 40, 256, 4), jitted against NumPy in float64."""
    rows, steps = leading
    h = numbers((rows, steps, 256, 4))
    y = np.eye(4, dtype=np.float32)[np.random.default_rng(1).integers(0, 4, (steps, 256))]
    w = np.abs(numbers((steps, 256), 2))
    exact = h.astype(np.float64)
    logs = exact - np.log(np.sum(np.exp(exact), -1, keepdims=True))
    want = np.sum(w * -np.sum(y * logs, -1), -1)
    got = jax.jit(lambda h: jnp.sum(w * -jnp.sum(y * nn.log_softmax(h), -1), -1))(h)
    assert np.allclose(got, want, rtol=1e-5), AFFECTED
    mapped = jax.jit(jax.vmap(jax.vmap(lambda h, y, w: jnp.sum(w * -jnp.sum(y * nn.log_softmax(h), -1)), (0, 0, 0)),
                              (0, None, None)))(h, y, w)  # fmt: skip
    assert np.allclose(mapped, want, rtol=1e-5), AFFECTED
