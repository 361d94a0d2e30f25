"""The shield: training that blew up goes back, goes on at a smaller rate, and does not go back for ever."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_diabetes

import adaptx
from adaptx import controllers as c

STEPS = 1000


def regression() -> tuple[Any, dict]:
    """(loss(p), start) of least squares on the diabetes set, both sides standardized; its gradient is 4-Lipschitz."""
    x, y = load_diabetes(return_X_y=True)
    x, y = ((v - v.mean(0)) / v.std(0) for v in (x, y))
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    return lambda p: 0.5 * jnp.mean((x @ p["w"] + p["b"] - y) ** 2), {"w": jnp.zeros(10), "b": jnp.zeros(())}


def train(opt: adaptx.Optimizer, loss: Any, start: dict, steps: int = STEPS) -> tuple[dict, np.ndarray, dict]:
    """(last parameters, losses, metrics by step)."""

    @jax.jit
    def run(p):
        def body(carry, _):
            value, g = jax.value_and_grad(loss)(carry[0])
            p, s = opt.step(g, carry[1], carry[0], value=value)
            return (p, s), (value, s.metrics)

        return jax.lax.scan(body, (p, opt.init(p)), length=steps)

    (p, _), (losses, metrics) = run(start)
    return p, np.asarray(losses), {name: np.asarray(x) for name, x in metrics.items()}


ABSURD = {  # 1 / L is 0.25: a hundred to ten thousand times too much
    "hypergradient": (adaptx.sgd, lambda: c.hypergradient(1e4, hyper_lr=0.02)),
    "plateau": (adaptx.momentum, lambda: c.plateau(1e3)),
    "additive": (adaptx.sgd, lambda: c.hypergradient(30.0, "additive")),
}


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_rate_is_survived(name: str):
    make, controller = ABSURD[name]
    loss, start = regression()
    _, bare, _ = train(make(controller()), loss, start)
    p, losses, metrics = train(adaptx.shield(make(controller()), block=20), loss, start)
    assert not bare[-1] < losses[0]  # what the shield is against: NaN, or worse than the start
    assert np.isfinite(jax.tree.leaves(p)[0]).all()
    assert losses[-1] < 0.55 * losses[0]  # the minimum is at 0.48
    rollbacks = metrics["rollbacks"]
    assert 0 < rollbacks[-1] < 60
    # the hypergradient's own rate rises until it blows up again; the others must be left in peace
    assert rollbacks[-1] - rollbacks[STEPS // 2] <= (5 if name == "hypergradient" else 0)
    np.testing.assert_allclose(metrics["shield"][-1], 0.2 ** rollbacks[-1], rtol=1e-5)


def test_a_calm_training_is_left_alone():
    loss, start = regression()
    bare = adaptx.adam(c.plateau(0.01))
    calm = [train(opt, loss, start, 300) for opt in (bare, adaptx.shield(bare))]
    np.testing.assert_allclose(calm[1][1], calm[0][1], rtol=1e-5)
    assert calm[1][2]["rollbacks"][-1] == 0


def step(opt: adaptx.Optimizer, p: dict, s: Any, value: float, g: float = 1.0) -> tuple[dict, Any]:
    return opt.step({"w": jnp.full(3, g)}, s, p, value=value)


@pytest.mark.parametrize("rule", [adaptx.adam, adaptx.momentum])
def test_what_a_rollback_does(rule):
    opt = adaptx.shield(rule(c.plateau(0.1, patience=1000)), block=4)
    p = {"w": jnp.arange(3.0)}
    s, seen = opt.init(p), []
    for t in range(10):
        seen.append(p["w"])
        p, s = step(opt, p, s, 1.0 - 0.01 * t)
    snapshot = seen[7]  # where the loss of the second block's last step was taken
    gone = {"w": jnp.array([jnp.inf, jnp.nan, 1e30])}
    p, s = step(opt, gone, s, jnp.nan, jnp.nan)
    assert np.array_equal(p["w"], snapshot)  # to the last bit, from wherever it was
    assert all(not np.any(slot) for slot in jax.tree.leaves(s.inner.slots))
    assert adaptx.read(s, "rollbacks") == 1

    # from here on it runs as a fresh optimizer with a fifth of the rate
    fresh = rule(0.02)
    q, r = p, fresh.init(p)
    for t in range(5):
        p, s = step(opt, p, s, 5.0 + t)  # above the old reference, which is forgotten
        q, r = step(fresh, q, r, 0.0)
        np.testing.assert_allclose(p["w"], q["w"], rtol=1e-6)
    assert adaptx.read(s, "rollbacks") == 1
    assert adaptx.read(s, "learning_rate") == pytest.approx(0.02)


def test_a_spike_of_a_block_goes_back_and_sets_a_new_reference():
    opt = adaptx.shield(adaptx.sgd(c.plateau(0.1, patience=1000)), block=3)
    p = {"w": jnp.zeros(3)}
    s, rollbacks = opt.init(p), []
    for value in [1.0] * 6 + [1.9] * 3 + [2.1] * 3 + [9.0] * 6 + [30.0] * 3:
        p, s = step(opt, p, s, value)
        rollbacks.append(int(adaptx.read(s, "rollbacks")))
    # 1.9 ≤ 1 + max(4·0, 1); then R = 1.9, so 2.1 stays; 9 > 4.2 goes back once; R = 9 after it; 30 > 18
    assert rollbacks == [0] * 14 + [1] * 6 + [2]


@pytest.mark.parametrize("inner", [c.dadapt, c.prodigy])
def test_bias_correction_starts_again_too(inner):
    """Prodigy and D-Adaptation carry Adam's correction in their rate: after a rollback it is that of a first step."""
    opt = adaptx.shield(adaptx.adam(inner(d0=1e-2)), block=5)
    p = {"w": jnp.arange(3.0)}
    s = opt.init(p)
    p, s = step(opt, p, s, 1.0)
    first = adaptx.read(s, "learning_rate") / adaptx.read(s, "d")
    for _ in range(20):
        p, s = step(opt, p, s, 1.0)
    p, s = step(opt, p, s, jnp.nan)
    d = s.inner.control.scalars["d"]
    p, s = step(opt, p, s, 1.0)
    np.testing.assert_allclose(adaptx.read(s, "learning_rate") / d, 0.2 * first, rtol=1e-5)


def test_update_goes_back_from_finite_parameters():
    opt = adaptx.shield(adaptx.adam(c.plateau(0.1)), block=4)
    p = {"w": jnp.arange(3.0)}
    updates, _ = opt.update(p, opt.init(p), {"w": jnp.full(3, 8.0)}, value=jnp.nan)
    np.testing.assert_allclose(updates["w"], p["w"] - 8)


def test_what_the_optimizer_inside_skips_is_counted_there_and_not_here():
    opt = adaptx.shield(adaptx.adam(0.1, skip_nonfinite=True))
    p = {"w": jnp.ones(3)}
    nan = {"w": jnp.full(3, jnp.nan)}
    q, s = opt.step(nan, opt.init(p), p, value=1.0)
    chex.assert_trees_all_equal(q, p)
    shown = {name: float(x) for name, x in adaptx.metrics(s).items()}
    assert (shown["skipped"], shown["skipped_in_a_row"], shown["rollbacks"], shown["shield"]) == (1, 1, 0, 1)


def test_an_optimizer_that_gathers_gradients_steps_inside():
    """Micro-batches are no steps of the shield, and what was gathered of them is kept."""
    p = {"w": jnp.ones(3)}
    gathering = optax.MultiSteps(adaptx.sgd(0.1), 2)
    shielded, bare = adaptx.shield(gathering.gradient_transformation()), (p, gathering.init(p))
    q, s = p, shielded.init(p)
    for _ in range(4):
        q, s = shielded.step(p, s, q, value=1.0)
        updates, state = gathering.update(p, bare[1], bare[0])
        bare = optax.apply_updates(bare[0], updates), state
        chex.assert_trees_all_close(q, bare[0], rtol=1e-6)
    assert int(s.scalars["t"]) == 2
