"""The two tasks of steps_to_target.py: the characters of Python's own manual, and scikit-learn's handwritten digits.

Nothing is downloaded. A step's minibatch and the first parameters depend on the seed alone, never on the optimizer.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import precision_tasks as shared

OUTER = ("symbol", "place", "output")  # embeddings and the last layer, which matrix methods leave to adamw


class Task(NamedTuple):
    """Something to train."""

    init: Callable[[jax.Array], Any]  # key -> parameters
    batch: Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # key -> a minibatch
    loss: Callable[[Any, jax.Array, jax.Array], jax.Array]  # mean cross entropy, nats
    unseen: tuple[np.ndarray, np.ndarray]  # what the loss is watched on
    steps: int  # the budget of a run
    seeds: int  # fresh ones at the tuned point
    digest: str  # of the data: the same text gives the same numbers


class Sizes(NamedTuple):
    """How large the tasks are."""

    width: int = 128  # of the transformer: with five layers 1,017,216 parameters
    layers: int = 5
    context: int = 64  # characters
    rows: int = 8  # windows of a minibatch
    watched: int = 32  # windows of the loss that is watched
    channels: int = 16  # of the first convolution
    character_steps: int = 300
    digit_steps: int = 300
    character_seeds: int = 3
    digit_seeds: int = 12  # 360 held-out images are few: the steps to a loss scatter by their half


QUICK = Sizes(width=16, layers=1, context=16, rows=4, watched=8, channels=4, character_steps=20, digit_steps=20,
              character_seeds=2, digit_seeds=2)  # fmt: skip


def characters(sizes: Sizes) -> Task:
    """A causal transformer that predicts the next character of the topics of Python's `help()`."""
    symbols, context = shared.text(), sizes.context
    cut = round(len(symbols) * (1 - shared.HELD_OUT))

    def batch(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        starts = jax.random.randint(key, (sizes.rows, 1), 0, cut - context)
        rows = jnp.asarray(symbols)[starts + jnp.arange(context + 1)]
        return rows[:, :-1], rows[:, 1:]

    def init(key: jax.Array) -> Any:
        return shared.transformer(key, sizes.width, sizes.layers, context)

    def loss(p: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return shared.cross_entropy(shared.scores(p, x), y)

    unseen = shared.windows(symbols[cut:], sizes.watched, 1, context)
    return Task(init, batch, loss, unseen, sizes.character_steps, sizes.character_seeds, digest(symbols))


def digits(sizes: Sizes) -> Task:
    """A network of two convolutions and two dense layers on 8 × 8 images."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (x[order] / 8 - 1).astype(np.float32).reshape(-1, 8, 8, 1), y[order].astype(np.int32)
    cut, c = len(y) * 4 // 5, sizes.channels

    def init(key: jax.Array) -> Any:
        keys = jax.random.split(key, 4)
        shapes = {"first": (9, c), "second": (9 * c, 2 * c), "dense": (32 * c, 4 * c), "output": (4 * c, 10)}
        return {
            name: {"w": shared.normal(k, *shape) * (1 if name == "output" else 2**0.5), "b": jnp.zeros(shape[1])}
            for (name, shape), k in zip(shapes.items(), keys, strict=True)
        }

    def loss(p: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        x = pooled(jax.nn.relu(patches(x) @ p["first"]["w"] + p["first"]["b"]))
        x = jax.nn.relu(patches(x) @ p["second"]["w"] + p["second"]["b"])
        x = jax.nn.relu(x.reshape(len(x), -1) @ p["dense"]["w"] + p["dense"]["b"])
        return shared.cross_entropy(x @ p["output"]["w"] + p["output"]["b"], y)

    def batch(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = jax.random.randint(key, (64,), 0, cut)
        return jnp.asarray(x[:cut])[rows], jnp.asarray(y[:cut])[rows]

    return Task(init, batch, loss, (x[cut:], y[cut:]), sizes.digit_steps, sizes.digit_seeds, digest(x, y))


def patches(x: jax.Array) -> jax.Array:
    """The 3 × 3 neighborhoods of images (n, h, w, c) as (n, h, w, 9c): a convolution is then a matrix product.

    So the kernel is a matrix, and a batch of networks under vmap remains a batch of matrix products.
    """
    height, width = x.shape[1:3]
    wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate([wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], -1)


def pooled(x: jax.Array) -> jax.Array:
    """Means of 2 × 2 pixels."""
    n, height, width, c = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, c).mean((2, 4))


def digest(*arrays: np.ndarray) -> str:
    """The first digits of the SHA-256 of the data."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()[:16]


TASKS: dict[str, Callable[[Sizes], Task]] = {"characters": characters, "digits": digits}
