"""Zero, huge and non-finite gradients, derivatives through a step, and facts known without an oracle."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from cases import CASES, CORE, DEFAULT_DECAY, DEFAULTS, DTYPES, EQUATIONS, THINNED, Case, case, one_each, thinned
from probes import assert_close, assert_identical, flat

ONCE = 1e-6  # a handful of f32 roundings
ROOTS = [*DEFAULTS, *map(case, ("adagrad-outside", "rmsprop-outside", "rmsprop-all", "adam-all", "adafactor-mean"))]
LATE = {"lion": 2, "signum": 2, "tiger": 2, "splus": 2, "normuon": 2, "soap": 2, "acprop": 3}  # signs, old means
NEITHER = {"weight_decay": 0.0}  # adamw's default would move a parameter whose gradient is zero


@partial(jax.jit, static_argnames="both")
def stepped(opt: adaptx.Optimizer, grads, state, params, both: bool):
    """(updates, new parameters if by both ways, new state) of one step; compiled once for all numbers."""
    updates, state_after = opt.update(grads, state, params)
    return (updates, *opt.step(grads, state, params)) if both else (updates, params, state_after)


@pytest.mark.parametrize(("c", "storage"), EQUATIONS)
def test_zero_and_huge_gradients(c: Case, storage: str):
    """Zeros with eps = 0, 1e-16 and the default: exactly 0 in every dtype, and the parameters keep their bits.

    6e4 in f16, whose square overflows there; 300, whose square does; and the recovery afterwards: finite. By `step`
    too where the rule stands for others: it is `update` and a sum.
    """
    both = c.constructor in CORE
    params = c.fit({k: jnp.full(3, 0.7, dtype) for k, dtype in DTYPES.items()})
    zeros = jax.tree.map(jnp.zeros_like, params)
    for eps in (c.eps(0.0), c.eps(1e-16), {}):
        opt = c.build(storage=storage, **NEITHER, **eps)
        state = opt.init(params)
        for _ in range(3):
            updates, fused, state = stepped(opt, zeros, state, params, both)
            assert not np.any(flat(updates)), eps
            assert_identical(fused, params)
    opt = c.build(1e-3, storage=storage, **NEITHER)
    state = opt.init(params)
    for value in (6e4, 300.0, 1.0, 0.0):
        grads = jax.tree.map(lambda p, v=value: jnp.full_like(p, v), params)
        updates, fused, state = stepped(opt, grads, state, params, both)
        assert np.all(np.isfinite(flat((updates, fused, state)))), value


@pytest.mark.parametrize("c", one_each(CASES))
def test_nan_gradients_are_not_hidden(c: Case):
    """Without a guard a NaN reaches its own element and no other (pointwise rules), so that it can be seen."""
    params = c.fit({"a": jnp.ones(3), "b": jnp.ones(2)})
    grads = c.fit({"a": jnp.array([1.0, jnp.nan, 1.0]), "b": jnp.ones(2)})
    opt = c.build()
    fused, state = jax.jit(opt.step)(grads, opt.init(params), params)
    assert np.isnan(np.ravel(fused["a"])[1])
    assert not np.any(np.isnan(fused["b"]))
    if opt.rule.pointwise:
        assert np.isnan(flat(fused)).sum() == 1
        assert all(np.isnan(flat(slot)).sum() == 1 for slot in state.slots.values())


@pytest.mark.parametrize("c", one_each(CASES))
def test_infinite_gradients_show_in_the_step_they_come_with(c: Case):
    """Although slots hold what is in range: at once, and a step later where its sign or the slots before decide."""
    x = c.fit({"a": jnp.ones(3), "b": jnp.ones(2)})
    ones = jax.tree.map(jnp.ones_like, x)
    grads = [c.fit({"a": jnp.array([1.0, jnp.inf, 1.0]), "b": jnp.ones(2)}), ones, ones]
    opt = c.build()
    state, step = opt.init(x), jax.jit(opt.step)
    for g in grads[: LATE.get(c.constructor, 1)]:
        x, state = step(g, state, x)
    assert not np.isfinite(np.ravel(x["a"])[1])


@pytest.mark.parametrize("c", thinned(ROOTS))
def test_derivative_through_a_step_is_finite_at_zero(c: Case):
    """d(sum of new parameters)/d(gradient, parameter, optimizer) at g = 0, where a plain root has a slope of inf."""

    def last(g, p, opt):
        state = opt.init(p)
        for _ in range(2):
            p, state = opt.step(g, state, p)
        return jnp.sum(p)

    slope = jax.jit(jax.grad(last, argnums=(0, 1, 2)))
    for eps in ({}, c.eps(0.0)):
        slopes = slope(c.fit(jnp.zeros(3)), c.fit(jnp.ones(3)), c.build(0.01, **eps))
        assert np.all(np.isfinite(flat(slopes))), eps
        decay = DEFAULT_DECAY.get(c.constructor, 0.0)
        decayed = -6.0 * decay * (1.0 - 0.01 * decay)  # three parameters of 1, two steps
        assert float(slopes[2].learning_rate) == pytest.approx(decayed, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("c", THINNED)
@pytest.mark.parametrize("clipped", [{}, {"max_norm": 1e-3}])
def test_derivative_through_steps_of_a_matrix_is_finite_at_every_scale(c: Case, clipped):
    """d(sum of new parameters)/d(scale of the gradient, learning rate), where x / y² would be out of range."""

    def last(scale, rate):
        opt, p = c.build(rate, **clipped), jnp.ones((4, 3))
        state = opt.init(p)
        for _ in range(2):
            p, state = opt.step(scale * jnp.ones((4, 3)), state, p)
        return jnp.sum(p)

    slope = jax.jit(jax.grad(last, argnums=(0, 1)))
    for scale in (0.0, 1e-25, 1e-19, 1e-12, 1.0, 1e12):
        assert np.all(np.isfinite(slope(scale, 0.01))), scale


@pytest.mark.parametrize("c", THINNED)
def test_step_counter_saturates(c: Case):
    x, last = c.fit(jnp.ones(2)), jnp.iinfo(jnp.int32).max
    opt = c.build()
    for start, after in ((last - 1, last), (last, last), (10**9, 10**9 + 1)):
        state = opt.init(x)._replace(step=jnp.int32(start))
        updates, state = opt.update(x, state, x)
        assert int(state.step) == after
        assert state.step.dtype == jnp.int32
        assert np.all(np.isfinite(flat((updates, state))))


@pytest.mark.parametrize("c", THINNED)
def test_step_t_uses_the_rate_of_t(c: Case):
    """t = 0 first; what `read` returns is what was used, and the first step is linear in it."""
    x, opt = c.fit(jnp.ones(3)), c.build(lambda t: 0.1 * (t + 1.0), **NEITHER)
    once = flat(c.build(0.1, **NEITHER).update(x, opt.init(x), x)[0])
    state = opt.init(x)
    for t in range(3):
        updates, state = opt.update(x, state, x)
        assert float(adaptx.read(state, "learning_rate")) == pytest.approx(0.1 * (t + 1), rel=ONCE)
        assert int(adaptx.read(state, "step")) == t + 1
        if t == 0:
            np.testing.assert_allclose(flat(updates), once, rtol=ONCE)


@pytest.mark.parametrize("name", ["adam", "adam-amsgrad", "adamw", "adamw-amsgrad"])
def test_first_adam_step_is_the_sign(name: str):
    c = next(c for c in CASES if c.name == name)
    g = jnp.array([3.0, -1e-5, 2e7, 0.0, -0.5])
    updates, _ = c.build(0.01, **NEITHER, **c.eps(0.0)).update(g, c.build().init(g), jnp.zeros(5))
    np.testing.assert_allclose(updates, -0.01 * np.sign(g), rtol=ONCE)


SCALE_FREE = [c for c in CASES if c.constructor in ("adam", "adamw", "rmsprop", "adagrad") and c.takes("eps")]


@pytest.mark.parametrize("c", [c for c in SCALE_FREE if "initial" not in c.name], ids=lambda c: c.name)
def test_scale_invariance_without_eps(c: Case):
    """With eps = 0 a power of two on all gradients changes nothing at all."""
    gs, start = jnp.asarray(np.random.default_rng(3).uniform(-1, 1, (5, 8)), jnp.float32), jnp.ones(8)
    opt = c.build(**c.eps(0.0))

    def run(factor):
        scan = lambda carry, g: (opt.step(factor * g, carry[1], carry[0]), None)  # noqa: E731
        return jax.lax.scan(scan, (start, opt.init(start)), gs)[0][0]

    run = jax.jit(run)
    for factor in (2.0**-20, 2.0**20):
        assert_close(run(factor), run(1.0), rtol=0)


def test_adamw_is_decay_then_adam():
    p, g = jnp.array([1.0, -2.0, 0.5]), jnp.array([0.1, 0.2, -3.0])
    got, _ = adaptx.adamw(0.1, weight_decay=0.3).step(g, adaptx.adamw().init(p), p)
    after, _ = adaptx.adam(0.1).step(g, adaptx.adam().init(p), p * (1 - 0.1 * 0.3))
    assert_close(got, after, rtol=ONCE)


@pytest.mark.parametrize("c", THINNED)
def test_the_couplings_of_weight_decay_differ(c: Case):
    """By the table: independent differs from decoupled by the rate; l2 equals decoupled for sgd alone."""
    p, g = c.fit((jnp.array([1.0, -2.0]), jnp.array([0.3, 0.1])))
    out = {}
    for mode in ("decoupled", "l2", "independent"):
        opt = c.build(0.1, weight_decay=0.5, decay_mode=mode)
        state, x = opt.init(p), p
        for _ in range(2):
            x, state = opt.step(g, state, x)
        out[mode] = np.asarray(x)
    assert not np.allclose(out["decoupled"], out["independent"], rtol=1e-3)
    assert np.allclose(out["decoupled"], out["l2"], rtol=1e-5) == (c.constructor == "sgd")
