"""Leaves of one shape are one stack for a rule that `batches`: the same numbers, fewer operations, shardings kept."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import controllers, rules
from adaptx.engine import stacks
from adaptx.engine.optimizer import build
from adaptx.values import value_class
from devices import run_on_devices
from probes import assert_close

STACKED = 1e-11  # float64: one product of a batch, or one each
SHAPES = {"a0": (4, 6), "a1": (4, 6), "c": (5, 2), "a2": (4, 6), "d": (5, 2), "alone": (3, 3), "still": (4, 6)}
ENGINES = {
    "plain": {},
    "everything": {
        "max_norm": 1.0, "skip_nonfinite": True, "telemetry": True, "weight_decay": 0.1, "decay_mask": "a0|c",
        "lr_scale": {"a1": 0.5},
    },
    "l2": {"weight_decay": 0.1, "decay_mode": "l2"},
    "bf16": {"storage": "bf16", "storage_exclude": 0},
    "int8": {"storage": "int8", "storage_exclude": 0},
}  # fmt: skip
RATES = {
    "prodigy": lambda: controllers.prodigy(),
    "hypergradient_of_leaves": lambda: controllers.hypergradient(0.1, scope="leaf"),
}


FEW = {"steps": 2}  # of Newton and Schulz: what is counted and compared are stacks


@value_class
class Muon(rules.Muon):
    """The rule, leaf by leaf."""

    batches = False


def tree(seed: int) -> dict[str, jax.Array]:
    """Matrices, three of one shape and two of another."""
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=shape)) for k, shape in SHAPES.items()}


def trained(rule: rules.Muon, rate, engine: dict) -> tuple:
    """(parameters, state) after three steps; one leaf has no gradient."""
    opt, p = build("muon", rule, rate, engine), tree(0)
    state = opt.init(p)
    step = jax.jit(opt.step)
    for t in range(3):
        p, state = step({**tree(1 + t), "still": None}, state, p)
    return p, state._replace(made_by={})


@pytest.mark.parametrize(
    ("rate", "engine"),
    [pytest.param(0.1, engine, id=name) for name, engine in ENGINES.items()]
    + [pytest.param(make(), {}, id=name) for name, make in RATES.items()],
)
def test_a_stack_moves_as_its_leaves(rate, engine: dict):
    with jax.enable_x64(True):
        got, want = (trained(rule, rate, engine) for rule in (rules.Muon(**FEW), Muon(**FEW)))
        assert_close(got, want, rtol=STACKED, atol=STACKED)


def products(opt: adaptx.Optimizer, p: dict) -> int:
    """Matrix products of a step as compiled."""
    return len(re.findall(r" dot\(", jax.jit(opt.step).lower(p, opt.init(p), p).compile().as_text()))


def test_products_are_counted_once_for_a_shape(monkeypatch):
    p = {str(i): jnp.ones((4, 6)) for i in range(6)}
    stack, apart = (build("muon", rule, 0.1, {}) for rule in (rules.Muon(**FEW), Muon(**FEW)))
    assert (products(stack, p), products(apart, p)) == (6, 36)
    monkeypatch.setattr(stacks, "MOST", 2 * 28)  # two leaves each, of a shape that was not traced before
    assert products(stack, {k: jnp.ones((4, 7)) for k in p}) == 18


PROGRAM = """
import jax, numpy as np, adaptx
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

SPECS = {"a": P("x", None), "b": P("x", None), "c": P(None, "x"), "d": P(None, "x")}
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        def tree(seed):
            rng = np.random.default_rng(seed)
            whole = {k: rng.normal(size=(16, 32)).astype(np.float32) for k in SPECS}
            return whole, {k: jax.device_put(x, NamedSharding(mesh, SPECS[k])) for k, x in whole.items()}
        opt = adaptx.muon(0.1, weight_decay=0.1, adamw=False)
        (p, ps), (g, gs) = tree(0), tree(1)
        step = jax.jit(opt.step)
        want, _ = opt.step(g, opt.init(p), p)
        got, state = jax.block_until_ready(step(gs, jax.jit(opt.init)(ps), ps))
        for k, x in got.items():
            assert np.allclose(x, want[k], atol=2e-6), (kind, k)
            for y in (x, state.slots["m"][k]):
                assert y.sharding.is_equivalent_to(ps[k].sharding, 2), (kind, k, y.sharding)
print("equal and in place")
"""


@pytest.mark.multi
def test_leaves_of_one_shape_that_lie_unlike():
    assert "equal and in place" in run_on_devices(8, "-c", PROGRAM)
