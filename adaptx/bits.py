"""Random numbers without a key: a hash of a seed and an index or a count, the same however an array is sharded."""

import math

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array

from .values import Scalar


def counter_bits(shape: tuple[int, ...], salt: Array) -> Array:
    """32 random bits for every element of an array, a hash of (salt, element index): no key, the same when sharded."""
    index = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        index = index + lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride & 0xFFFFFFFF)
        stride *= shape[axis]
    return mix(index * jnp.uint32(0x9E3779B9) ^ salt)


def normals(shape: tuple[int, ...], seed: Array, dtype: DTypeLike) -> Array:
    """Standard normal numbers, a hash of (seed, element index): no key, the same when sharded and in every dtype.

    Box and Muller's √(−2 ln u) cos 2πw of two uniform numbers of 23 bits, halfway between their neighbors, never 0.
    """
    halves = (counter_bits(shape, seed), counter_bits(shape, mix(seed + jnp.uint32(1))))
    u, w = (((bits >> 9).astype(dtype) + 0.5) * 2.0**-23 for bits in halves)
    return jnp.sqrt(-2 * jnp.log(u)) * jnp.cos(2 * math.pi * w)


def mix(h: Array) -> Array:
    """A 32-bit finalizer: every input bit flips every output bit with probability about one half."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x21F0AAAD)
    h = (h ^ (h >> 15)) * jnp.uint32(0x735A2D97)
    return h ^ (h >> 15)


def counter_uniform(seed: int, count: Scalar) -> Array:
    """A number in [0, 1) that is a hash of (seed, count)."""
    h = mix(jnp.asarray(count).astype(jnp.uint32) * jnp.uint32(0x9E3779B9) ^ mix(jnp.uint32(seed & 0xFFFFFFFF)))
    return (h >> 8).astype(jnp.float32) * 2.0**-24
