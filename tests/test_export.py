"""The step of every optimizer and every controller lowers for the accelerators, on a machine that has none.

Lowering for a platform finds what has no translation there, such as a primitive of the CPU alone. It does not compile,
so it does not find what a compiler of that platform refuses.
"""

import jax
import jax.numpy as jnp
import pytest

import adaptx
from adaptx import controllers, optimizers
from adaptx.base import Rule
from adaptx.engine.optimizer import build
from adaptx.values import value_class

PLATFORMS = ("cuda", "rocm", "tpu")
TREE = {"w": jax.ShapeDtypeStruct((4, 6), jnp.float32), "b": jax.ShapeDtypeStruct((6,), jnp.float32)}
NARROW = jax.tree.map(lambda x: jax.ShapeDtypeStruct((64, 128), jnp.bfloat16), TREE)
ENGINES = {
    "int8": ({"storage": "int8", "storage_exclude": 0}, TREE),
    "bf16": ({"storage": "bf16", "storage_exclude": 0, "layout": "packed"}, TREE),
    "stochastic": ({"rounding": "stochastic"}, NARROW),
    "kahan": ({"rounding": "kahan", "storage": "int8"}, NARROW),
    "master": ({"rounding": "master", "max_norm": 1.0, "skip_nonfinite": True, "telemetry": True}, NARROW),
}


def taken(opt, tree):
    """The leaves of a tree that the optimizer takes."""
    expects = opt.rule.expects if isinstance(opt, adaptx.Optimizer) else lambda shape: None
    return {name: leaf for name, leaf in tree.items() if expects(leaf.shape) is None}


def check_lowers(opt, tree=TREE):
    """Lowers a step for every platform."""
    params = taken(opt, tree)
    assert params
    state = jax.eval_shape(opt.init, params)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    more = {name: scalar if name == "value" else params for name in opt.requires}  # the loss, or a tree like params
    step = jax.jit(lambda grads, state, params, more: opt.step(grads, state, params, **more))
    made = jax.export.export(step, platforms=PLATFORMS)(params, state, params, more)
    assert made.platforms == PLATFORMS
    assert len(made.mlir_module_serialized) > 0


@pytest.mark.parametrize("name", optimizers.ALL)
def test_every_optimizer_lowers_for_accelerators(name):
    check_lowers(optimizers.ALL[name]())


@pytest.mark.parametrize("name", controllers.ALL)
def test_every_controller_lowers_for_accelerators(name):
    check_lowers(adaptx.sgd(controllers.ALL[name](1e-3)))


@pytest.mark.parametrize("name", ENGINES)
def test_every_way_to_keep_numbers_lowers_for_accelerators(name):
    options, tree = ENGINES[name]
    check_lowers(adaptx.adamw(**options), tree)


@value_class
class CpuOnly(Rule):
    """What no accelerator can do: the eigenvalues of a matrix that is not symmetric."""

    ranks = (2,)

    def advance(self, g, s, p, k):
        return s

    def direction(self, g, s, old, p, k):
        return g * jnp.max(jnp.abs(jnp.linalg.eigvals(g.T @ g)))


def test_a_rule_for_the_cpu_alone_is_found():
    with pytest.raises(NotImplementedError, match="platform"):
        check_lowers(build("cpu_only", CpuOnly(), 0.1, {}))
