"""Two small tasks for precision.py: handwritten digits, and the characters of Python's own manual.

Nothing is downloaded: the digits come with scikit-learn, the text (the topics of `help()`, some 460,000 characters)
with Python, so it differs a little from one Python to the next.
"""

import codecs
import contextlib
import io
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

WIDTH, HEADS, LAYERS, CONTEXT, SYMBOLS = 64, 4, 2, 64, 96  # of the transformer; about 115,000 parameters
HIDDEN = 64  # of the perceptron
HELD_OUT = 0.1  # of the text; of the digits a fifth


class Task(NamedTuple):
    """Something to train."""

    init: Callable[[jax.Array], Any]  # key -> f32 parameters
    batch: Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # key -> a minibatch
    loss: Callable[[Any, jax.Array, jax.Array], jax.Array]  # (parameters, inputs, targets) -> mean cross entropy, nats
    seen: tuple[np.ndarray, np.ndarray]  # what is trained on (of the text: a sample), to measure the final loss on
    unseen: tuple[np.ndarray, np.ndarray]
    rate: float  # largest learning rate; falls to 0 as a cosine
    steps: int


def cross_entropy(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over all positions, in nats."""
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, labels))


def normal(key: jax.Array, *shape: int) -> jax.Array:
    """N(0, 1 / inputs)."""
    return jax.random.normal(key, shape) / jnp.sqrt(shape[0])


def digits(steps: int) -> Task:
    """A perceptron with one hidden layer of 64 on the 8 × 8 digits of scikit-learn."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (x[order] / 8 - 1).astype(np.float32), y[order].astype(np.int32)
    cut = len(y) * 4 // 5
    seen, unseen = (x[:cut], y[:cut]), (x[cut:], y[cut:])

    def init(key: jax.Array) -> Any:
        first, second = jax.random.split(key)
        return {
            "hidden": {"w": jnp.sqrt(2) * normal(first, 64, HIDDEN), "b": jnp.zeros(HIDDEN)},
            "output": {"w": normal(second, HIDDEN, 10), "b": jnp.zeros(10)},
        }

    def loss(p: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        h = jax.nn.relu(x @ p["hidden"]["w"] + p["hidden"]["b"])
        return cross_entropy(h @ p["output"]["w"] + p["output"]["b"], y)

    def batch(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        rows = jax.random.randint(key, (64,), 0, cut)
        return jnp.asarray(seen[0])[rows], jnp.asarray(seen[1])[rows]

    return Task(init, batch, loss, seen, unseen, 3e-3, steps)


def text() -> np.ndarray:
    """The Zen of Python and the topics of its manual as symbols 0 … 95 by falling frequency; 95 is any other."""
    from pydoc_data import topics

    with contextlib.redirect_stdout(io.StringIO()):  # its first import prints it
        import this
    whole = codecs.decode(this.s, "rot13") + "\n" + "".join(topics.topics[name] for name in sorted(topics.topics))
    known = {c: i for i, (c, _) in enumerate(Counter(whole).most_common(SYMBOLS - 1))}
    return np.array([known.get(c, SYMBOLS - 1) for c in whole], np.int32)


def windows(symbols: np.ndarray, count: int, seed: int, context: int = CONTEXT) -> tuple[np.ndarray, np.ndarray]:
    """(inputs, targets) of some windows at random places, (count, context) each."""
    starts = np.random.default_rng(seed).integers(0, len(symbols) - context, count)
    cut = np.stack([symbols[i : i + context + 1] for i in starts])
    return cut[:, :-1], cut[:, 1:]


def characters(steps: int) -> Task:
    """A causal transformer of two layers that predicts the next character."""
    symbols = text()
    cut = round(len(symbols) * (1 - HELD_OUT))

    def batch(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        starts = jax.random.randint(key, (16, 1), 0, cut - CONTEXT)
        rows = jnp.asarray(symbols)[starts + jnp.arange(CONTEXT + 1)]
        return rows[:, :-1], rows[:, 1:]

    seen, unseen = windows(symbols[:cut], 256, 0), windows(symbols[cut:], 256, 1)
    return Task(transformer, batch, lambda p, x, y: cross_entropy(scores(p, x), y), seen, unseen, 3e-3, steps)


def transformer(key: jax.Array, width: int = WIDTH, layers: int = LAYERS, context: int = CONTEXT) -> Any:
    """Fresh parameters."""
    keys = iter(jax.random.split(key, 3 + 4 * layers))
    p: dict[str, Any] = {
        "symbol": 0.1 * jax.random.normal(next(keys), (SYMBOLS, width)),
        "place": 0.1 * jax.random.normal(next(keys), (context, width)),
        "output": normal(next(keys), width, SYMBOLS),
        "scale": jnp.ones(width),
    }
    for i in range(layers):
        p[f"block{i}"] = {
            "scale1": jnp.ones(width), "qkv": normal(next(keys), width, 3 * width),
            "mix": 0.5 * normal(next(keys), width, width), "scale2": jnp.ones(width),
            "up": normal(next(keys), width, 4 * width), "down": 0.5 * normal(next(keys), 4 * width, width),
        }  # fmt: skip
    return p


def normalized(x: jax.Array, scale: jax.Array) -> jax.Array:
    """x over its root mean square along the last axis (Zhang & Sennrich, 2019, arXiv:1910.07467), scaled."""
    return scale * x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def scores(p: Any, symbols: jax.Array) -> jax.Array:
    """Scores of the next symbol at every place, (rows, context, SYMBOLS)."""
    x = p["symbol"][symbols] + p["place"]
    for block in (p[name] for name in p if name.startswith("block")):
        q, k, v = jnp.split(normalized(x, block["scale1"]) @ block["qkv"], 3, -1)
        q, k, v = (a.reshape(*a.shape[:-1], HEADS, a.shape[-1] // HEADS) for a in (q, k, v))
        seen = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + seen.reshape(x.shape) @ block["mix"]
        x = x + jax.nn.gelu(normalized(x, block["scale2"]) @ block["up"]) @ block["down"]
    return normalized(x, p["scale"]) @ p["output"]


TASKS: dict[str, Callable[[int], Task]] = {"digits": digits, "characters": characters}
