"""Unusual but rightful uses: batches inside wrappers and routes, odd trees, checkpoints of every kind of state."""

import copy
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import adaptx
from adaptx import controllers as c

P = {"layer": {"w": jnp.arange(1.0, 7.0).reshape(2, 3), "b": jnp.ones(3)}}
A, S = adaptx.adam, adaptx.sgd
ROUTE = {"m": A(storage="int8", storage_exclude=0), "r": S(c.ldog()), "f": adaptx.freeze()}
OPTIMIZERS = {
    "controller": A(c.prodigy()),
    "packed": A(layout="packed", rounding="kahan"),
    "shield": adaptx.shield(adaptx.averaged(adaptx.adafactor())),
    "schedule_free": adaptx.schedule_free(A(b1=0.0, storage="bf16", storage_exclude=0)),
    "trac": adaptx.trac(adaptx.grokfast(A())),
    "horizons": adaptx.averaged(A(), None, horizon=(10, 100)),
    "route": adaptx.lookahead(adaptx.route(ROUTE, by={"w": "m", "b$": "r"}, max_norm=1.0, skip_nonfinite=True)),
}
BATCHES = {
    "averaged": lambda x: adaptx.averaged(A(x)),
    "decay": lambda x: adaptx.averaged(A(0.1), x),
    "schedule_free": lambda x: adaptx.schedule_free(S(x)),
    "shield": lambda x: adaptx.shield(S(0.1), factor=x),
    "grokfast": lambda x: adaptx.grokfast(S(0.1), alpha=x),
    "trac": lambda x: adaptx.trac(S(x), s_init=0.1),
    "horizons": lambda x: adaptx.averaged(S(0.1), {"short": x, "long": 0.9}),
    "route": lambda x: adaptx.route({"a": A(x), "b": S(0.1)}, by={"w": "a"}, default="b", max_norm=0.5),
}


def steps(opt, p, count=2):
    state = opt.init(p)
    for _ in range(count):
        p, state = opt.step(p, state, p, value=jnp.float32(1.0))
    return p, state


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_of_wrappers_and_routes(name):
    """One number that is an array makes a batch of everything, wherever it stands."""
    train = jax.jit(lambda opt: steps(opt, P)[0])
    many = jax.vmap(train)(BATCHES[name](jnp.array([0.1, 0.4])))
    for i, x in enumerate((0.1, 0.4)):
        one = train(BATCHES[name](x))
        chex.assert_trees_all_close(jax.tree.map(lambda a, i=i: a[i], many), one, rtol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_and_optimizers_travel(name, tmp_path):
    """Through pickle, copies and orbax; the next step is the same."""
    opt = OPTIMIZERS[name]
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), P) if name == "packed" else P
    p, state = steps(opt, params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "it", state)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "it", jax.tree.map(ocp.utils.to_shape_dtype_struct, state))
    same = pickle.loads(pickle.dumps(opt))
    assert same == opt == copy.deepcopy(opt)
    assert hash(same) == hash(opt)
    assert repr(same) == repr(opt)
    want = opt.step(params, state, p, value=jnp.float32(1.0))
    numpy = jax.tree.map(np.asarray, state)
    for one in (restored, pickle.loads(pickle.dumps(state)), copy.deepcopy(state), numpy):
        chex.assert_trees_all_equal(same.step(params, one, p, value=jnp.float32(1.0)), want)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_float_is_a_parameter(name):
    """A Python float trains as the f32 scalar it becomes, and is counted as that."""
    opt = OPTIMIZERS[name] if name != "route" else adaptx.route({"a": A()}, by=lambda path, p: "a")
    got, _ = opt.step(1.0, opt.init(1.0), 1.0, value=1.0)
    want, _ = opt.step(1.0, opt.init(jnp.float32(1)), jnp.float32(1), value=1.0)
    assert float(got) == float(want)
    assert opt.state_bytes(1.0) == opt.state_bytes(jnp.float32(1))
    assert opt.describe(1.0) == opt.describe(jnp.float32(1))


@pytest.mark.parametrize("opt", [A(max_norm=1.0), S(0.1), A(c.prodigy())], ids=["clipped", "plain", "measured"])
def test_an_axis_name_with_and_without_measurements(opt):
    """What is constant has nothing to add over the axis, and steps all the same."""
    halves = jax.tree.map(lambda x: jnp.stack([x, x]), P)
    there = opt.replace(axis_name="data")
    got = jax.vmap(lambda p: steps(there, p)[0], axis_name="data")(halves)
    chex.assert_trees_all_equal_shapes(got, halves)
    chex.assert_tree_all_finite(got)


@pytest.mark.parametrize(
    "make", [c.dog, c.ldog, c.dadapt, c.prodigy, c.mechanic, c.hypergradient], ids=lambda f: f.__name__
)
def test_derivatives_of_a_training_are_finite(make):
    """Of the distance from the start, which is 0 at first, and of the norm of a gradient of zeros."""
    start, opt = {"w": jnp.array([1.0, -2.0]), "none": jnp.zeros(2)}, S(make())
    lengths = lambda p: sum(jnp.sum(x * x) for x in jax.tree.leaves(p))  # noqa: E731
    got = jax.jit(jax.grad(lambda p: lengths(steps(opt, p)[0])))(start)
    chex.assert_tree_all_finite(got)
