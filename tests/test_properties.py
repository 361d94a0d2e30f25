"""What holds for all trees, dtypes, scales from 1e-30 to 1e30 and hyperparameters at their edges: drawn by Hypothesis.

Shapes are of a few trees, since each is a program; everything else is drawn freely. In the fast suite some rules by
turns, every rule and every controller in the slow one.
"""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import adaptx
from adaptx import controllers, rules
from cases import DEFAULTS, LATER, STORAGES, Case, case
from given import given as provided
from probes import avals

TREES = (
    {"w": (3, 4), "b": (4,), "s": ()},
    {"deep": (2, 3, 5), "wide": (1, 7), "none": (0, 3)},
    {"one": (1, 1), "row": (300,)},
)
DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
EDGES = (0.0, 1e-30, 1e-8, 0.5, 0.999999, 1.0, 2.0)
HUGE = 1e30  # of an eps; a factor as large leads out of the range of numbers by itself
EXAMPLES = 25
FEW = 8  # in the fast suite
often = partial(settings, deadline=None, derandomize=True, database=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])  # fmt: skip
seeds = st.integers(0, 2**32 - 1)
exponents = st.floats(-30, 30)
kinds = st.sampled_from(("normal", "zero", "one", "sign", "mixed"))


def drawn(shape, kind, exponent, seed):
    """An array of a kind, its entries about 10 to the exponent."""
    random = np.random.default_rng(seed)
    x = random.normal(size=shape)
    if kind == "zero":
        x = np.zeros(shape)
    elif kind == "one":
        x = np.where(np.arange(x.size).reshape(shape) == 0, 1.0, 0.0)
    elif kind == "sign":
        x = np.sign(x)
    elif kind == "mixed":  # sixty orders of magnitude in one array
        return x * 10.0 ** random.uniform(-30, 30, shape)
    return x * 10.0**exponent


@st.composite
def steps(draw, count=3):
    """(parameters, gradients of some steps) of one of the trees, finite in their dtypes."""
    shapes, dtype = draw(st.sampled_from(TREES)), draw(st.sampled_from(DTYPES))
    most = float(jnp.finfo(dtype).max)

    def tree(kind, exponent, seed):
        arrays = {n: drawn(s, kind, exponent, (seed, i)) for i, (n, s) in enumerate(shapes.items())}
        return {name: jnp.asarray(np.clip(x, -most, most), dtype) for name, x in arrays.items()}

    params = tree("normal", draw(st.floats(-2, 2)), draw(seeds))
    return params, [tree(draw(kinds), draw(exponents), draw(seeds)) for _ in range(count)]


@cache
def edges(c: Case) -> list[tuple[str, float]]:
    """Every number of a rule with every edge that it takes."""
    found = []
    for field in dataclasses.fields(c.build().rule):
        if not isinstance(getattr(c.build().rule, field.name), float) or not c.takes(field.name):
            continue
        for value in (*EDGES, *([HUGE] if field.name.startswith("eps") else [])):
            try:
                c.build(**{field.name: value})
            except (TypeError, ValueError):
                continue
            found.append((field.name, value))
    return found or [("weight_decay", 0.0)]


@partial(jax.jit, static_argnames="fused")
def advanced(opt, grads, state, params, value, fused=True):
    extra = {"value": value} if "value" in opt.requires else {}
    return (opt.step if fused else opt.update)(grads, state, params, **extra)


def is_finite(tree):
    return all(np.all(np.isfinite(np.asarray(x, np.float64))) for x in jax.tree.leaves(tree))


def holds(c: Case, data) -> None:
    """Types are stable, parameters and state finite, and by `update` one comes to the same place."""
    params, grads = data.draw(steps())
    params, *grads = (c.fit(x) for x in (params, *grads))
    name, value = data.draw(st.sampled_from(edges(c)))
    opt = c.build(1e-3, storage=data.draw(st.sampled_from(STORAGES)), **{name: value})
    state = opt.init(params)
    for g in grads:
        updates, _ = advanced(opt, g, state, params, 1.0, fused=False)
        new, after = advanced(opt, g, state, params, 1.0)
        assert avals(after) == avals(state)
        assert avals(new) == avals(params) == avals(updates)
        assert is_finite(new), (name, value)
        assert is_finite(after.slots), (name, value)
        for x, u, y in zip(*map(jax.tree.leaves, (params, updates, new)), strict=True):
            wide = np.asarray(x, np.float64) + np.asarray(u, np.float64)
            size = np.maximum(np.abs(np.asarray(x, np.float64)), np.abs(wide))
            far = np.abs(wide - np.asarray(y, np.float64))
            assert np.all(far <= 4 * float(jnp.finfo(x.dtype).eps) * size + float(jnp.finfo(x.dtype).tiny)), (
                name,
                value,
            )
        params, state = new, after


RULES = [pytest.param(c, EXAMPLES, id=c.name, marks=LATER) for c in DEFAULTS]
RULES += [pytest.param(case(name), FEW, id=f"{name}-few") for name in ("adam",)]


@pytest.mark.parametrize(("c", "count"), RULES)
def test_every_rule(c: Case, count: int):
    @often(max_examples=count)
    @given(st.data())
    def run(data):
        holds(c, data)

    run()


CONTROLLERS = [pytest.param(name, EXAMPLES, id=name, marks=LATER) for name in controllers.ALL]
CONTROLLERS += [pytest.param("prodigy", FEW, id="prodigy-few")]


@pytest.mark.parametrize(("name", "count"), CONTROLLERS)
def test_every_controller(name: str, count: int):
    """Over adam and sgd: parameters stay finite, types are stable, and no rate that is shown is negative or NaN."""

    @often(max_examples=count)
    @given(st.data())
    def run(data):
        params, grads = data.draw(steps(6))
        rule = data.draw(st.sampled_from((adaptx.adam, adaptx.sgd)))
        rate = data.draw(st.sampled_from((1e-6, 1e-3, 1.0)))
        most = 1.0 if rule is adaptx.sgd else None  # without, steps of sgd are as large as gradients
        opt = rule(controllers.ALL[name](rate), max_norm=most)
        state = opt.init(params)
        for g in grads:
            new, after = advanced(opt, g, state, params, data.draw(st.floats(0, 2.0**99, width=32)))
            assert avals(after) == avals(state)
            assert avals(new) == avals(params)
            assert is_finite(new)
            assert float(adaptx.read(after, "learning_rate")) >= 0
            params, state = new, after

    run()


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["int8", "bf16"])
@often(max_examples=15)
@given(data=st.data())
def test_storages_round_trip(storage, data):
    """What is stored is finite, and read again from named arrays it is the same bits."""
    params, (g,) = data.draw(steps(1))
    opt = adaptx.adam(storage=storage, storage_exclude=0)
    _, state = advanced(opt, g, opt.init(params), params, 1.0)
    names = adaptx.state_dict(state)
    again = adaptx.load_state_dict(opt, params, names)
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (again, state)), strict=True))
    assert is_finite(state)


@pytest.mark.slow
@often(max_examples=10)
@given(data=st.data())
def test_layouts_agree(data):
    """Packed or leaf by leaf: the same parameters."""
    params, grads = data.draw(steps(2))
    ends = []
    for layout in ("leaf", "packed"):
        opt, p = adaptx.adam(1e-3, layout=layout), params
        state = opt.init(p)
        for g in grads:
            p, state = advanced(opt, g, state, p, 1.0)
        ends.append(p)
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol=4 * float(jnp.finfo(a.dtype).eps)
        )


def test_rules_and_controllers_are_all_there():
    assert {c.constructor for c in DEFAULTS} >= set(rules.ALL)
    assert case("adam") in DEFAULTS
    assert provided(adaptx.adam()) == adaptx.adam()
