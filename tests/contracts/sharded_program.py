"""Run in a process of its own with eight forced host devices: every optimizer on a sharded tree against a whole one.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python sharded_program.py auto|explicit NAME-STORAGE ...

Prints one JSON object {"name-storage": [complaint, ...]}; an empty list is a pass. Blocks after every call that may
hold a collective: two such programs in flight can each wait for threads the other one holds.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import adaptx
from cases import Case

SHARDED_SUM = 2e-6  # partial sums of a norm added in another order, three steps
SLOT_STEP = 2e-3  # of a bf16 slot that such a difference rounded the other way
ENGINE = {"max_norm": 1.0, "telemetry": True, "weight_decay": 0.1, "skip_nonfinite": True}
SPECS = {"w": P("x", None), "again": P("x", None), "v": P(None, "x"), "b": P("x"), "s": P(), "r": P()}
SHAPES = {"w": (16, 8), "again": (16, 8), "v": (3, 16), "b": (8,), "s": (), "r": (4, 3)}


def trees(opt: adaptx.Optimizer, mesh: Mesh, seed: int) -> tuple[dict, dict]:
    """One random tree of what the rule takes, whole on one device and sharded over the mesh."""
    rng = np.random.default_rng(seed)
    shapes = {k: shape for k, shape in SHAPES.items() if opt.rule.expects(shape) is None}
    whole = {k: jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32) for k, shape in shapes.items()}
    sharded = {k: jax.device_put(np.asarray(x), NamedSharding(mesh, SPECS[k])) for k, x in whole.items()}
    return jax.block_until_ready((whole, sharded))


def layouts(state: adaptx.State, params: dict, when: str) -> list[str]:
    """Complaints about slots that do not lie as their parameters do."""
    out = []
    for name, slot in state.slots.items():
        for k, x in ((k, x) for k, stored in slot.items() for x in jax.tree.leaves(stored)):
            # codes lie in blocks of 256, which these small leaves do not have on every device
            coded = x.dtype in (jnp.uint8, jnp.uint16)
            if x.shape == params[k].shape and not coded and not x.sharding.is_equivalent_to(params[k].sharding, x.ndim):
                out.append(f"{when}: slot {name}/{k} has {x.sharding}, its parameter {params[k].sharding}")
    return out


def check(opt: adaptx.Optimizer, mesh: Mesh, storage: str) -> list[str]:
    """All complaints about one optimizer."""
    tolerance = SHARDED_SUM if storage == "f32" else SLOT_STEP
    whole, params = trees(opt, mesh, 0)
    single = jax.block_until_ready(opt.init(whole))
    eager = jax.block_until_ready(opt.init(params))
    state = jax.block_until_ready(jax.jit(opt.init)(params))
    complaints = layouts(eager, params, "eager init") + layouts(state, params, "init under jit")
    step = jax.jit(opt.step)
    # blocks of 256 codes that shards would split are gathered, and what rules say they see whole, nothing else is
    whole_codes = storage != "int8" and not opt.rule.gathers
    if whole_codes and "all-gather(" in step.lower(params, state, params).compile().as_text():
        complaints.append("a leaf is gathered in the step")
    for t in range(3):
        g, gs = trees(opt, mesh, 1 + t)
        whole, single = jax.block_until_ready(step(g, single, whole))
        params, state = jax.block_until_ready(step(gs, state, params))
    complaints += layouts(state, params, "after three steps")
    for k, x in params.items():
        if not x.sharding.is_equivalent_to(NamedSharding(mesh, SPECS[k]), x.ndim):
            complaints.append(f"parameter {k} came back as {x.sharding}")
        if not np.allclose(np.asarray(x), np.asarray(whole[k]), rtol=tolerance, atol=tolerance):
            off = np.max(np.abs(np.asarray(x) - np.asarray(whole[k])))
            complaints.append(f"parameter {k} is {off} off the unsharded run")
    for name, value in state.metrics.items():
        if not np.allclose(value, single.metrics[name], rtol=1e-5):
            complaints.append(f"metric {name} is {value}, unsharded {single.metrics[name]}")
    return complaints


def main(kind: str, names: list[str]) -> None:
    """Check every optimizer in every storage and print what was found."""
    assert len(jax.devices()) == 8, jax.devices()
    types = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
    mesh = jax.make_mesh((8,), ("x",), axis_types=(types[kind],))
    found = {}
    with jax.set_mesh(mesh):
        for cell in names:
            name, storage = cell.rsplit("-", 1)
            opt = Case(name, name).build(0.1, storage=storage, **ENGINE)
            try:
                found[cell] = check(opt, mesh, storage)
            except Exception as error:  # reported as a complaint, so that the other optimizers are still checked
                found[cell] = [f"{type(error).__name__}: {error}"]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
