"""Train a network on handwritten digits without ever giving a learning rate.

    python examples/no_learning_rate.py            (needs scikit-learn: pip install 'adaptx[race]')

Prodigy estimates how far the solution is and steps accordingly; a cosine to zero is what its authors combine it with.
`adam(prodigy() * cosine)`: a controller goes wherever a learning rate goes, and a schedule multiplies it.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import adaptx

STEPS, BATCH = 600, 64


def data():
    """Pixels in [0, 1]: training x (1437, 64), y (1437,), test x (360, 64), y (360,)."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x / 16).astype(np.float32)[order], y.astype(np.int32)[order]
    return (x[360:], y[360:]), (x[:360], y[:360])


def init(key):
    k1, k2 = jax.random.split(key)
    return {
        "w1": jax.random.normal(k1, (64, 64)) * (2 / 64) ** 0.5,
        "b1": jnp.zeros(64),
        "w2": jax.random.normal(k2, (64, 10)) * (1 / 64) ** 0.5,
        "b2": jnp.zeros(10),
    }


def logits(params, x):
    """x (..., 64) -> (..., 10)."""
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss(params, x, y):
    """Mean cross entropy: x (batch, 64), y (batch,)."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y))


def main():
    (x, y), (x_test, y_test) = data()
    rows = np.random.default_rng(1).integers(0, len(x), (STEPS, BATCH))

    cosine = adaptx.schedules.cosine_decay_schedule(1.0, STEPS)
    opt = adaptx.adam(adaptx.controllers.prodigy() * cosine)
    print(opt)
    params = init(jax.random.key(0))
    epoch = adaptx.train_epoch(loss, opt)
    params, state, metrics = epoch(params, opt.init(params), x[rows], y[rows])

    for t in (0, 5, 10, 20, 50, 100, 300, STEPS - 1):
        rate, d = metrics["learning_rate"][t], metrics["d"][t]
        print(f"step {t:3d}   distance ≥ {d:.2e}   learning rate {rate:.2e}   loss {metrics['loss'][t]:.4f}")
    accuracy = float(jnp.mean(logits(params, x_test).argmax(-1) == y_test))
    print(f"test accuracy {accuracy:.3f} after {int(state.step)} steps, and nobody chose a rate")
    assert metrics["d"][0] < 2e-6 < 1e-3 < metrics["d"][-1]  # the estimate found the scale
    assert np.all(np.diff(metrics["d"]) >= 0)  # and never fell
    assert accuracy > 0.95


if __name__ == "__main__":
    main()
