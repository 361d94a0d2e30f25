"""Inside optax: chains, inject_hyperparams, MultiSteps, partition, with value= passed as a trainer would."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx

DESCENT = 300  # steps


def quadratic(x):
    return jnp.sum((x - jnp.array([1.0, -2.0, 0.5])) ** 2)


def descend(opt, steps: int = DESCENT):
    """(parameters, state) of any optax transformation on a quadratic, with value= passed as a trainer would."""

    def body(carry, _):
        p, s = carry
        value, g = jax.value_and_grad(quadratic)(p)
        updates, s = optax.with_extra_args_support(opt).update(g, s, p, value=value)
        return (optax.apply_updates(p, updates), s), None

    return jax.jit(lambda p: jax.lax.scan(body, (p, opt.init(p)), None, length=steps)[0])(jnp.zeros(3))


def test_inside_a_chain():
    chained = optax.chain(optax.clip_by_global_norm(1.0), adaptx.adam(0.05))
    p, state = descend(chained)
    same, _ = descend(adaptx.adam(0.05, max_norm=1.0))
    np.testing.assert_allclose(p, same, rtol=1e-5, atol=1e-6)
    assert int(adaptx.read(state, "step")) == DESCENT
    assert float(adaptx.read(state, "learning_rate")) == pytest.approx(0.05)
    assert set(adaptx.metrics(state)) == {"learning_rate"}


def test_pieces_make_the_optimizer():
    """adam = chain(scale_by_rule(Adam), scale(−lr)); sgd with an exponential average = chain(ema, scale)."""
    p, _ = descend(optax.chain(adaptx.scale_by_rule(adaptx.rules.Adam()), optax.scale(-0.05)))
    np.testing.assert_allclose(p, descend(adaptx.adam(0.05))[0], rtol=1e-5, atol=1e-6)
    p, _ = descend(optax.chain(adaptx.ema(0.9, debias=False), optax.scale(-0.05)))
    np.testing.assert_allclose(p, descend(adaptx.momentum(0.05, dampening=0.9))[0], rtol=1e-5, atol=1e-6)
    p, _ = descend(optax.chain(adaptx.ema(0.9, debias=False), adaptx.bias_correction(0.9), optax.scale(-0.05)))
    np.testing.assert_allclose(p, descend(optax.chain(adaptx.ema(0.9), optax.scale(-0.05)))[0], rtol=1e-5, atol=1e-6)


def test_against_optax_on_a_quadratic():
    np.testing.assert_allclose(descend(adaptx.adam(0.05))[0], descend(optax.adam(0.05))[0], rtol=1e-3, atol=1e-4)
    ours, theirs = adaptx.adamw(0.05, weight_decay=0.1), optax.adamw(0.05, weight_decay=0.1)
    np.testing.assert_allclose(descend(ours)[0], descend(theirs)[0], rtol=1e-3, atol=1e-4)


def test_inject_hyperparams():
    """optax's wrapper may build the optimizer from a schedule inside its update."""
    wrapped = optax.inject_hyperparams(adaptx.adam)(learning_rate=optax.linear_schedule(0.1, 0.01, 50))
    p, state = descend(wrapped)
    want, _ = descend(adaptx.adam(optax.linear_schedule(0.1, 0.01, 50)))
    np.testing.assert_allclose(p, want, rtol=1e-4, atol=1e-5)
    assert float(state.hyperparams["learning_rate"]) == pytest.approx(0.01)
    wrapped = optax.inject_hyperparams(adaptx.adamw)(0.05, b2=0.99, weight_decay=0.1, decay_mask=lambda path, x: True)
    np.testing.assert_allclose(
        descend(wrapped)[0], descend(adaptx.adamw(0.05, b2=0.99, weight_decay=0.1))[0], rtol=1e-4
    )


def test_multi_steps():
    """Four micro-batches of one gradient are one step of it."""
    multi = optax.MultiSteps(adaptx.adam(0.05), 4)
    p, state = jnp.zeros(3), multi.init(jnp.zeros(3))
    for _ in range(12):
        updates, state = multi.update(jax.grad(quadratic)(p), state, p)
        p = optax.apply_updates(p, updates)
    want, _ = descend(adaptx.adam(0.05), 3)
    np.testing.assert_allclose(p, want, rtol=1e-5)
    assert int(state.inner_opt_state.step) == 3


def test_masked_and_partition():
    """Our optimizers inside optax's own routing."""
    p = {"a": jnp.ones(2), "b": jnp.ones(2)}
    routed = optax.partition({"fast": adaptx.adam(0.1), "frozen": optax.set_to_zero()}, {"a": "fast", "b": "frozen"})
    updates, state = routed.update(p, routed.init(p), p)
    assert np.all(np.asarray(updates["a"]) < 0)
    assert not np.any(updates["b"])
    assert float(adaptx.read(state, "learning_rate")) == pytest.approx(0.1)
