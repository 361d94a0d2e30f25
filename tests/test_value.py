"""An optimizer is a value: a pytree that compares, hashes, prints, copies and pickles, and works inside optax."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from cases import CASES, THINNED, Case, at, case, one_each, run
from probes import Traced, assert_close, assert_identical

PASSED = 1e-6  # relative: hyperparameters as f32 leaves against Python numbers closed over


def schedule(t):
    return 0.1 / (1 + t)


FULL = {
    "weight_decay": 0.1, "decay_mask": "matrices", "lr_scale": {"w": 0.5}, "max_norm": 1.0, "skip_nonfinite": True,
    "telemetry": True, "decay_mode": "l2", "storage": "bf16",
}  # fmt: skip


@pytest.mark.parametrize("c", CASES, ids=lambda c: c.name)
def test_equal_by_content(c: Case):
    one, same = c.build(0.1, **FULL), c.build(0.1, **FULL)
    assert one == same
    assert hash(one) == hash(same)
    assert not (one != same)  # noqa: SIM202, the other operator
    assert len({one, same}) == 1
    ours = [c.build(0.2, **FULL), c.build(0.1), c.build(schedule, **FULL), adaptx.sgd(0.3)]
    ours += [c.build(0.1, **{**FULL, name: value}) for name, value in (("storage", "f32"), ("weight_decay", 0.2))]
    assert all(one != other for other in [*ours, 1, None, "x"])
    assert c.build(schedule) == c.build(schedule)


@pytest.mark.parametrize("c", CASES, ids=lambda c: c.name)
def test_pytree_round_trip(c: Case):
    opt = c.build(0.1, **FULL)
    leaves, treedef = jax.tree.flatten(opt)
    assert treedef.unflatten(leaves) == opt
    assert type(treedef.unflatten(leaves)) is type(opt)
    assert isinstance(opt, adaptx.Optimizer)
    assert all(isinstance(x, float) for x in leaves), "leaves are numbers; flags and names are structure"
    assert 0.1 in leaves
    assert jax.tree.structure(c.build(0.7, **FULL)) == treedef
    paths = [jax.tree_util.keystr(k, simple=True, separator=".") for k, _ in jax.tree_util.tree_leaves_with_path(opt)]
    assert "learning_rate" in paths
    assert "options.weight_decay" in paths
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("c", [case("adam"), case("rmsprop-centered")], ids=lambda c: c.name)
def test_leaves_may_be_anything(c: Case):
    """Trees of shapes, axes, cotangents or placeholders of an optimizer can be made, as of any pytree."""
    opt = c.build(0.1, **FULL)
    assert jax.tree.leaves(jax.tree.map(np.shape, opt), is_leaf=lambda x: isinstance(x, tuple) and not x)
    axes = jax.tree.map(lambda _: 0, opt)
    batch = jax.tree.map(lambda x: jnp.stack([jnp.float32(x), jnp.float32(x)]), opt)
    p = c.params()
    moved = jax.vmap(lambda o: o.step(p, o.init(p), p)[0], in_axes=(axes,))(batch)
    assert moved["w"].shape == (2, 3, 4)
    assert jax.tree.map(lambda _: None, opt) is not None
    slopes = jax.grad(lambda o: jnp.sum(o.step(p, o.init(p), p)[0]["w"]))(jax.tree.map(jnp.float32, opt))
    assert all(np.isfinite(x) for x in jax.tree.leaves(slopes)), "eager, so that negative cotangents are real arrays"
    assert jax.jit(lambda o: o.learning_rate).lower(opt).compile() is not None


@pytest.mark.parametrize("c", one_each(CASES))
def test_copies_and_pickles(c: Case):
    for opt in (c.build(0.1, **FULL), c.build(schedule)):
        for twin in (pickle.loads(pickle.dumps(opt)), copy.deepcopy(opt), copy.copy(opt)):
            assert twin == opt
            assert hash(twin) == hash(opt)
            assert repr(twin) == repr(opt)
    p = c.params()
    state = c.build().init(p)
    assert_identical(pickle.loads(pickle.dumps(state)), state)


@pytest.mark.parametrize("c", CASES, ids=lambda c: c.name)
def test_repr_shows_every_hyperparameter(c: Case):
    text = repr(c.build(0.125, **{**FULL, **c.eps(3e-5)}))
    for name, value in {**c.hyper, **c.eps(3e-05)}.items():
        assert f"{name}={value:.12g}" in text if isinstance(value, float) else f"{name}={value!r}" in text
    for name in ("weight_decay", "decay_mode", "decay_mask", "storage", "max_norm", "skip_nonfinite", "lr_scale"):
        assert f"{name}={FULL[name]!r}" in text, text
    assert "learning_rate=0.125" in text
    assert "grad_norm" in text
    assert "schedule" in repr(c.build(schedule))


def test_repr_shows_the_decay_an_optimizer_has_by_itself():
    assert "weight_decay=0.01" in repr(adaptx.adamw(0.1))
    assert "weight_decay=0.0)" in repr(adaptx.adamw(0.1, weight_decay=0.0))
    assert "weight_decay=1.0)" in repr(adaptx.scion())
    assert "weight_decay" not in repr(adaptx.adam(0.1))


def test_frozen():
    opt = adaptx.adam(0.1)
    for change in (lambda: setattr(opt, "learning_rate", 1.0), lambda: setattr(opt.rule, "eps", 1.0)):
        with pytest.raises(AttributeError, match="cannot assign"):
            change()


def test_is_optax():
    opt = adaptx.adam(0.1)
    assert isinstance(opt, optax.GradientTransformationExtraArgs)
    assert isinstance(opt, optax.GradientTransformation)
    init, update = opt
    assert len(opt) == 2
    assert opt[0] == init == opt.init
    assert opt[1] == update == opt.update
    assert optax.with_extra_args_support(opt) is opt


@pytest.mark.parametrize("c", [case("adam"), case("momentum")], ids=lambda c: c.name)
def test_two_learning_rates_share_one_trace(c: Case):
    traced = Traced(lambda o, p, gs: run(o, p, gs)[0])
    train = jax.jit(traced)
    outs = [
        train(c.build(rate), c.params(), c.grads(steps=3)) for rate in (0.1, 0.2, jnp.float32(0.3), np.float64(0.4))
    ]
    assert traced.count <= 2, "a Python number and an array are two types of argument, and no more"
    assert not np.allclose(outs[0]["w"], outs[1]["w"])


@pytest.mark.parametrize("c", THINNED)
def test_closing_over_is_passing(c: Case):
    """Python numbers closed over (constants of the program) and f32 leaves: one trajectory over 20 steps."""
    opt, p, gs = c.build(0.05), c.params(), c.grads(steps=20)
    closed = jax.jit(lambda p: run(opt, p, gs)[0])(p)
    passed = jax.jit(lambda o, p: run(o, p, gs)[0])(opt, p)
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), closed, p)
    for k in p:  # relative to how far the parameters moved, and to an ulp of the parameters themselves
        error = float(jnp.max(jnp.abs(closed[k] - passed[k])))
        assert error <= PASSED * max(moved[k], float(jnp.max(jnp.abs(p[k])))), k


def test_sweep_of_64_rates_is_one_trace_and_64_runs():
    """The sweep as a batch of optimizers; every member against its own run."""
    rates = np.geomspace(1e-4, 1.0, 64)
    target = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, 6), jnp.float32)

    def train(o):
        def body(carry, _):
            p, s = carry
            loss, g = jax.value_and_grad(lambda x: jnp.sum((x - target) ** 2))(p)
            return o.step(g, s, p), loss

        return jax.lax.scan(body, (jnp.zeros(6), o.init(jnp.zeros(6))), None, length=50)

    traced = Traced(train)
    (swept, state), losses = jax.jit(jax.vmap(traced))(adaptx.adam(rates, telemetry=True))
    assert traced.count == 1
    assert losses.shape == (64, 50)
    single = jax.jit(train)
    for i in range(0, 64, 7):
        (p, _), loss = single(adaptx.adam(float(rates[i]), telemetry=True))
        np.testing.assert_allclose(losses[i], loss, rtol=2e-4, atol=1e-6)  # the loss falls to rounding near its minimum
        np.testing.assert_allclose(swept[i], p, rtol=1e-4, atol=1e-5)
        assert float(state.metrics["learning_rate"][i]) == pytest.approx(rates[i], rel=1e-6)


@pytest.mark.parametrize("c", THINNED)
def test_states_of_constants_and_arrays_are_interchangeable(c: Case):
    """A state begun at a constant rate goes on under a schedule or an array: only the rate differs."""
    p, g = c.params(), at(c.grads(steps=1), 0)
    _, state = c.build(0.1).step(g, c.build(0.1).init(p), p)
    for rate in (0.1, jnp.float32(0.1), lambda t: 0.1, optax.constant_schedule(0.1)):
        got, _ = c.build(rate).step(g, state, p)
        assert_close(got, c.build(0.1).step(g, state, p)[0], rtol=PASSED)
