"""A small model of every kind that `adaptx.recipes` has an optimizer for, for recipes.py. Nothing is downloaded.

A task has a loss of (parameters, key), which draws its minibatch from the key, and a measure of the trained parameters:
smaller is better. Keys depend on the seed and the step alone, never on the optimizer.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import precision_tasks as shared
import recipe_worlds as worlds
import target_tasks
from jax import lax

import adaptx

recipes = adaptx.recipes


class Task(NamedTuple):
    """Something to train."""

    init: Callable[[jax.Array], Any]  # key -> parameters
    loss: Callable[[Any, jax.Array], jax.Array]  # (parameters, key of the step) -> what is minimized
    measure: Callable[[Any, jax.Array], jax.Array]  # (parameters, key) -> what counts, smaller is better
    what: str  # the measure, in words
    steps: int
    recipe: Callable[..., Any]  # (steps, learning_rate) -> optimizer
    plain: Callable[[float], Any] = adaptx.adamw


def cnn() -> Task:
    """Two convolutions and two dense layers on 8 × 8 digits."""
    return of(target_tasks.digits(target_tasks.Sizes(channels=8)), 400, recipes.cnn, "held-out cross entropy, digits")


def of(task: Any, steps: int, recipe: Any, what: str) -> Task:
    """One of the tasks of other benchmarks."""
    x, y = task.unseen

    def loss(p: Any, key: jax.Array) -> jax.Array:
        return task.loss(p, *task.batch(key))

    return Task(task.init, loss, lambda p, key: task.loss(p, x, y), what, steps, recipe)


def transformer() -> Task:
    """A causal transformer of two layers and 115,000 parameters on characters."""

    def recipe(steps: int, **options: Any) -> Any:
        return recipes.transformer(steps, hidden="^block.*/(qkv|mix|up|down)$", **options)

    task = shared.characters(0)
    few = task._replace(unseen=tuple(x[:64] for x in task.unseen))
    return of(few, 300, recipe, "held-out cross entropy, characters")


def rnn() -> Task:
    """A gated recurrent unit of width 64 on characters."""
    width, task = 64, shared.characters(0)

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 4)
        gates = {"w": shared.normal(keys[1], 2 * width, 2 * width), "b": jnp.zeros(2 * width)}
        candidate = {"w": shared.normal(keys[2], 2 * width, width), "b": jnp.zeros(width)}
        head = {"w": shared.normal(keys[3], width, shared.SYMBOLS), "b": jnp.zeros(shared.SYMBOLS)}
        embed = 0.1 * jax.random.normal(keys[0], (shared.SYMBOLS, width))
        return {"embed": embed, "gates": gates, "candidate": candidate, "head": head}

    def mean_loss(p: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        def cell(h: jax.Array, e: jax.Array) -> tuple[jax.Array, jax.Array]:
            reset, keep = jnp.split(
                jax.nn.sigmoid(jnp.concatenate([e, h], -1) @ p["gates"]["w"] + p["gates"]["b"]), 2, -1
            )
            new = jnp.tanh(jnp.concatenate([e, reset * h], -1) @ p["candidate"]["w"] + p["candidate"]["b"])
            h = keep * h + (1 - keep) * new
            return h, h

        _, hs = lax.scan(cell, jnp.zeros((len(x), width)), jnp.moveaxis(p["embed"][x], 1, 0))
        return shared.cross_entropy(jnp.moveaxis(hs, 0, 1) @ p["head"]["w"] + p["head"]["b"], y)

    few = tuple(x[:64] for x in task.unseen)
    return of(task._replace(init=init, loss=mean_loss, unseen=few), 400, recipes.rnn,
              "held-out cross entropy, characters")  # fmt: skip


def gan() -> Task:
    """A generator of points in the plane against a discriminator; the data are eight Gaussians on a circle."""

    def init(key: jax.Array) -> Any:
        first, second = jax.random.split(key)
        return {"generator": worlds.mlp(first, 4, 64, 64, 2), "discriminator": worlds.mlp(second, 2, 64, 64, 1)}

    def made(p: Any, key: jax.Array, count: int) -> jax.Array:
        return worlds.run(p, jax.random.normal(key, (count, 4)))

    def loss(p: Any, key: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        true, fake = worlds.circle(first, 128), made(p["generator"], second, 128)
        judge, still = p["discriminator"], lax.stop_gradient(p["discriminator"])
        seen = jnp.mean(jax.nn.softplus(-worlds.run(judge, true)))
        seen += jnp.mean(jax.nn.softplus(worlds.run(judge, lax.stop_gradient(fake))))
        return seen + jnp.mean(jax.nn.softplus(-worlds.run(still, fake)))

    def measure(p: Any, key: jax.Array) -> jax.Array:
        first, second = jax.random.split(key)
        return worlds.energy_distance(made(p["generator"], first, 1000), worlds.circle(second, 1000))

    return Task(init, loss, measure, "energy distance to eight Gaussians", 2000, recipes.gan)


def policy_gradient() -> Task:
    """Advantage actor-critic on a pole on a cart."""

    def init(key: jax.Array) -> Any:
        first, second = jax.random.split(key)
        return {"policy": worlds.mlp(first, 4, 32, 2), "value": worlds.mlp(second, 4, 32, 1)}

    def loss(p: Any, key: jax.Array) -> jax.Array:
        still = lax.stop_gradient(p["policy"])
        seen, acts, alive = worlds.balanced(lambda x: worlds.run(still, x), key, 16)
        gain = worlds.discounted(alive, 0.98)
        values = worlds.run(p["value"], seen)[..., 0]
        ahead = lax.stop_gradient(gain / 50 - values)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(worlds.run(p["policy"], seen)), acts[..., None], -1)[..., 0]
        each = -log_p * ahead + (gain / 50 - values) ** 2
        return jnp.sum(alive * each) / jnp.sum(alive)

    def measure(p: Any, key: jax.Array) -> jax.Array:
        _, _, alive = worlds.balanced(lambda x: worlds.run(p["policy"], x), key, 64)
        return 1 + jnp.sum(1 - alive) / 64  # steps, and one, so that a pole that never falls has a logarithm

    return Task(init, loss, measure, "1 + steps of 200 at which the pole has fallen", 300, recipes.policy_gradient)


def recommender() -> Task:
    """Clicks of 2,000 users on 1,000 items, both met by Zipf's law: tables of embeddings under a perceptron."""
    users, items, size = 2000, 1000, 16

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 3)
        tables = {"users": 0.1 * jax.random.normal(keys[0], (users, size)),
                  "items": 0.1 * jax.random.normal(keys[1], (items, size))}  # fmt: skip
        return {"embeddings": tables, "top": worlds.mlp(keys[2], 3 * size, 32, 1)}

    def entropy(p: Any, key: jax.Array, count: int) -> jax.Array:
        user, item, clicked = worlds.clicks(key, users, items, count)
        u, i = p["embeddings"]["users"][user], p["embeddings"]["items"][item]
        score = worlds.run(p["top"], jnp.concatenate([u, i, u * i], -1))[:, 0] + jnp.sum(u * i, -1)
        return jnp.mean(jax.nn.softplus(score) - clicked * score)

    return Task(init, lambda p, key: entropy(p, key, 256), lambda p, key: entropy(p, key, 8192),
                "cross entropy of new clicks", 1500, recipes.recommender)  # fmt: skip


@cache
def learned() -> tuple[Any, Any]:
    """A perceptron of four layers that knows the digits 0 to 4, and the other digits: (x, y), standardized."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order] / 8 - 1, y[order]
    low, high = ((jnp.asarray(x[rows], jnp.float32), jnp.asarray(y[rows] % 5)) for rows in (y < 5, y >= 5))
    opt, p = adaptx.adamw(3e-3), worlds.mlp(jax.random.key(7), 64, 64, 64, 64, 5)
    step = adaptx.train_step(lambda p, x, y: shared.cross_entropy(worlds.run(p, x), y), opt)
    state = opt.init(p)
    for t in range(400):
        rows = jax.random.randint(jax.random.key(t), (64,), 0, len(low[0]))
        p, state, _ = step(p, state, *(a[rows] for a in low))
    return p, high


def with_new_head(key: jax.Array) -> Any:
    """What is known, under a last layer that knows nothing."""
    return {**learned()[0], "layer3": {"w": shared.normal(key, 64, 5), "b": jnp.zeros(5)}}


def fine_tuning() -> Task:
    """A perceptron that knows the digits 0 to 4 is to know 5 to 9, from 50 of them."""

    def recipe(steps: int, **options: Any) -> Any:
        return recipes.fine_tuning(steps, layers=[f"layer{i}" for i in range(4)], **options)

    return new_classes(with_new_head, lambda p: p, recipe, adaptx.adamw)


def lora() -> Task:
    """The same by low-rank adapters of rank 4 in its known layers."""

    def adapted(layer: Any, key: jax.Array) -> Any:
        rows, columns = layer["w"].shape
        return {**layer, "lora_a": shared.normal(key, rows, 4), "lora_b": jnp.zeros((4, columns))}

    def init(key: jax.Array) -> Any:
        p, keys = with_new_head(key), jax.random.split(jax.random.fold_in(key, 1), 3)
        return p | {f"layer{i}": adapted(p[f"layer{i}"], k) for i, k in enumerate(keys)}

    def effective(p: Any) -> Any:
        moved = {n: {"w": x["w"] + x["lora_a"] @ x["lora_b"], "b": x["b"]} for n, x in p.items() if "lora_a" in x}
        return p | moved

    def recipe(steps: int, **options: Any) -> Any:
        return recipes.lora(steps, head="^layer3", **options)

    def plain(rate: float) -> Any:
        by = {"lora_|^layer3": "trained"}
        return adaptx.route({"trained": adaptx.adamw(rate), "frozen": adaptx.freeze()}, by, "frozen")

    return new_classes(init, effective, recipe, plain)


def new_classes(init: Any, effective: Any, recipe: Any, plain: Any) -> Task:
    """The digits 5 to 9, 50 of them to learn from."""
    x, y = learned()[1]

    def loss(p: Any, key: jax.Array) -> jax.Array:
        rows = jax.random.randint(key, (16,), 0, 50)
        return shared.cross_entropy(worlds.run(effective(p), x[rows]), y[rows])

    def measure(p: Any, key: jax.Array) -> jax.Array:
        return shared.cross_entropy(worlds.run(effective(p), x[50:]), y[50:])

    return Task(init, loss, measure, "held-out cross entropy, new digits", 600, recipe, plain)


def tabular() -> Task:
    """A perceptron on the 442 rows of diabetes."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (jnp.asarray((a - a.mean(0)) / a.std(0), jnp.float32)[order] for a in (x, y))
    cut = 300

    def init(key: jax.Array) -> Any:
        return worlds.mlp(key, 10, 64, 64, 1)

    def loss(p: Any, key: jax.Array) -> jax.Array:
        rows = jax.random.randint(key, (32,), 0, cut)
        return jnp.mean((worlds.run(p, x[rows])[:, 0] - y[rows]) ** 2)

    def measure(p: Any, key: jax.Array) -> jax.Array:
        return jnp.mean((worlds.run(p, x[cut:])[:, 0] - y[cut:]) ** 2)

    return Task(init, loss, measure, "held-out squared error over the variance, diabetes", 300, recipes.tabular)


TASKS: dict[str, Callable[[], Task]] = {
    f.__name__: f for f in (cnn, rnn, transformer, gan, policy_gradient, recommender, fine_tuning, lora, tabular)
}
