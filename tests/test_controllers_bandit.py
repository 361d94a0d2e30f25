"""The bandit: its equations on given losses, and that it mends bad rates in both directions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

import adaptx
from adaptx import controllers as c
from adaptx.bits import counter_uniform

EXACT = 1e-12  # relative: the same float64 formulas, whose draws would differ outright
LOSSES = np.exp(-0.02 * np.arange(240)) * (1 + 0.3 * np.random.RandomState(5).uniform(size=240)) + 0.01


def by_hand(losses: Any, arms: tuple, discount: float, sharpness: float, explore: float, optimism: float, period: int):
    """The factor on the rate after every loss, from the docstring's equations; floor 0.01, seed 3."""
    factor, out, block = 1.0, [], []
    rewards, pulls, arm, before, usual, power = np.zeros(len(arms)), np.zeros(len(arms)), None, None, 0.0, 0.0
    for loss in losses:
        block.append(loss)
        if len(block) == period:
            mean, block = np.mean(block), []
            rewards, pulls = discount * rewards, discount * pulls
            if arm is not None:
                surprise = np.log(before - 0.01) - np.log(mean - 0.01) - usual
                usual += 0.1 * surprise
                power = 0.9 * power + 0.1 * surprise**2 if power else surprise**2
                rewards[arm] += np.clip(surprise / np.sqrt(power), -2, 2)
                pulls[arm] += 1
            weights = np.exp(sharpness * rewards / (pulls + 1)) * np.asarray(arms) ** optimism
            chances = (1 - explore) * weights / weights.sum() + explore / len(arms)
            dice = float(counter_uniform(3, (len(out) + 1) // period - 1))
            arm, before = int(np.sum(np.cumsum(chances) <= dice)), mean
            factor = float(np.clip(factor * arms[arm], 0.2, 3.0))
        out.append(factor)
    return np.asarray(out)


@pytest.mark.parametrize(
    "options",
    [
        {"arms": (0.7, 1.0, 1.4), "discount": 0.8, "sharpness": 6.0, "explore": 0.2, "optimism": 0.75, "period": 20},
        {"arms": (0.5, 2.0), "discount": 0.5, "sharpness": 1.0, "explore": 1.0, "optimism": 0.0, "period": 1},
        {
            "arms": (0.5, 0.9, 1.1, 2.0),
            "discount": 0.95,
            "sharpness": 3.0,
            "explore": 0.05,
            "optimism": 0.2,
            "period": 7,
        },
    ],
)
def test_the_equations(options: dict, x64):
    opt = adaptx.sgd(c.bandit(0.1, **options, min_factor=0.2, max_factor=3.0, floor=0.01, seed=3))
    p = jnp.zeros(())

    def body(s, loss):
        s = opt.update(p, s, p, value=loss)[1]
        return s, s.control.scalars["factor"]

    got = jax.lax.scan(body, opt.init(p), jnp.asarray(LOSSES))[1]
    want = by_hand(LOSSES, **options)
    np.testing.assert_allclose(got, want, rtol=EXACT)
    assert len(set(want)) > 5


def classify(opt: adaptx.Optimizer, steps: int = 1500) -> np.ndarray:
    """Final training losses of logistic regression, a tenth of the labels flipped, (rates of the batch, orders)."""
    x, y = load_breast_cancer(return_X_y=True)
    random = np.random.RandomState(0)
    y = np.where(random.uniform(size=len(y)) < 0.1, 1 - y, y)
    x, y = jnp.asarray((x - x.mean(0)) / x.std(0), jnp.float32), jnp.asarray(y, jnp.float32)
    orders = jnp.asarray(random.randint(len(y), size=(ORDERS, steps, 32)))

    def loss(p, x, y):
        z = x @ p
        return jnp.mean(jnp.logaddexp(0.0, z) - y * z)

    def train(opt, order):
        def body(carry, i):
            value, g = jax.value_and_grad(loss)(carry[0], x[i], y[i])
            return opt.step(g, carry[1], carry[0], value=value), None

        p = jnp.zeros(30)
        return loss(jax.lax.scan(body, (p, opt.init(p)), order)[0][0], x, y)

    return np.asarray(jax.jit(jax.vmap(jax.vmap(train, (None, 0)), (0, None)))(opt, orders))


BEST = 0.38  # below the least loss any fixed rate reaches
ORDERS = 5  # of the minibatches


@pytest.mark.parametrize(
    ("rule", "bad"), [(adaptx.sgd, (1e-4, 3.0)), (adaptx.momentum, (1e-5, 1.0)), (adaptx.adam, (1e-4, 1.0))]
)
def test_a_bad_rate_is_mended_in_both_directions(rule, bad: tuple):
    rates = jnp.asarray(bad)
    fixed, learned = classify(rule(rates)), classify(rule(c.bandit(rates)))
    gaps = np.exp(np.mean(np.log((learned - BEST) / (fixed - BEST)), axis=1))
    assert np.all(gaps < 0.5), f"fixed {fixed}, learned {learned}"
