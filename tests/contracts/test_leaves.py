"""Leaves: splitting and merging, None, ints, keys, functions, empty and 0-d arrays, and every kind of tree."""

from typing import NamedTuple

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from cases import CASES, DEFAULTS, THINNED, Case, case, one_each, thinned
from probes import assert_close, assert_identical, avals

ONCE = 1e-6  # f32 rounding of one program fused in two ways
POINTWISE = [c for c in CASES if c.pointwise]


def three_steps(opt: adaptx.Optimizer, params, grads):
    """Parameters and state after three steps of one gradient, halved each time."""
    state = opt.init(params)
    step = jax.jit(opt.step)
    for t in range(3):
        params, state = step(jax.tree.map(lambda g, t=t: g * 0.5**t, grads), state, params)
    return params, state


@pytest.mark.parametrize("c", one_each(POINTWISE))
def test_split_leaves_are_the_merged_leaf(c: Case):
    """The declared `pointwise` cannot lie: one array, and the same array in three leaves, move alike."""
    rng = np.random.default_rng(5)
    p, g = (jnp.asarray(rng.uniform(-1, 1, (6, 4)), jnp.float32) for _ in range(2))
    g = g.at[:2].multiply(100.0)  # anything but pointwise would see this in the other parts

    def split(x):
        return {"a": x[:2], "b": x[2:3].reshape(2, 2), "c": x[3:].T}

    opt = c.build(0.1, weight_decay=0.01)
    whole, state = three_steps(opt, p, g)
    parts, states = three_steps(opt, split(p), split(g))
    assert_close(parts, split(whole), rtol=ONCE, atol=1e-8)
    for name, slot in states.slots.items():
        assert_close(slot, split(state.slots[name]), rtol=ONCE, atol=1e-8)


def test_a_stack_of_matrices_moves_as_the_matrices():
    """Axes before the last two are a batch of matrices, tall ones and wide ones."""
    rng = np.random.default_rng(6)
    for shape in ((3, 5, 2), (3, 2, 5)):
        p, g = (jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32) for _ in range(2))
        g = g * jnp.asarray([1.0, 100.0, 0.01])[:, None, None]
        stack, _ = three_steps(adaptx.muon(0.1, adamw=False), p, g)
        apart, _ = three_steps(adaptx.muon(0.1, adamw=False), list(p), list(g))
        assert_close(list(stack), apart, rtol=1e-4, atol=1e-5)  # roundings that the iteration amplifies


def odd_tree():
    """Parameters with every kind of leaf, and gradients for the float ones."""
    params = {
        "w": jnp.ones((2, 3)), "scalar": jnp.float32(2.0), "empty": jnp.zeros((0, 3)), "none": None, "count": 3,
        "ids": jnp.arange(4), "on": jnp.array([True, False]), "key": jax.random.key(0), "act": jax.nn.relu, "name": "x",
    }  # fmt: skip
    grads = {k: jnp.ones_like(p) if k in ("w", "scalar", "empty") else None for k, p in params.items()}
    return params, grads


EVERYTHING = {"weight_decay": 0.1, "max_norm": 1.0, "telemetry": True, "skip_nonfinite": True}


@pytest.mark.parametrize(
    ("c", "engine"),
    # decayed in either case: the first step of soap only looks
    thinned(
        [pytest.param(c, EVERYTHING if i % 2 else {"weight_decay": 0.1}, id=c.name) for i, c in enumerate(DEFAULTS)]
    ),
)
def test_other_leaves_are_carried_along(c: Case, engine: dict):
    params, grads = map(c.fit, odd_tree())
    opt = c.build(0.1, **engine)
    state = opt.init(params)
    for name, slot in state.slots.items():
        kept = {k for k, x in slot.items() if x is not None}
        assert kept <= {"w", "scalar", "empty"} if opt.rule.slots()[name].own else kept == {"w", "scalar", "empty"}
    fused, new = opt.step(grads, state, params)
    assert avals(new) == avals(state)
    for name in ("none", "count", "ids", "on", "key", "act", "name"):
        assert fused[name] is params[name]
    assert np.all(np.asarray(fused["w"]) < 1)
    assert np.all(np.asarray(fused["scalar"]) < 2)
    assert fused["empty"].shape == (0, 3)
    updates, _ = opt.update(grads, state, params)
    for name in ("none", "count", "act", "name"):
        assert updates[name] is None
    arrays = {k: params[k] for k in ("w", "scalar", "empty", "none", "ids")}
    applied = optax.apply_updates(arrays, {k: updates[k] for k in arrays})
    for name in ("w", "scalar", "empty"):
        np.testing.assert_allclose(applied[name], fused[name], rtol=ONCE)
    np.testing.assert_array_equal(applied["ids"], params["ids"])


@pytest.mark.parametrize("c", THINNED)
def test_none_only_in_gradients(c: Case):
    """A leaf or a subtree without gradient keeps its bits and its slots; integer leaves may have float0 gradients."""
    params = c.fit({"a": jnp.ones(3), "sub": {"b": jnp.ones(2), "c": jnp.ones(2)}, "n": jnp.arange(2)})
    ones = c.fit(jnp.ones(3))
    zero = np.zeros(2, jax.dtypes.float0)
    opt = c.build(0.1, weight_decay=0.1)
    state = opt.init(params)
    for without in ({"b": None, "c": None}, None):
        fused, new = opt.step({"a": ones, "sub": without, "n": zero}, state, params)
        assert_identical(fused["sub"], params["sub"])
        assert_identical({k: s["sub"] for k, s in new.slots.items()}, {k: s["sub"] for k, s in state.slots.items()})
        assert np.all(np.asarray(fused["a"]) < 1)
        updates, _ = opt.update({"a": ones, "sub": without, "n": zero}, state, params)
        assert not np.any(updates["sub"]["b"])


class Pair(NamedTuple):
    w: jax.Array
    b: jax.Array


@chex.dataclass
class Record:
    w: jax.Array
    b: jax.Array


@jax.tree_util.register_pytree_node_class
class Callable:
    """A custom node that can be called, which some libraries mistake for a mask function."""

    def __init__(self, w, b):
        self.w, self.b = w, b

    def __call__(self, x):
        return x @ self.w + self.b

    def tree_flatten(self):
        return (self.w, self.b), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)


class Module(eqx.Module):
    w: jax.Array
    b: jax.Array

    def __call__(self, x):
        return x @ self.w + self.b


KINDS = {
    "dict": lambda w, b: {"w": w, "b": b},
    "list": lambda w, b: [w, b],
    "tuple": lambda w, b: (w, (b,)),
    "namedtuple": Pair,
    "dataclass": lambda w, b: Record(w=w, b=b),
    "custom": Callable,
    "equinox": Module,
    "nested": lambda w, b: {"x": [Pair(w, b), None], "y": {}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tree(kind: str):
    w, b = jnp.ones((2, 3)), jnp.full(3, 2.0)
    params = KINDS[kind](w, b)
    grads = jax.tree.map(jnp.ones_like, params)
    opt = adaptx.adamw(0.1, decay_mask="matrices", telemetry=True)
    state = opt.init(params)
    fused, new = jax.jit(opt.step)(grads, state, params)
    assert type(fused) is type(params)
    assert jax.tree.structure(fused) == jax.tree.structure(params)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    other = adaptx.adamw(0.1, decay_mask=lambda path, x: x.ndim > 1)
    plain, _ = other.step(grads, other.init(params), params)
    assert_close(fused, plain, rtol=ONCE)


def test_a_bare_array_is_a_tree():
    x = jnp.ones(3)
    opt = adaptx.adam(0.1)
    assert opt.step(x, opt.init(x), x)[0].shape == (3,)
    assert opt.step(2.0, opt.init(1.0), 1.0)[0].shape == ()


@pytest.mark.parametrize("c", [case("adam"), case("adafactor")], ids=lambda c: c.name)
def test_equinox_mlp_unfiltered(c: Case):
    """A whole eqx.nn.MLP, its activation functions included, goes through init and step; the loss falls."""
    model = eqx.nn.MLP(2, 1, 8, 2, key=jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(6).uniform(-1, 1, (16, 2)), jnp.float32)

    def loss(m):
        return jnp.mean((jax.vmap(m)(x)[:, 0] - x[:, 0] * 0.5) ** 2)

    opt = c.build(0.01)
    state = opt.init(model)
    before = float(loss(model))
    grads = eqx.filter_grad(loss)
    for _ in range(10):
        model, state = opt.step(grads(model), state, model)
    assert callable(model.activation)
    assert float(loss(model)) < before


def test_numpy_leaves_and_python_floats():
    """Parameters straight from NumPy, float64 there, are trained in f32 without a warning."""
    params = {"a": np.ones(3), "b": 1.0, "c": np.float64(2.0), "d": np.ones(2, np.float16)}
    opt = adaptx.adam(0.1, telemetry=True)
    fused, state = opt.step(params, opt.init(params), params)
    updates, _ = opt.update(params, opt.init(params), params)
    for out in (fused, updates):
        assert {k: x.dtype for k, x in out.items()} == {"a": "float32", "b": "float32", "c": "float32", "d": "float16"}
    assert all(slot["d"].dtype == jnp.float32 for slot in state.slots.values())


def test_empty_tree():
    opt = adaptx.adam(0.1, max_norm=1.0, telemetry=True)
    for params in ({}, (), {"a": jnp.zeros((0, 2))}, {"a": jnp.zeros((0, 2)), "b": None}):
        fused, state = opt.step(params, opt.init(params), params)
        assert jax.tree.structure(fused) == jax.tree.structure(params)
        assert int(state.step) == 1
        assert float(adaptx.read(state, "grad_norm")) == 0
