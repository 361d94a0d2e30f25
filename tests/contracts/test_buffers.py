"""Buffers: fresh state shares none with the parameters, donation works and aliases all of it; init under jit."""

from itertools import combinations

import jax
import jax.numpy as jnp
import pytest

import adaptx
from cases import KINDS, STORED, THINNED, Case, at, thinned
from probes import assert_identical, avals, pointers

EVERYTHING = {"weight_decay": 0.1, "max_norm": 1.0, "skip_nonfinite": True, "telemetry": True}


def tree(c: Case) -> dict:
    """Zeros, ones and scalars: values that a cache of constants would share."""
    arrays = {"zeros": jnp.zeros((8, 4)), "ones": jnp.ones((8, 4)), "more": jnp.zeros((8, 4))}
    return c.fit({**arrays, "zero": jnp.zeros(()), "one": jnp.ones(()), "none": jnp.zeros(())})


@pytest.mark.parametrize(("c", "storage"), thinned(STORED))
def test_fresh_state_shares_no_buffer(c: Case, storage: str):
    p = tree(c)
    for make in (c.build(storage=storage, **EVERYTHING).init, jax.jit(c.build(storage=storage).init)):
        where = pointers((p, make(p)))
        twice = [(a, b) for a, b in combinations(where, 2) if where[a] == where[b]]
        assert not twice, f"these leaves share a buffer: {twice}"


@pytest.mark.parametrize(("c", "storage"), thinned(STORED))
def test_donated_step_runs_and_aliases(c: Case, storage: str):
    """Parameters and state are donated from the first step on, and every byte of them is reused."""
    opt = c.build(0.1, storage=storage)
    p = tree(c)
    state, gs = opt.init(p), jax.tree.map(jnp.ones_like, p)
    step = jax.jit(lambda g, s, x: opt.step(g, s, x)[::-1], donate_argnums=(1, 2))
    size = sum(x.nbytes for x in jax.tree.leaves((p, state)))
    memory = step.lower(gs, state, p).compile().memory_analysis()
    for _ in range(3):
        old = jax.tree.leaves((p, state.step, state.slots))
        state, p = step(gs, state, p)
        assert all(x.is_deleted() for x in old), "a donated buffer was not used"
    # the learning rate of the step before, kept in the metrics, is an input that nothing reads
    assert size - 8 <= memory.alias_size_in_bytes <= size


# the step, or another slot, reads a slot as it was: XLA copies it before it is overwritten, in optax's steps too
COUPLED = ("lion", "adadelta", "adabelief", "kate", "adan", "adopt", "rprop", "acprop", "madgrad")


@pytest.mark.parametrize(("c", "storage"), [x for x in STORED if x.values[0].build().rule.pointwise])
def test_a_donated_step_copies_nothing(c: Case, storage: str):
    """Donated in the order it returns them, parameters and state are overwritten where they lie."""
    opt, p = c.build(0.1, storage=storage), {"w": jax.ShapeDtypeStruct((256, 512), jnp.float32)}
    step = jax.jit(lambda p, s, g: opt.step(g, s, p), donate_argnums=(0, 1))
    memory = step.lower(p, jax.eval_shape(opt.init, p), p).compile().memory_analysis()
    slots, word = len(opt.rule.slots()), {"f32": 0, "bf16": 4, "int8": 2}[storage]
    allowed = 0.4 if storage == "int8" else 0.04
    if c.constructor in COUPLED:
        allowed += slots * {"f32": 4, "bf16": 2, "int8": 1}[storage]
    if slots > 2:
        allowed += word  # the second word comes from the first as it was
    foreseen = opt.rule.foreseeable(True) and not opt.rule.requires  # nothing bounds an argument beforehand
    if storage == "int8" and slots and not foreseen:
        allowed += 4 * (slots + 1)  # bounds are read off the slots themselves, and the direction off their codes
    assert memory.temp_size_in_bytes <= allowed * 256 * 512


@pytest.mark.parametrize("c", thinned(KINDS))
def test_init_is_the_same_everywhere(c: Case):
    """init under jit, of tracers, under eval_shape and of ShapeDtypeStructs."""
    p = c.params()
    opt = c.build(**EVERYTHING)
    plain = opt.init(p)
    assert_identical(jax.jit(opt.init)(p), plain)
    assert avals(jax.eval_shape(opt.init, p)) == avals(plain)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), p)
    assert avals(opt.init(shapes)) == avals(plain)
    assert jax.tree.structure(opt.init(shapes)) == jax.tree.structure(plain)
    assert all(m == 0 for m in jax.tree.leaves(plain.metrics))
    assert int(plain.step) == 0
    assert plain.control == ({}, {})


@pytest.mark.parametrize("c", THINNED)
def test_state_of_the_init_under_jit_is_usable(c: Case):
    """One program for init and one for the step; neither leaves a constant in the other."""
    opt, p = c.build(), c.params()
    state = jax.jit(opt.init)(p)
    again = opt.init(p)
    g = at(c.grads(steps=1), 0)
    assert_identical(opt.step(g, state, p), opt.step(g, again, p))


def test_init_does_not_read_values():
    """A parameter that is NaN or huge has an ordinary fresh state."""
    state = adaptx.adam().init({"a": jnp.full(3, jnp.nan), "b": jnp.full(3, jnp.inf)})
    assert all(bool(jnp.all(x == 0)) for x in jax.tree.leaves(state))
    jitted = jax.jit(adaptx.adam().init)({"a": jnp.full(3, jnp.nan), "b": jnp.full(3, jnp.inf)})
    assert_identical(jitted, state)
