"""Results that were silently wrong, each held to what it should have been: skips, overflows, factors, reports."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import (
    assert_tree_all_finite,
    assert_trees_all_close,
    assert_trees_all_equal,
)

import adaptx
from adaptx import controllers as c
from probes import avals
from steps import INIT, UPDATE, G, P, extra, stepped

NAN = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), P)
WRAPPERS = {
    "schedule_free": adaptx.schedule_free,
    "averaged": adaptx.averaged,
    "lookahead": lambda opt: adaptx.lookahead(opt, k=2),
    "shield": adaptx.shield,
}


STORED = ("int8", "f32", "bf16", "f32")  # of the cells of each wrapper that always run


# 1, and the wrapper × guard × rounding × storage crossing


CELLS = [  # every wrapper, every rounding and every storage at once; all of them where slow tests run
    pytest.param(name, rounding, storage, marks=() if (i + j) % 4 == 0 and storage == STORED[i] else pytest.mark.slow)
    for i, name in enumerate(WRAPPERS)
    for j, rounding in enumerate(("nearest", "stochastic", "kahan", "master"))
    for storage in ("f32", "bf16", "int8")
]


@pytest.mark.parametrize(("name", "rounding", "storage"), CELLS)
def test_a_skipped_step_moves_nothing_inside_a_wrapper(name, rounding, storage):
    base = adaptx.adam(0.1, b1=0.0, skip_nonfinite=True, rounding=rounding, storage=storage, storage_exclude=0)
    opt, p = WRAPPERS[name](base), jax.tree.map(lambda x: x.astype(jnp.bfloat16), P)
    p, state = stepped(opt, [G, G, G], p)
    same, after = stepped(opt, [NAN], p, state)
    assert_trees_all_equal(same, p)
    assert_trees_all_equal(adaptx.eval_params(opt, after, same), adaptx.eval_params(opt, state, p))
    assert adaptx.read(after, "skipped") == 1
    assert adaptx.read(after, "step") == 3
    moved, _ = stepped(opt, [G, G], same, after)
    assert_tree_all_finite(moved)
    assert any(np.any(x != y) for x, y in zip(jax.tree.leaves(moved), jax.tree.leaves(p), strict=True))


# 2

SQUARING = {
    "adam": (adaptx.adam, {}, 0.1),
    "amsgrad": (adaptx.adam, {"amsgrad": True}, 0.1),
    "rmsprop": (adaptx.rmsprop, {}, 0.1 / 0.1**0.5),
    "adagrad": (adaptx.adagrad, {}, 0.1),
}


SQUARED = [  # every rule in one storage by turns, adam in all
    pytest.param(name, storage, marks=() if name == "adam" or i % 3 == j else pytest.mark.slow)
    for i, name in enumerate(SQUARING)
    for j, storage in enumerate(("f32", "bf16", "int8"))
]


@pytest.mark.parametrize(("name", "storage"), SQUARED)
def test_a_gradient_whose_square_overflows_is_exact_or_skipped(name, storage):
    make, hyper, first = SQUARING[name]
    p = {"w": jnp.zeros(512)}
    one = {"w": jnp.ones(512)}
    for big in (1e20, -1e30, 3e38):
        spike = {"w": jnp.ones(512).at[3].set(big)}
        opt = make(0.1, storage=storage, storage_exclude=0, **hyper)
        q, state = stepped(opt, [spike], p)
        assert float(q["w"][3]) == pytest.approx(-np.sign(big) * first, rel=0.2 if storage == "int8" else 0.01)
        q, _ = stepped(opt, [one] * 3, q, state)
        assert np.max(np.abs(q["w"])) <= 5 * first
        guarded = make(0.1, storage=storage, storage_exclude=0, skip_nonfinite=True, **hyper)
        q, state = stepped(guarded, [spike], p)
        assert_trees_all_equal(q, p)
        assert adaptx.read(state, "skipped") == 1


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(("name", "storage"), SQUARED)
def test_a_max_norm_whose_square_overflows_bounds_all_the_same(name, storage, skip):
    make, hyper, first = SQUARING[name]
    opt = make(0.1, storage=storage, storage_exclude=0, max_norm=1e30, skip_nonfinite=skip, **hyper)
    one, p = {"w": jnp.ones(512)}, {"w": jnp.zeros(512)}
    for big in (1e20, -1e25, 3e38):
        q, state = stepped(opt, [{"w": one["w"].at[3].set(big)}], p)
        assert float(q["w"][3]) == pytest.approx(-np.sign(big) * first, rel=0.2 if storage == "int8" else 0.01)
        assert_tree_all_finite(stepped(opt, [one, one], q, state))
        assert adaptx.read(state, "grad_norm") == pytest.approx(abs(big), rel=1e-5)


def test_a_rule_without_squares_is_clipped_to_a_max_norm_of_any_size():
    for big, length in ((1e25, 1e25), (1e35, 1e30)):
        p, _ = stepped(adaptx.sgd(1.0, max_norm=1e30), [{"w": jnp.array([0.0, big])}], {"w": jnp.zeros(2)})
        np.testing.assert_allclose(p["w"], [0.0, -length], rtol=1e-6)


@pytest.mark.parametrize("scale", [1e20, 2e38])
def test_muon_steps_on_a_matrix_whose_squares_or_norm_overflow(scale):
    p, g = {"w": jnp.zeros((4, 4))}, jnp.eye(4) + 0.5
    small, large = (stepped(adaptx.muon(0.1, adamw=False), [{"w": c * g}], p)[0] for c in (1.0, scale))
    assert_trees_all_close(large, small, rtol=1e-4)


@pytest.mark.parametrize("storage", ["f32", "bf16", "int8"])
@pytest.mark.parametrize("make", [adaptx.adam, adaptx.adagrad, adaptx.lion])
def test_what_is_not_finite_shows(make, storage):
    opt = make(0.1, storage=storage, storage_exclude=0)
    q, _ = stepped(opt, [NAN])
    assert all(np.all(np.isnan(x)) for x in jax.tree.leaves(q))
    q, _ = stepped(opt, [{**G, "w": G["w"].at[0, 0].set(jnp.inf)}])
    assert make is adaptx.lion or not np.isfinite(q["w"][0, 0])  # the sign of inf is known


# 3

INF = jnp.inf
REFUSED = [
    (ValueError, lambda: adaptx.sgd(0.1, max_norm=INF)),
    *[(TypeError, lambda make=make: make(None)) for make in (adaptx.sgd, adaptx.adam, adaptx.lars, adaptx.lamb)],
    (TypeError, lambda: adaptx.sgd().replace(learning_rate=None)),
    *[(ValueError, lambda x=x: adaptx.sgd(x)) for x in (INF, jnp.asarray(INF), np.float32(INF), jnp.array([1.0, INF]))],
    (ValueError, lambda: adaptx.sgd().replace(learning_rate=INF)),
    (ValueError, lambda: adaptx.adam(eps=INF)),
    (ValueError, lambda: adaptx.adam(weight_decay=INF)),
    (ValueError, lambda: adaptx.sgd(lr_scale={"w": INF})),
    (ValueError, lambda: adaptx.adagrad(initial_accumulator=INF)),
    (ValueError, lambda: adaptx.momentum(decay=INF)),
    (ValueError, lambda: c.dog(reps_rel=INF)),
    (ValueError, lambda: c.hypergradient(INF)),
    (ValueError, lambda: c.prodigy() * INF),
    (ValueError, lambda: stepped(adaptx.sgd(lambda step: INF), [G])),
]


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_numbers_that_are_none_are_refused(case):
    error, construct = REFUSED[case]
    with pytest.raises(error):
        construct()


# 4


@pytest.mark.parametrize("nest", [lambda x: x, lambda x: {"kernel": x}])
def test_a_flat_tree_is_a_tree_before_it_is_patterns(nest):
    p = {"w": nest(jnp.ones(2)), "w2": nest(jnp.ones(2))}
    moved = {"w": nest(jnp.ones(2)), "w2": nest(jnp.zeros(2))}
    opts = [
        adaptx.sgd(1.0, lr_scale={"w": 0.0, "w2": 1.0}),
        adaptx.route({"a": adaptx.freeze(), "b": adaptx.sgd(1.0)}, by={"w": "a", "w2": "b"}),
    ]
    for opt in opts:
        assert_trees_all_equal(stepped(opt, [p], p)[0], moved)


AT_ONCE = (
    "trust_ratio",
    "ldog",
    "cocob",
    "mechanic",
    "prodigy",
    "hypergradient",
)  # those that move by a rule of theirs


@pytest.mark.parametrize("name", [n if n in AT_ONCE else pytest.param(n, marks=pytest.mark.slow) for n in c.ALL])
def test_lr_scale_is_on_the_displacement(name):
    def first(factor):
        opt = adaptx.adam(c.ALL[name](0.01), lr_scale={"w": factor, "b": 1.0})
        return UPDATE(opt, G, INIT(opt, P), P, extra(opt))[0]

    plain, half, none = first(1.0), first(0.5), first(0.0)
    assert np.any(plain["w"])
    assert_trees_all_equal(half["w"], 0.5 * plain["w"])
    assert_trees_all_equal(none, {"w": jnp.zeros_like(P["w"]), "b": plain["b"]})


# 8 (its first clause is in the crossing above, with dog here)


@pytest.mark.parametrize("rounding", ["nearest", "kahan", "master"])
def test_schedule_free_takes_its_own_state_of_narrow_parameters(rounding):
    p = jax.tree.map(lambda x: x.astype(jnp.bfloat16), P)
    opt = adaptx.schedule_free(adaptx.sgd(c.dog(reps_rel=0.1), rounding=rounding))
    state = opt.init(p)
    q, after = stepped(opt, [G, G], p, state)
    assert avals(after) == avals(state)
    assert avals(q) == avals(p)


@pytest.mark.parametrize("name", ["plateau", "hypergradient", "dog", "prodigy", "shield"])
def test_a_skipped_step_reports_what_is_kept(name):
    opt = adaptx.adam(c.ALL.get(name, c.ALL["plateau"])(0.1), skip_nonfinite=True)
    opt = adaptx.shield(opt) if name == "shield" else opt
    p, state = stepped(opt, [G, G])
    before, (_, after) = adaptx.metrics(state), stepped(opt, [NAN], p, state)
    shown = {name: x for name, x in adaptx.metrics(after).items() if not name.startswith("skipped")}
    assert_trees_all_close(shown, {name: before[name] for name in shown}, rtol=1e-6)
    assert adaptx.read(after, "skipped") == 1
