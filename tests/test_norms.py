"""The global norm at every scale, clipping against optax, and steps that are skipped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx.engine.norms import SMALL, global_norm
from cases import THINNED, TURNS, Case
from probes import assert_close, assert_identical

NORM = 1e-6  # a sum of up to 10⁶ f32 squares, added in a tree


def measured(grads, **options) -> tuple:
    """(parameters, metrics) after one sgd step at rate 1 from zeros."""
    zeros = jax.tree.map(jnp.zeros_like, grads)
    opt = adaptx.sgd(1.0, telemetry=True, **options)
    p, state = jax.jit(opt.step)(grads, opt.init(zeros), zeros)
    return p, {k: float(v) for k, v in adaptx.metrics(state).items()}


NORMS = {
    "bf16_400_ones": ([jnp.ones(1, jnp.bfloat16)] * 400, 20.0),
    "f16_of_300": ([jnp.full(16, 300, jnp.float16)], 1200.0),
    "f16_of_6e4": ([jnp.full((4, 4), 6e4, jnp.float16)], 4 * float(np.float16(6e4))),
    "f32_1e20": ([jnp.full(9, 1e20), jnp.full(16, 1e20)], 5e20),
    "f32_1e-30": ([jnp.full(9, 1e-30), jnp.full(16, 1e-30)], 5e-30),
    "f32_mixed_scales": ([jnp.full(4, 1e25), jnp.full(4, 1e-25), jnp.ones(3)], 2e25),
    "subnormal_sum": ([jnp.full(4, 1e-20)], 2e-20),
    "mixed_dtypes": ([jnp.full(4, 3.0, jnp.float16), jnp.full(16, 2.0, jnp.bfloat16), jnp.ones(1)], np.sqrt(101)),
    "bf16_large_leaf": ([jnp.full(70001, 1.1015625, jnp.bfloat16)], 1.1015625 * np.sqrt(70001)),
    "f16_small_sum": ([jnp.full(997, 0.3, jnp.float16)], float(np.float16(0.3)) * np.sqrt(997)),
    "zeros": ([jnp.zeros(5), jnp.zeros(())], 0.0),
    "empty": ([jnp.zeros((0, 2))], 0.0),
    "400_leaves": ([jnp.full(1, (-1.0) ** i * i) for i in range(400)], np.sqrt(np.sum(np.arange(400.0) ** 2))),
}


@pytest.mark.parametrize("name", NORMS)
def test_global_norm(name: str):
    arrays, want = NORMS[name]
    got = jax.jit(global_norm)(arrays)
    assert got.dtype == jnp.float32
    assert float(got) == pytest.approx(want, rel=NORM)


RANDOM = np.random.default_rng(0)
MIXED = [RANDOM.normal(size=shape).astype(np.float32) for shape in [(3, 4)] * 330 + [(5,), (), (2, 2)] + [(SMALL,)] * 2]


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 1e30])
def test_norm_of_equal_lone_and_large_leaves(scale: float):
    """Groups of equal shapes, leaves joined because they have no equal, and large ones: one sum."""
    arrays = [np.float32(scale) * x for x in MIXED]
    want = np.sqrt(sum(np.sum(x.astype(np.float64) ** 2) for x in arrays))
    assert float(jax.jit(global_norm)(arrays)) == pytest.approx(want, rel=NORM)


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_the_norm_is_differentiable_at_every_scale(mode, scale: float):
    """Its derivative is the unit vector, 0 at zero: meta-learning goes through a clipped step."""
    arrays = [jnp.array([3.0, 0.0]) * scale, jnp.array([0.0, -4.0]) * scale, jnp.array(12.0) * scale]
    found = mode(global_norm)(arrays)
    assert_close(found, [jnp.array([3.0, 0.0]) / 13, jnp.array([0.0, -4.0]) / 13, jnp.array(12.0) / 13], rtol=NORM)
    assert_close(mode(global_norm)([jnp.zeros(2)]), [jnp.zeros(2)], rtol=0)


def test_the_norm_of_many_small_leaves_takes_no_memory():
    """Leaves of one shape are added as they lie, not first joined into a vector as large as all of them."""
    arrays = [jax.ShapeDtypeStruct((32, 16), jnp.float32)] * 300
    memory = jax.jit(global_norm).lower(arrays).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 0.04 * 300 * 32 * 16 * 4  # a partial sum of each of ten groups


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_norm_of_what_is_not_finite(bad: float):
    for arrays in ([jnp.ones(3), jnp.array([1.0, bad])], [jnp.array(bad)], [jnp.ones(SMALL), jnp.full(SMALL, bad)]):
        assert not np.isfinite(global_norm(arrays))


@pytest.mark.parametrize("value", [8e37, 2e38, 3e38])  # all norms are more than the largest number but the first
def test_finite_gradients_are_clipped_whatever_their_norm(value: float):
    grads = {"w": jnp.full(4, value), "v": jnp.full(9, value)}
    norm = min(13**0.5 * value, float(np.finfo(np.float32).max))
    for opt, scale in ((adaptx.sgd(1.0, max_norm=1e3, skip_nonfinite=True), 1e3), (adaptx.sgd(1.0, max_norm=1.0), 0)):
        p, state = jax.jit(opt.step)(grads, opt.init(grads), jax.tree.map(jnp.zeros_like, grads))
        factor = max(scale / norm, 2.0**-125)
        np.testing.assert_allclose(p["w"], np.full(4, -value * factor), rtol=1e-5)
        assert adaptx.read(state, "grad_norm") == pytest.approx(norm, rel=1e-6)
    lion = adaptx.lion(0.1, max_norm=1e-30)
    for bad, shown in ((1e10, -0.1), (jnp.inf, jnp.nan)):
        p, _ = lion.step(jnp.array([1e10, bad]), lion.init(jnp.zeros(2)), jnp.zeros(2))
        np.testing.assert_allclose(p[1], shown)


def test_norms_of_the_metrics():
    grads = {"a": jnp.full(4, 3.0), "b": jnp.full((2, 2), -4.0)}
    _, got = measured(grads)
    assert got["grad_norm"] == pytest.approx(10.0, rel=NORM)
    assert got["update_norm"] == pytest.approx(10.0, rel=NORM)
    assert got["param_norm"] == pytest.approx(10.0, rel=NORM)
    assert got["learning_rate"] == 1.0
    _, clipped = measured(grads, max_norm=5.0)
    assert clipped["grad_norm"] == pytest.approx(10.0, rel=NORM), "the norm is that before clipping"
    assert clipped["update_norm"] == pytest.approx(5.0, rel=NORM)


@pytest.mark.parametrize("c", THINNED)
def test_metrics_of_update_and_step_agree(c: Case):
    """update_norm is of the update, param_norm of the parameters after step, and of those given to update."""
    p, g = c.fit(({"a": jnp.full(3, 2.0)}, {"a": jnp.array([1.0, -2.0, 0.5])}))
    opt = c.build(0.1, telemetry=("update_norm", "param_norm"))
    updates, by_update = opt.update(g, opt.init(p), p)
    fused, by_step = opt.step(g, opt.init(p), p)
    want = float(jnp.linalg.norm(updates["a"]))
    assert set(by_step.metrics) == {"learning_rate", "update_norm", "param_norm"}
    assert float(by_update.metrics["update_norm"]) == pytest.approx(want, rel=NORM)
    assert float(by_step.metrics["update_norm"]) == pytest.approx(want, rel=1e-5, abs=5e-7)  # 2 ulp of parameters
    assert float(by_update.metrics["param_norm"]) == pytest.approx(float(jnp.linalg.norm(p["a"])), rel=NORM)
    assert float(by_step.metrics["param_norm"]) == pytest.approx(float(jnp.linalg.norm(fused["a"])), rel=NORM)


@pytest.mark.parametrize("bound", [0.5, 9.99, 10.0, 10.01, 1e3])
def test_clipping_is_optax(bound: float):
    grads = {"a": jnp.full(4, 3.0), "b": jnp.full((2, 2), -4.0)}
    clip = optax.clip_by_global_norm(bound)
    want, _ = clip.update(grads, clip.init(grads))
    got, _ = measured(grads, max_norm=bound)
    assert_close(jax.tree.map(jnp.negative, got), want, rtol=NORM)


@pytest.mark.parametrize("name", [name for name, (arrays, _) in NORMS.items() if len(arrays) < 100])
def test_clipping_at_every_scale(name: str):
    """After clipping to a quarter of the norm, that is the norm; zero gradients stay zero."""
    arrays, want = NORMS[name]
    got, _ = measured([a.astype(jnp.float32) for a in arrays], max_norm=want / 4 or 1.0)
    assert float(global_norm(got)) == pytest.approx(want / 4, rel=1e-5)


@pytest.mark.parametrize("value", [300.0, 6e4])
def test_clipping_f16(value: float):
    """The gradients of 300 in f16 whose squares overflow there: clipped, not zeroed."""
    p, got = measured({"a": jnp.full(16, value, jnp.float16)}, max_norm=1.0)
    np.testing.assert_allclose(np.asarray(p["a"], np.float32), -0.25, rtol=1e-3)
    assert got["grad_norm"] == pytest.approx(4 * float(np.float16(value)), rel=NORM)


def test_the_norm_is_taken_once():
    """Clipping, guard and telemetry share one norm: no more square roots in the program than with clipping alone."""
    x = {"a": jnp.ones(8)}

    def roots(**options) -> int:
        opt = adaptx.sgd(0.1, **options)
        return str(jax.make_jaxpr(opt.step)(x, opt.init(x), x)).count(" sqrt ")

    assert roots() == 0
    assert roots(max_norm=1.0) == roots(max_norm=1.0, skip_nonfinite=True, telemetry=("grad_norm",)) > 0


@pytest.mark.parametrize(("c", "storage"), TURNS)
def test_skipped_steps_are_atomic_and_counted(c: Case, storage: str):
    """A step with a NaN or inf anywhere leaves parameters, slots and clock as they were, to the bit."""
    p = c.fit({"a": jnp.array([1.0, -2.0]), "b": jnp.ones((), jnp.bfloat16)})
    good = c.fit({"a": jnp.array([0.5, 0.25]), "b": jnp.ones((), jnp.bfloat16)})
    opt = c.build(0.1, skip_nonfinite=True, weight_decay=0.1, storage=storage)
    step, update = jax.jit(opt.step), jax.jit(opt.update)
    x, state = step(good, opt.init(p), p)
    total = 0
    for bads in ([jnp.nan], [jnp.inf, -jnp.inf, jnp.nan]):
        for streak, bad in enumerate(bads, start=1):
            total += 1
            broken = {"a": c.fit(jnp.array([0.5, bad])), "b": good["b"]}
            updates, _ = update(broken, state, x)
            after, skipped = step(broken, state, x)
            assert_identical(after, x)
            assert_identical((skipped.slots, skipped.step), (state.slots, state.step))
            assert not np.any(np.asarray(updates["a"]))
            assert not np.any(np.asarray(updates["b"]))
            assert float(skipped.metrics["skipped"]) == total
            assert float(skipped.metrics["skipped_in_a_row"]) == streak
            state = skipped
        x, state = step(good, state, x)
        assert float(state.metrics["skipped"]) == total
        assert float(state.metrics["skipped_in_a_row"]) == 0
    clean, reference = step(good, opt.init(p), p)
    for _ in range(2):
        clean, reference = step(good, reference, clean)
    assert_identical((x, state.slots, state.step), (clean, reference.slots, reference.step))


def test_skipping_under_vmap_is_per_member():
    opt = adaptx.adam(0.1, skip_nonfinite=True)
    p, g = jnp.ones((2, 3)), jnp.array([[1.0, 2.0, 3.0], [1.0, jnp.nan, 3.0]])
    x, state = jax.vmap(lambda p, g: opt.step(g, opt.init(p), p))(p, g)
    np.testing.assert_array_equal(state.step, [1, 0])
    np.testing.assert_array_equal(x[1], p[1])
    assert np.all(np.asarray(x[0]) < 1)
