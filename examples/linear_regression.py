"""Linear regression on 1,000 × 10 numbers by full-batch, stochastic and mini-batch gradient descent.

    python examples/linear_regression.py

y = X w + b + noise. One optimizer, three batch sizes: all 1,000 rows a step, one row a step, 50 rows a step. The
answer to compare with is the least-squares solution.
"""

import jax.numpy as jnp
import numpy as np

import adaptx

ROWS, COLUMNS, NOISE = 1000, 10, 0.1


def make_data(seed=0):
    """X (1000, 10), y (1000,)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, COLUMNS))
    w = rng.normal(size=COLUMNS)
    y = x @ w + 3.0 + NOISE * rng.normal(size=ROWS)
    return x.astype(np.float32), y.astype(np.float32)


def loss(params, x, y):
    """Mean squared error over a batch: x (batch, 10), y (batch,)."""
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def epochs_of(x, y, batch, epochs, seed=1):
    """Shuffled batches of some epochs: (steps, batch, 10) and (steps, batch)."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(ROWS) for _ in range(epochs)])
    return x[order].reshape(-1, batch, COLUMNS), y[order].reshape(-1, batch)


def train(learning_rate, batch, epochs, x, y):
    """(parameters, the loss of every step), all steps in one dispatch."""
    opt = adaptx.sgd(learning_rate)
    params = {"w": jnp.zeros(COLUMNS), "b": jnp.zeros(())}
    epoch = adaptx.train_epoch(loss, opt)
    params, _, metrics = epoch(params, opt.init(params), *epochs_of(x, y, batch, epochs))
    return params, metrics["loss"]


def main():
    x, y = make_data()
    best, *_ = np.linalg.lstsq(np.c_[x, np.ones(ROWS)], y, rcond=None)  # (11,)
    floor = float(loss({"w": jnp.asarray(best[:-1]), "b": jnp.asarray(best[-1])}, x, y))
    print(f"least squares: loss {floor:.5f}")

    plans = {"full batch": (0.1, ROWS, 200), "stochastic": (0.005, 1, 5), "mini-batch": (0.05, 50, 20)}
    for name, (learning_rate, batch, epochs) in plans.items():
        params, losses = train(learning_rate, batch, epochs, x, y)
        final = float(loss(params, x, y))
        distance = float(np.abs(np.append(params["w"], params["b"]) - best).max())
        print(f"{name:11s} {len(losses):5d} steps of {batch:4d} rows: loss {final:.5f}, off by at most {distance:.1e}")
        assert final < 1.2 * floor  # noise of the step for small batches, none for the full one
        assert distance < (1e-4 if batch == ROWS else 0.05)
    print("all three find the least-squares solution")


if __name__ == "__main__":
    main()
