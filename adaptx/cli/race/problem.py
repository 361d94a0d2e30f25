"""The model of the race: a perceptron with one hidden layer, in plain JAX.

h = max(0, x W₁ + b₁),  logits = h W₂ + b₂,  loss = mean cross entropy (nats)
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

Params = dict[str, dict[str, jax.Array]]


def init(key: jax.Array, features: int, hidden: int, classes: int) -> Params:
    """Weights drawn from N(0, 2 / inputs) for the hidden layer (He et al., 2015, arXiv:1502.01852) and N(0, 1 / inputs)
    for the output layer; biases 0."""
    first, second = jax.random.split(key)
    return {
        "hidden": {
            "w": jnp.sqrt(2 / features) * jax.random.normal(first, (features, hidden)),
            "b": jnp.zeros(hidden),
        },
        "output": {
            "w": jnp.sqrt(1 / hidden) * jax.random.normal(second, (hidden, classes)),
            "b": jnp.zeros(classes),
        },
    }


def logits(params: Params, x: Float[Array, "rows features"]) -> Float[Array, "rows classes"]:
    """The scores of each class."""
    h = jax.nn.relu(x @ params["hidden"]["w"] + params["hidden"]["b"])
    return h @ params["output"]["w"] + params["output"]["b"]


def loss(params: Params, x: Float[Array, "rows features"], y: Int[Array, " rows"]) -> Float[Array, ""]:
    """Mean cross entropy, in nats."""
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(logits(params, x), y))


def accuracy(params: Params, x: Float[Array, "rows features"], y: Int[Array, " rows"]) -> Float[Array, ""]:
    """The share of rows whose largest score is their class."""
    return jnp.mean(jnp.argmax(logits(params, x), axis=-1) == y)
