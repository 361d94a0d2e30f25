"""Routes: every leaf moves as its optimizer moves it, and what decides over the whole tree decides once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import controllers
from probes import assert_close, assert_identical, avals

ONCE = 1e-6  # f32 rounding of one step in two programs
P = {
    "block": {"kernel": jnp.linspace(-1, 1, 12).reshape(4, 3), "bias": jnp.linspace(0.5, 1, 3)},
    "embed": jnp.linspace(1, 2, 8).reshape(4, 2),
    "old": jnp.linspace(-2, 2, 5),
}
G = jax.tree.map(lambda p: jnp.cos(3 * p), P)
BY = {"embed": "rest", "^old$": "frozen", "kernel$": "hidden", "e": "none of the groups"}  # 'e' stands in all but two
HIDDEN, REST = adaptx.muon(0.1, weight_decay=0.5, adamw=False), adaptx.adam(lambda t: 0.01 * (t + 1.0), storage="bf16")


def routed(**whole) -> adaptx.engine.route.Route:
    """Two optimizers and frozen leaves."""
    groups = {"hidden": HIDDEN, "rest": REST, "frozen": adaptx.freeze()}
    return adaptx.route(groups, by={k: v for k, v in BY.items() if v in groups}, default="rest", **whole)


def trained(opt, params=P, grads=G, steps: int = 2):
    """(parameters, state) after steps of one gradient."""
    state = opt.init(params)
    for _ in range(steps):
        params, state = opt.step(grads, state, params)
    return params, state


def alone():
    """What the route must give: each leaf under its own optimizer, by itself."""
    kernel, _ = trained(HIDDEN, P["block"]["kernel"], G["block"]["kernel"])
    rest = {"bias": P["block"]["bias"], "embed": P["embed"]}
    moved, _ = trained(REST, rest, {"bias": G["block"]["bias"], "embed": G["embed"]})
    return {"block": {"kernel": kernel, "bias": moved["bias"]}, "embed": moved["embed"], "old": P["old"]}


def test_every_leaf_moves_as_its_optimizer_moves_it():
    got, state = trained(routed())
    assert_close(got, alone(), rtol=ONCE)
    assert_identical(got["old"], P["old"])
    assert set(state.groups) == {"hidden", "rest"}
    assert int(state.step) == int(state.groups["rest"].step) == 2
    assert state.groups["hidden"].slots["m"]["embed"] is None


def test_update_is_step_and_types_hold():
    opt = routed(max_norm=1.0, telemetry=True, skip_nonfinite=True)
    state = opt.init(P)
    updates, by_update = opt.update(G, state, P)
    params, by_step = jax.jit(opt.step)(G, state, P)
    assert_close(jax.tree.map(jnp.add, P, updates), params, rtol=ONCE, atol=ONCE)  # five matrix products each
    assert not np.any(updates["old"])
    assert avals(by_update) == avals(by_step) == avals(state)


def test_the_first_pattern_that_matches_counts():
    swapped = adaptx.route({"a": adaptx.sgd(1.0), "b": adaptx.sgd(0.0)}, by={"kernel": "a", "block": "b"}, default="b")
    got, _ = trained(swapped, steps=1)
    assert_close(got["block"]["kernel"], P["block"]["kernel"] - G["block"]["kernel"], rtol=ONCE)
    assert_identical(got["block"]["bias"], P["block"]["bias"])


@pytest.mark.parametrize("by", ["function", "tree"])
def test_groups_by_function_and_by_tree(by: str):
    def function(path, p):
        return "frozen" if path == "old" else "hidden" if path.endswith("kernel") else None

    tree = {"block": {"kernel": "hidden", "bias": None}, "embed": None, "old": "frozen"}
    groups = {"hidden": HIDDEN, "rest": REST, "frozen": adaptx.freeze()}
    got, _ = trained(adaptx.route(groups, by=function if by == "function" else tree, default="rest"))
    assert_close(got, alone(), rtol=ONCE)


def test_clipping_is_by_the_norm_of_what_the_whole_route_trains():
    """One factor for both groups; frozen leaves, whose gradients move nothing, do not count."""
    groups = {"hidden": adaptx.sgd(1.0), "rest": adaptx.sgd(0.5), "frozen": adaptx.freeze()}
    by = {"kernel$": "hidden", "^old$": "frozen"}
    got, state = trained(adaptx.route(groups, by, default="rest", max_norm=0.5), steps=1)
    norm = jnp.sqrt(sum(jnp.sum(g**2) for k, g in jax.tree_util.tree_leaves_with_path(G) if "old" not in str(k)))
    kernel = P["block"]["kernel"] - 0.5 / norm * G["block"]["kernel"]
    embed = P["embed"] - 0.5 * 0.5 / norm * G["embed"]
    assert_close(got["block"]["kernel"], kernel, rtol=1e-5, atol=ONCE)
    assert_close(got["embed"], embed, rtol=1e-5, atol=ONCE)
    assert float(adaptx.read(state, "grad_norm")) == pytest.approx(float(norm), rel=ONCE)


def test_metrics_are_named_by_group():
    """Also where one group alone has a name."""
    groups = {"a": adaptx.adam(controllers.prodigy()), "b": adaptx.sgd()}
    _, state = trained(adaptx.route(groups, {"kernel": "a"}, default="b"), steps=1)
    assert set(adaptx.metrics(state)) == {"a/learning_rate", "a/d", "b/learning_rate"}
    _, state = trained(routed(max_norm=1.0))
    shown = adaptx.metrics(state)
    assert set(shown) == {"grad_norm", "hidden/learning_rate", "rest/learning_rate"}
    assert float(shown["rest/learning_rate"]) == pytest.approx(0.02)
    assert float(adaptx.read(state, "hidden/learning_rate")) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="hidden/learning_rate, rest/learning_rate"):
        adaptx.read(state, "learning_rate")


def test_a_bad_gradient_anywhere_skips_every_group():
    opt = routed(skip_nonfinite=True)
    p, state = trained(opt)
    bad = {**G, "embed": G["embed"].at[0, 0].set(jnp.nan)}
    after, skipped = opt.step(bad, state, p)
    assert_identical(after, p)
    assert_identical([s._replace(metrics={}) for s in skipped.groups.values()],
                     [s._replace(metrics={}) for s in state.groups.values()])  # fmt: skip
    assert int(skipped.step) == 2
    assert float(adaptx.read(skipped, "skipped")) == 1


def test_leaves_of_different_groups_draw_different_bits():
    groups = {name: adaptx.sgd(1e-3, rounding="stochastic") for name in "ab"}
    p = {name: jnp.ones(256, jnp.bfloat16) for name in groups}
    opt = adaptx.route(groups, {name: name for name in groups})
    moved, _ = opt.step(jax.tree.map(lambda x: jnp.ones(x.shape), p), opt.init(p), p)
    assert not np.array_equal(np.float32(moved["a"]), np.float32(moved["b"]))


def test_routes_inside_routes():
    inner = adaptx.route({"hidden": HIDDEN, "rest": REST}, by={"kernel$": "hidden"}, default="rest")
    outer = adaptx.route({"model": inner, "frozen": adaptx.freeze()}, by={"^old$": "frozen"}, default="model")
    got, state = trained(outer)
    assert_close(got, alone(), rtol=ONCE)
    assert set(adaptx.metrics(state)) == {"model/hidden/learning_rate", "model/rest/learning_rate"}
    outmost = adaptx.route({"all": outer}, by={}, default="all")
    got, state = trained(outmost)
    assert_close(got, alone(), rtol=ONCE)
    assert set(adaptx.metrics(state)) == {"all/model/hidden/learning_rate", "all/model/rest/learning_rate"}
    assert [row.group for row in outer.costs(adaptx.engine.tree.take_apart(P))] == [
        "model/rest", "model/hidden", "model/rest", "frozen",
    ]  # fmt: skip


def test_replace_gives_a_group_another_optimizer_and_keeps_the_rest():
    opt = routed(max_norm=1.0).replace(hidden=HIDDEN.replace(learning_rate=0.2), max_norm=None)
    assert opt == adaptx.route(
        {"hidden": adaptx.muon(0.2, weight_decay=0.5, adamw=False), "rest": REST, "frozen": adaptx.freeze()},
        by={"embed": "rest", "^old$": "frozen", "kernel$": "hidden"}, default="rest",
    )  # fmt: skip
    assert opt.options.max_norm is None
    assert routed(max_norm=1.0).replace(hidden=HIDDEN) == routed(max_norm=1.0)


def test_shared_patterns_hold_in_routes_inside():
    """A pattern for a leaf of one group, given to all groups of a route inside, where the outer route shares it."""
    scaled = {"lr_scale": {"^block/bias$": 0.1}}
    a, b = adaptx.adamw(1e-3, **scaled), adaptx.sgd(1e-2, **scaled)
    inner = adaptx.route({"m": a, "r": b}, {"kernel": "m"}, "r")
    outer = adaptx.route({"in": inner, "out": adaptx.freeze()}, {"embed": "out"}, "in", ["lr_scale"])
    row = {row.path: row for row in outer.costs(adaptx.engine.tree.take_apart(P))}["block/bias"]
    assert row.group == "in/r"
    trained(outer)


@pytest.mark.parametrize("names", [("lr_scale", "decay_mask"), ["decay_mask", "lr_scale"], {"decay_mask", "lr_scale"}])
def test_shared_patterns_are_in_one_order(names):
    assert adaptx.route({"a": REST}, {}, "a", names).shared_patterns == ("decay_mask", "lr_scale")


SHARES = ["shared_patterns must be names of options", "write shared_patterns=['lr_scale']"]
REFUSED = {
    **{
        f"shared_patterns is {kind}": (lambda x=x: adaptx.route({"a": REST}, {}, "a", x), SHARES)
        for kind, x in {
            "None": None,
            "a number": 3,
            "a list in a list": [["lr_scale"]],
            "a name": "lr_scale",
            "an iterator": map(str, ["lr_scale"]),
        }.items()
    },
    "no group": (lambda: adaptx.route({"a": REST}, by={"embed": "a"}).init(P), ["'block/bias'", "has no group", "'a'"]),
    "a group that is none": (lambda: adaptx.route({"a": REST}, by=lambda path, p: "b").init(P), ["sent to 'b'", "'a'"]),
    "a default that is none": (lambda: adaptx.route({"a": REST}, by={}, default="b"), ["default='b'", "'a'"]),
    "clipping in a group": (
        lambda: adaptx.route({"a": REST.replace(max_norm=1.0)}, by={}, default="a"),
        ["'a'", "max_norm=1.0", "whole tree", "route"],
    ),
    "another route's state": (
        lambda: routed().step(G, adaptx.route({"a": REST}, by={}, default="a").init(P), P),
        ["groups 'a'", "'hidden'", "init(params)"],
    ),
    "an optimizer's state": (lambda: routed().step(G, REST.init(P), P), ["route", "that of adam"]),
    "a vector for muon": (
        lambda: adaptx.route({"a": HIDDEN}, by={}, default="a").init(P),
        ["muon", "'block/bias'", "(3,)", "2 to 5 axes"],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence(name: str):
    do, words = REFUSED[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        do()
    assert [w for w in words if w not in str(caught.value)] == [], str(caught.value)
