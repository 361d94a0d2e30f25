"""Every optimizer against its float64 oracle, at three gradient scales: float64, float32 and every storage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cases import CASES, DEFAULTS, ENGINES, LATER, SCALES, STORAGES, STORED, Case, oracle, run, table, thinned
from golden import inputs
from probes import excess

F64 = 1e-12  # rounding alone, over 50 steps
F64_ROUNDING = 1e-14  # of p ← p + u, 50 times half an ulp, rounded up
F32 = 3e-5  # 50 steps of about ten roundings of 6e-8, most of them random
F32_ROUNDING = 3e-6  # 50 times half an ulp
BF16 = 0.1  # slots with 8 bits, rounded stochastically: an error of 2⁻⁸ a step that partly averages out
INT8 = 0.4  # codes with 2 or 3 mantissa bits: an error of up to 2⁻² a step that partly averages out
TOLERANCE = {"f32": F32, "bf16": BF16, "int8": INT8}
RATES = inputs.learning_rates("changing", 0.01)
# the couplings of the decay and the clipping by turns, two on every optimizer, of which one is fast; all on adam
COUPLINGS = ("decoupled", "l2", "independent", "clipped_l2")
WITH_ENGINE = [
    pytest.param(c, e, id=f"{c.name}-{e}", marks=() if c.name == "adam" or e == COUPLINGS[i % 4] else LATER)
    for i, c in enumerate(DEFAULTS)
    for e in (ENGINES if c.name == "adam" else (COUPLINGS[i % 4], COUPLINGS[(i + 1) % 4]))
]


def trainer(c: Case, **engine):
    """One compilation for all scales: (params, stacked gradients, rates) -> parameters after every step."""
    return jax.jit(lambda p, gs, rates: run(c.build(lambda t: rates[t], **engine), p, gs)[2])


def error(c: Case, train, dtype, scale: float, rtol: float, rounding: float, **engine) -> float:
    """Excess of one trajectory over its tolerance."""
    history = train(c.params(dtype), c.grads(dtype, scale), jnp.asarray(RATES, dtype))
    assert all(x.dtype == dtype for x in history.values())
    start, want = inputs.flatten(inputs.parameters(c.leaves)), oracle(c, scale, RATES, **engine)
    return excess(table(history), want, start, rtol, rounding)


@pytest.mark.parametrize("c", CASES, ids=lambda c: c.name)
def test_f64(c: Case, x64):
    train = trainer(c)
    errors = {scale: error(c, train, jnp.float64, scale, F64, F64_ROUNDING) for scale in SCALES}
    assert max(errors.values()) <= 1, errors


@pytest.mark.parametrize(("c", "engine"), WITH_ENGINE)
def test_f64_with_engine_options(c: Case, engine: str, x64):
    options = ENGINES[engine]
    got = error(c, trainer(c, **options), jnp.float64, 1.0, F64, F64_ROUNDING, **options)
    assert got <= 1, got


@pytest.mark.parametrize("c", thinned(CASES))
def test_f32(c: Case):
    train = trainer(c)
    errors = {scale: error(c, train, jnp.float32, scale, F32, F32_ROUNDING) for scale in SCALES}
    assert max(errors.values()) <= 1, errors


def test_every_storage_has_a_tolerance():
    assert set(TOLERANCE) == set(STORAGES), "name the accuracy a storage promises, with its reason"


@pytest.mark.parametrize(("c", "storage"), thinned([x for x in STORED if x.values[1] != "f32"]))
def test_stored(c: Case, storage: str):
    """The distance to the oracle relative to the displacement, in the mean square over entries and steps."""
    train = trainer(c, storage=storage)
    start = inputs.flatten(inputs.parameters(c.leaves))
    for scale in (1.0, 1e-4):
        want = oracle(c, scale, RATES)
        got = table(train(c.params(), c.grads(scale=scale), jnp.asarray(RATES, jnp.float32)))
        assert np.linalg.norm(got - want) <= TOLERANCE[storage] * np.linalg.norm(want - start), scale
