"""The verbs on matrices, the last two axes: second moments of rows and columns, products, orthogonalization."""

import jax.numpy as jnp

from .numerics import divide, filled, root


def is_matrix(x, least: int = 1) -> bool:
    """Whether x has two axes or more, the last two no shorter than least."""
    return x.ndim >= 2 and min(x.shape[-2:]) >= least


def rows_of(p):
    """A number for every row of parameter p, 0, sharded as its rows are."""
    return filled(jnp.sum(p, -1), 0.0)


def columns_of(p):
    """A number for every column of p, 0."""
    return filled(jnp.sum(p, -2), 0.0)


def means(square):
    """(means over columns, one for every row; means over rows), in range where their sums are not."""
    return tuple(jnp.sum(square / square.shape[axis], axis) for axis in (-1, -2))


def rank_one(r, q):
    """r qᵀ / mean(r): the matrix with row means r and column means q that has rank 1."""
    return divide(r, jnp.sum(r / r.shape[-1], -1, keepdims=True))[..., None] * q[..., None, :]


def rms(x):
    """The root mean square of all elements."""
    return root(jnp.mean(x * x))
