"""benchmarks/peers.py: the rows of the step-time benchmark name real peers, and say rightly whose step is the same."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptx import optimizers

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))  # benchmarks are scripts: their folder is what they import from

import peers  # noqa: E402
import programs  # noqa: E402
import rivals  # noqa: E402

TREE = {"wte": (5, 4), "h0.attn.c_attn.w": (12, 4), "h0.attn.c_attn.b": (12,), "h1.mlp.c_fc.w": (8, 4)}
STEPS = 5
SAME = 2e-3  # of the largest change of a parameter: f32, and a sign may flip nowhere
ROWS = {**{name: lambda name=name: rivals.ROWS[name] for name in rivals.ROWS},
        **{name: peers.MAKERS[name] for name in peers.NAMES}}  # fmt: skip


def numbers(seed, scale):
    """A tree of normal numbers of which none is near 0."""
    draw = np.random.default_rng(seed)
    return {name: jnp.asarray(scale * np.sign(x) * (0.5 + np.abs(x)), jnp.float32)
            for name, x in ((name, draw.standard_normal(shape)) for name, shape in TREE.items())}  # fmt: skip


def stepped(opt, params, grads):
    step = jax.jit(rivals.step_function(opt))
    state = opt.init(params)
    for _ in range(STEPS):
        params, state = step(params, state, grads)
    return params


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if row().beside else name for name, row in ROWS.items()]
)
def test_a_row_whose_peer_is_the_same_takes_the_same_steps(name):
    row, params, grads = ROWS[name](), numbers(0, 0.02), numbers(1, 0.01)
    mine, theirs = (stepped(opt, params, grads) for opt in (row.adaptx, row.optax))
    for leaf in TREE:
        moved = np.abs(np.asarray(mine[leaf] - params[leaf]))
        assert np.all(np.isfinite(moved))
        assert np.any(np.abs(np.asarray(theirs[leaf] - params[leaf])) > 0)
        if row.same:
            np.testing.assert_allclose(mine[leaf], theirs[leaf], rtol=1e-6, atol=SAME * moved.max())


@pytest.mark.skipif(rivals.torch is None, reason="torch is compared where it is installed")
@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row().torch is not None])
def test_torch_s_peers_step_and_keep_as_much(name):
    row, params, grads = ROWS[name](), numbers(0, 0.02), numbers(1, 0.01)
    stepper = rivals.TorchStepper(row, params, grads)
    stepper(2)
    for leaf, x in stepper.params.items():
        assert np.any(x.detach().cpu().numpy() != np.asarray(params[leaf])), leaf
    assert stepper.state_bytes() >= 0
    if name in ("momentum", "adam", "muon"):  # torch keeps a step number of every leaf besides
        kept = programs.state_bytes(row.adaptx, params)
        assert stepper.state_bytes() == pytest.approx(kept, abs=40)


def test_what_has_a_row_is_an_optimizer():
    assert set(peers.NAMES) <= set(optimizers.ALL)
    assert {"adafactor", "muon", "lion"} <= set(peers.NAMES)
    assert "muon" not in peers.default_rows()
    assert peers.MAKERS["soap"]().period == peers.EVERY if "soap" in peers.NAMES else True


def test_a_timing_takes_whole_periods():
    taken = []

    class Call:
        def __call__(self, steps):
            taken.append(steps)
            return jnp.zeros(())

    programs.step_ms({"a": Call()}, 2, 1e-9, 0, period=10)
    assert taken == [2, 2, 10, 10]
