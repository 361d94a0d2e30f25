"""What recipe_tasks.py trains on: perceptrons, a circle of Gaussians, a pole on a cart, users who click."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def mlp(key: jax.Array, *sizes: int) -> dict[str, Any]:
    """Fresh layers of a perceptron."""
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(sizes, sizes[1:], keys, strict=False)
    return {
        f"layer{i}": {"w": jax.random.normal(k, (n, m)) * jnp.sqrt(2 / n), "b": jnp.zeros(m)}
        for i, (n, m, k) in enumerate(pairs)
    }


def run(p: dict[str, Any], x: jax.Array) -> jax.Array:
    """The perceptron, with rectifiers between its layers."""
    for i in range(len(p)):
        x = (jax.nn.relu(x) if i else x) @ p[f"layer{i}"]["w"] + p[f"layer{i}"]["b"]
    return x


def circle(key: jax.Array, count: int) -> jax.Array:
    """Points of eight Gaussians of width 0.1 on the circle of radius 2."""
    first, second = jax.random.split(key)
    angle = 2 * jnp.pi * jax.random.randint(first, (count,), 0, 8) / 8
    return 2 * jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1) + 0.1 * jax.random.normal(second, (count, 2))


def energy_distance(x: jax.Array, y: jax.Array) -> jax.Array:
    """2 E|x − y| − E|x − x′| − E|y − y′|, of Székely: 0 where both have one distribution."""

    def apart(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum((a[:, None] - b) ** 2, -1) + 1e-12)

    n = len(x)
    same = (jnp.sum(apart(x, x)) + jnp.sum(apart(y, y))) / (n * (n - 1))
    return jnp.maximum(2 * jnp.mean(apart(x, y)) - same, 1e-4)


def balanced(policy: Callable[[jax.Array], jax.Array], key: jax.Array, count: int, steps: int = 200) -> Any:
    """(observations, actions, whether the pole still stands) of some carts, (steps, count, …).

    The cart and pole of Barto, Sutton & Anderson, 1983: a push of ±10 N for 0.02 s; fallen beyond 12° or 2.4 m.
    """
    start, acting = jax.random.split(key)

    def step(carry: Any, k: jax.Array) -> Any:
        state, alive = carry
        action = jax.random.categorical(k, policy(state))
        x, v, angle, turn = jnp.moveaxis(state, -1, 0)
        push = jnp.where(action == 1, 10.0, -10.0)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        pull = (push + 0.05 * turn**2 * sin) / 1.1
        spin = (9.8 * sin - cos * pull) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        speed = pull - 0.05 * spin * cos / 1.1
        new = jnp.stack([x + 0.02 * v, v + 0.02 * speed, angle + 0.02 * turn, turn + 0.02 * spin], -1)
        stands = alive * ((jnp.abs(new[..., 0]) < 2.4) & (jnp.abs(new[..., 2]) < 0.2095))
        kept = jnp.where(stands[:, None] > 0, new, state)
        return (kept, stands), (state, action, alive)

    first = jax.random.uniform(start, (count, 4), minval=-0.05, maxval=0.05)
    _, seen = lax.scan(step, (first, jnp.ones(count)), jax.random.split(acting, steps))
    return lax.stop_gradient(seen)


def discounted(rewards: jax.Array, gamma: float) -> jax.Array:
    """Σ γᵏ r_{t+k} of every step, along axis 0."""

    def back(after: jax.Array, r: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = r + gamma * after
        return total, total

    return lax.scan(back, jnp.zeros_like(rewards[0]), rewards, reverse=True)[1]


def zipf(key: jax.Array, size: int, count: int) -> jax.Array:
    """Numbers below size, the i-th with a probability of 1/(i + 1) of the first's."""
    below = jnp.cumsum(1 / jnp.arange(1.0, size + 1))
    return jnp.searchsorted(below, below[-1] * jax.random.uniform(key, (count,)), side="right")


def clicks(key: jax.Array, users: int, items: int, count: int) -> Any:
    """(user, item, clicked): both drawn by Zipf's law, a click by the product of hidden tastes of eight dimensions."""
    keys = jax.random.split(key, 3)
    taste = jax.random.normal(jax.random.key(1), (users, 8)) / 8**0.5
    kind = 2 * jax.random.normal(jax.random.key(2), (items, 8))
    user, item = zipf(keys[0], users, count), zipf(keys[1], items, count)
    odds = jnp.sum(taste[user] * kind[item], -1)
    return user, item, (jax.random.uniform(keys[2], (count,)) < jax.nn.sigmoid(odds)).astype(jnp.float32)
