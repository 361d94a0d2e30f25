"""Links of a chain on known figures: exponential averages, and the factors by which Adam corrects them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx

X = jnp.arange(1.0, 6.0)
FIGURES = {0.1: [1, 1.9, 2.89, 3.889, 4.8889], 0.9: [1, 1.1, 1.29, 1.561, 1.9049]}  # the weight of what was
FACTORS = {  # 1 / (1 − βᵗ) after steps 1, 5, 50 and 100
    0.9: ([10, 2.44, 1.005, 1.00003], 4e-3),
    0.999: ([1000, 200.4, 20.5, 10.5], 3e-3),
}
T = np.array([1, 5, 50, 100])


@pytest.mark.parametrize("decay", FIGURES)
def test_an_average_that_begins_at_the_first_value(decay):
    """β is the weight of the old value: 0.1 follows, 0.9 remembers."""
    average = adaptx.ema(decay, debias=False, start="first")
    np.testing.assert_allclose(average.over(X), FIGURES[decay], rtol=1e-6)
    state, out = average.init(X[0]), []
    for x in X:  # as a link of a chain
        u, state = average.update(x, state)
        out.append(float(u))
    np.testing.assert_allclose(out, FIGURES[decay], rtol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 0.1, 0.9, 0.999])
def test_one_that_begins_at_zero_and_its_correction(decay):
    m, plain, corrected = 0.0, [], []
    for t, x in enumerate(range(1, 6), start=1):
        m = decay * m + (1 - decay) * x
        plain.append(m), corrected.append(m / (1 - decay**t))
    np.testing.assert_allclose(adaptx.ema(decay, debias=False).over(X), plain, rtol=2e-6)
    np.testing.assert_allclose(adaptx.ema(decay).over(X), corrected, rtol=2e-6)
    both = optax.chain(adaptx.ema(decay, debias=False), adaptx.bias_correction(decay))
    state, out = both.init(X[0]), []
    for x in X:
        u, state = both.update(x, state)
        out.append(float(u))
    np.testing.assert_allclose(out, corrected, rtol=2e-6)


@pytest.mark.parametrize("decay", FACTORS)
def test_adam_s_corrections_after_any_step(decay):
    table = np.asarray(adaptx.bias_correction(decay).over(jnp.ones(T.max())), np.float64)
    np.testing.assert_allclose(table, 1 / (1 - decay ** np.arange(1.0, T.max() + 1)), rtol=3e-7)
    figures, digits = FACTORS[decay]
    np.testing.assert_allclose(table[T - 1], figures, rtol=digits)
    many = adaptx.bias_correction(decay).over(jnp.ones((100, 3, 2)))
    np.testing.assert_array_equal(many, np.broadcast_to(table[:, None, None], (100, 3, 2)))


def test_these_are_the_corrections_that_adam_makes():
    """With gradients of 1 and no ε its moments are 1 − βᵗ, so that every direction is 1."""
    raw = adaptx.scale_by_rule(adaptx.rules.Adam(eps=0.0, debias=False)).over(jnp.ones(100))
    factor = adaptx.bias_correction(0.9).over(raw) / jnp.sqrt(adaptx.bias_correction(0.999).over(jnp.ones(100)))
    np.testing.assert_allclose(factor, adaptx.scale_by_rule(adaptx.rules.Adam(eps=0.0)).over(jnp.ones(100)), rtol=3e-6)
    np.testing.assert_allclose(factor, 1, rtol=3e-6)


def test_a_first_value_needs_no_correction():
    with pytest.raises(ValueError, match="no bias to correct"):
        adaptx.ema(0.9, start="first")


def test_averages_of_trees_and_narrow_numbers():
    values = {"a": jnp.arange(6.0, dtype=jnp.bfloat16).reshape(3, 2), "b": jnp.arange(3.0)}
    average = adaptx.ema(0.5, debias=False, start="first")

    def one(state, x):
        u, state = average.update(x, state)
        return state, u

    first = jax.tree.map(lambda x: x[0], values)
    _, out = jax.lax.scan(one, average.init(first), values)
    assert out["a"].dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(out["a"]), [[0, 1], [1, 2], [2.5, 3.5]])
    np.testing.assert_allclose(out["b"], [0, 0.5, 1.25])
