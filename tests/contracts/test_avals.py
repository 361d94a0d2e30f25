"""Types: the state keeps its structure, shapes, dtypes and weak types; the stored dtype is the asked one; scan runs."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from cases import DTYPES, KINDS, PAIRS, STORAGES, STORED, THINNED, TURNS, Case, slots_of, thinned
from probes import avals

LIES_IN = {  # what slots of a parameter below f64 may lie in memory as
    "f32": {jnp.float32},
    "bf16": {jnp.uint32, jnp.uint16},  # a pair, a single
    "int8": {jnp.uint16, jnp.uint8, jnp.float32},  # a pair, a single, the bounds of blocks
}
FEW = [("bf16", "f32"), ("f32", "f16")]  # either side narrower; adam has all nine
EVERYTHING = {"weight_decay": 0.1, "max_norm": 1.0, "skip_nonfinite": True, "telemetry": True, "lr_scale": {"a": 0.5}}


def pair_tree(p: str, g: str) -> tuple[dict, dict]:
    """Parameters and gradients of one dtype each."""
    shapes = {"a": (2, 3), "b": (3,), "c": ()}
    return ({k: jax.ShapeDtypeStruct(s, DTYPES[p]) for k, s in shapes.items()},
            {k: jax.ShapeDtypeStruct(s, DTYPES[g]) for k, s in shapes.items()})  # fmt: skip


def mixed_tree() -> tuple[dict, dict]:
    """Nine leaves, one of each pair of dtypes."""
    values = np.random.default_rng(0).uniform(-1, 1, (len(PAIRS), 2, 5))
    start = {f"a{p}_{g}": jnp.asarray(v[0], DTYPES[p]) for (p, g), v in zip(PAIRS, values, strict=True)}
    grads = {f"a{p}_{g}": jnp.asarray(v[1], DTYPES[g]) for (p, g), v in zip(PAIRS, values, strict=True)}
    return start, grads


def one_of_each(opt: adaptx.Optimizer, params, grads):
    """State, updates, parameters and state after update and after step, and after a scan over two gradients."""
    state = opt.init(params)
    updates, by_update = opt.update(grads, state, params)
    fused, by_step = opt.step(grads, state, params)
    stacked = jax.tree.map(lambda g: jnp.stack([g, g]), grads)
    scanned, _ = jax.lax.scan(lambda c, g: (opt.step(g, c[1], c[0]), None), (params, state), stacked)
    return state, updates, by_update, fused, by_step, scanned


def check_types(params, out) -> None:
    """All of the contract about types, on the output of `one_of_each`."""
    state, updates, by_update, fused, by_step, scanned = out
    assert jax.tree.structure(by_update) == jax.tree.structure(by_step) == jax.tree.structure(state)
    assert avals(by_update) == avals(by_step) == avals(state)
    assert avals(updates) == avals(fused) == avals(params), "updates and parameters have the parameter's dtype"
    assert avals(scanned[0]) == avals(params)
    assert avals(scanned[1]) == avals(state)
    assert not any(weak for _, _, weak in avals(state).values()), "no weak type in a state"
    assert state.step.dtype == jnp.int32
    assert all(m.dtype == jnp.float32 and m.shape == () for m in state.metrics.values())


def check_stored(rule, state, storage: str) -> None:
    """The stored dtype is the one asked for, f32 where a slot is exact: stability is not correctness."""
    exact = {name for name, slot in rule.slots().items() if slot.exact}
    for path, x in jax.tree_util.tree_leaves_with_path(state.slots):
        allowed = LIES_IN["f32" if path[0].key in exact else storage]
        assert x.dtype.type in {np.dtype(t).type for t in allowed}, f"{jax.tree_util.keystr(path)}: {x.dtype}"


@pytest.mark.parametrize(("c", "storage"), thinned(STORED))
def test_types_of_every_pair(c: Case, storage: str):
    for p, g in PAIRS if c.name == "adam" else FEW:
        params, grads = map(c.fit, pair_tree(p, g))
        for more in ({}, EVERYTHING) if (c.name, p) == ("adam", "bf16") else (EVERYTHING,):
            opt = c.build(storage=storage, **more)
            out = jax.eval_shape(one_of_each, opt, params, grads)
            check_types(params, out)
            check_stored(opt.rule, out[0], storage)


@pytest.mark.parametrize(("c", "storage"), TURNS)
def test_mixed_tree_runs(c: Case, storage: str):
    """All nine pairs as leaves of one tree."""
    params, grads = map(c.fit, mixed_tree())
    opt = c.build(storage=storage)
    state = opt.init(params)
    fused, after = jax.jit(opt.step)(grads, state, params)
    assert avals(fused) == avals(params)
    assert avals(after) == avals(state)
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves((fused, after)))
    check_stored(opt.rule, after, storage)


def test_every_storage_says_its_dtype():
    assert set(LIES_IN) == set(STORAGES)


@pytest.mark.parametrize("c", THINNED)
def test_arithmetic_is_f32_below_f32(c: Case):
    """A bf16 parameter and gradient give the update that their f32 copies give, rounded once."""
    g = jnp.asarray(np.random.default_rng(1).uniform(-1, 1, 64), jnp.bfloat16)
    opt, history = c.build(), {}
    for dtype in (jnp.bfloat16, jnp.float32):
        p, grads = c.fit(jnp.full(64, 0.5, dtype)), c.fit(g.astype(dtype))
        state = opt.init(p)
        for _ in range(3):
            updates, state = opt.update(grads, state, p)
        history[dtype] = updates, state.slots
    np.testing.assert_array_equal(history[jnp.bfloat16][0], history[jnp.float32][0].astype(jnp.bfloat16))
    # two programs: a compiler may join a product and a sum in one of them alone
    chex.assert_trees_all_close(history[jnp.bfloat16][1], history[jnp.float32][1], rtol=3e-7)


def test_second_moment_moves_in_low_precision():
    """The 4,000 ones and 4,000 zeros that leave a nearest-rounded bf16 second moment stuck at half its value."""
    ones = jnp.ones(512, jnp.bfloat16)
    for storage in STORAGES:
        opt = adaptx.adam(1e-3, storage=storage, storage_exclude=0)

        def push(state, value, opt=opt):
            return jax.lax.scan(lambda s, _: (opt.update(ones * value, s, ones)[1], None), state, None, length=4000)[0]

        state = jax.jit(push)(opt.init(ones), 1.0)
        after = float(jnp.mean(slots_of(opt, state, ones)[0]["v"]))
        assert after == pytest.approx(1 - 0.999**4000, rel=0.02), storage
        state = jax.jit(push)(state, 0.0)
        after = float(jnp.mean(slots_of(opt, state, ones)[0]["v"]))
        # a block of 8-bit codes that is idle as a whole is clipped to a bound that decays with it
        close = 0.4 if storage == "int8" else 0.02
        assert after == pytest.approx((1 - 0.999**4000) * 0.999**4000, rel=close), storage


@pytest.mark.parametrize("c", thinned(KINDS))
def test_x64(c: Case, x64):
    """f64 parameters have f64 slots, whatever the gradients' dtype; f32 ones keep f32; scalars stay f32 and int32."""
    params = {"a64": jnp.ones(3, jnp.float64), "a32": jnp.ones(3, jnp.float32), "a16": jnp.ones(3, jnp.bfloat16)}
    params = c.fit(params)
    for dtype in (jnp.float64, jnp.float32, jnp.bfloat16):
        grads = jax.tree.map(lambda p, dtype=dtype: jnp.ones(p.shape, dtype), params)
        for more in ({}, EVERYTHING) if c.name == "adam" else (EVERYTHING,):
            out = jax.eval_shape(one_of_each, c.build(**more), params, grads)
            check_types(params, out)
            for slot in out[0].slots.values():
                kinds = {k: str(x.dtype) for k, x in slot.items() if x is not None}
                assert kinds.items() <= {"a64": "float64", "a32": "float32", "a16": "float32"}.items()


RATES = [1e-3, np.float32(1e-3), np.float64(1e-3), np.array(1e-3), jnp.float32(1e-3)]


@pytest.mark.parametrize("rate", RATES, ids=repr)
@pytest.mark.parametrize("p", DTYPES)
def test_any_scalar_is_a_learning_rate(rate, p: str):
    x = jnp.ones(3, DTYPES[p])
    updates, state = adaptx.adam(rate).update(x, adaptx.adam(rate).init(x), x)
    want, _ = adaptx.adam(1e-3).update(x, adaptx.adam(1e-3).init(x), x)
    assert updates.dtype == x.dtype
    assert state.metrics["learning_rate"].dtype == jnp.float32
    np.testing.assert_array_equal(updates, want)


@pytest.mark.parametrize("c", THINNED)
def test_structure_does_not_depend_on_the_kind_of_rate(c: Case):
    x = jnp.ones(3)
    x = c.fit(x)
    kinds = [1e-3, jnp.float32(1e-3), lambda t: 1e-3 / (1 + t), np.float64(1e-3)]
    states = [c.build(rate).init(x) for rate in kinds]
    assert all(jax.tree.structure(s) == jax.tree.structure(states[0]) and avals(s) == avals(states[0]) for s in states)
