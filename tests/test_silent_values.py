"""Results that were silently wrong, each held to what it should have been: arguments, masks, values, traces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import (
    assert_max_traces,
    assert_trees_all_equal,
    clear_trace_counter,
)

import adaptx
from adaptx import controllers as c
from adaptx.engine.tree import take_apart
from steps import G, P, stepped

INF = jnp.inf


# 5, 7, 9


def test_updates_that_need_the_parameters_are_refused_without():
    for rounding in ("master", "stochastic", "kahan"):
        opt = adaptx.sgd(0.1, rounding=rounding)
        with pytest.raises(ValueError, match="without params"):
            opt.update(P, opt.init(P))


@pytest.mark.parametrize("shape", [(1,), (4,), (2, 3, 4)])
def test_numbers_that_are_arrays_are_refused(shape):
    array = lambda *_: jnp.full(shape, 0.5)  # noqa: E731
    opts = [adaptx.sgd(array), adaptx.sgd(1.0, lr_scale=lambda path, leaf: np.full(shape, 0.5))]
    opts += [adaptx.adam(b1=array), adaptx.sgd(max_norm=array), adaptx.sgd(c.dog(base=array))]
    for opt in opts:
        with pytest.raises(TypeError, match="number"):
            stepped(opt, [G])


def test_unpack_takes_what_pack_gave():
    flat, unpack = adaptx.pack(P)
    vectors, unpack_two = adaptx.pack({**P, "h": jnp.ones(3, jnp.bfloat16)})
    assert_trees_all_equal(unpack(flat), P)
    wrong = [(unpack, x) for x in (flat[1:], jnp.ones(17), flat[:, None], jnp.ones(()))]
    wrong += [(unpack_two, x) for x in (flat, {"float32": flat}, {**vectors, "bfloat16": jnp.ones(4)})]
    for function, x in wrong:
        with pytest.raises(ValueError, match="unpack takes what pack gave"):
            function(x)


def test_steps_without_gradients_or_anything_to_train_are_refused():
    opts = [adaptx.sgd(0.1), adaptx.averaged(adaptx.sgd(0.1)), adaptx.route({"a": adaptx.sgd()}, by=lambda *_: "a")]
    for opt in opts:
        for call in (opt.step, opt.update):
            with pytest.raises(ValueError, match="None"):
                call(None, opt.init(P), P)
        for tree in ({"w": jnp.arange(3)}, {"w": None}, {"w": "text"}, None):
            with pytest.raises(TypeError, match=r"no parameter can be trained|params are None"):
                opt.init(tree)


# 6


def test_matrices_are_known_by_whole_components_of_their_paths():
    decays = ["backbone", "lora_b", "lora_b/w", "attn/bilinear", "w_big", "enormous/w", "abs/w", "subnormal", "kernel"]
    stay = ["bias", "dense/bias", "b", "norm/scale", "layer_norm/w", "ln_1/w", "LayerNorm_0/scale", "q_bias", "gamma"]
    p = {name: jnp.ones((2, 2)) for name in decays + stay}
    q, _ = stepped(adaptx.sgd(1.0, weight_decay=0.5, decay_mask="matrices"), [jax.tree.map(jnp.zeros_like, p)], p)
    assert {name for name, x in q.items() if np.any(x != 1)} == set(decays)


# 10


@pytest.mark.parametrize("make", [c.prodigy, c.dadapt])
def test_meta_gradients_are_finite_and_right(make):
    def outer(base):
        opt = adaptx.sgd(make(d0=1e-2, base=base, growth_rate=INF))
        p, state = jnp.ones(3), opt.init(jnp.ones(3))
        for _ in range(2):
            p, state = opt.step(2 * p, state, p)
        return jnp.sum(p**2)

    slope, numeric = jax.jit(lambda x: (jax.grad(outer)(x), (outer(x + 0.05) - outer(x - 0.05)) / 0.1))(1.0)
    assert float(slope) == pytest.approx(float(numeric), rel=0.02)


def test_an_average_that_forgets_is_exact():
    values = jnp.array([1e4, 1.0, 3e-3, -7.0])
    for debias in (True, False):
        assert_trees_all_equal(adaptx.ema(0.0, debias=debias).over(values), values)


def test_equal_values_have_equal_hashes():
    for make in (adaptx.sgd, lambda x: adaptx.sgd(lr_scale={"w": x}), lambda x: adaptx.adam(eps=x), c.prodigy):
        for zero in (-0.0, np.float32(-0.0), jnp.asarray(-0.0), 0):
            assert make(0.0) == make(zero)
            assert hash(make(0.0)) == hash(make(zero))


def test_weak_typed_parameters_compile_once():
    opt, p = adaptx.adam(0.1), {"w": jnp.asarray(1.0)}
    assert p["w"].weak_type
    clear_trace_counter()
    step = jax.jit(assert_max_traces(opt.step, 1))
    state = opt.init(p)
    for _ in range(3):
        p, state = step({"w": jnp.asarray(1.0)}, state, p)


def test_a_decay_pattern_looks_at_every_path_once(monkeypatch):
    from adaptx.engine import choices, tree

    calls, paths = [], tree.paths
    monkeypatch.setattr(tree, "paths", lambda x: calls.append(1) or paths(x))
    p = {f"layer{i}": {"kernel": jax.ShapeDtypeStruct((2,), jnp.float32)} for i in range(800)}
    leaves = take_apart(p)
    assert sum(choices.mask_of("decay_mask", "layer1.*kernel$", leaves)) == 111
    assert len(calls) == 1
