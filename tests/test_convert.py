"""States carried over: the next step is the one the old optimizer would have made, and what is made up is said."""

import re
import warnings
from contextlib import nullcontext

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import controllers
from cases import THINNED, Case

PARAMS = {"w": jnp.linspace(-1, 1, 64 * 32).reshape(64, 32), "n": jnp.linspace(0.5, 2, 512, dtype=jnp.bfloat16)}
adam, route, freeze = adaptx.adam, adaptx.route, adaptx.freeze
BOTH = {"w": "one", "n": "two"}


def gradients(n: int):
    return jax.tree.map(lambda p: jnp.cos(3 * p.astype(jnp.float32) + n).astype(p.dtype), PARAMS)


def advance(opt, state, params, first: int = 0, steps: int = 4):
    extra = {"value": jnp.asarray(1.0)} if opt.requires else {}
    for n in range(first, first + steps):
        params, state = opt.step(gradients(n), state, params, **extra)
    return params, state


def carried(old, new, words: str | None = None):
    """(parameters, old's state, what it becomes for new); words: what the warning says, None for no warning."""
    params, state = advance(old, old.init(PARAMS), PARAMS)
    with nullcontext() if words is None else pytest.warns(UserWarning, match=words):
        out = adaptx.convert(state, old, new, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(out, new.init(params))
    return params, state, out


def assert_same_step(old, new, words: str | None = None, rtol: float = 0.0, atol: float = 0.0):
    params, before, after = carried(old, new, words)
    one, two = (advance(opt, s, params, 4, 1)[0] for opt, s in ((old, before), (new, after)))
    chex.assert_trees_all_close(one, two, rtol=rtol, atol=atol)


@pytest.mark.parametrize("c", THINNED)
def test_a_state_goes_on_in_every_storage_and_comes_back(c: Case):
    """Through a narrow storage and back, a slot is what the storage keeps of it."""
    params = c.fit({"w": PARAMS["w"]})
    grads = c.fit({"w": gradients(0)["w"]})
    wide = c.build(0.01)
    params, state = wide.step(grads, wide.init(params), params)
    for storage, most in (("bf16", 0.01), ("int8", 0.25)):
        narrow = c.build(0.01, storage=storage)
        there = jax.jit(lambda s, p, narrow=narrow: adaptx.convert(s, wide, narrow, p))(state, params)
        back = jax.jit(lambda s, p, narrow=narrow: adaptx.convert(s, narrow, wide, p))(there, params)
        for a, b in zip(jax.tree.leaves(state.slots), jax.tree.leaves(back.slots), strict=True):
            assert float(jnp.max(jnp.abs(a - b))) <= most * float(jnp.max(jnp.abs(a)))
        chex.assert_trees_all_equal(back.step, state.step)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (adam(), adam(layout="packed")),
        (adam(layout="packed"), adam()),
        (adam(), adam(max_norm=1e9, telemetry=True, skip_nonfinite=True)),
        (adam(rounding="master"), adam(rounding="master", layout="packed")),
        (adam(controllers.plateau(1e-3)), adam(controllers.plateau(1e-3), layout="packed")),
        (adam(), route({"one": adam(), "two": adam()}, by=BOTH)),
        (route({"one": adam(), "two": adam()}, by=BOTH), adam()),
        (route({"one": adam(), "two": adam()}, by=BOTH), route({"two": adam(), "one": adam()}, by=BOTH)),
        (adaptx.averaged(adam()), adaptx.averaged(adam(layout="packed"))),
    ],
    ids=range(9),
)
def test_the_next_step_is_the_same(old, new):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same_step(old, new, rtol=1e-5, atol=1e-7)


def test_a_master_goes_on_as_a_compensation():
    """The sum of parameter and compensation is the master, as finely as 16 bits tell."""
    params, state, out = carried(adam(rounding="master"), adam(rounding="kahan"))
    fine = params["n"].astype(jnp.float32) + out.kept["compensation"]["n"].astype(jnp.float32)
    np.testing.assert_allclose(fine, state.kept["master"]["n"], rtol=2.0**-16)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (adam(), adam(controllers.plateau(1e-3)), "made up what plateau keeps"),
        (
            adam(controllers.hypergradient(1e-3)),
            adam(),
            "left behind what hypergradient_multiplicative kept, whose last rate was 0",
        ),
        (adam(), adam(controllers.prodigy()), "made up what prodigy keeps.*made up the slots, fresh"),
        (adam(), adam(amsgrad=True), "made up the slots 'h', fresh"),
        (adam(amsgrad=True), adam(), "left behind the slots 'h'"),
        (adam(), adaptx.lion(), "made up the slots, fresh"),
        (adam(), adaptx.averaged(adam()), "made up the iterates of averaged"),
        (adaptx.lookahead(adam()), adam(), "left behind the iterates of lookahead"),
        (freeze(), adam(), "made up the slots, fresh"),
    ],
    ids=range(9),
)
def test_what_is_made_up_is_said(old, new, words):
    carried(old, new, words)


def test_slots_that_are_made_up_count_steps_anew():
    """The first step after a change of rule is that of a fresh state; schedules go on."""
    old, new = adam(), adaptx.lion(lambda step: 0.1 * step)
    params, _, state = carried(old, new, "fresh")
    assert int(state.step) == int(state.born) == 4
    fresh, _ = adaptx.lion(0.4).step(gradients(4), adaptx.lion(0.4).init(params), params)
    chex.assert_trees_all_close(advance(new, state, params, 4, 1)[0], fresh, rtol=1e-6)


def test_thawing_leaves_the_others_alone():
    old = route({"one": adam(), "two": freeze()}, by=BOTH)
    new = route({"one": adam(), "two": adam(0.1)}, by=BOTH)
    params, before, after = carried(old, new, "made up the slots of group 'two', fresh")
    chex.assert_trees_all_equal(before.groups["one"], after.groups["one"])
    moved, _ = advance(new, after, params, 4, 1)
    alone = adam(0.1)
    first, _ = alone.step(gradients(4), alone.init(params), params)
    chex.assert_trees_all_equal(moved["n"], first["n"])
    chex.assert_trees_all_equal(moved["w"], advance(old, before, params, 4, 1)[0]["w"])


def test_what_cannot_be_carried_is_refused():
    opt = adam()
    params, state = advance(opt, opt.init(PARAMS), PARAMS)
    old = route({"one": adam(), "two": freeze()}, by=BOTH)
    routed = advance(old, old.init(PARAMS), PARAMS)[1]
    for arguments, error, words in (
        ((state, adaptx.lion(), opt, params), ValueError, "state is that of adam, but old is lion"),
        ((state, opt, adam, params), TypeError, "two adaptx optimizers"),
        (({}, opt, adam(storage="bf16"), params), TypeError, "state must be the State"),
        ((routed, opt, adam(storage="bf16"), params), TypeError, "pass that route as `old`"),
        ((state, adaptx.averaged(opt), opt, params), TypeError, "averaged"),
        ((routed, old, old.replace(by={"": "one"}), params), ValueError, "'n' is new there.*a group of their own"),
    ):
        with pytest.raises(error, match=re.compile(words)):
            adaptx.convert(*arguments)


FACTORED = "the slots L, QL, QR, R, m, v in the state, but L, QL, m, v under soap"
OTHER_FORMS = [
    (adaptx.soap(), {"block_size": 2}, "slot 'L' of parameter 'w' has shape (3, 3) in the state, but (2, 2, 2, 2)"),
    (adaptx.soap(), {"one_sided": True}, FACTORED),
    (adaptx.soap(), {"max_dim": 3}, FACTORED),
    (adaptx.soap(one_sided=True), {"one_sided": False}, "the slots L, QL, m, v in the state, but L, QL, QR, R, m, v"),
    (adaptx.psgd_kron(), {"memory_save_mode": "all_diag"}, "slot 'QL' of parameter 'w' has shape (3, 3)"),
    (adaptx.galore(rank=2), {"rank": 1}, "slot 'm' of parameter 'w' has shape (2, 4) in the state, but (1, 4)"),
]


NORMUON, DION = adaptx.normuon(adamw=False), adaptx.dion(adamw=False)
OTHER_MEANINGS = [
    (adaptx.shampoo(), {"graft": "adagrad"}, "slot 'v' of shampoo is a mean of squares in the state, but a sum"),
    (adaptx.shampoo(graft="adagrad"), {"graft": "rmsprop"}, "slot 'v' of shampoo is a sum of squares in the state"),
    (adaptx.shampoo(b2=None), {"b2": 0.9}, "slot 'L' of shampoo is a sum of products in the state, but a mean"),
    (adaptx.shampoo(), {"start": 2}, "slot 'PL' of shampoo is inverse roots from step 10 on in the state"),
    (adaptx.shampoo(graft="sgd"), {"graft": "adam"}, "slot 'v' of shampoo would be new"),
    (adaptx.shampoo(b1=None), {"b1": 0.9}, "slot 'm' of shampoo would be new"),
    (adaptx.rmsprop(debias=True), {"centered": True}, "slot 'a' of rmsprop would be new"),
    (NORMUON, {"output": "rows"}, "slot 'v' of normuon is mean squares of neurons along output='columns'"),
    (DION, {"output": "rows"}, "slot 'Q' of dion is columns of the side output='columns'"),
    (adaptx.adam_mini(axis=0), {"axis": 1}, "slot 'v' of adam_mini is mean squares of blocks along axis=0, size=1"),
    (adaptx.ema(0.9, debias=False), {"start": "first"}, "slot 'm' of average is an average with start='zero'"),
]


@pytest.mark.parametrize(("old", "change", "words"), OTHER_MEANINGS)
def test_slots_that_mean_something_else_are_refused(old, change, words):
    """Though they are of one shape: the length of the next step would be another one, without a word."""
    p = {"w": jnp.ones((3, 3))}
    with pytest.raises(ValueError, match=re.escape(words)):
        adaptx.convert(old.init(p), old, old.replace(**change), p)


def test_slots_of_another_rule_are_no_slots_of_this_one():
    """Of equal names and equal ages: a group that was new when it was converted for the first time."""
    p, by = {"w": jnp.ones((4, 4)), "b": jnp.ones(4)}, {"w": "w", "b": "b"}
    one = route({"w": adaptx.lion(0.1), "b": adaptx.sgd(0.1)}, by)
    two, three = one.replace(b=adam(0.1)), adam(0.1)
    q, state = p, one.init(p)
    for _ in range(3):
        q, state = one.step(p, state, q)
    with pytest.warns(UserWarning, match="made up"):
        state = adaptx.convert(state, one, two, q)
    with pytest.warns(UserWarning, match="made up the slots, fresh"):
        state = adaptx.convert(state, two, three, q)
    assert not any(np.any(x) for x in jax.tree.leaves(state.slots))
    assert int(state.born) == int(state.step)


@pytest.mark.parametrize(("old", "change", "words"), OTHER_FORMS)
def test_slots_of_other_forms_are_refused(old, change, words):
    """Another shape, or without the basis that a second moment lies in."""
    p = {"w": jnp.ones((3, 4))}
    with pytest.raises(ValueError, match=re.escape(words)):
        adaptx.convert(old.init(p), old, old.replace(**change), p)
