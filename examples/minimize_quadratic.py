"""Minimize w²/2 from w = 1 with momentum and with Adam, and watch the learning rate at work.

    python examples/minimize_quadratic.py

The gradient is w itself, so momentum has a closed form to compare with: v ← 0.9 v + w, w ← w − 0.1 v is the linear
recurrence w' = (1 + 0.9 − 0.1) w − 0.9 w_before. Adam's first step is the learning rate, whatever the gradient.
"""

import jax
import jax.numpy as jnp

import adaptx


def loss(w):
    return w**2 / 2


def minimize(opt, steps):
    """The path w₀ … w_steps, a list of floats."""

    @jax.jit
    def step(w, state):
        return opt.step(jax.grad(loss)(w), state, w)

    w = jnp.array(1.0)
    state = opt.init(w)
    path = [float(w)]
    for _ in range(steps):
        w, state = step(w, state)
        path.append(float(w))
    return path


def recurrence(steps):
    """The same path of momentum, in Python floats."""
    path = [1.0, 0.9]
    while len(path) <= steps:
        path.append((1 + 0.9 - 0.1) * path[-1] - 0.9 * path[-2])
    return path


def main():
    momentum = minimize(adaptx.momentum(0.1, decay=0.9), steps=200)
    adam = minimize(adaptx.adam(0.1), steps=200)
    for t in (0, 1, 10, 50, 100, 200):
        print(f"step {t:3d}   momentum w = {momentum[t]:+.6f}   adam w = {adam[t]:+.6f}")

    exact = recurrence(200)
    assert max(abs(a - b) for a, b in zip(momentum, exact, strict=True)) < 1e-5  # f32 against f64
    assert abs(adam[1] - 0.9) < 1e-6  # one step of the learning rate, 0.1
    assert abs(momentum[-1]) < 1e-3
    assert abs(adam[-1]) < 1e-2
    print("both reach the minimum; momentum follows its closed form")


if __name__ == "__main__":
    main()
