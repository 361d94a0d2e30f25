"""A controller sees sums, never a mesh: parameters split over two devices give the numbers of one."""

import pytest

from adaptx import rules
from devices import run_on_devices

PROGRAM = """
import sys, jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as Spec
import adaptx
from adaptx import controllers
from cases import case, plain
from given import given
from golden import controller_rows as rows

SAME = 1e-10  # relative: float64 sums in another order, fed back for a few steps
assert len(jax.devices()) == 2
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("d",))
place = {"w": NamedSharding(mesh, Spec("d", None)), "b": NamedSharding(mesh, Spec())}
rule, xs, ys = sys.argv[1], np.asarray(rows.X), np.asarray(rows.Y)
start = case(rule).fit({name: jnp.asarray(value) for name, value in rows.START.items()})
if rule in ("soap", "splus"):  # as many outputs as inputs: where gradients lack rank, the directions beside are any
    size = 2 * ((ys.shape[-1] + 1) // 2)
    xs, ys = xs[..., :size], np.concatenate([ys, np.sin(5 * xs[..., : size - ys.shape[-1]])], -1)
    start = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(size, size))), "b": jnp.zeros(size)}
opts = {name: given(plain(rule)(make(0.01))) for name, make in controllers.ALL.items()}

@jax.jit
def step(ps, ss, x, y):
    out = {}
    for name, opt in opts.items():
        loss = lambda p: 0.5 * jnp.mean(jnp.sum((x @ p["w"] + p["b"] - y) ** 2, -1))
        value, g = jax.value_and_grad(loss)(ps[name])
        out[name] = opt.step(g, ss[name], ps[name], value=value)
    return {n: o[0] for n, o in out.items()}, {n: o[1] for n, o in out.items()}

def train(params):
    ps = {name: params for name in opts}
    ss = jax.block_until_ready({name: opt.init(params) for name, opt in opts.items()})
    for t in range(6):
        ps, ss = jax.block_until_ready(step(ps, ss, xs[t], ys[t]))
    return ps, ss

whole, split = train(start), train(jax.device_put(start, place))
assert split[0]["prodigy"]["w"].sharding.is_equivalent_to(place["w"], 2)
assert split[1]["prodigy"].control.marks["s"]["w"].sharding.is_equivalent_to(place["w"], 2)
for name in opts:
    for a, b in zip(jax.tree.leaves((whole[0][name], whole[1][name].control)),
                    jax.tree.leaves((split[0][name], split[1][name].control)), strict=True):
        np.testing.assert_allclose(np.asarray(b), np.asarray(a), rtol=SAME, atol=1e-14, err_msg=name)
    a, b = (adaptx.read(run[1][name], "learning_rate") for run in (whole, split))
    np.testing.assert_allclose(b, a, rtol=1e-6, err_msg=name)
print("equal:", len(opts))
"""


@pytest.mark.multi
@pytest.mark.parametrize("rule", [r if r == "adam" else pytest.param(r, marks=pytest.mark.slow) for r in rules.ALL])
def test_sharded_equals_whole(rule: str):
    assert "equal:" in run_on_devices(2, "-c", PROGRAM, rule, JAX_ENABLE_X64="1")
