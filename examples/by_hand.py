"""A three-layer network whose forward and backward passes are written out by hand, checked against jax.grad.

    python examples/by_hand.py

Layers 2-16-16-1 with tanh, mean squared error, on the function sin(3x₁)·x₂. The hand-written pass is NumPy and follows
the chain rule line by line; its gradients equal jax.grad's, and adaptx trains with them: an optimizer needs gradients,
not a framework.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

import adaptx

SIZES = (2, 16, 16, 1)


def init(seed=0):
    """w1 (2, 16), b1 (16,), w2 (16, 16), b2 (16,), w3 (16, 1), b3 (1,)."""
    rng = np.random.default_rng(seed)
    params = {}
    for i, (n_in, n_out) in enumerate(pairwise(SIZES), start=1):
        params[f"w{i}"] = (rng.normal(size=(n_in, n_out)) / n_in**0.5).astype(np.float32)
        params[f"b{i}"] = np.zeros(n_out, np.float32)
    return params


def forward(p, x):
    """The prediction (n, 1), and everything the way back needs. x (n, 2)."""
    h1 = np.tanh(x @ p["w1"] + p["b1"])  # (n, 16)
    h2 = np.tanh(h1 @ p["w2"] + p["b2"])  # (n, 16)
    return h2 @ p["w3"] + p["b3"], (x, h1, h2)


def backward(p, saved, out, y):
    """Gradients of mean((out − y)²) with respect to every parameter, by the chain rule."""
    x, h1, h2 = saved
    d_out = 2 * (out - y) / len(y)  # (n, 1)      dL/d out
    d_a2 = (d_out @ p["w3"].T) * (1 - h2**2)  # (n, 16)     through tanh' = 1 − tanh²
    d_a1 = (d_a2 @ p["w2"].T) * (1 - h1**2)  # (n, 16)
    return {
        "w1": x.T @ d_a1, "b1": d_a1.sum(0),
        "w2": h1.T @ d_a2, "b2": d_a2.sum(0),
        "w3": h2.T @ d_out, "b3": d_out.sum(0),
    }  # fmt: skip


def loss(p, x, y):
    """The same loss for jax.grad."""
    h1 = jnp.tanh(x @ p["w1"] + p["b1"])
    h2 = jnp.tanh(h1 @ p["w2"] + p["b2"])
    return jnp.mean((h2 @ p["w3"] + p["b3"] - y) ** 2)


def main():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, size=(256, 2)).astype(np.float32)  # (256, 2)
    y = np.sin(3 * x[:, :1]) * x[:, 1:]  # (256, 1)
    params = init()

    out, saved = forward(params, x)
    by_hand, by_jax = backward(params, saved, out, y), jax.grad(loss)(params, x, y)
    worst = max(float(np.abs(by_hand[name] - by_jax[name]).max()) for name in params)
    print(f"largest difference between the hand-written gradients and jax.grad: {worst:.1e}")
    assert worst < 1e-6

    opt = adaptx.adam(0.02)
    state = opt.init(params)
    step = jax.jit(opt.step)
    first = float(np.mean((out - y) ** 2))
    for t in range(500):
        out, saved = forward(params, x)
        grads = backward(params, saved, out, y)
        params, state = step(grads, state, params)
        params = {name: np.asarray(p) for name, p in params.items()}
        if t % 100 == 0:
            print(f"step {t:3d}   loss {np.mean((out - y) ** 2):.5f}")
    last = float(loss(params, x, y))
    print(f"step 500   loss {last:.5f}")
    assert last < first / 50


if __name__ == "__main__":
    main()
