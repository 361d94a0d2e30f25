"""The NumPy oracles against torch.optim and optax: what the library is held to is right before the library is."""

import itertools

import numpy as np
import pytest

from golden import compare, inputs
from golden.rows import EXACT, ROWS, Row
from oracles import ORACLES, bias_correction, ema, trajectory

DEFAULT_DECAY = {"adamw": 1e-2}  # the constructors' default; an oracle has none
ids = [f"{row.peer}-{row.name}" for row in ROWS]


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, np.ndarray]]:
    return {peer: compare.load(peer) for peer in ("torch", "optax")}


def oracle(row: Row, kind: str, scale: float) -> np.ndarray:
    """The saved parameters of one case, from the oracle."""
    engine = {"weight_decay": DEFAULT_DECAY.get(row.constructor, 0.0), **row.engine}
    mask = engine.pop("decay_mask", None)
    history = trajectory(
        row.constructor,
        row.rule,
        inputs.parameters(row.leaves),
        inputs.gradients(scale, row.leaves),
        inputs.learning_rates(kind, row.learning_rate),
        decay_leaves=inputs.MATRICES if mask == "matrices" else None,
        **engine,
    )
    return inputs.saved(history)


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_oracle_equals_peer(row: Row, golden):
    table = golden[row.peer][row.name]
    for i, kind in enumerate(row.kinds):
        for j, scale in enumerate(inputs.SCALES):
            got, want = oracle(row, kind, scale), table[i, j]
            # the library's looser row.rtol has reasons that do not concern two float64 programs
            assert compare.excess(got, want, EXACT, row.leaves) <= 1.0, f"{kind} learning rate, gradient scale {scale}"
            still = compare.still(row)
            assert np.array_equal(got[:, still], want[:, still]), "an entry without a gradient moved"


def test_files_hold_exactly_the_rows(golden):
    def shape(row: Row) -> tuple[int, ...]:
        entries = inputs.flatten(inputs.parameters(row.leaves)).size
        return len(row.kinds), len(inputs.SCALES), len(inputs.SAVED_STEPS), entries

    for peer, table in golden.items():
        assert {name: array.shape for name, array in table.items()} == {
            row.name: shape(row) for row in ROWS if row.peer == peer
        }


def test_rows_are_told_apart(golden):
    """Two rows with the same trajectory would be one row, or a flag without effect at every scale."""
    for a, b in itertools.combinations(ROWS, 2):
        if (a.peer, a.leaves) == (b.peer, b.leaves):
            x, y = (golden[row.peer][row.name].reshape(-1, *golden[row.peer][row.name].shape[2:]) for row in (a, b))
            errors = [compare.excess(got, want, 1e-6, a.leaves) for got, want in zip(x, y, strict=False)]
            assert max(errors) > 1, (a.name, b.name)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_zero_gradient_gives_zero_direction(name: str, eps: float):
    hyper = {} if name in ("sgd", "momentum") else {"eps": eps}
    rule = ORACLES[name](**hyper)
    for _ in range(3):
        assert np.array_equal(rule.step(np.zeros(4)), np.zeros(4))


def test_rmsprop_centered_never_takes_the_root_of_a_negative_number():
    rule = ORACLES["rmsprop"](decay=0.5, centered=True, eps_in_sqrt=False, debias=True)
    for _ in range(200):  # a constant gradient: v - m^2 is rounding alone, of either sign
        assert np.all(np.isfinite(rule.step(np.linspace(0.1, 3.0, 50))))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999, 0.9999])
def test_ema_of_a_constant_is_the_constant(decay: float):
    assert np.allclose(ema([3.0] * 20, decay), 3.0, rtol=1e-12, atol=0)
    biased = ema([3.0] * 20, decay, debias=False)
    assert np.allclose(biased, 3.0 * bias_correction(decay, np.arange(1, 21)), rtol=1e-12, atol=0)
