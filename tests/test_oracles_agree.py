"""The NumPy oracles against torch.optim and optax: what the library is held to is right before the library is."""

import inspect
import itertools

import numpy as np
import pytest

from cases import DEFAULT_DECAY
from golden import compare, inputs
from golden.row import Row
from golden.rows import RECORDED
from oracles import ORACLES, bias_correction, direction, ema, trajectory

ROUNDING = 1e-14  # a few roundings of float64
ITERATED = 1e-12  # five steps with a slope of up to 3.4 at 0 make at most 5e2 roundings of one
ids = [f"{row.peer}-{row.name}" for row in RECORDED]


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, np.ndarray]]:
    return {peer: compare.load(peer) for peer in {row.peer for row in RECORDED}}


def uniform(low: float, high: float, shape: tuple[int, ...], seed: int = 5) -> np.ndarray:
    return np.random.RandomState(seed).uniform(low, high, shape)


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


@pytest.mark.parametrize("row", RECORDED, ids=ids)
def test_oracle_equals_peer(row: Row, golden):
    table = golden[row.peer][row.name]
    for i, kind in enumerate(row.kinds):
        for j, scale in enumerate(inputs.SCALES):
            got, want = oracle(row, kind, scale), table[i, j]
            assert compare.excess(got, want, row.own_rtol, row.leaves) <= 1.0, (
                f"{kind} learning rate, gradient scale {scale}"
            )
            still = compare.still(row)
            assert np.array_equal(got[:, still], want[:, still]), "an entry without a gradient moved"


def test_files_hold_exactly_the_rows(golden):
    def shape(row: Row) -> tuple[int, ...]:
        entries = inputs.flatten(inputs.parameters(row.leaves)).size
        return len(row.kinds), len(inputs.SCALES), len(inputs.SAVED_STEPS), entries

    for peer, table in golden.items():
        assert {name: array.shape for name, array in table.items()} == {
            row.name: shape(row) for row in RECORDED if row.peer == peer
        }


def test_rows_are_told_apart(golden):
    """Two rows with the same trajectory would be one row, or a flag without effect at every scale."""
    for a, b in itertools.combinations(RECORDED, 2):
        if (a.peer, a.leaves) == (b.peer, b.leaves):
            x, y = (golden[row.peer][row.name].reshape(-1, *golden[row.peer][row.name].shape[2:]) for row in (a, b))
            apart = (compare.excess(got, want, 1e-6, a.leaves) > 1 for got, want in zip(x, y, strict=False))
            assert any(apart), (a.name, b.name)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("eps", [0.0, 1e-8])
def test_zero_gradient_gives_zero_direction(name: str, eps: float):
    taken = inspect.signature(ORACLES[name]).parameters
    rule = ORACLES[name](**{k: eps for k in ("eps", "eps1") if k in taken})
    for _ in range(3):
        assert np.array_equal(direction(rule, np.zeros((3, 4)), np.ones((3, 4))), np.zeros((3, 4)))


def test_rmsprop_centered_never_takes_the_root_of_a_negative_number():
    rule = ORACLES["rmsprop"](decay=0.5, centered=True, eps_in_sqrt=False, debias=True)
    for _ in range(200):  # a constant gradient: v - m^2 is rounding alone, of either sign
        assert np.all(np.isfinite(rule.step(np.linspace(0.1, 3.0, 50))))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999, 0.9999])
def test_ema_of_a_constant_is_the_constant(decay: float):
    assert np.allclose(ema([3.0] * 20, decay), 3.0, rtol=1e-12, atol=0)
    biased = ema([3.0] * 20, decay, debias=False)
    assert np.allclose(biased, 3.0 * bias_correction(decay, np.arange(1, 21)), rtol=1e-12, atol=0)


def test_adafactor_of_a_rank_one_square_is_the_sign():
    """The factors are exact for it, and at the first step beta2 is 0: each entry is divided by its own magnitude."""
    signs = np.sign(uniform(-1, 1, (2, 4, 3)))
    g = signs * uniform(0.1, 9, (2, 4, 1)) * uniform(0.1, 9, (2, 1, 3))
    d = ORACLES["adafactor"](eps1=0.0, scale_parameter=False).step(g, g)
    np.testing.assert_allclose(d, signs, rtol=ROUNDING)


def test_adafactor_clips_before_the_moment_and_scales_after_it():
    g, p = np.array([3.0, 4.0]), np.array([0.6, 0.8])
    rule = ORACLES["adafactor"](b1=0.5, clip_threshold=0.5)
    first, second = rule.step(g, p), rule.step(g, 10 * p)
    rms = np.sqrt(0.5)  # of p; u = (1, 1) is clipped to (0.5, 0.5), of which m holds a half and then three quarters
    np.testing.assert_allclose(first, np.full(2, rms * 0.25), rtol=ROUNDING)
    np.testing.assert_allclose(second, np.full(2, 10 * rms * 0.375), rtol=ROUNDING)


@pytest.mark.parametrize("shape", [inputs.LEAVES[k] for k in (*inputs.MATRICES, "stack")], ids=str)
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_muon_moves_the_singular_values_alone(shape: tuple[int, ...], eps: float):
    """The polynomial of the iteration on each singular value, by a decomposition that never forms a Gram matrix."""
    g = uniform(-1, 1, shape)
    left, values, right = np.linalg.svd(g, full_matrices=False)
    x = values / (np.sqrt(np.sum(values**2, axis=-1, keepdims=True)) + eps)
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    want = np.sqrt(max(1.0, shape[-1] / shape[-2])) * (left * x[..., None, :]) @ right
    rule = ORACLES["muon"](decay=0.0, eps=eps)
    np.testing.assert_allclose(rule.step(g), want, rtol=0, atol=ITERATED)


@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_a_stack_is_its_matrices_one_by_one(name: str):
    hyper = {"clip_threshold": 1e9, "scale_parameter": False} if name == "adafactor" else {}  # both see the whole array
    whole, parts = ORACLES[name](**hyper), [ORACLES[name](**hyper) for _ in range(2)]
    for seed in range(3):
        g = uniform(-1, 1, (2, 4, 3), seed)
        want = np.stack([direction(rule, x, x) for rule, x in zip(parts, g, strict=True)])
        np.testing.assert_allclose(direction(whole, g, g), want, rtol=0, atol=ITERATED)


def test_muon_takes_matrices_only():
    grads = inputs.gradients(1.0)
    with pytest.raises(ValueError, match="pass only the matrices"):
        trajectory("muon", {}, inputs.parameters(), grads, inputs.learning_rates("constant", 0.01))
    only = [{"w": g["w"]} for g in grads]
    a, b = (
        trajectory("muon", {}, inputs.parameters(["w"]), steps, inputs.learning_rates("constant", 0.01), max_norm=2.0)
        for steps in (grads, only)
    )
    assert np.array_equal(a[-1]["w"], b[-1]["w"]), "the gradient of a leaf that is not trained counted"
