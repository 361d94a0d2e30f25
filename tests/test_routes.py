"""Routes: who goes where, what stays still, what is decided over the whole tree; other people's routing; shards."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_close, assert_trees_all_equal

import adaptx
from adaptx import controllers as c
from devices import run_on_devices
from steps import extra, stepped

P = {"a": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}, "head": jnp.ones((3, 2))}
G = jax.tree.map(lambda x: jnp.full_like(x, 0.5), P)
ONE, TWO = adaptx.sgd(1.0), adaptx.sgd(2.0)  # leave 0.5 and 0.0
FLAT = {"w": jnp.ones(2), "b": jnp.ones(2), "wb": jnp.ones(2)}

WAYS = {  # by, default -> what is left of a/b, a/w, head
    "regex": ({"^a/": "x", "head": "y"}, None, (0.5, 0.5, 0.0)),
    "function": (lambda path, leaf: "x" if leaf.ndim == 2 else "y", None, (0.0, 0.5, 0.5)),
    "tree": ({"a": {"w": "x", "b": "y"}, "head": "x"}, None, (0.0, 0.5, 0.5)),
    "branches": ({"a": "x", "head": "y"}, None, (0.5, 0.5, 0.0)),  # as patterns, "a" would match head too
    "default": ({"head": "y"}, "x", (0.5, 0.5, 0.0)),
    "tree with a default": ({"a": {"w": "x", "b": None}, "head": None}, "y", (0.0, 0.5, 0.0)),
    "function with a default": (lambda path, leaf: None if "b" in path else "x", "y", (0.0, 0.5, 0.5)),
}


def updated(opt, grads, params):
    """(parameters, state) after updates that are added."""
    update = jax.jit(lambda g, s, p: opt.update(g, s, p, **extra(opt) if hasattr(opt, "requires") else {}))
    state = opt.init(params)
    for g in grads:
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("name", WAYS)
def test_who_goes_where(name):
    by, default, left = WAYS[name]
    opt = adaptx.route({"x": ONE, "y": TWO}, by=by, default=default)
    for run in (stepped, updated):
        q, _ = run(opt, [G], P)
        assert_trees_all_equal(q, jax.tree.map(jnp.full_like, P, jax.tree.unflatten(jax.tree.structure(P), left)))
    assert all(group in opt.describe(P) for group in ("x", "y"))


def test_a_flat_tree_of_names_is_a_tree():
    opt = adaptx.route({"a": ONE, "b": TWO}, by={"w": "a", "b": "b", "wb": "b"})
    q, _ = stepped(opt, [FLAT], FLAT)
    assert_trees_all_equal(q, {"w": jnp.zeros(2), "b": -jnp.ones(2), "wb": -jnp.ones(2)})
    patterns = adaptx.route({"a": ONE, "b": TWO}, by={"w": "a", "b": "b"})
    q, _ = stepped(patterns, [FLAT], FLAT)
    assert_trees_all_equal(q, {"w": jnp.zeros(2), "b": -jnp.ones(2), "wb": jnp.zeros(2)})


@pytest.mark.parametrize(("by", "words"), [({"head": "y"}, "'a/b' has no group"), (lambda *_: "q", "is sent to 'q'")])
def test_leaves_without_a_group_are_refused(by, words):
    with pytest.raises(ValueError, match=words):
        adaptx.route({"x": ONE, "y": TWO}, by=by).init(P)


def test_a_route_inside_a_route():
    inner = adaptx.route({"x": adaptx.adam(1.0), "y": TWO}, by={"w$": "x"}, default="y")
    opt = adaptx.route({"in": inner, "out": adaptx.sgd(3.0)}, by={"^a": "in"}, default="out", max_norm=1.0)
    q, state = stepped(opt, [G], P)
    clip = 1 / (0.5 * 15**0.5)
    want = {"a": {"w": jnp.zeros((2, 3)), "b": jnp.full(3, 1 - clip)}, "head": jnp.full((3, 2), 1 - 1.5 * clip)}
    assert_trees_all_close(q, want, rtol=1e-5, atol=1e-6)
    assert set(adaptx.metrics(state)) == {"grad_norm", *(f"{x}/learning_rate" for x in ("in/x", "in/y", "out"))}
    assert float(adaptx.read(state, "out/learning_rate")) == 3


@pytest.mark.parametrize("mode", ["decoupled", "l2", "independent"])
def test_a_frozen_leaf_never_moves_and_costs_nothing(mode):
    trained = adaptx.adamw(0.1, weight_decay=0.1, decay_mode=mode)
    opt = adaptx.route({"t": trained, "f": adaptx.freeze()}, by={"head": "f"}, default="t", max_norm=10.0)
    for run in (stepped, updated):
        q, state = run(opt, [G, G], P)
        assert_trees_all_equal(q["head"], P["head"])
        assert not any(x.shape == (3, 2) for x in jax.tree.leaves(state))
        alone, _ = run(trained, [G["a"], G["a"]], P["a"])
        assert_trees_all_close(q["a"], alone, rtol=1e-6)


WHOLE = adaptx.route(
    {"x": ONE, "y": adaptx.adam(1.0)}, by={"head": "y"}, default="x", max_norm=0.5, skip_nonfinite=True, telemetry=True
)


def test_clipping_and_skipping_are_decided_over_the_whole_tree():
    q, state = stepped(WHOLE, [G], P)
    assert float(adaptx.read(state, "grad_norm")) == pytest.approx(0.5 * 15**0.5)
    np.testing.assert_allclose(q["a"]["b"], 1 - 0.5 / 15**0.5, rtol=1e-5)
    bad = {**G, "head": G["head"].at[0, 0].set(jnp.nan)}
    same, after = stepped(WHOLE, [bad], q, state)
    assert_trees_all_equal(same, q)
    assert_trees_all_equal(after.groups["y"].slots, state.groups["y"].slots)
    assert adaptx.read(after, "skipped") == 1
    assert adaptx.read(after, "step") == 1


WRAPS = {
    "averaged": adaptx.averaged,
    "lookahead": adaptx.lookahead,
    "shield": adaptx.shield,
    "schedule_free": lambda opt: adaptx.schedule_free(opt.replace(y=adaptx.adam(1.0, b1=0.0)), learning_rate=1.0),
}


@pytest.mark.parametrize("name", WRAPS)
def test_wrappers_around_a_route(name):
    opt = WRAPS[name](WHOLE)
    p, state = stepped(opt, [G, G], P)
    same, after = stepped(opt, [jax.tree.map(lambda x: x * jnp.nan, G)], p, state)
    assert_trees_all_equal(same, p)
    assert_trees_all_equal(adaptx.eval_params(opt, after, same), adaptx.eval_params(opt, state, p))
    assert adaptx.read(after, "skipped") == 1
    assert np.all(p["head"] < 1)


def test_multi_steps_around_a_route():
    q, _ = updated(optax.MultiSteps(WHOLE, 2), [G] * 4, P)
    assert_trees_all_close(q, updated(WHOLE, [G] * 2, P)[0], rtol=1e-6)


@pytest.mark.parametrize("combine", [optax.partition, optax.multi_transform])
def test_two_optimizers_in_optax_partition(combine):
    kinds = {
        "p": adaptx.adam(0.1, storage="bf16", storage_exclude=0, max_norm=1.0),
        "q": adaptx.adam(c.prodigy(d0=0.1)),
    }
    q, state = updated(combine(kinds, {"a": "p", "head": "q"}), [G, G], P)
    alone = [updated(kinds["q"], [G["head"]] * 2, P["head"])[0], updated(kinds["p"], [G["a"]] * 2, P["a"])[0]]
    assert_trees_all_close(q["head"], alone[0], rtol=1e-5)
    assert_trees_all_close(q["a"], alone[1], atol=0.01)
    assert float(adaptx.read(state, "p/learning_rate")) == pytest.approx(0.1)


SHARDS = """
import jax, jax.numpy as jnp, numpy as np, adaptx
from jax.sharding import Mesh, PartitionSpec as S
from adaptx import controllers as c

mesh = Mesh(np.array(jax.devices()), ("d",))
p = {"w": jnp.sin(jnp.arange(24.0)).reshape(8, 3), "b": jnp.linspace(0.1, 0.5, 4)}
g, spec = jax.tree.map(jnp.cos, p), {"w": S("d"), "b": S()}

def train(opt):
    def run(p):
        s = opt.init(p)
        for _ in range(3):
            p, s = opt.step(g_of(p), s, p, **({"value": jnp.float32(1)} if opt.requires else {}))
        return p, adaptx.metrics(s)
    return run

g_of = lambda p: jax.tree.map(jnp.cos, p)

def split(opt):
    mapped = jax.shard_map(train(opt), mesh=mesh, in_specs=(spec,), out_specs=(spec, S()))
    return jax.block_until_ready(jax.jit(mapped)(p))

def route(rate, **k):
    return adaptx.route({"x": adaptx.adam(rate), "y": adaptx.sgd(0.1)}, by={"w": "x", "b": "y"}, **k)

whole = dict(max_norm=0.5, telemetry=True, skip_nonfinite=True)
names = "dog", "trust_ratio"
cases = {n: lambda n=n, **k: adaptx.adam(c.ALL[n](0.1), **whole, **k) for n in names}
cases["plain"] = lambda **k: adaptx.adam(0.1, **whole, **k)
cases["route"] = lambda **k: route(c.dog(), max_norm=0.5, **k)
cases["shield"] = lambda **k: adaptx.shield(adaptx.adam(0.1, **k))
for name, make in cases.items():
    want, got = jax.jit(train(make()))(p), split(make(axis_name="d"))
    for x, y in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-7, err_msg=name)
    try:
        split(make())
    except ValueError as error:
        assert "axis_name=('d',)" in str(error), error
    else:
        raise AssertionError(name + " was not refused")
split(adaptx.adam(0.1))  # needs no sums
print("equal and refused:", len(cases))
"""


@pytest.mark.multi
def test_inside_shard_map_sums_are_those_of_all_devices_or_refused():
    assert "equal and refused: 5" in run_on_devices(2, "-c", SHARDS)
