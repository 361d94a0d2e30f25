"""Wrappers that change what an optimizer sees, or how far it goes: oracles, the authors' programs, every crossing."""

from functools import partial
from math import pi

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import controllers as c
from adaptx.engine.rounding import POLICIES
from golden import wrapper_rows as rows
from golden.controller_rows import SHORT, START, X, Y, problem, saved, tiny
from oracles import around
from oracles.controllers import base
from probes import assert_identical, avals
from test_iterates import assert_same, loss

F32 = 2e-4  # of f32 parameters over 100 closed-loop steps
GOLDEN = {"trac": 1e-8, "trac_adam": 1e-6}  # steps of 1e-8 and less of the parameters, whose rounding grows with S


def closed(opt, steps=SHORT, dtype=jnp.float64, scale=1.0):
    """(parameters after every step, metrics after every step) of the closed loop, with all that wrappers may want."""
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), START)

    def body(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(lambda p: scale * loss(p, *batch))(params)
        again = jax.grad(lambda p: scale * loss(p, *batch))
        extra = {"grad_fn": again} if "grad_fn" in opt.requires else {}
        params, state = opt.step(grads, state, params, value=value, **extra)
        return (params, state), (params, adaptx.metrics(state))

    batches = (jnp.asarray(X[:steps], dtype), jnp.asarray(Y[:steps], dtype))
    (_, _), (history, shown) = jax.jit(lambda p: jax.lax.scan(body, (p, opt.init(p)), batches))(params)
    return [{k: np.asarray(v[t], np.float64) for k, v in history.items()} for t in range(steps)], shown


def made(row: rows.Row):
    """The optimizer of a row."""
    o = dict(row.options)
    lr, rule, decay = o.pop("lr", 0.1), o.pop("rule", "sgd"), o.pop("weight_decay", 0.0)
    rate = (lambda t: 0.5 * (1 + jnp.cos(pi * t.astype(jnp.result_type(float)) / row.steps))) if lr == "cosine" else lr
    inner = getattr(adaptx, rule)(rate, weight_decay=decay)
    if row.method == "sam":
        leaves = o.pop("adaptive", ())
        o = {**o, "adaptive": {name: name in leaves for name in START}} if leaves else o
    return getattr(adaptx, row.method)(inner, **o)


@pytest.mark.parametrize("row", rows.ROWS, ids=lambda row: row.name)
def test_the_oracle_equals_the_authors_program(row):
    golden = rows.load()
    for suffix, found in rows.compute(row).items():
        assert_same(found, golden[f"{row.name}.{suffix}"], rows.LOOSER.get(row.name, rows.EXACT))


@pytest.mark.parametrize("row", rows.ROWS, ids=lambda row: row.name)
def test_it_equals_the_authors_program(row):
    golden = rows.load()
    with jax.enable_x64(True):
        params, shown = closed(made(row), row.steps, scale=1e-8 if row.loop is tiny else 1.0)
    rtol = max(GOLDEN.get(row.name, 1e-11), rows.LOOSER.get(row.name, 0.0))
    assert_same(saved(params), golden[f"{row.name}.params"], rtol)
    if f"{row.name}.extra" in golden:
        assert_same(shown["s"], golden[f"{row.name}.extra"], max(rtol, 1e-6))  # metrics are f32


SCALES = {"1": (problem, 1.0), "1e-4": (lambda t, x: scaled(1e-4, t, x), 1e-4), "1e-8": (tiny, 1e-8)}
SINGLE = {  # wrapper, oracle
    "sam": (adaptx.sam, around.sam, {"rho": 0.2}),
    "asam": (partial(adaptx.sam, adaptive=True), partial(around.sam, adaptive=("b", "w")), {"rho": 0.5}),
    "grokfast": (adaptx.grokfast, around.grokfast, {"alpha": 0.9}),
    "window": (partial(adaptx.grokfast, alpha=None), around.grokfast, {"window": 7, "lamb": 3.0}),
    "trac": (adaptx.trac, around.trac, {"s_init": 1e-2}),
}


def scaled(by, t, x):
    value, grads = problem(t, x)
    return by * value, {name: by * g for name, g in grads.items()}


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", SINGLE)
def test_in_f32_it_equals_its_oracle_at_every_scale_of_the_gradients(name, scale):
    """Adam at a rate that changes, with decay; the f32 loop is compared while rounding is not yet fed back much."""
    wrap, oracle, options = SINGLE[name]
    loop, factor = SCALES[scale]
    rate = lambda t: 0.02 * (1 - t / 100)  # noqa: E731
    params, _ = closed(wrap(adaptx.adam(rate), **options), 30, jnp.float32, factor)
    want = oracle(loop, START, 30, base("adam"), rate, **options).params
    assert_same(saved(params), saved(want), F32)


# what every wrapper owes

A = partial(adaptx.adam, 0.05)
AROUND = {
    "sam": adaptx.sam,
    "asam": partial(adaptx.sam, adaptive=True, rho=0.5),
    "grokfast": adaptx.grokfast,
    "window": partial(adaptx.grokfast, alpha=None, window=3),
    "trac": partial(adaptx.trac, s_init=0.1),
}
PLAIN = {name: AROUND[name] for name in ("sam", "grokfast", "trac")}
P = {"w": jnp.linspace(-1, 1, 12).reshape(4, 3), "b": jnp.linspace(0.5, 1, 3)}
G = jax.tree.map(lambda p: jnp.cos(3 * p), P)
EVERY = {
    **{name: wrap(A()) for name, wrap in AROUND.items()},
    **{f"{name} of a route": wrap(
        adaptx.route({"a": A(), "b": adaptx.sgd(0.1)}, {"w": "a", "b": "b"}, skip_nonfinite=True))
       for name, wrap in PLAIN.items()},
    **{f"{name} of optax": wrap(optax.adam(0.05)) for name, wrap in PLAIN.items()},
    **{f"{outer.__name__} of {name}": outer(wrap(A()))
       for outer in (adaptx.averaged, adaptx.lookahead, adaptx.shield)
       for name, wrap in PLAIN.items()},
    "sam of schedule_free": adaptx.sam(adaptx.schedule_free(A(b1=0.0))),
    "sam of shield": adaptx.sam(adaptx.shield(A())),
    "sam of lookahead": adaptx.sam(adaptx.lookahead(A(), k=2)),
    "sam of averaged": adaptx.sam(adaptx.averaged(A())),
    "sam of grokfast of trac": adaptx.sam(adaptx.grokfast(adaptx.trac(A()))),
    "sam of trac of grokfast": adaptx.sam(adaptx.trac(adaptx.grokfast(A()))),
    "sam of prodigy": adaptx.sam(adaptx.adam(c.prodigy())),
    "grokfast of prodigy": adaptx.grokfast(adaptx.adam(c.prodigy())),
    "trac of polyak": adaptx.trac(adaptx.adam(c.polyak())),
    "grokfast of lookahead": adaptx.grokfast(adaptx.lookahead(A())),
}  # fmt: skip


def more(opt, p=P, value=1.0):
    """What the optimizer wants: a loss, and gradients of a bowl at other points."""
    given = {"value": value, "grad_fn": lambda q: jax.tree.map(lambda x: jnp.cos(3 * x), q)}
    return {name: x for name, x in given.items() if name in opt.requires}


def walked(opt, grads, p=P, state=None):
    """(parameters, state) after steps in one program each."""
    state = opt.init(p) if state is None else state
    step = jax.jit(lambda g, s, p: opt.step(g, s, p, **more(opt)))
    for g in grads:
        p, state = step(g, state, p)
    return p, state


def by_turns(names, others):
    """Every name with one of the others, by turns, and with the rest where slow tests run."""
    return [
        pytest.param(name, other, id=f"{name}-{label}", marks=() if i % len(others) == j else pytest.mark.slow)
        for i, name in enumerate(names)
        for j, (label, other) in enumerate(others.items())
    ]


@pytest.mark.parametrize(("name", "dtype"), by_turns(EVERY, {"f32": jnp.float32, "bf16": jnp.bfloat16}))
def test_state_is_stable_donatable_and_fits_optax(name, dtype):
    opt = EVERY[name]
    p = {**jax.tree.map(lambda x: jnp.array(x, dtype), P), "n": None, "i": jnp.arange(2)}
    g = {**jax.tree.map(lambda x: x.astype(dtype), G), "n": None, "i": None}
    if "route" in name or "optax" in name:
        p, g = ({k: t[k] for k in P} for t in (p, g))
    uphill = {"grad_fn": lambda q: {**g, "w": jnp.cos(3 * q["w"])}, "value": 1.0}
    extra = {k: x for k, x in uphill.items() if k in opt.requires}
    state = opt.init(p)
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((p, state))]
    assert len(set(pointers)) == len(pointers)
    described = jax.tree.map(jax.typeof, (p, state))
    updates, after = jax.jit(lambda p, s: opt.update(g, s, p, **extra))(p, state)
    assert jax.tree.map(jax.typeof, after) == described[1]
    added = optax.apply_updates(p, updates)
    p, state = jax.jit(lambda p, s: opt.step(g, s, p, **extra), donate_argnums=(0, 1))(p, state)
    assert jax.tree.map(jax.typeof, (p, state)) == described
    close = 1e-6 if dtype == jnp.float32 else 2e-2
    for key in P:
        np.testing.assert_allclose(np.float32(added[key]), np.float32(p[key]), rtol=close, atol=close)
    assert jax.tree.structure(adaptx.eval_params(opt, state, p)) == jax.tree.structure(p)
    (_, last), _ = jax.lax.scan(lambda x, _: (opt.step(g, x[1], x[0], **extra), None), (p, state), length=2)
    assert avals(last) == avals(state)
    if "optax" not in name:
        assert opt.state_bytes(p) == sum(x.nbytes for x in jax.tree.leaves(state))
        assert opt.describe(p)


GUARDED = {
    **{name: wrap(A(skip_nonfinite=True)) for name, wrap in AROUND.items()},
    **{name: EVERY[name] for name in EVERY if "route" in name},
    **{f"{name} of apply_if_finite": wrap(optax.apply_if_finite(optax.adam(0.05), 5)) for name, wrap in PLAIN.items()},
    "nested": adaptx.averaged(adaptx.sam(adaptx.grokfast(adaptx.trac(A(skip_nonfinite=True)))), 0.9),
}


@pytest.mark.parametrize(("name", "fused"), by_turns(GUARDED, {"step": True, "update": False}))
def test_a_skipped_step_moves_nothing_at_any_depth(name, fused):
    opt = GUARDED[name]
    p, state = walked(opt, [G, G])
    bad = {**G, "b": G["b"].at[1].set(jnp.nan)}
    if fused:
        after, skipped = opt.step(bad, state, p, **more(opt))
    else:
        updates, skipped = opt.update(bad, state, p, **more(opt))
        after = optax.apply_updates(p, updates)
    assert_identical(after, p)
    while hasattr(state, "iterates"):
        assert_identical((skipped.iterates, skipped.scalars), (state.iterates, state.scalars))
        state, skipped = state.inner, skipped.inner


@pytest.mark.parametrize(("name", "rounding"), by_turns(AROUND, {x: x for x in POLICIES}))
def test_bf16_parameters_take_every_rounding(name, rounding):
    opt = AROUND[name](A(rounding=rounding, storage="bf16", storage_exclude=0, skip_nonfinite=True))
    p = jax.tree.map(lambda x: x.astype(jnp.bfloat16), P)
    q, state = walked(opt, [G] * 5, p)
    want, _ = walked(AROUND[name](A()), [G] * 5)
    chex.assert_trees_all_close(jax.tree.map(jnp.float32, q), want, atol=0.03)
    same, after = walked(opt, [jax.tree.map(lambda x: x * jnp.nan, G)], q, state)
    assert_identical(same, q)
    assert avals(after) == avals(state)
    fresh = opt.reset(state, q)
    assert avals(fresh) == avals(state)
    assert int(fresh.scalars["t"]) == int(state.scalars["t"]) == 5
    moved, _ = walked(opt, [G], q, fresh)
    chex.assert_tree_all_finite(moved)


@pytest.mark.parametrize("name", AROUND)
def test_a_leaf_without_a_gradient_stays(name):
    for inner in (A(), optax.sgd(0.05)):
        opt = AROUND[name](inner)
        p, state = walked(opt, [G, G])
        uphill = {"grad_fn": lambda q: {"w": None, "b": jnp.cos(3 * q["b"])}} if "sam" in name else {}
        moved, after = opt.step({**G, "w": None}, state, p, **uphill)
        updates, _ = opt.update({**G, "w": None}, state, p, **uphill)
        for q in (moved, optax.apply_updates(p, updates)):
            np.testing.assert_allclose(q["w"], p["w"], rtol=1e-6)
            assert not np.allclose(q["b"], p["b"])
        chex.assert_tree_all_finite(walked(opt, [G], moved, after)[0])


@pytest.mark.parametrize("name", AROUND)
def test_states_are_carried_over(name):
    wrap = AROUND[name]
    old, new = wrap(A()), wrap(A(storage="bf16", storage_exclude=0))
    p, state = walked(old, [G, G])
    made = adaptx.convert(state, old, new, p)
    assert_identical((made.iterates, made.scalars), (state.iterates, state.scalars))
    q, _ = walked(new, [G], p, made)
    chex.assert_trees_all_close(q, walked(old, [G], p, state)[0], atol=1e-3)
    kind = old.kind
    with pytest.warns(UserWarning, match=f"left behind the iterates of {kind}"):
        plain = adaptx.convert(state, old, A(), p)
    assert int(plain.step) == 2
    with pytest.warns(UserWarning, match=f"made up the iterates of {kind}"):
        back = adaptx.convert(plain, A(), old, p)
    assert avals(back) == avals(state)


@pytest.mark.parametrize("rounding", ["kahan", "master"])
@pytest.mark.parametrize("wrap", [adaptx.schedule_free, adaptx.trac, adaptx.sam])
@pytest.mark.filterwarnings("ignore:convert")
def test_what_rounding_keeps_is_carried_over_as_the_wrapper_has_it(wrap, rounding):
    """schedule_free and trac let the optimizer inside see f32, of which nothing is kept; sam does not."""
    plain = A(b1=0.0, rounding=rounding)
    p = jax.tree.map(lambda x: x.astype(jnp.bfloat16), P)
    for old, new in (
        (plain, wrap(plain)),
        (wrap(plain), wrap(A(b1=0.0, rounding=rounding, storage="bf16", storage_exclude=0))),
        (wrap(plain), plain),
    ):
        q, state = walked(old, [G], p)
        made = adaptx.convert(state, old, new, q)
        assert avals(made) == avals(new.init(q))
        assert avals(walked(new, [G], q, made)[1]) == avals(made)


@pytest.mark.parametrize("name", AROUND)
def test_a_shield_goes_back_and_the_wrapper_inside_starts_there(name):
    opt = adaptx.shield(AROUND[name](A()), block=2)
    p, state = walked(opt, [G] * 4)
    nan = jax.tree.map(lambda x: x * jnp.nan, G)
    q, after = walked(opt, [nan], p, state)
    chex.assert_tree_all_finite(q)
    assert adaptx.read(after, "rollbacks") == 1
    assert_identical(after.inner.iterates, opt.inner.init(q).iterates)
    moved, _ = walked(opt, [G, G], q, after)
    chex.assert_tree_all_finite(moved)


@pytest.mark.parametrize("name", AROUND)
def test_lookahead_leads_it(name):
    """At a synchronization the parameters are the slow ones, and training goes on from there."""
    opt = adaptx.lookahead(AROUND[name](adaptx.sgd(0.05)), k=2, alpha=0.5)
    p, state = walked(opt, [G, G])
    chex.assert_trees_all_close(p, jax.tree.map(jnp.asarray, state.iterates["slow"]))
    if name == "trac":
        kept, s = state.inner.iterates, state.inner.scalars["s"]
        chex.assert_trees_all_close(jax.tree.map(lambda x, d: x + s * d, kept["start"], kept["path"]), p, rtol=1e-5)
    q, _ = walked(opt, [jax.tree.map(lambda x: 1e-6 * x, G)], p, state)
    assert 0 < float(jnp.max(jnp.abs(q["w"] - p["w"]))) < 0.5


REFUSED = {
    "sam inside schedule_free": (lambda: adaptx.schedule_free(adaptx.sam(A(b1=0.0))), "put sam around"),
    "sam inside grokfast": (lambda: adaptx.grokfast(adaptx.averaged(adaptx.sam(A()))), "put sam around"),
    "sam inside trac": (lambda: adaptx.trac(adaptx.sam(A())), "put sam around"),
    "sam twice": (lambda: adaptx.sam(adaptx.sam(A())), "one is enough"),
    "grokfast in schedule_free": (lambda: adaptx.schedule_free(adaptx.grokfast(adaptx.sgd())), "leave one of them out"),
    "schedule_free in grokfast": (lambda: adaptx.grokfast(adaptx.schedule_free(adaptx.sgd())), "leave one of them out"),
    "grokfast twice": (lambda: adaptx.grokfast(adaptx.grokfast(A())), "one is enough"),
    "trac twice": (lambda: adaptx.trac(adaptx.grokfast(adaptx.trac(A()))), "one is enough"),
    "trac in schedule_free": (lambda: adaptx.schedule_free(adaptx.trac(adaptx.sgd())), "leave one of them out"),
    "schedule_free in trac": (lambda: adaptx.trac(adaptx.schedule_free(adaptx.sgd())), "leave one of them out"),
    "averaged in trac": (lambda: adaptx.trac(adaptx.averaged(A())), "put it around"),
    "lookahead in trac": (lambda: adaptx.trac(adaptx.lookahead(A())), "put it around"),
    "shield in trac": (lambda: adaptx.trac(adaptx.shield(A())), "put it around"),
    "prodigy in trac": (lambda: adaptx.trac(adaptx.adam(c.prodigy())), "give adam a number or a schedule"),
    "gathering in trac": (
        lambda: adaptx.trac(optax.MultiSteps(A(), 2).gradient_transformation()).init(P), "inside of MultiSteps"),
    "gathering in grokfast": (
        lambda: adaptx.grokfast(optax.MultiSteps(A(), 2).gradient_transformation()).init(P), "inside of MultiSteps"),
    "either": (lambda: adaptx.grokfast(A(), window=10), "set one to None"),
    "neither": (lambda: adaptx.grokfast(A(), alpha=None), "set one to None"),
    "eta": (lambda: adaptx.sam(A(), eta=0.1), "leave eta out"),
    "rho": (lambda: adaptx.sam(A(), rho=0.0), "rho must lie in (0, inf)"),
    "betas": (lambda: adaptx.trac(A(), betas=0.9), "pass a tuple"),
    "text": (lambda: adaptx.trac("sgd"), "trac takes an optimizer"),
    "class": (lambda: adaptx.sam(adaptx.sgd), "call it"),
    "mask": (lambda: adaptx.sam(A(), adaptive="none of them").step(G, adaptx.sam(
        A(), adaptive="none of them").init(P), P, grad_fn=lambda p: p), "matches none"),
    "state": (lambda: adaptx.trac(A()).step(G, adaptx.averaged(A()).init(P), P), "belongs to averaged"),
    "window": (lambda: AROUND["window"](A()).step(G, adaptx.grokfast(A()).init(P), P), "is grokfast_of_3"),
    "no params": (lambda: adaptx.grokfast(A()).update(G, adaptx.grokfast(A()).init(P)), "without params"),
    "route": (lambda: adaptx.route({"a": adaptx.trac(A())}, {"w": "a"}), "around the whole route"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(name):
    call, words = REFUSED[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    sentence = str(caught.value)
    assert words in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
