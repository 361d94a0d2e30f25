"""watched: training is the same bit by bit, every number by NumPy, and what it says of noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from runs import P, X, Y, loss

c = adaptx.controllers
OPTS = {
    "adam": adaptx.adam(0.05),
    "bf16": adaptx.adam(0.05, storage="bf16", storage_exclude=0),
    "prodigy": adaptx.adam(c.prodigy()),
    "leaf": adaptx.sgd(c.hypergradient(0.05, scope="leaf")),
    "decay": adaptx.adamw(0.05, weight_decay=0.1, max_norm=0.5),
    "route": adaptx.route({"w": adaptx.adam(0.05), "b": adaptx.freeze()}, {"w": "w", "b": "b"}),
    "averaged": adaptx.averaged(adaptx.adam(0.05), 0.9),
    "schedule_free": adaptx.schedule_free(adaptx.sgd(0.05)),
    "shield": adaptx.shield(adaptx.adam(0.05), block=2),
    "sam": adaptx.sam(adaptx.adam(0.05)),
    "trac": adaptx.trac(adaptx.adam(0.05)),
    "grokfast": adaptx.grokfast(adaptx.adam(0.05)),
    "optax": optax.adam(0.05),
}


def trained(opt, steps=7, p=P, batch=None):
    step, state = adaptx.train_step(loss, opt), opt.init(p)
    p, losses = jax.tree.map(jnp.array, p), []
    for t in range(steps):
        p, state, out = step(p, state, *(batch or (X[t : t + 8], Y[t : t + 8])))
        losses.append(out["loss"])
    return p, state, losses


FAST = ("route", "shield")


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in FAST else pytest.mark.slow) for n in OPTS])
def test_training_is_the_same_bit_by_bit(name):
    opt = OPTS[name]
    for every in (1, 3):
        p, state, losses = trained(adaptx.watched(opt, every, 4))
        q, _, wanted = trained(opt)
        assert all(
            np.array_equal(a, b)
            for a, b in zip(jax.tree.leaves((p, losses)), jax.tree.leaves((q, wanted)), strict=True)
        )
        seen = adaptx.layers(state)
        np.testing.assert_array_equal(seen.steps, [3, 4, 5, 6] if every == 1 else [0, 3, 6])
        assert np.all(np.isfinite(seen.ratio))


def by_hand(opt, steps):
    """What NumPy says of the same steps, of gradients and displacements."""
    p, state, rows = P, opt.init(P), []
    step = jax.jit(opt.step)
    for t in range(steps):
        g = jax.grad(loss)(p, X[t : t + 8], Y[t : t + 8])
        new, state = step(g, state, p)
        row = {}
        for name in ("b", "w"):
            one, x, after = (np.asarray(a[name], np.float64).ravel() for a in (g, p, new))
            u, norm = after - x, np.linalg.norm
            rates = np.abs(u[one != 0] / one[one != 0])
            row[name] = {
                "grad_norm": norm(one), "ratio": norm(u) / norm(x) if norm(x) else 0.0,
                "cosine": -np.sum(u * one) / (norm(u) * norm(one)), "still": np.mean(u[one != 0] == 0),
                "rate_low": np.quantile(rates, 0.1), "rate": np.median(rates), "rate_high": np.quantile(rates, 0.9),
            }  # fmt: skip
        rows.append(row)
        p = new
    return rows


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_numbers_are_numpys(scale):
    opt = adaptx.adam(0.05 * scale)
    _, state, _ = trained(adaptx.watched(opt, 2), 6)
    seen, rows = adaptx.layers(state), by_hand(opt, 6)
    assert seen.paths == ["b", "w"]
    for i, t in enumerate(seen.steps):
        for j, name in enumerate(seen.paths):
            for key, want in rows[t][name].items():
                np.testing.assert_allclose(
                    getattr(seen, key)[i, j], want, rtol=2e-2 if scale < 1 else 2e-4, err_msg=key
                )


def test_update_measures_what_it_hands_out():
    opt = adaptx.watched(adaptx.sgd(0.1), 1)
    state, g = opt.init(P), jax.grad(loss)(P, X, Y)
    updates, state = jax.jit(opt.update)(g, state, P)
    np.testing.assert_array_equal(updates["w"], adaptx.sgd(0.1).update(g, adaptx.sgd(0.1).init(P), P)[0]["w"])
    np.testing.assert_allclose(adaptx.layers(state).rate[0], 0.1, rtol=1e-6)
    np.testing.assert_allclose(adaptx.layers(state).cosine[0], 1, rtol=1e-6)


def test_products_are_of_gradients_at_successive_steps():
    """Of gradients that turn around at every step they are negative, though those two steps apart are the same."""
    opt, p = adaptx.watched(adaptx.sgd(1e-6), 2, 8), {"x": jnp.ones(5)}
    state, step = opt.init(p), jax.jit(opt.step)
    for t in range(6):
        p, state = step({"x": jnp.full(5, 1.0 if t % 2 else -1.0)}, state, p)
    assert adaptx.layers(state).noise_scale.tolist() == [np.inf]


@pytest.mark.parametrize("size", [100, pytest.param(5000, marks=pytest.mark.slow)])
def test_the_noise_scale_is_that_of_the_noise(size):
    """Gradients G + noise of variance s² an element: tr Σ / ‖G‖² = n s² / ‖G‖², here 9."""
    mean = np.random.default_rng(0).normal(size=size).astype(np.float32)
    opt, p = adaptx.watched(adaptx.sgd(1e-6), 2, 1000), {"x": jnp.ones(size)}
    spread = 3 * np.linalg.norm(mean) / np.sqrt(size)

    def body(carry, key):
        p, state = carry
        g = {"x": mean + spread * jax.random.normal(key, (size,))}
        return opt.step(g, state, p)[::1], None

    (_, state), _ = jax.lax.scan(body, (p, opt.init(p)), jax.random.split(jax.random.key(0), 2000))
    seen = adaptx.layers(state)
    assert 7.5 < seen.noise_scale[0] < 10.5
    np.testing.assert_allclose(seen.total_noise_scale, seen.noise_scale[0], rtol=1e-5)


def test_a_gradient_that_is_all_noise_or_none():
    opt = adaptx.watched(adaptx.sgd(1e-6), 1, 64)

    def ran(gradient):
        p = {"x": jnp.ones(50)}
        state = opt.init(p)
        for t in range(64):
            p, state = opt.step({"x": gradient(t)}, state, p)
        return adaptx.layers(state)

    constant = ran(lambda t: jnp.ones(50))
    np.testing.assert_allclose(constant.noise_scale, 0, atol=1e-5)
    turned = ran(lambda t: (-1.0) ** t * jnp.ones(50))
    assert np.isinf(turned.noise_scale).all()
    none = ran(lambda t: jnp.zeros(50))
    assert np.isinf(none.noise_scale).all()
    assert np.isnan(none.rate).all()


def test_what_rounding_loses_is_still():
    p = {"x": jnp.full(1000, 256.0, jnp.bfloat16)}
    opt = adaptx.watched(adaptx.sgd(1e-3), 1)
    _, state = opt.step({"x": jnp.ones(1000)}, opt.init(p), p)
    assert adaptx.layers(state).still[0, 0] == 1


def test_steps_that_are_skipped_are_not_recorded():
    opt = adaptx.watched(adaptx.adam(0.1, skip_nonfinite=True), 1)
    state = opt.init(P)
    g = jax.grad(loss)(P, X, Y)
    p, state = opt.step(g, state, P)
    q, after = opt.step(jax.tree.map(lambda x: x * jnp.nan, g), state, p)
    assert len(adaptx.layers(after).steps) == 1
    assert np.array_equal(q["w"], p["w"])


def test_a_step_in_between_copies_nothing():
    """Parameters and slots still change in place: what is looked at is looked at before."""
    p = {"w": jnp.ones((300, 300)), "b": jnp.ones(300)}
    opt = adaptx.watched(adaptx.adam(0.1))
    step = jax.jit(lambda p, s, g: opt.step(g, s, p), donate_argnums=(0, 1))
    compiled = step.lower(p, opt.init(p), p).compile()
    text = compiled.as_text()
    entry = text[text.index("ENTRY") :]
    assert "conditional(" in entry
    assert "f32[300,300]{1,0} copy(" not in entry
    state = sum(x.nbytes for x in jax.tree.leaves((p, opt.init(p))))
    assert compiled.memory_analysis().alias_size_in_bytes >= state - 8  # a scalar may lie anew


def test_leaves_that_are_no_numbers_dead_or_empty():
    p = {"a": 3, "act": jnp.tanh, "dead": jnp.zeros(4), "empty": jnp.zeros((0, 2)), "none": None, "w": jnp.ones((2, 3)),
         "s": jnp.ones(())}  # fmt: skip
    opt = adaptx.watched(adaptx.sgd(0.5), 1)
    g = {"a": None, "act": None, "dead": jnp.zeros(4), "empty": jnp.zeros((0, 2)), "none": None,
         "w": jnp.full((2, 3), 2.0), "s": jnp.ones(())}  # fmt: skip
    _, state = opt.step(g, opt.init(p), p)
    seen = adaptx.layers(state)
    assert seen.paths == ["dead", "empty", "s", "w"]
    np.testing.assert_allclose(seen.ratio[0], [np.nan, np.nan, 0.5, 1.0], rtol=1e-6)
    np.testing.assert_allclose(seen.cosine[0], [np.nan, np.nan, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(seen.still[0], [np.nan, np.nan, 0, 0])
    adaptx.plots.layers(seen)


def test_large_leaves_are_summed_block_by_block_to_the_same_numbers():
    """From 131,072 elements on, on a CPU; not a whole number of blocks."""
    random = np.random.default_rng(0)
    x, g = (random.normal(size=140_001).astype(np.float32) for _ in range(2))
    opt = adaptx.watched(adaptx.adam(0.1, b1=0.5), 1)
    p, state, step = {"x": jnp.asarray(x)}, opt.init({"x": x}), jax.jit(opt.step)
    for sign in (1, -0.2):
        before = np.asarray(p["x"], np.float64)
        p, state = step({"x": sign * jnp.asarray(g)}, state, p)
    u, slope = np.asarray(p["x"], np.float64) - before, -0.2 * g.astype(np.float64)
    seen = adaptx.layers(state)
    want = -u @ slope / np.linalg.norm(u) / np.linalg.norm(slope)
    np.testing.assert_allclose(seen.cosine[1, 0], want, rtol=1e-4)
    np.testing.assert_allclose(seen.grad_norm[1, 0], np.linalg.norm(slope), rtol=1e-5)
    product = np.asarray(state.iterates["product"]["x"])[1]
    assert abs(product / (-0.2 * (g @ g)) - 1) < 0.3, "of a gradient and its multiple, to the error of a sketch"


def test_kahan_narrow_parameters_stand_still_at_most_steps():
    p = {"x": jnp.full(1000, 1.0, jnp.bfloat16)}
    opt = adaptx.watched(adaptx.sgd(1e-3, rounding="kahan"), 1)
    state, step = opt.init(p), jax.jit(opt.step)
    for _ in range(12):
        p, state = step({"x": jnp.ones(1000)}, state, p)
    assert 0 < (adaptx.layers(state).still[:, 0] < 1).sum() < 6


A = adaptx.adam(0.1)
WRONG = {
    "every": (lambda: adaptx.watched(A, 0), ValueError, "every must be an integer ≥ 1"),
    "keep": (lambda: adaptx.watched(A, 1, 0), ValueError, "keep must be an integer ≥ 1"),
    "no optimizer": (lambda: adaptx.watched(0.1), TypeError, "watched"),
    "other state": (lambda: adaptx.layers(A.init(P)), TypeError, "with no watched optimizer's state"),
    "two": (lambda: adaptx.layers([adaptx.watched(A).init(P)] * 2), TypeError, "2 of them"),
    "other ring": (
        lambda: adaptx.watched(A, 5).step(P, adaptx.watched(A).init(P), P), ValueError,
        "this wrapper is watched_128_every_5"),
    "no params": (lambda: adaptx.watched(A).update(P, adaptx.watched(A).init(P)), ValueError, "without params"),
    "batch": (
        lambda: adaptx.layers(jax.tree.map(lambda x: jnp.stack([x, x]), adaptx.watched(A).init(P))), ValueError,
        "those of 2 trainings"),
    "nothing yet": (lambda: adaptx.plots.layers(adaptx.watched(A).init(P)), ValueError, "no step was recorded yet"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused(name):
    call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        call()


def test_the_state_has_the_bytes_it_says():
    opt = adaptx.watched(adaptx.adam(0.1), 10, 32)
    state = opt.init(P)
    assert opt.state_bytes(P) == sum(x.nbytes for x in jax.tree.leaves(state))


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_pictures(kind, tmp_path):
    _, state, _ = trained(adaptx.watched(A, 1))
    adaptx.plots.layers(state, tmp_path / f"layers.{kind}")
    assert (tmp_path / f"layers.{kind}").stat().st_size > 1000
