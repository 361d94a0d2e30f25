"""SAM: the second gradient is of the same batch, the loss that is told the first's; grokfast and trac on their own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from chex import assert_tree_all_finite, assert_trees_all_close, assert_trees_all_equal

import adaptx
from adaptx import controllers as c
from adaptx.wrappers.trac import erfi
from devices import run_on_devices
from golden.controller_rows import SHORT, START, X, Y, problem, saved
from oracles import around
from test_iterates import assert_same, loss

F = {k: jnp.asarray(v, jnp.float32) for k, v in START.items()}
BATCH = jnp.asarray(X[0], jnp.float32), jnp.asarray(Y[0], jnp.float32)


def fresh(p=F):
    return jax.tree.map(jnp.array, p)


def by_hand(opt, p, state, loss_fn, *batch):
    value, grads = jax.value_and_grad(loss_fn)(p, *batch)
    return opt.step(grads, state, p, value=value, grad_fn=lambda q: jax.grad(loss_fn)(q, *batch))


def test_the_training_step_takes_the_second_gradient_on_its_batch():
    opt = adaptx.sam(adaptx.adam(0.02), rho=0.2)
    p, state, shown = adaptx.train_step(loss, opt)(fresh(), opt.init(F), *BATCH)
    q, other = by_hand(opt, F, opt.init(F), loss, *BATCH)
    assert_trees_all_close(p, q, rtol=1e-6)
    assert_trees_all_close(state.inner.slots, other.inner.slots, rtol=1e-4)
    assert shown["loss"] == pytest.approx(float(loss(F, *BATCH)))  # not the one uphill
    _, first = adaptx.adam(0.02).step(jax.grad(loss)(F, *BATCH), adaptx.adam(0.02).init(F), F)
    assert not np.allclose(state.inner.slots["m"]["w"], first.slots["m"]["w"], atol=1e-4)


def test_an_epoch_equals_the_oracle():
    opt = adaptx.sam(adaptx.sgd(0.1), rho=0.2)
    batches = jnp.asarray(X[:30], jnp.float32), jnp.asarray(Y[:30], jnp.float32)
    p, _, shown = adaptx.train_epoch(loss, opt)(fresh(), opt.init(F), *batches)
    want = around.sam(problem, START, 30, lr=0.1, rho=0.2)
    assert_same(np.asarray(p["w"]), want.params[-1]["w"], 1e-5)
    assert_same(shown["loss"], want.extra["loss"], 1e-5)
    assert np.all(want.extra["uphill"] > want.extra["loss"])


def test_a_controller_is_told_the_loss_where_the_parameters_are():
    """Polyak's rate is that loss over the square of the direction, which is the gradient uphill."""
    opt = adaptx.sam(adaptx.sgd(c.polyak()), rho=0.2)
    _, state, _ = adaptx.train_step(loss, opt)(fresh(), opt.init(F), *BATCH)
    g = jax.grad(loss)(F, *BATCH)
    up = jax.tree.map(lambda p, x: p + 0.2 * x / optax.global_norm(g), F, g)
    norm = optax.global_norm(jax.grad(loss)(up, *BATCH))
    rate = jnp.minimum(loss(F, *BATCH) / (c.polyak().c * norm**2), 1.0)
    assert float(adaptx.read(state, "learning_rate")) == pytest.approx(float(rate), rel=1e-5)


def test_dropout_is_the_same_in_both_passes():
    """A key is part of the batch: with the mask of the first pass the second gradient is that of its formula."""

    def dropped(p, key):
        kept = jax.random.bernoulli(key, 0.5, p["w"].shape)
        return jnp.sum(jnp.where(kept, p["w"] ** 2, 0.0)), kept

    p, key = {"w": jnp.linspace(1.0, 2.0, 64)}, jax.random.key(3)
    opt = adaptx.sam(adaptx.sgd(0.1), rho=0.5)
    q, _, shown = adaptx.train_step(dropped, opt, has_aux=True)(fresh(p), opt.init(p), key)
    g = np.where(shown["aux"], 2 * p["w"], 0)
    up = np.where(shown["aux"], 2 * (p["w"] + 0.5 * g / np.linalg.norm(g)), 0)
    np.testing.assert_allclose(q["w"], p["w"] - 0.1 * up, rtol=1e-6)


def test_leaves_that_are_not_trained_are_there_in_both_passes():
    def mixed(p, x):
        return jnp.sum((p["act"](p["w"]) * p["n"] - x) ** 2)

    p = {"w": jnp.ones(3), "n": jnp.arange(1, 4), "act": jnp.tanh, "none": None}
    opt = adaptx.sam(adaptx.sgd(0.1))
    q, _, _ = adaptx.train_step(mixed, opt)({**p, "w": jnp.ones(3), "n": jnp.arange(1, 4)}, opt.init(p), 0.5)
    assert q["act"] is jnp.tanh
    assert np.all(q["w"] != 1)


def test_it_equals_optax_s_opaque_form():
    """To the last digits of float64, but for the norm, which optax divides by as it is."""
    with jax.enable_x64(True):
        p = {k: jnp.asarray(v) for k, v in START.items()}
        peer = optax.contrib.sam(
            optax.adam(0.02), optax.chain(optax.contrib.normalize(), optax.sgd(0.2)), opaque_mode=True
        )
        opt = adaptx.sam(adaptx.adam(0.02), rho=0.2)

        def body(carry, batch):
            p, s, q, r = carry
            updates, s = peer.update(jax.grad(loss)(p, *batch), s, p, grad_fn=lambda x, _: jax.grad(loss)(x, *batch))
            q, r = by_hand(opt, q, r, loss, *batch)
            return (optax.apply_updates(p, updates), s, q, r), None

        batches = jnp.asarray(X[:SHORT]), jnp.asarray(Y[:SHORT])
        (p, _, q, _), _ = jax.lax.scan(body, (p, peer.init(p), p, opt.init(p)), batches)
        assert_same(saved([q]), saved([p]), 1e-11)


def test_in_a_chain_it_is_given_the_second_gradient_too():
    opt = optax.chain(optax.clip_by_global_norm(1e9), adaptx.sam(adaptx.sgd(0.1), rho=0.2))
    p, _, _ = adaptx.train_step(loss, opt)(fresh(), opt.init(F), *BATCH)
    alone = adaptx.sam(adaptx.sgd(0.1), rho=0.2)
    want = by_hand(alone, F, alone.init(F), loss, *BATCH)[0]
    assert_trees_all_close(p, want, rtol=1e-5)
    for outer in (adaptx.averaged(opt), adaptx.shield(adaptx.averaged(opt))):
        p, _, _ = adaptx.train_step(loss, outer)(fresh(), outer.init(F), *BATCH)
        assert_trees_all_close(p, want, rtol=1e-5)


def test_around_what_gathers_gradients_every_part_has_its_own_point():
    opt = adaptx.sam(optax.MultiSteps(adaptx.sgd(0.1), 2).gradient_transformation(), rho=0.2)
    p, state = F, opt.init(F)
    for _ in range(2):
        p, state = by_hand(opt, p, state, loss, *BATCH)
    alone = adaptx.sam(adaptx.sgd(0.1), rho=0.2)
    assert_trees_all_close(p, by_hand(alone, F, alone.init(F), loss, *BATCH)[0], rtol=1e-5)
    assert int(state.scalars["t"]) == 1


def test_adaptive_is_the_same_for_weights_of_another_scale():
    """f(w/a) from a·w: the point uphill is a times as far, so that the loss there is the same."""
    bowl = lambda p: jnp.sum(jnp.cos(p["w"] * jnp.arange(1.0, 5.0)))  # noqa: E731
    seen = []
    for a in (1.0, 100.0):
        p = {"w": a * jnp.array([0.3, -1.0, 2.0, 0.7])}
        value = lambda p, a=a: bowl({"w": p["w"] / a})  # noqa: E731
        opt = adaptx.sam(adaptx.sgd(0.1), rho=0.5, adaptive=True, eta=0.0)

        def second(q, a=a, value=value):
            seen.append(q["w"] / a)
            return jax.grad(value)(q)

        opt.step(jax.grad(value)(p), opt.init(p), p, grad_fn=second)
    np.testing.assert_allclose(seen[0], seen[1], rtol=1e-5)
    assert np.linalg.norm(seen[0] / jnp.array([0.3, -1.0, 2.0, 0.7]) - 1) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("adaptive", [False, True])
def test_gradients_of_any_size(adaptive):
    """The point is as far for gradients of 1e-30 and of 1e30; one of zeros stays where it is."""
    opt, p = adaptx.sam(adaptx.sgd(0.1), rho=0.5, adaptive=adaptive), {"w": jnp.array([1.0, -2.0])}
    seen = {}
    for size in (1.0, 1e-30, 1e30, 0.0):
        g = {"w": size * jnp.array([3.0, 4.0])}
        opt.step(g, opt.init(p), p, grad_fn=lambda q, size=size: seen.setdefault(size, q))
    for size in (1e-30, 1e30):
        assert_trees_all_close(seen[size], seen[1.0], rtol=1e-6)
    assert_trees_all_equal(seen[0.0], p)


def test_narrow_parameters_climb_on_average():
    """A hundredth of an ulp each: rounded to nearest, none of it would be left."""
    p = {"w": jnp.ones(200_000, jnp.bfloat16)}
    g = {"w": jnp.ones_like(p["w"])}
    rho = 2.0**-7 / 100 * 200_000**0.5
    opt, seen = adaptx.sam(adaptx.sgd(0.1), rho=rho), []
    opt.step(g, opt.init(p), p, grad_fn=lambda q: seen.append(q["w"]) or g)
    far = np.asarray(seen[0], np.float64) - 1
    assert set(np.unique(far)) == {0.0, 2.0**-7}
    assert far.mean() == pytest.approx(2.0**-7 / 100, rel=0.1)


def test_numbers_may_be_schedules_which_go_on_after_a_reset():
    opt = adaptx.sam(adaptx.sgd(0.1), rho=lambda t: 0.1 * (1 + t))
    p, state = F, opt.init(F)
    for t in range(3):
        p, state = by_hand(opt, p, state, loss, *BATCH)
        assert float(adaptx.read(state, "sam.rho")) == pytest.approx(0.1 * (1 + t))
    _, state = by_hand(opt, p, opt.reset(state, p), loss, *BATCH)
    assert float(adaptx.read(state, "sam.rho")) == pytest.approx(0.4)


def test_without_a_second_gradient_it_is_refused():
    opt = adaptx.sam(adaptx.sgd(0.1))
    sentence = "sam takes a second gradient at another point, which needs grad_fn, a function of params; "
    for call in (opt.update, opt.step):
        with pytest.raises(ValueError, match=sentence):
            call(F, opt.init(F), F)
    nested = adaptx.averaged(adaptx.shield(opt))
    with pytest.raises(ValueError, match=sentence):
        nested.update(F, nested.init(F), F)
    with pytest.raises(TypeError, match="grad_fn must be a function of params"):
        opt.step(F, opt.init(F), F, grad_fn=F)
    with pytest.raises(ValueError, match="second gradient 'w' has shape"):
        opt.step(F, opt.init(F), F, grad_fn=lambda p: {**p, "w": p["b"]})
    with pytest.raises(TypeError, match="extra must not hold 'grad_fn'"):
        adaptx.train_step(loss, opt, extra={"grad_fn": loss})
    adaptx.sgd(0.1).step(F, adaptx.sgd(0.1).init(F), F, grad_fn=None)  # as other arguments for line searches


# grokfast


def test_grokfast_keeps_large_gradients_finite_and_shows_what_is_not():
    opt, p = adaptx.grokfast(adaptx.adam(0.1), alpha=0.5), {"w": jnp.zeros(2)}
    q, state = opt.step({"w": jnp.array([3e38, -3e38])}, opt.init(p), p)
    np.testing.assert_allclose(q["w"], [-0.1, 0.1], rtol=1e-5)
    q, _ = opt.step({"w": jnp.array([jnp.nan, 1.0])}, state, q)
    assert list(np.isnan(q["w"])) == [True, False]


def test_a_window_forgets_what_is_older():
    opt, p = adaptx.grokfast(adaptx.sgd(1.0), alpha=None, window=2, lamb=1.0), {"w": jnp.zeros(1)}
    state, moves = opt.init(p), []
    for g in (1.0, 2.0, 5.0, 0.0, 0.0):
        updates, state = opt.update({"w": jnp.full(1, g)}, state, p)
        moves.append(-float(updates["w"][0]))
    assert moves == [1.0, 2 + 1.5, 5 + 3.5, 2.5, 0.0]


# trac


@pytest.mark.parametrize("wide", [False, True], ids=["f32", "f64"])
def test_the_imaginary_error_function(wide):
    x = np.concatenate([np.linspace(0, 9, 1001), 10.0 ** np.arange(-20, 0), [1 - 1e-6, 1 + 1e-6]])
    with jax.enable_x64(wide):
        got, x = np.asarray(erfi(jnp.asarray(x)), np.float64), np.asarray(jnp.asarray(x), np.float64)
        np.testing.assert_allclose(got, scipy.special.erfi(x), rtol=1e-14 if wide else 6e-6)  # exp(x²) errs by x² ulps
        assert np.isfinite(erfi(jnp.asarray(1e9)))
        np.testing.assert_allclose(erfi(jnp.asarray(-2.0)), -scipy.special.erfi(2.0), rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
def test_trac_starts_although_its_first_steps_are_below_rounding(dtype):
    """On |p − 1|²/2 from 3 the first scale is 6e-8: parameters stand still, and the path grows all the same."""
    opt, p = adaptx.trac(adaptx.sgd(0.1)), {"w": jnp.full(4, 3.0, dtype)}

    @jax.jit
    def train(p):
        def body(carry, _):
            p, s = carry
            return opt.step(jax.tree.map(lambda x: x - 1, p), s, p), p["w"][0]

        return jax.lax.scan(body, (p, opt.init(p)), length=300)

    (p, state), seen = train(p)
    assert float(seen[3]) == 3.0
    assert abs(float(p["w"][0]) - 1) < 0.3
    assert adaptx.read(state, "s") > 0


def test_trac_takes_huge_gradients():
    opt, p = adaptx.trac(adaptx.adam(0.1), s_init=0.1), {"w": jnp.ones(3)}
    state = opt.init(p)
    for g in (1.0, 1e30, -3e38, 1.0):
        p, state = opt.step({"w": jnp.full(3, g)}, state, p)
        assert_tree_all_finite((p, state))


# devices

HALVES = {
    "sam": partial(adaptx.sam, rho=0.3),
    "asam": partial(adaptx.sam, rho=0.3, adaptive=True),
    "trac": partial(adaptx.trac, s_init=0.1),
}


@pytest.mark.parametrize("name", HALVES)
def test_parts_along_a_named_axis_are_summed(name):
    whole = {"w": jnp.linspace(-1, 1, 24).reshape(8, 3)}
    bent = partial(jax.tree.map, lambda x: jnp.cos(5 * x))

    def train(p, **options):
        opt = HALVES[name](adaptx.sgd(0.1, **options))
        extra = {"grad_fn": bent} if "grad_fn" in opt.requires else {}
        state = opt.init(p)
        for _ in range(4):
            p, state = opt.step(bent(p), state, p, **extra)
        return p

    halves = jax.tree.map(lambda x: x.reshape(2, 4, 3), whole)
    got = jax.vmap(partial(train, axis_name="halves"), axis_name="halves")(halves)
    np.testing.assert_allclose(got["w"].reshape(8, 3), train(whole)["w"], rtol=1e-5, atol=1e-6)


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from functools import partial
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import adaptx

mesh = Mesh(np.array(jax.devices()), ("d",))
at = NamedSharding(mesh, P("d", None))
opts = {
    "sam": adaptx.sam(adaptx.adam(0.05), rho=0.3, adaptive=True),
    "grokfast": adaptx.grokfast(adaptx.adam(0.05)),
    "window": adaptx.grokfast(adaptx.adam(0.05), alpha=None, window=2),
    "trac": adaptx.trac(adaptx.adam(0.05), s_init=0.1),
    "averaged": adaptx.averaged(adaptx.adam(0.05), {"short": 0.9, "long": 0.99}),
}
bent = lambda p: jax.tree.map(lambda x: jnp.cos(5 * x), p)

for name, opt in opts.items():
    extra = {"grad_fn": bent} if "grad_fn" in opt.requires else {}
    for dtype in (jnp.float32, jnp.bfloat16):
        one = {"w": jnp.linspace(-1, 1, 24).reshape(8, 3).astype(dtype)}
        many = jax.device_put(one, at)
        ends = []
        for p in (one, many):
            state = jax.jit(opt.init)(p)
            step = jax.jit(lambda p, s: opt.step(bent(p), s, p, **extra))
            for _ in range(3):
                p, state = jax.block_until_ready(step(p, state))
            ends.append(p["w"])
        assert ends[1].sharding.is_equivalent_to(at, 2), name
        np.testing.assert_allclose(np.float32(ends[1]), np.float32(ends[0]), rtol=1e-4, atol=1e-5, err_msg=name)
        for tree in jax.tree.leaves(jax.jit(opt.init)(many).iterates):
            spec = [None] * (tree.ndim - 2) + ["d", None]
            assert tree.sharding.is_equivalent_to(NamedSharding(mesh, P(*spec)), tree.ndim), (name, tree.sharding)
print("the same:", len(opts))
"""


@pytest.mark.multi
def test_on_several_devices_they_are_the_same():
    assert "the same: 5" in run_on_devices(2, "-c", PROGRAM)
