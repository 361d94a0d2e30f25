"""A checksum of arrays, taken where they lie."""

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree


def digests(arrays: Sequence[Array | np.ndarray]) -> list[int]:
    """A number for every array, which one changed word changes.

    Of a NumPy array it is the CRC-32; of one of jax Σ (2i + 1) h(wᵢ) mod 2³², w its words of 32 bits or less, the same
    however it is sharded: nothing but the sum leaves the devices. A program is compiled for every list of shapes.
    """
    there = [x for x in arrays if isinstance(x, jax.Array)]
    sums = iter(jax.device_get(_sums(there))) if there else iter(())
    return [int(next(sums)) if isinstance(x, jax.Array) else zlib.crc32(x.tobytes()) for x in arrays]


@jax.jit
def _sums(arrays: list[Array]) -> list[Array]:
    return [_sum(x) for x in arrays]


def _sum(x: Array) -> Array:
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag])
    x = x.astype(jnp.uint8) if x.dtype == jnp.bool_ else x
    bits = 8 * np.dtype(x.dtype).itemsize
    words = jax.lax.bitcast_convert_type(x, {8: jnp.uint8, 16: jnp.uint16}.get(bits, jnp.uint32)).astype(jnp.uint32)
    words = words * np.uint32(0x9E3779B1)
    words = words ^ (words >> 15)  # bijective, as the product: high bits of several words must not cancel out
    # a count along every axis: a flat one would gather what is sharded
    place, stride = jnp.zeros(words.shape, jnp.uint32), 1
    for axis in reversed(range(words.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * np.uint32(stride % 2**32)
        stride *= words.shape[axis]
    return jnp.sum(words * (2 * place + 1), dtype=jnp.uint32)


def unkeyed(x: PyTree) -> PyTree:
    """A random key as its numbers."""
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def rekeyed(x: PyTree, like: PyTree) -> PyTree:
    """The inverse, as a key of the same kind."""
    if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return x
    return jax.random.wrap_key_data(x, impl=jax.random.key_impl(like))
