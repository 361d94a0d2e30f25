"""Tracing and compiling: once in three steps, once for two learning rates, never eagerly again; jit = eager = vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cases import CASES, KINDS, STORED, THINNED, Case, at, case, run, thinned
from probes import Traced, assert_close

COMPILERS = 3e-6  # two programs of the same arithmetic fused differently, three steps
ITERATED = 1e-4  # of muon and its kin, whose iteration triples small singular values and their roundings every time
EVERYTHING = {"weight_decay": 0.1, "max_norm": 1.0, "skip_nonfinite": True, "telemetry": True, "lr_scale": {"w": 0.5}}
# adam in narrow storage is in test_storage_matrix.py
REPLICAS = [
    pytest.param(case(c), s, id=f"{c}-{s}")
    for c, s in [("adam", "f32"), ("adamw", "f32"), ("momentum", "int8"), ("adafactor", "bf16")]
]


def tolerance(c: Case) -> tuple[float, float]:
    """(relative, absolute) between two programs of one optimizer."""
    return (ITERATED, 1e-6) if c.constructor in ("muon", "normuon", "scion", "dion") else (COMPILERS, 1e-9)


@pytest.mark.parametrize(("c", "storage"), STORED)
def test_one_trace(c: Case, storage: str):
    """Three steps of one optimizer and three of another learning rate: one trace, as the optimizer is an argument."""
    traced = Traced(lambda opt, g, s, p: opt.step(g, s, p))
    step, p = jax.jit(traced), c.params()
    for rate in (0.1, 0.003):
        opt = c.build(rate, storage=storage)
        x, state = p, jax.eval_shape(opt.init, p)
        for _ in range(3):
            x, state = step.eval_shape(opt, p, state, x)
    assert traced.count == 1


@pytest.mark.parametrize("c", THINNED)
def test_no_eager_compilation_after_warm_up(c: Case, compilations):
    """Steps 3 to 6 outside any jit compile nothing, nor does another learning rate or another weight decay."""
    p, gs = c.params(), [at(c.grads(steps=6), t) for t in range(6)]
    opt, other = (c.build(rate, **{**EVERYTHING, "weight_decay": wd}) for rate, wd in ((0.1, 0.1), (0.2, 0.3)))
    x, state = p, opt.init(p)
    for t in range(2):
        opt.update(gs[t], state, x)
        x, state = opt.step(gs[t], state, x)
    before = compilations.count
    for t in range(2, 6):
        opt.update(gs[t], state, x)
        x, state = other.step(gs[t], state, x)
    assert compilations.count == before, f"{compilations.count - before} compilations in steps 3 to 6"


def test_compilations_are_seen(compilations):
    """The counter above counts: it would otherwise pass on a JAX that renamed its event."""
    jax.jit(lambda x: x * 3 + 1)(jnp.ones(7)).block_until_ready()
    assert compilations.count > 0


@pytest.mark.parametrize("c", THINNED)
def test_no_hyperparameter_in_the_program(c: Case):
    """Two optimizers that differ in numbers alone lower to the same text."""
    p = c.params()
    texts = [
        jax.jit(lambda o, g, s, x: o.step(g, s, x)).lower(o, p, o.init(p), p).as_text()
        for o in (c.build(0.1, weight_decay=0.1), c.build(0.2, weight_decay=0.3))
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("c", thinned(KINDS))
def test_jit_is_eager(c: Case):
    """Step by step outside any jit, and as one compiled scan."""
    opt, p, gs = c.build(0.05), c.params(), c.grads(steps=3)
    x, state = p, opt.init(p)
    for t in range(3):
        x, state = opt.step(at(gs, t), state, x)
    closed = jax.jit(lambda: run(opt, p, gs)[:2])()
    assert_close(closed, (x, state), *tolerance(c))


@pytest.mark.parametrize("c", THINNED)
def test_update_is_step(c: Case):
    """update then add, and the fused step, give the same state to the bit and the same f32 parameters to an ulp."""
    opt, p, gs = c.build(0.05, max_norm=1.0), c.params(), c.grads(steps=5)
    fused, by_step, _ = run(opt, p, gs)
    plain, by_update, _ = run(opt, p, gs, fused=False)
    assert_close(plain, fused, rtol=COMPILERS, atol=1e-9)
    assert_close(by_update, by_step, rtol=COMPILERS, atol=1e-9)


@pytest.mark.parametrize("c", THINNED)
def test_vmapped_sweep_is_single_runs(c: Case):
    """A batch of learning rates as one program against one run each; the batch as a value, or made under vmap."""
    rates = [1e-3, 0.1, 0.02]
    p, gs = c.params(), c.grads(steps=4)
    batch = c.build(jnp.asarray(rates, jnp.float32), **{"weight_decay": 0.01})
    swept = jax.jit(jax.vmap(lambda o: run(o, p, gs)[:2]))(batch)
    made = jax.jit(jax.vmap(lambda lr: run(c.build(lr, weight_decay=0.01), p, gs)[:2]))
    inside = made(jnp.asarray(rates)) if c.name == "adam" else swept
    single = jax.jit(lambda o: run(o, p, gs)[:2])
    for i, rate in enumerate(rates):
        want = single(c.build(rate, weight_decay=0.01))
        assert_close(at(swept, i), want, *tolerance(c))
        assert_close(at(inside, i), want, *tolerance(c))


@pytest.mark.parametrize(("c", "storage"), REPLICAS)
def test_vmapped_replicas_are_single_runs(c: Case, storage: str):
    """Two replicas of the parameters and gradients; for adamw with everything in the engine switched on."""
    opt = c.build(0.05, **{**(EVERYTHING if c.name == "adamw" else {}), "storage": storage})
    p, gs = c.params(), c.grads(steps=3)
    ps = jax.tree.map(lambda x: jnp.stack([x, 2 * x + 1]), p)
    replicas = jax.tree.map(lambda x: jnp.stack([x, -0.5 * x]), gs)
    both = jax.jit(jax.vmap(lambda x, g: run(opt, x, g)[:2]))(ps, replicas)
    for i in range(2):
        want = jax.jit(lambda x, g: run(opt, x, g)[:2])(at(ps, i), at(replicas, i))
        # a last-bit difference before stochastic rounding may move a stored slot by one bf16 step
        assert_close(at(both, i), want, *(tolerance(c) if storage == "f32" else (1e-2, 1e-9)))


def test_sweep_of_every_hyperparameter():
    """b1, eps and weight decay may be batches too; they broadcast against one another."""
    c = next(c for c in CASES if c.name == "adam")
    p, gs = c.params(), c.grads(steps=3)
    batch = c.build(jnp.array([0.1, 0.2]), b1=np.array([0.9, 0.5]), eps=jnp.array([1e-8, 1e-2]), weight_decay=0.1)
    swept = jax.vmap(lambda o: run(o, p, gs)[0])(batch)
    for i, (lr, b1, eps) in enumerate(((0.1, 0.9, 1e-8), (0.2, 0.5, 1e-2))):
        assert_close(at(swept, i), run(c.build(lr, b1=b1, eps=eps, weight_decay=0.1), p, gs)[0], rtol=1e-5, atol=1e-8)
