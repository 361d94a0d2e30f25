"""A 10-32-2 network trained by the four classic optimizers for 1,000 steps each.

    python examples/two_layer_network.py

Two classes that no line separates: a point is in class 1 when the product of its first two coordinates is positive.
Every optimizer sees the same start and the same batches; the 1,000 steps are one dispatch of `train_epoch`.
"""

import jax
import jax.numpy as jnp
import optax

import adaptx

STEPS, BATCH = 1000, 64
OPTIMIZERS = {
    "momentum": adaptx.momentum(0.1, decay=0.9),
    "adagrad": adaptx.adagrad(0.1),
    "rmsprop": adaptx.rmsprop(0.01),
    "adam": adaptx.adam(0.01),
}


def init(key):
    """Two layers: w1 (10, 32), b1 (32,), w2 (32, 2), b2 (2,)."""
    k1, k2 = jax.random.split(key)
    return {
        "w1": jax.random.normal(k1, (10, 32)) * (2 / 10) ** 0.5,
        "b1": jnp.zeros(32),
        "w2": jax.random.normal(k2, (32, 2)) * (1 / 32) ** 0.5,
        "b2": jnp.zeros(2),
    }


def logits(params, x):
    """x (..., 10) -> (..., 2)."""
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"])  # (..., 32)
    return hidden @ params["w2"] + params["b2"]


def loss(params, x, y):
    """Mean cross entropy: x (batch, 10), y (batch,) of 0 and 1."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y))


def sample(key, shape):
    """x (*shape, 10) and y (*shape)."""
    x = jax.random.normal(key, (*shape, 10))
    return x, (x[..., 0] * x[..., 1] > 0).astype(jnp.int32)


def main():
    k_init, k_train, k_test = jax.random.split(jax.random.key(0), 3)
    x, y = sample(k_train, (STEPS, BATCH))  # (1000, 64, 10), (1000, 64)
    x_test, y_test = sample(k_test, (2000,))  # (2000, 10), (2000,)
    accuracy = {}
    for name, opt in OPTIMIZERS.items():
        params = init(k_init)
        epoch = adaptx.train_epoch(loss, opt)
        params, state, metrics = epoch(params, opt.init(params), x, y)
        accuracy[name] = float(jnp.mean(logits(params, x_test).argmax(-1) == y_test))
        first, last = metrics["loss"][:20].mean(), metrics["loss"][-20:].mean()
        print(f"{name:9s} loss {first:.3f} -> {last:.3f}   test accuracy {accuracy[name]:.3f}")
        assert metrics["loss"].shape == (STEPS,)
        assert state.step == STEPS
        assert last < 0.6 * first
    assert min(accuracy.values()) > 0.85
    print(f"all four learn it; best on this problem: {max(accuracy, key=accuracy.get)}")


if __name__ == "__main__":
    main()
