"""A small regression that is trained in the tests of training."""

import jax
import jax.numpy as jnp
import numpy as np

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 5)).astype(np.float32)
Y = RNG.normal(size=(24, 5)).astype(np.float32)
P = {"w": RNG.normal(size=(5, 5)).astype(np.float32), "b": RNG.normal(size=5).astype(np.float32)}
STEPS = 6
XS = RNG.normal(size=(STEPS, 24, 5)).astype(np.float32)  # the minibatches of some steps
YS = RNG.normal(size=(STEPS, 24, 5)).astype(np.float32)


def loss(p, x, y):
    """A mean over rows."""
    return jnp.mean((jnp.tanh(x) @ p["w"] + p["b"] - y) ** 2)


def fresh(p=P):
    """The parameters, to be donated."""
    return jax.tree.map(jnp.array, p)


def required(opt):
    """What train_step and fit are given for an optimizer that requires more than the loss: a diagonal, exact."""
    square = {"hessian": lambda p, x, y: jax.tree.map(lambda q: jnp.full_like(q, 2 * jnp.mean(x**2)), p)}
    return {"extra": square} if "hessian" in opt.requires else {}


def same(a, b) -> bool:
    """Whether two trees are equal to the last bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=jnp.issubdtype(x.dtype, jnp.inexact)) for x, y in pairs)
