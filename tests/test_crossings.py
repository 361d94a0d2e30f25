"""Two features at once: skipped steps in wrappers, schedules of decay rates, scales and controllers, a mesh's parts."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import controllers
from adaptx.base import Rule, Weighed
from adaptx.engine.optimizer import build
from adaptx.values import value_class
from cases import slots_of
from probes import assert_close, assert_identical

ONCE = 1e-6  # f32 rounding of one program fused in two ways
P = {"w": jnp.linspace(-1, 1, 12).reshape(4, 3), "b": jnp.linspace(0.5, 1, 3)}
G = jax.tree.map(lambda p: jnp.cos(3 * p), P)
NAN = {**G, "b": G["b"].at[1].set(jnp.nan)}


def trained(opt, params=P, grads=G, steps: int = 3):
    """(parameters, state) after steps of one gradient."""
    state, step = opt.init(params), jax.jit(opt.step)
    for _ in range(steps):
        params, state = step(grads, state, params, value=1.0)
    return params, state


# wrappers

GUARDED = adaptx.adam(0.05, b1=0.0, skip_nonfinite=True)
WRAPPED = {
    "averaged": adaptx.averaged(GUARDED, 0.9),
    "polynomial": adaptx.averaged(GUARDED, None, 8.0),
    "lookahead": adaptx.lookahead(GUARDED, k=2),
    "schedule_free": adaptx.schedule_free(GUARDED),
    "nested": adaptx.averaged(adaptx.lookahead(GUARDED, k=2), 0.9),
    "routed": adaptx.averaged(
        adaptx.route({"a": adaptx.adam(0.05), "b": adaptx.sgd(0.1)}, {"w": "a", "b": "b"}, skip_nonfinite=True), 0.9
    ),
    "optax": adaptx.averaged(optax.apply_if_finite(optax.adam(0.05), 5), 0.9),
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("fused", [True, False], ids=["step", "update"])
def test_a_skipped_step_moves_nothing_at_any_depth(name: str, fused: bool):
    opt = WRAPPED[name]
    params, state = trained(opt)
    if fused:
        after, skipped = opt.step(NAN, state, params)
    else:
        updates, skipped = opt.update(NAN, state, params)
        after = optax.apply_updates(params, updates)
    assert_identical(after, params)
    while hasattr(state, "iterates"):
        assert_identical((skipped.iterates, skipped.scalars), (state.iterates, state.scalars))
        state, skipped = state.inner, skipped.inner


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16], ids=["f32", "f16"])
def test_a_shield_hands_out_no_update_that_overflows(dtype):
    """Back from parameters that run to the largest number: the difference is twice that, and would be inf."""
    opt = adaptx.shield(adaptx.sgd(0.1), block=2)
    top = jnp.finfo(dtype).max
    params = {"w": jnp.full(3, -top, dtype)}
    state = opt.init(params)
    far = {"w": jnp.full(3, top, dtype)}
    updates, _ = opt.update({"w": jnp.full(3, jnp.nan, dtype)}, state, far, value=jnp.nan)
    assert np.all(np.isfinite(np.asarray(updates["w"], np.float64)))
    assert np.all(np.isfinite(np.asarray(far["w"] + updates["w"], np.float64)))


def test_eval_params_finds_the_wrapper_wherever_its_state_lies():
    """In a chain, in MultiSteps, in a shield; of nested ones the outermost; of a partition leaf by leaf."""
    opt = adaptx.averaged(adaptx.adam(0.1), 0.5)
    params, state = trained(opt)
    want = adaptx.eval_params(opt, state, params)
    assert not np.allclose(want["w"], params["w"], rtol=1e-3)
    chain = optax.chain(optax.identity(), opt)
    assert_identical(adaptx.eval_params(chain, (optax.EmptyState(), state), params), want)
    multi = optax.MultiSteps(opt, 2)
    assert_identical(adaptx.eval_params(multi, multi.init(params)._replace(inner_opt_state=state), params), want)
    shielded = adaptx.shield(opt)
    assert_identical(adaptx.eval_params(shielded, shielded.init(params)._replace(inner=state), params), want)
    nested = adaptx.averaged(adaptx.lookahead(adaptx.adam(0.1), k=2), 0.5)
    params, state = trained(nested)
    outer = jax.tree.map(jnp.asarray, state.iterates["average"])
    assert_identical(adaptx.eval_params(nested, state, params), outer)
    parts = optax.partition({"a": opt, "b": optax.sgd(0.1)}, {"w": "a", "b": "b"})
    state = parts.init(P)
    _, state = parts.update(G, state, P)
    got = adaptx.eval_params(parts, state, P)
    assert_identical(got["b"], P["b"])
    assert not np.array_equal(got["w"], P["w"])


def test_a_state_of_another_wrapper_is_refused():
    one, other = adaptx.averaged(GUARDED, 0.9), adaptx.averaged(GUARDED, None, 8.0)
    with pytest.raises(ValueError, match=r"belongs to averaged, .* averaged_polynomial"):
        other.step(G, one.init(P), P)


# numbers of a step

B1 = (0.9, 0.5, 0.0)


def test_a_schedule_of_a_decay_rate_is_that_rate_at_every_step():
    """Step t uses b1(t), t = 0 first, shown as the rate it is; and the same from an optimizer made anew each step."""
    opt = adaptx.adam(0.1, b1=lambda t: jnp.asarray(B1)[t], weight_decay=lambda t: 0.1 * t, debias=False)
    params, state = P, opt.init(P)
    other, apart = P, adaptx.adam(0.1, b1=0.9, debias=False, weight_decay=0.1).init(P)
    for t, b1 in enumerate(B1):
        params, state = opt.step(G, state, params)
        fixed = adaptx.adam(0.1, b1=b1, debias=False, weight_decay=0.1 * t)
        other, apart = fixed.step(G, apart, other)
        assert_close(params, other, rtol=ONCE, atol=ONCE)
        assert float(adaptx.read(state, "b1")) == pytest.approx(b1, abs=ONCE)
        assert float(adaptx.read(state, "weight_decay")) == pytest.approx(0.1 * t)


def test_a_scheduled_clip_uses_the_bound_of_this_step():
    opt = adaptx.sgd(1.0, max_norm=lambda t: 1.0 + t, telemetry="update_norm")
    params, state = P, opt.init(P)
    for t in range(2):
        params, state = opt.step(G, state, params)
        assert float(adaptx.read(state, "update_norm")) == pytest.approx(1.0 + t, rel=1e-5)


def test_equal_optimizers_hash_alike_whatever_the_sign_of_zero():
    for one, other in (
        (adaptx.adam(0.1, eps=-0.0), adaptx.adam(0.1, eps=0.0)),
        (adaptx.adam(jnp.float32(-0.0)), adaptx.adam(jnp.float32(0.0))),
    ):
        assert one == other
        assert hash(one) == hash(other)


def test_replace_is_the_constructor_with_that_argument():
    opt = adaptx.adamw(0.1, b1=0.8, weight_decay=0.3, storage={"m": "bf16"}, lr_scale={"w": 0.5}, max_norm=1.0)
    assert opt.replace() == opt
    assert opt.replace(b1=0.7, learning_rate=0.2, max_norm=None) == adaptx.adamw(
        0.2, b1=0.7, weight_decay=0.3, storage={"m": "bf16"}, lr_scale={"w": 0.5}
    )
    assert opt.replace(weight_decay=0.0).options.weight_decay is None
    lars = adaptx.lars(0.1)
    assert lars.replace(learning_rate=0.5).controller.base == 0.5
    assert type(lars.replace(learning_rate=0.5).controller) is type(lars.controller)
    with pytest.raises(TypeError, match="b3"):
        opt.replace(b3=0.1)


# scales and controllers


@pytest.mark.parametrize("name", ["constant", "prodigy"])
def test_a_scale_multiplies_the_displacement_and_nothing_else(name: str):
    """The first step of a leaf with half a scale is half as long, whatever the controller and the rule's slots."""
    rate = {"constant": 0.1, "prodigy": controllers.prodigy(d0=1e-2)}[name]
    found = {}
    for scale in (1.0, 0.5):
        opt = adaptx.adam(rate, lr_scale={"w": scale}, weight_decay=0.1)
        params, state = trained(opt, steps=1)
        found[scale] = jax.tree.map(jnp.subtract, params, P), state.slots
    assert_close(found[0.5][0]["w"], 0.5 * found[1.0][0]["w"], rtol=1e-4, atol=1e-9)
    assert_close(found[0.5][0]["b"], found[1.0][0]["b"], rtol=1e-4, atol=1e-9)
    assert_close(found[0.5][1], found[1.0][1], rtol=ONCE)


def test_metrics_are_no_part_of_what_a_state_is():
    """Telemetry may be switched on and off between steps: the norms come and go, the state goes on."""
    plain, observed = adaptx.adam(0.1), adaptx.adam(0.1, telemetry=True, max_norm=1e9)
    params, state = trained(plain)
    want = plain.step(G, state, params)
    got, after = observed.step(G, state, params)
    assert_close((got, after.slots), (want[0], want[1].slots), rtol=ONCE)
    assert {"grad_norm", "update_norm", "param_norm", "learning_rate"} == set(after.metrics)
    assert set(plain.step(G, after, got)[1].metrics) == {"learning_rate"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: adaptx.rmsprop(0.1).step(G, adaptx.adagrad().init(P), P), ["adagrad", "rmsprop"]),
        (lambda: adaptx.momentum(0.1).step(G, adaptx.rmsprop().init(P), P), ["rmsprop", "momentum"]),
        (lambda: adaptx.lion(0.1).step(G, adaptx.muon(adamw=False).init({"w": P["w"]}), P), ["muon", "lion"]),
        (
            lambda: adaptx.adam(controllers.dowg()).step(G, adaptx.adam(controllers.dog()).init(P), P),
            ["adam and dog,", "adam and dowg"],
        ),
    ],
)
def test_a_state_of_another_rule_or_controller_is_refused(make, words):
    with pytest.raises(ValueError, match="state belongs to") as caught:
        make()
    assert all(word in str(caught.value) for word in words), str(caught.value)


# slots with a shape of their own


@pytest.mark.parametrize("storage", ["bf16", "int8"])
def test_slots_of_their_own_shape_are_stored_and_read(storage: str):
    """Adafactor's rows and columns, coded, stay near those in f32, and beside them a mean like the parameter."""
    p = {"w": jnp.ones((40, 300))}
    g = {"w": jnp.cos(jnp.arange(12000.0)).reshape(40, 300) + 1.5}
    found = {}
    for kind in ("f32", storage):
        opt = adaptx.adafactor(0.01, b1=0.9, storage=kind, storage_exclude=0)
        params, state = trained(opt, p, g)
        found[kind] = params, slots_of(opt, state, p)[0]
    level = {"bf16": 2.0**-6, "int8": 0.3}[storage]  # a few roundings of a code
    rows, exact = found[storage][1], found["f32"][1]
    assert {k: x.shape for k, x in rows.items()} == {"r": (40,), "q": (300,), "m": (40, 300)}
    for name in ("r", "q"):
        np.testing.assert_allclose(rows[name], exact[name], rtol=level)
        assert np.mean(rows[name]) == pytest.approx(float(np.mean(exact[name])), rel=level / 4)
    np.testing.assert_allclose(np.mean(found[storage][0]["w"]), np.mean(found["f32"][0]["w"]), atol=2e-3)


class Mean(NamedTuple):
    m: Weighed  # mean of normalized rows


@value_class
class Rows(Rule):
    """A rule whose slots see whole rows."""

    Slots = Mean
    pointwise = False

    def advance(self, g, s, p, k):
        assert g.shape == (8, 300)
        return Mean(0.5 * s.m + 0.5 * g / jnp.sqrt(jnp.sum(g * g, -1, keepdims=True)))

    def foreseeable(self, whole):
        return True

    def direction(self, g, s, old, p, k):
        return s.m


@pytest.mark.parametrize("storage", ["bf16", "int8"])
@pytest.mark.parametrize("rule", [Rows(), adaptx.rules.Muon()], ids=["rows", "muon"])
def test_a_rule_that_looks_at_matrices_sees_the_matrix(rule: Rule, storage: str):
    """With coded slots 300 columns are two blocks in memory, and one matrix to the rule."""
    p = jnp.zeros((8, 300))
    g = jnp.cos(jnp.arange(2400.0) ** 1.5).reshape(8, 300)
    moves = []
    for kind in ("f32", storage):
        opt = build("own", rule, 1.0, {"storage": kind, "storage_exclude": 0})
        moves.append(np.asarray(trained(opt, p, g, 1)[0]))
    cosine = np.vdot(*moves) / np.prod([np.linalg.norm(x) for x in moves])
    assert cosine > (0.99 if storage == "int8" else 0.9999)


# parts of a mesh


def test_parts_along_a_named_axis_are_summed():
    """Halves of every array along a mapped axis, with its name: the norms and the controller's sums of the whole."""
    whole = {"w": jnp.linspace(-1, 1, 24).reshape(8, 3)}
    grads = {"w": jnp.cos(5 * whole["w"])}
    make = partial(adaptx.adam, controllers.prodigy(d0=1e-2), max_norm=0.5, telemetry=True)
    want, state = trained(make(), whole, grads)
    halves = jax.tree.map(lambda x: x.reshape(2, 4, 3), (whole, grads))

    def part(p, g):
        opt = make(axis_name="halves")
        state = opt.init(p)
        for _ in range(3):
            p, state = opt.step(g, state, p)
        return p, state.metrics

    got, shown = jax.vmap(part, axis_name="halves")(*halves)
    assert_close(got["w"].reshape(8, 3), want["w"], rtol=1e-4, atol=1e-6)
    for name, value in state.metrics.items():
        np.testing.assert_allclose(shown[name], np.full(2, value), rtol=1e-4, err_msg=name)
