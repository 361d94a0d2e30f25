"""Averages at several horizons in one state: each equals its oracle, and is found by its name."""

from math import log

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_close, assert_trees_all_equal

import adaptx
from golden.controller_rows import SHORT, START, X, Y, saved
from oracles import iterates
from probes import avals
from test_iterates import GOLDEN, assert_same, loop, loss

SEVERAL = {
    "short": ({"decay": 0.5}, lambda p: iterates.exponential_average(p, 0.5)),
    "long": ({"decay": 0.99}, lambda p: iterates.exponential_average(p, 0.99)),
    "tail": ({"power": 8.0}, lambda p: iterates.polynomial_average(p, 8.0)),
    "mean": ({"power": 0.0}, lambda p: iterates.polynomial_average(p, 0.0)),
    "ten": ({"horizon": 10}, lambda p: iterates.exponential_average(p, 0.9)),
}
P = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.ones(3)}


def together(inner):
    given: dict = {"decay": None}
    for name, (one, _) in SEVERAL.items():
        ((what, x),) = one.items()
        given[what] = {**(given.get(what) or {}), name: x}
    return adaptx.averaged(inner, **given)


def paths(opt, pick):
    """(parameters, averages) after every step of the closed loop, in float64."""
    params = jax.tree.map(jnp.asarray, START)

    def body(carry, batch):
        p, s = carry
        value, grads = jax.value_and_grad(loss)(p, *batch)
        p, s = opt.step(grads, s, p, value=value)
        return (p, s), (p, pick(s, p))

    _, out = jax.lax.scan(body, (params, opt.init(params)), (jnp.asarray(X[:SHORT]), jnp.asarray(Y[:SHORT])))
    return [jax.tree.map(lambda x, t=t: np.asarray(x[t]), out) for t in range(SHORT)]


def test_several_averages_equal_their_oracles_and_those_kept_alone():
    with jax.enable_x64(True):
        opt = together(adaptx.sgd(0.1))
        pick = lambda s, p: {name: adaptx.eval_params(opt, s, p, horizon=name) for name in SEVERAL}  # noqa: E731
        out = paths(opt, pick)
        for name, (one, oracle) in SEVERAL.items():
            want = oracle([p for p, _ in out])
            assert_same(saved([found[name] for _, found in out]), saved(want), GOLDEN)
            alone = adaptx.averaged(adaptx.sgd(0.1), **{"decay": None, **one})
            _, evaluated = loop(alone)
            assert_same(saved(evaluated), saved([found[name] for _, found in out]), 1e-12)
        plain, _ = loop(adaptx.sgd(0.1))
        assert_same(saved([p for p, _ in out]), saved(plain), 1e-14)


def test_a_horizon_is_a_decay_whose_complement_is_exact():
    """1 − 1/h to 1e-7 of the complement, which 1.0 − 0.9999999 in f32 is not."""
    opt = adaptx.averaged(adaptx.sgd(0.1), None, horizon=10_000_000)
    assert opt.decay.complement == 1e-7
    assert adaptx.averaged(adaptx.sgd(0.1), None, horizon=4) == adaptx.averaged(adaptx.sgd(0.1), 0.75)


def trained(opt, p=P, steps=3):
    state, step = opt.init(p), jax.jit(opt.step)
    for _ in range(steps):
        p, state = step(p, state, p)
    return p, state


def test_numbers_name_themselves():
    opt = adaptx.averaged(adaptx.sgd(0.1), None, horizon=(10, 1000), power=(8.0,))
    p, state = trained(opt)
    assert set(state.iterates) == {"average.10", "average.1000", "average.8"}
    for horizon in (10, 10.0, "10", np.int32(10)):
        assert_trees_all_equal(
            adaptx.eval_params(opt, state, p, horizon=horizon), adaptx.eval_params(opt, state, p, horizon="10")
        )
    ten, thousand = (adaptx.eval_params(opt, state, p, horizon=h)["w"] for h in (10, 1000))
    assert not np.array_equal(ten, thousand)
    opt = adaptx.averaged(adaptx.sgd(0.1), (0.9, 0.999))
    p, state = trained(opt)
    adaptx.eval_params(opt, state, p, horizon=0.999)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
def test_the_state_is_stable_and_donated(dtype):
    opt = together(adaptx.adam(0.1, rounding="kahan"))
    p = jax.tree.map(lambda x: jnp.array(x, dtype), P)
    state = opt.init(p)
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((p, state))]
    assert len(set(pointers)) == len(pointers)
    before = avals((p, state))
    assert opt.state_bytes(p) == sum(x.nbytes for x in jax.tree.leaves(state))
    assert all(state.iterates[f"average.{name}"]["w"].dtype == jnp.float32 for name in SEVERAL)
    q, state = jax.jit(lambda p, s: opt.step(p, s, p), donate_argnums=(0, 1))(p, state)
    assert avals((q, state)) == before
    assert avals(adaptx.eval_params(opt, state, q, horizon="long")) == avals(q)


def test_wherever_the_state_lies():
    opt = together(adaptx.sgd(0.1))
    p, state = trained(opt)
    want = adaptx.eval_params(opt, state, p, horizon="ten")
    chain = optax.chain(optax.identity(), opt)
    assert_trees_all_equal(adaptx.eval_params(chain, (optax.EmptyState(), state), p, "ten"), want)
    for outer in (adaptx.shield, adaptx.grokfast, adaptx.sam):
        around = outer(opt)
        assert_trees_all_equal(adaptx.eval_params(around, around.init(p)._replace(inner=state), p, "ten"), want)


def test_it_is_carried_over_with_its_horizons():
    old = together(adaptx.adam(0.1))
    p, state = trained(old)
    made = adaptx.convert(state, old, together(adaptx.adam(0.2, storage="bf16")), p)
    assert_trees_all_equal(made.iterates, state.iterates)
    with pytest.warns(UserWarning, match="left behind the iterates of averaged"):
        adaptx.convert(state, old, adaptx.averaged(adaptx.adam(0.1)), p)
    fresh = old.reset(state, p)
    for name in SEVERAL:
        assert_trees_all_close(adaptx.eval_params(old, fresh, p, name), p)


def test_schedules_are_shown_by_name():
    opt = adaptx.averaged(adaptx.sgd(0.1), {"warm": lambda t: 0.1 * t, "long": 0.9})
    _, state = trained(opt)
    assert float(adaptx.read(state, "averaged.decay['warm']")) == pytest.approx(0.2)


S = adaptx.sgd(0.1)
WRONG = {
    "unknown": (lambda: picked(together(S), "medium"), "none of the averages 'long', 'mean', 'short', 'tail', 'ten'"),
    "unknown number": (lambda: picked(together(S), 7), "horizon=7 is none of the averages"),
    "unnamed": (lambda: picked(together(S), None), "say which with horizon="),
    "alone": (lambda: picked(adaptx.averaged(S), "long"), "holds one average only; leave it out"),
    "lookahead": (lambda: picked(adaptx.lookahead(S), 5), "leave it out"),
    "none": (lambda: picked(S, "long"), "holds no average"),
    "twice": (lambda: adaptx.averaged(S, {"a": 0.9}, {"a": 8.0}), "two averages are named 'a'"),
    "equal": (lambda: adaptx.averaged(S, (0.9, 0.9)), "each once"),
    "empty": (lambda: adaptx.averaged(S, ()), "each once"),
    "number and names": (lambda: adaptx.averaged(S, 0.9, {"a": 8.0}), "set the others to None"),
    "nothing": (lambda: adaptx.averaged(S, None), "set the others to None"),
    "name": (lambda: adaptx.averaged(S, {1: 0.9}), "names are text"),
    "range": (lambda: adaptx.averaged(S, {"a": 1.5}), "decay['a'] must lie in [0, 1)"),
    "horizon": (lambda: adaptx.averaged(S, None, horizon=0.5), "horizon must lie in [1, inf)"),
    "schedule": (lambda: adaptx.averaged(S, None, horizon=lambda t: 5.0), "pass one of decay"),
    "no value": (lambda: adaptx.averaged(S, (lambda t: 0.9, 0.5)), "give it a name"),
    "other horizons": (
        lambda: adaptx.averaged(S, {"a": 0.9}).step(P, adaptx.averaged(S, {"b": 0.9}).init(P), P), "averaged(b)"),
    "other kind": (
        lambda: adaptx.averaged(S, {"a": 0.9}).step(P, adaptx.averaged(S, None, {"a": 8.0}).init(P), P),
        "averaged(polynomial a)"),
}  # fmt: skip


def picked(opt, horizon):
    return adaptx.eval_params(opt, opt.init(P), P, horizon=horizon)


@pytest.mark.parametrize("name", WRONG)
def test_refused_in_one_sentence(name):
    call, words = WRONG[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


# decay rates by their half life


@pytest.mark.parametrize(("first", "last", "steps"), [(0.9, 0.9999, 100), (0.5, 0.99, 7), (0.99, 0.9, 10)])
def test_a_half_life_grows_linearly(first, last, steps):
    schedule = adaptx.schedules.half_life(first, last, steps)
    t = np.arange(steps + 5)
    share = np.minimum(t / steps, 1)
    life = (1 - share) * log(0.5) / log(first) + share * log(0.5) / log(last)
    np.testing.assert_allclose(schedule(t), 0.5 ** (1 / life), rtol=3e-7)
    np.testing.assert_allclose([schedule(0), schedule(steps), schedule(10 * steps)], [first, last, last], rtol=3e-7)


def test_ademamix_takes_it():
    """Its paper's schedule: from b1 to b3 over the run, shown in metrics as the rate it is."""
    opt = adaptx.ademamix(1e-3, b3=adaptx.schedules.half_life(0.9, 0.9999, 4))
    p, state = trained(opt, steps=1)
    assert float(adaptx.read(state, "b3")) == pytest.approx(0.9)
    for _ in range(4):
        p, state = opt.step(p, state, p)
    assert float(adaptx.read(state, "b3")) == pytest.approx(0.9999)


@pytest.mark.parametrize("wrong", [(0.0, 0.9, 5), (0.9, 1.0, 5), (0.9, 0.99, 0)])
def test_a_half_life_is_that_of_a_rate_between_0_and_1(wrong):
    with pytest.raises(ValueError, match="half_life"):
        adaptx.schedules.half_life(*wrong)
