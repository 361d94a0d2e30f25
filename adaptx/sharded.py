"""Arrays that may be split over devices: products of them, whole ones, and new ones that lie as others do."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.typing import DTypeLike
from jaxtyping import Array, PyTree

from .values import Scalar, is_traced


def product(x: Array, y: Array, dtype: DTypeLike | None = None, *, exact: bool = False) -> Array:
    """The matrix product x y over the last two axes, summed in a dtype, where axes may be sharded explicitly.

    Its rows are sharded as those of x, its columns as those of y unless that is the same mesh axis. exact: every bit of
    the factors counts, for which accelerators have to be asked.
    """
    multiply = partial(jnp.matmul, precision="highest" if exact else None, preferred_element_type=dtype)
    sharding = _explicit(x)
    if sharding is None:
        return multiply(x, y)
    rows, columns = _parts_of(x), _parts_of(y)
    last = None if columns[-1] == rows[-2] else columns[-1]
    return multiply(x, y, out_sharding=NamedSharding(sharding.mesh, PartitionSpec(*rows[:-1], last)))


def gathered(x: Array) -> Array:
    """x whole on every device where it is sharded explicitly; elsewhere the compiler knows what it has to gather."""
    sharding = _explicit(x)
    return x if sharding is None else _resharded(x, NamedSharding(sharding.mesh, PartitionSpec(*[None] * x.ndim)))


def sharded_as(x: Array, like: Array) -> Array:
    """x, sharded explicitly as another array of its shape is; as it is where that is not."""
    sharding = _explicit(like)
    return x if sharding is None else _resharded(x, sharding)


def _resharded(x: Array, sharding: PyTree) -> Array:
    return x if jax.typeof(x).sharding == sharding else jax.sharding.reshard(x, sharding)


def _explicit(x: Array) -> PyTree:
    """How x is sharded where all axes are explicit, else None."""
    sharding = getattr(jax.typeof(x), "sharding", None)
    return None if sharding is None or sharding.mesh.empty or not sharding.mesh.are_all_axes_explicit else sharding


def _parts_of(x: Array) -> list[PyTree]:
    spec = jax.typeof(x).sharding.spec
    return [*spec, *[None] * (x.ndim - len(spec))]


def filled(like: Array, value: Scalar, dtype: DTypeLike | None = None) -> Array:
    """A new array like another and sharded as it, every element `value`; never a view of it."""
    return tied(jnp.full_like(like, value, dtype), like)


def tied(x: Array, like: Array) -> Array:
    """x, sharded as an array of its shape: under jit a constant would come out replicated, a select on it does not."""
    return jnp.where(like == like, x, x) if is_traced(like) and x.shape == like.shape else x
