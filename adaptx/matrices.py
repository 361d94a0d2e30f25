"""The verbs on matrices, the last two axes: second moments of rows and columns, projections."""

import jax.numpy as jnp
from jax import lax

from .bits import counter_bits, normals
from .decompositions import left_singular_vectors
from .numerics import divide, root
from .sharded import filled, gathered, sharded_as, tied


def is_matrix(x, least: int = 1) -> bool:
    """Whether x has two axes or more, the last two no shorter than least."""
    return x.ndim >= 2 and min(x.shape[-2:]) >= least


def rows_of(p):
    """A number for every row of parameter p, 0, sharded as its rows are."""
    return filled(jnp.sum(p, -1), 0.0)


def columns_of(p):
    """A number for every column of p, 0."""
    return filled(jnp.sum(p, -2), 0.0)


def scattered(columns, rank: int):
    """A number in [−1, 1) for every column and rank, a hash of its index, sharded as the columns are."""
    bits = counter_bits((columns.shape[-1], rank), jnp.uint32(0))
    return columns[..., None] + ((bits >> 8).astype(columns.dtype) * 2.0**-23 - 1)


def means(square):
    """(means over columns, one for every row; means over rows), in range where their sums are not."""
    return tuple(jnp.sum(square / square.shape[axis], axis) for axis in (-1, -2))


def over_rank_one(x, r, q):
    """x / √(r qᵀ / mean(r)), by the roots of two vectors: the matrix of rank 1 with row means r and column means q."""
    shares = divide(r, jnp.sum(r / r.shape[-1], -1, keepdims=True))
    rows, columns = (divide(lax.full_like(y, 1), root(y)) for y in (shares, q))
    return x * rows[..., None] * columns[..., None, :]


def rms(x):
    """The root mean square of all elements."""
    return root(jnp.mean(x * x))


def wide(x, like):
    """x with its last two axes swapped where those of `like` are no wider than tall; its own inverse."""
    return x if like.shape[-2] < like.shape[-1] else jnp.swapaxes(x, -1, -2)


def rows_by(p, rank: int):
    """Zeros of `rank` numbers for every row of matrix p, sharded as its rows are."""
    return _beside(rows_of(p)[..., None], (*p.shape[:-1], rank))


def columns_by(p, rank: int):
    """Zeros of `rank` numbers for every column of p, as rows."""
    return _beside(columns_of(p)[..., None, :], (*p.shape[:-2], rank, p.shape[-1]))


def _beside(x, shape: tuple[int, ...]):
    return filled(jnp.broadcast_to(x, shape), 0.0)


def leading(x, rank: int):
    """The left singular vectors of the `rank` largest singular values of x, as columns; not differentiated.

    A decomposition leaves their signs open: the largest entry of every one is positive.
    """
    x = lax.stop_gradient(divide(x, jnp.max(jnp.abs(x), (-2, -1), keepdims=True, initial=0)))
    u = left_singular_vectors(gathered(x))[..., :rank]
    largest = jnp.take_along_axis(u, jnp.argmax(jnp.abs(u), -2, keepdims=True), -2)
    return jnp.where(largest < 0, -u, u)


def random_columns(x, rank: int, seed):
    """`rank` columns of normal numbers of variance 1/rank beside the rows of x, sharded as these are."""
    like = rows_by(x, rank)
    return tied(normals(like.shape, seed, like.dtype) / rank**0.5, like)


def renewed(when, make, old):
    """make() where `when`, else old: computed only then."""
    return lax.cond(when, lambda: sharded_as(make(), old), lambda: old)
