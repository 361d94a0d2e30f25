"""Trainings on several devices: results stay where sharding= says, micro-batches stay on their devices."""

import pytest

from devices import run_on_devices

SETUP = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import adaptx
mesh = Mesh(np.array(jax.devices()).reshape(4), ("data",))
whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
gen = np.random.default_rng(0)
X, Y = (gen.normal(size=(32, 8)).astype("f") for _ in range(2))
START = {"w": gen.normal(size=(8, 8)).astype("f"), "b": np.zeros(8, "f")}
loss = lambda p, x, y: jnp.mean((jnp.tanh(x) @ p["w"] + p["b"] - y) ** 2)
opt = adaptx.adam(0.1)

def placed(tree, where):
    return jax.block_until_ready(jax.device_put(jax.tree.map(jnp.asarray, tree), where))

def run(params, state, batch, **options):
    step = adaptx.train_step(loss, opt, **options)
    for _ in range(3):
        params, state, out = jax.block_until_ready(step(params, state, *batch))
    return params, state, out

alone = run(placed(START, jax.devices()[0]), placed(opt.init(START), jax.devices()[0]), (X, Y))
fresh = lambda: (placed(START, whole), placed(opt.init(START), whole))
batch = placed((X, Y), rows)
"""
HELD = """
split = {"w": NamedSharding(mesh, P("data")), "b": whole}
for accumulate in (1, 4):
    params, state, out = run(*fresh(), batch, accumulate=accumulate, sharding=(split, whole))
    assert params["w"].sharding.is_equivalent_to(split["w"], 2), params["w"].sharding
    assert params["b"].sharding.is_equivalent_to(whole, 1)
    assert all(x.sharding.is_equivalent_to(whole, x.ndim) for x in jax.tree.leaves(state))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), params, alone[0])
stay = run(*fresh(), batch, sharding=(None, None))
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), stay[0], alone[0])
try:
    run(*fresh(), batch, sharding=({"w": whole}, None))
except ValueError as error:
    assert "sharding of params does not fit it" in str(error), error
else:
    raise AssertionError("a tree without b was taken")
fitted = jax.block_until_ready(adaptx.fit(loss, opt, placed(START, whole), lambda t: batch, steps=3, progress=False,
                                          sharding=(split, whole)))
assert fitted.params["w"].sharding.is_equivalent_to(split["w"], 2)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), fitted.params, alone[0])
"""
MOVES = """
import re
from adaptx.training import step as module
from adaptx.training.trees import split
def collectives(accumulate):
    structure, given = module.prepared(loss, opt, False, None, accumulate, None, (whole, whole))
    params, state = fresh()
    arrays, rest = split(params)
    text = module._step.lower(structure, rest, given, arrays, state, *batch).compile().as_text()
    return {kind: len(re.findall(rf" {kind}[.\\w-]*\\(", text))
            for kind in ("all-gather", "all-to-all", "collective-permute")}
assert collectives(1) == collectives(4) == {"all-gather": 0, "all-to-all": 0, "collective-permute": 0}, collectives(4)
"""


@pytest.mark.multi
@pytest.mark.parametrize("body", [HELD, MOVES], ids=["held", "no rows move"])
def test_on_four_devices(body):
    run_on_devices(4, "-c", SETUP + body)
