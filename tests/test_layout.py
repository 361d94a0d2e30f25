"""Layouts: stacked leaves and packed models give the numbers of single leaves, to the last bits of f32."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import rules
from adaptx.engine.optimizer import build
from adaptx.engine.packing import LAYOUTS
from adaptx.engine.rounding import POLICIES
from adaptx.engine.storage import NAMES
from adaptx.optimizers import ALL
from adaptx.rules.sgd import Sgd
from adaptx.values import value_class
from cases import CORE, DEFAULTS, LATER, Case
from given import given

SHAPES = {"a": (4, 3), "b": (4, 3), "c": (5,), "d": (5,), "e": (4, 3), "f": (), "g": (2, 0), "h": (5,)}
POINTWISE = [c.name for c in DEFAULTS if c.pointwise]  # others are refused, see below
OPTIONS = {
    "plain": {},
    "masked": {"weight_decay": 0.1, "decay_mask": "^[abc]$", "lr_scale": {"a": 0.5, "d": 3.0}},
    "measured": {"max_norm": 0.1, "telemetry": True, "skip_nonfinite": True},
}
EVERY = {**OPTIONS["masked"], **OPTIONS["measured"], "decay_mode": "independent"}


def trees(seed, dtypes=None):
    values = np.random.default_rng(seed)
    dtypes = dtypes or {}
    return {k: jnp.asarray(values.normal(size=s), dtypes.get(k, jnp.float32)) for k, s in SHAPES.items()}


def train(opt, params, steps=4):
    state = opt.init(params)
    step = jax.jit(opt.step)
    dtypes = {k: p.dtype for k, p in params.items()}
    for t in range(steps):
        params, state = step(trees(t + 1, dtypes), state, params, value=1.0)
    return params, state


ULPS = 1e-6  # the compiler contracts and vectorizes loops of other lengths otherwise: an ulp or two a step


def assert_equal(a, b):
    for k in a:
        np.testing.assert_allclose(np.float32(a[k]), np.float32(b[k]), rtol=ULPS, atol=ULPS / 4, err_msg=k)


@pytest.mark.parametrize(
    ("name", "options"),
    [*(pytest.param(name, EVERY, id=name, marks=() if name in CORE else LATER) for name in POINTWISE),
     *(pytest.param("adam", some, id=f"adam-{what}") for what, some in OPTIONS.items())],
)  # fmt: skip
def test_packed_is_leafwise(name, options):
    """Every rule with all options at once, adam with each of them too."""
    leaf, _ = train(given(ALL[name](0.05, **options)), trees(0))
    joined, state = train(given(ALL[name](0.05, layout="packed", **options)), trees(0))
    assert_equal(leaf, joined)
    for slot in state.slots.values():
        assert all(label.startswith("float32[") for label in slot)


@pytest.mark.parametrize("rounding", ["nearest", "kahan", "master"])
def test_joined_is_leafwise_over_roundings_of_mixed_dtypes(rounding):
    start = trees(0, {"b": jnp.bfloat16, "c": jnp.bfloat16, "d": jnp.bfloat16})
    leaf, _ = train(adaptx.adam(0.05, rounding=rounding), start)
    stacked, _ = train(adaptx.adam(0.05, rounding=rounding, layout="packed"), start)
    assert_equal(leaf, stacked)


@pytest.mark.parametrize("storage", ["bf16", "int8"])
def test_joined_slots_are_stored_narrow(storage):
    opt = adaptx.adam(0.05, storage=storage, storage_exclude=0, layout="packed")
    params, state = train(opt, trees(0))
    assert all(np.all(np.isfinite(np.asarray(p))) for p in params.values())
    assert {x.dtype.name for x in jax.tree.leaves(state.slots)} <= {"uint32", "uint16", "float32"}
    again, same = train(opt, trees(0))
    assert_equal(params, again)
    assert jax.tree.structure(state) == jax.tree.structure(same)


def test_whether_a_leaf_is_small_is_decided_by_the_leaf_and_not_its_stack():
    start = {f"l{i}": jnp.ones((64, 32)) for i in range(4)}  # 2,048 elements each, 8,192 together
    state = adaptx.adam(storage="int8", layout="packed").init(start)
    assert {x.dtype.name for x in jax.tree.leaves(state.slots)} == {"float32"}


def test_controllers_of_global_scope_may_be_joined():
    leaf, _ = train(adaptx.adam(adaptx.controllers.prodigy(d0=1e-3)), trees(0))
    stacked, state = train(adaptx.adam(adaptx.controllers.prodigy(d0=1e-3), layout="packed"), trees(0))
    for k in leaf:
        np.testing.assert_allclose(leaf[k], stacked[k], rtol=1e-5, atol=1e-6)  # sums in another order
    assert set(state.control.marks["x0"]) == set(state.slots["m"])


STORED = [(s, r) for s in NAMES for r in POLICIES]
# adam in every pair; the other rules, of which neither a layout nor a rounding knows anything, in turn
TYPED = [
    # of "leaf", the contracts look at every pair of dtypes too
    pytest.param(
        c,
        layout,
        pairs,
        id=f"{c.name}-{layout}",
        marks=() if layout == "packed" and c.constructor in CORE else pytest.mark.slow,
    )
    for i, c in enumerate(DEFAULTS)
    for layout in LAYOUTS
    for pairs in [STORED if c.name == "adam" else [STORED[i % 12], STORED[(i + 5) % 12]]]
    if layout == "leaf" or c.name in POINTWISE
]


@pytest.mark.parametrize(("c", "layout", "pairs"), TYPED)
def test_types_hold_in_every_storage_and_rounding(c: Case, layout, pairs):
    dtypes = {"b": jnp.bfloat16, "d": jnp.float16, "e": jnp.bfloat16}
    for storage, rounding in pairs:
        opt = c.build(0.05, storage=storage, rounding=rounding, layout=layout)

        def two(opt=opt):
            params, grads = c.fit((trees(0, dtypes), trees(1)))
            state = opt.init(params)
            scanned, _ = jax.lax.scan(lambda c, _: (opt.step(grads, c[1], c[0]), None), (params, state), length=2)
            return (params, state), scanned, opt.step(grads, state, params)

        first, scanned, stepped = jax.eval_shape(two)
        assert first == scanned == stepped, (storage, rounding)


@value_class
class Normalized(Sgd):
    """A rule that looks at the whole array."""

    pointwise = False

    def direction(self, g, s, old, p, k):
        return g / jnp.sqrt(jnp.sum(g * g))


@pytest.mark.parametrize(
    ("opt", "words"),
    [
        (lambda: build("own", Normalized(), 0.1, {"layout": "packed"}), ["element by element", "normalized", "leaf"]),
        (lambda: adaptx.sgd(adaptx.controllers.ldog(), layout="packed"), ["scope='leaf'", "dog"]),
    ],
)
def test_what_cannot_be_stacked_is_refused(opt, words):
    with pytest.raises(ValueError, match="layout='packed'") as caught:
        opt().init(trees(0))
    assert all(word in str(caught.value) for word in words)


def test_an_unknown_layout_and_a_missing_gradient_are_refused():
    with pytest.raises(ValueError, match="layout must be one of 'leaf', 'packed', got 'flat'"):
        adaptx.adam(layout="flat")
    opt = adaptx.adam(layout="packed")
    with pytest.raises(ValueError, match=r"needs a gradient for every leaf.*'b'"):
        opt.step({**trees(1), "b": None}, opt.init(trees(0)), trees(0))
    with pytest.raises(ValueError, match="expected the joined arrays of layout='packed'"):
        opt.step(trees(1), adaptx.adam().init(trees(0)), trees(0))


@pytest.mark.parametrize("name", [x if x in CORE else pytest.param(x, marks=LATER) for x in POINTWISE])
def test_a_packed_model_trains_as_its_tree(name):
    start = trees(0)
    flat, unpack = adaptx.pack(start)
    assert flat.shape == (sum(p.size for p in start.values()),)
    assert_equal(unpack(flat), start)
    target = trees(9)

    def loss(params):
        return sum(jnp.sum((params[k] - target[k]) ** 2) for k in params)

    opt = given(ALL[name](0.05))
    params, state, flat_state = start, opt.init(start), opt.init(flat)
    for _ in range(3):
        params, state = opt.step(jax.grad(loss)(params), state, params)
        flat, flat_state = opt.step(jax.grad(lambda f: loss(unpack(f)))(flat), flat_state, flat)
    assert_equal(unpack(flat), params)


def test_packing_keeps_dtypes_apart_and_other_leaves_as_they_are():
    start = {**trees(0, {"b": jnp.bfloat16, "f": jnp.bfloat16}), "n": None, "i": 3}
    flat, unpack = adaptx.pack(start)
    assert {k: v.dtype.name for k, v in flat.items()} == {"float32": "float32", "bfloat16": "bfloat16"}
    back = unpack(flat)
    assert back["n"] is None
    assert back["i"] == 3
    assert {k: back[k].dtype for k in SHAPES} == {k: start[k].dtype for k in SHAPES}


def test_every_registered_rule_says_whether_it_is_pointwise():
    assert all(isinstance(rule.pointwise, bool) for rule in rules.ALL.values())
    assert dataclasses.is_dataclass(Normalized)
