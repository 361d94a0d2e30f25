"""Muon and its kin beyond the contracts: where products are bf16, which leaves are theirs, how kernels are seen."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx.orthogonal import orthonormal, over_norm
from probes import assert_close

SAME = 1e-6  # f32, one step in two programs
BF16 = 0.05  # five iterations of products with 8 bits
P = {
    "embed": {"table": jnp.ones((6, 4))},
    "wpe": jnp.ones((5, 4)),
    "blocks": [{"query": {"kernel": jnp.ones((4, 4)), "bias": jnp.zeros(4)}, "norm": {"scale": jnp.ones((1, 4))}}],
    "multi_head_attention": {"w": jnp.ones((4, 4))},
    "lm_head": {"kernel": jnp.ones((4, 6))},
    "head": jnp.ones((4, 3)),
    "temperature": jnp.ones(()),
}
HIDDEN = {"blocks/0/query/kernel", "multi_head_attention/w"}
ROUTED = (adaptx.muon, adaptx.normuon, adaptx.dion)


def uniform(shape, seed: int = 0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, shape), jnp.float32)


def dots(opt, p, platform: str) -> tuple[int, int]:
    """(matrix products, those of bf16 operands) of a step lowered for a platform."""
    traced = jax.jit(opt.step).trace(p, jax.eval_shape(opt.init, p), p)
    found = re.findall(r"dot_general.*", traced.lower(lowering_platforms=(platform,)).as_text())
    return len(found), sum("xbf16>, tensor" in line for line in found)


@pytest.mark.parametrize("make", [adaptx.muon, adaptx.normuon, adaptx.scion])
def test_bf16_products_where_they_are_fast(make):
    p = {"w": jnp.ones((4, 6))}
    for platform, share in (("cpu", 0), ("cuda", 1), ("rocm", 1), ("tpu", 1)):
        every, narrow = dots(make(), p, platform)
        assert every >= 15
        assert narrow == share * every, platform
        assert dots(make(precision="full"), p, platform)[1] == 0
    with jax.enable_x64(True):
        assert dots(make(), {"w": jnp.ones((4, 6), jnp.float64)}, "cuda")[1] == 0


def test_one_choice_of_products_for_each_platform_of_an_export():
    opt, p = adaptx.muon(), {"w": jnp.ones((4, 6))}
    exported = jax.export.export(jax.jit(opt.step), platforms=["cpu", "cuda"])(p, opt.init(p), p)
    assert_close(exported.call(p, opt.init(p), p)[0], jax.jit(opt.step)(p, opt.init(p), p)[0], SAME)


def test_bf16_products_are_near(monkeypatch):
    g = {"w": uniform((16, 24))}
    step = lambda opt: opt.step(g, opt.init(g), g)[0]["w"] - g["w"]  # noqa: E731
    full = step(adaptx.muon(1.0))
    monkeypatch.setattr(adaptx.orthogonal, "product", adaptx.orthogonal.product_of_bf16)
    assert 0 < np.max(np.abs(step(adaptx.muon(1.0, decay=0.9500001)) - full)) < BF16


@pytest.mark.parametrize("make", ROUTED)
def test_what_is_no_hidden_matrix_is_adamws(make):
    opt = make(0.1)
    rows = opt.costs(adaptx.engine.tree.take_apart(P))
    assert {row.path for row in rows if row.group == make.__name__} == HIDDEN
    assert all(row.group in (make.__name__, "adamw") for row in rows)
    got, _ = opt.step(P, opt.init(P), P)
    rest = adaptx.adamw(3e-4, b2=0.95, eps=1e-10, weight_decay=0.0)
    alone, _ = rest.step(P, rest.init(P), P)
    for path in (("embed", "table"), ("wpe",), ("lm_head", "kernel"), ("head",), ("temperature",)):
        a, b = got, alone
        for key in path:
            a, b = a[key], b[key]
        assert_close(a, b, SAME)
    plain = make(0.1, adamw=False)
    w = P["multi_head_attention"]
    assert_close(got["multi_head_attention"], plain.step(w, plain.init(w), w)[0], SAME)


@pytest.mark.parametrize("hidden", ["lm_head|query/kernel", lambda path, leaf: leaf.ndim == 2 and "head" in path])
def test_who_says_otherwise_is_obeyed(hidden):
    rows = adaptx.muon(hidden=hidden).costs(adaptx.engine.tree.take_apart(P))
    want = {"lm_head/kernel", "blocks/0/query/kernel"} if isinstance(hidden, str) else {
        "lm_head/kernel", "head", "multi_head_attention/w",
    }  # fmt: skip
    assert {row.path for row in rows if row.group == "muon"} == want


def test_options_go_where_they_belong():
    opt = adaptx.muon(storage="bf16", weight_decay=0.1, max_norm=1.0, adamw={"learning_rate": 1e-3, "b2": 0.99})
    assert opt.options.max_norm == 1.0
    assert opt.groups["muon"].options.weight_decay == 0.1
    rest = opt.groups["adamw"]
    assert (rest.learning_rate, rest.options.weight_decay, rest.options.storage) == (1e-3, None, "bf16")
    assert adaptx.muon(adamw={"storage": "f32"}, storage="int8").groups["adamw"].options.storage == "f32"
    assert "adamw" in opt.describe(P)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: adaptx.muon(adamw=True), ["mapping", "False", "True"]),
        (lambda: adaptx.muon(adamw=False, hidden="w"), ["adamw=False", "hidden="]),
        (lambda: adaptx.muon(hidden=3), ["regex or a function", "int"]),
        (lambda: adaptx.muon(hidden="("), ["no regex"]),
        (lambda: adaptx.muon(adamw={"beta": 1}), ["adamw()", "beta"]),
        (lambda: adaptx.muon(hidden="kernal").init(P), ["hidden: the pattern 'kernal' matches none"]),
        (lambda: adaptx.muon(hidden=lambda path: True), ["hidden", "(path, leaf)"]),
        (
            lambda: adaptx.muon(hidden=lambda path, p: "muon").init(P),
            ["blocks/0/norm/scale", "True or False", "'muon'"],
        ),
        (lambda: adaptx.muon(adamw={"max_norm": 1.0}), ["whole tree", "muon(max_norm=…)"]),
        (lambda: adaptx.muon().replace(learning_rate=0.1), ["opt.replace(muon=opt.groups['muon'].replace("]),
        (lambda: adaptx.adam_mini_by_name(head_size=0), ["head_size", "≥ 1"]),
        (lambda: adaptx.adam_mini_by_name(by={"w": "head"}), ["head_size=None", "give their size"]),
        (lambda: adaptx.route({"a": adaptx.adam()}, {"": "a"}, shared_patterns="x"), ["shared_patterns", "lr_scale"]),
        (lambda: adaptx.dion(rank_fraction=0.0), ["rank_fraction", "(0, 1]", "0.0"]),
    ],
)
def test_what_is_wrong_is_said(wrong, words):
    with pytest.raises((TypeError, ValueError)) as error:
        wrong()
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize("make", [*ROUTED, adaptx.scion])
def test_kernels_are_the_matrices_they_are_seen_as(make):
    g = uniform((6, 2, 3, 4))
    rule = {"adamw": False} if make in ROUTED else {}
    moved = {}
    for view, output, matrix in (
        ("first", "rows", lambda x: x.reshape(6, 24)),
        ("last", "columns", lambda x: x.reshape(36, 4).T),
        ("last", "rows", lambda x: x.reshape(36, 4)),
        ("batch", "columns", lambda x: jnp.swapaxes(x, -1, -2)),
    ):
        kernel, flat = make(0.1, view=view, output=output, **rule), make(0.1, output="rows", **rule)
        if view == "batch":
            want = jnp.stack([jnp.stack([flat.step(y, flat.init(y), y)[0] for y in x]) for x in matrix(g)])
        else:
            want = flat.step(matrix(g), flat.init(matrix(g)), matrix(g))[0]
        moved[view, output] = kernel.step(g, kernel.init(g), g)[0]
        assert_close(matrix(moved[view, output]), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 32), (32, 8)])
def test_matrices_are_x_w_unless_told_otherwise(shape):
    """Inputs by outputs, as Flax, Haiku, plain JAX and optax have them; a first step is free of optax's corrections."""
    g = uniform(shape)
    theirs = optax.contrib.muon(0.1)
    want, _ = theirs.update({"w": g}, theirs.init({"w": g}), {"w": g})
    moved, _ = adaptx.muon(0.1).update({"w": g}, adaptx.muon(0.1).init({"w": g}), {"w": g})
    assert_close(moved["w"], want["w"], rtol=1e-3, atol=1e-4)
    for make in (*ROUTED, adaptx.scion):
        rule = {"adamw": False} if make in ROUTED else {}
        mine, turned = make(0.01, **rule), make(0.01, output="rows", **rule)
        other = turned.step(g.T, turned.init(g.T), g.T)[0].T
        assert_close(mine.step(g, mine.init(g), g)[0], other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("make", "count"), [(adaptx.muon, 15), (adaptx.normuon, 15), (adaptx.dion, 10)])
def test_what_slots_and_step_need_is_computed_once(make, count):
    opt, p = make(), {"w": jnp.ones((4, 6))}
    text = jax.jit(opt.step).lower(p, opt.init(p), p).compile().as_text()
    assert len(re.findall(r" dot\(", text)) == count


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_basis_is_orthonormal_and_spans_what_it_should(scale):
    x = np.asarray(uniform((9, 4)), np.float64) * np.array([1.0, 1e-2, 1e2, 1.0])
    q = np.asarray(orthonormal(jnp.asarray(scale * x, jnp.float32)), np.float64)
    want = np.linalg.qr(x)[0]
    np.testing.assert_allclose(q.T @ q, np.eye(4), atol=2e-6)
    np.testing.assert_allclose(q @ q.T, want @ want.T, atol=2e-5)


@pytest.mark.parametrize("x", [jnp.zeros((5, 3)), jnp.ones((5, 3)), jnp.eye(5, 3) * jnp.array([1.0, 0.0, 1.0])])
def test_a_basis_of_fewer_directions_is_finite(x):
    q = orthonormal(x)
    assert np.all(np.isfinite(q))
    assert np.max(np.linalg.norm(q, axis=0)) < 1 + 1e-4


def test_dion_waits_where_there_is_no_gradient():
    opt, p = adaptx.dion(0.1, adamw=False), {"w": uniform((4, 3))}
    state = opt.init(p)
    still, after = opt.step(jax.tree.map(jnp.zeros_like, p), state, p)
    assert_close(still, p, 0.0)
    assert_close(after.slots, state.slots, 0.0)


def test_scion_stays_in_its_ball():
    """With a learning rate of 1 the constrained form is its step: −ρ lmo(g)."""
    g = {"b": uniform((7,))}
    opt = adaptx.scion(1.0, decay=0.0, radius=3.0)
    p, _ = opt.step(g, opt.init(g), g)
    assert np.sqrt(np.mean(np.square(p["b"]))) == pytest.approx(3.0, rel=1e-5)


@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-20, 1.0, 1e30])
@pytest.mark.parametrize("eps", [0.0, 1e-8, 1e3])
def test_over_norm_at_the_ends_of_the_range(size, eps):
    x = size * np.array([[3.0, -4.0]])
    want = np.zeros((1, 2)) if size + eps == 0 else x / (5 * size + eps)
    np.testing.assert_allclose(over_norm(jnp.asarray(x, jnp.float32), eps), want, rtol=1e-5, atol=1e-37)
