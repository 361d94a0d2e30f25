"""Narrow floats in integer words: bfloat16, and one byte relative to a block's bound. Closed forms, no tables.

A byte is a tiny float. Of an f32 word the exponent and the first mantissa bits are kept, counted down from above the
block's bound, so that consecutive codes are consecutive floats and rounding is adding random bits below the cut:

    signed      sign and 127 levels, 2 mantissa bits                                                 31 binades
    unsigned    255 levels, the upper 192 with 3 mantissa bits, 24 binades, the rest with 2          39 binades

Code 0 stands for 0 and nothing else, a signed 0 with the sign bit for NaN (and inf), so that neither is hidden; no
level is subnormal or infinite. What lies below the smallest level becomes 0 if signed; if unsigned it is raised to that
level, because a second moment rounded to 0 beside a first that is not makes a step of m/ε. Rounding is stochastic:
nearest rounding freezes an idle second moment.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, UInt32

SIGN, MAGNITUDE, INFINITE = jnp.uint32(0x80000000), jnp.uint32(0x7FFFFFFF), jnp.uint32(0x7F800000)
QUIET = jnp.uint32(0x7FC00000)  # a NaN
BLOCK = 256  # elements of the last axis that share a bound
TOP = {True: 127, False: 255}  # signed -> largest code of a magnitude
BITS = {True: 2, False: 3}  # signed -> mantissa bits of the upper levels
COARSE = 63  # unsigned codes below this have one mantissa bit less
LEAST = {True: 3, False: 69}  # signed -> smallest base whose level 1 is a normal float; odd if unsigned, as all are


def to_word(x: Array) -> UInt32[Array, "..."]:
    """The bits of an f32 array."""
    return lax.bitcast_convert_type(x, jnp.uint32)


def to_float(word: Array) -> Array:
    """The f32 array of these bits."""
    return lax.bitcast_convert_type(word, jnp.float32)


def bf16_half(x: Array, dice: Array) -> UInt32[Array, "..."]:
    """x (f32) rounded stochastically to bf16 by 16 random bits, as the low half of a word.

    Unbiased; inf and NaN stay what they are, and the largest finite value never rounds up to inf.
    """
    word = to_word(x)
    # the magnitude is in the low 31 bits whatever the sign, so adding below the cut rounds away from zero
    magnitude = word & MAGNITUDE
    raised = jnp.minimum(magnitude + dice, jnp.uint32(0x7F7FFFFF))
    quiet = jnp.where(magnitude > INFINITE, magnitude | jnp.uint32(0x00400000), magnitude)
    magnitude = jnp.where(magnitude < INFINITE, raised, quiet)  # a NaN's payload must survive the cut
    return ((word & SIGN) | magnitude) >> 16


def from_bf16_half(half: Array) -> Array:
    """The f32 array of bf16 bits in the low halves of words."""
    return to_float(half << 16)


def base_of(bound: Array, signed: bool) -> UInt32[Array, "..."]:
    """What is added to an upper code to give the top bits of its float.

    The top code is the power of two above twice the bound, because the noise of rounding carries elements above a bound
    that follows the gradients alone, and clipping them would be a bias. It is never inf: a bound too near to that is
    clipped to the largest power of two.
    """
    exponent = jnp.minimum((to_word(bound) >> 23) + 2, 254)
    return jnp.maximum((exponent << BITS[signed]).astype(jnp.int32) - TOP[signed], LEAST[signed]).astype(jnp.uint32)


def lower(base: Array) -> Array:
    """What is added to an unsigned code below COARSE: the two scales meet at that code."""
    return ((base + COARSE) >> 1) - COARSE


def to_code(x: Array, base: Array, dice: Array, signed: bool) -> UInt32[Array, "..."]:
    """x (f32, magnitude at most the bound) as a code, rounded stochastically by 16 random bits.

    What is not finite gives NaN if signed, 0 if not: a rule has a signed slot, or reads the gradient itself.
    """
    word = to_word(x)
    magnitude = word & MAGNITUDE
    cut = 23 - BITS[signed]
    if not signed:
        low = magnitude < (base + COARSE) << cut
        cut, base = cut + low.astype(jnp.uint32), jnp.where(low, lower(base), base)
    level = ((magnitude + (dice << (cut - 16))) >> cut).astype(jnp.int32) - base.astype(jnp.int32)
    level = jnp.clip(level, 0 if signed else (x > 0).astype(jnp.int32), TOP[signed]).astype(jnp.uint32)
    if not signed:
        return jnp.where(magnitude < INFINITE, level, 0)
    code = jnp.where(level > 0, level | ((word >> 24) & jnp.uint32(0x80)), 0)
    return jnp.where(magnitude < INFINITE, code, jnp.uint32(0x80))


def from_code(code: Array, base: Array, signed: bool) -> Array:
    """The f32 value of a code."""
    cut = 23 - BITS[signed]
    if signed:
        level = code & 127
        none = jnp.where(code > 0, QUIET, jnp.uint32(0))
        return to_float(jnp.where(level > 0, ((level + base) << cut) | ((code & 128) << 24), none))
    # below COARSE a code counts twice: 2·(code + lower(base)) = code + base + (code − COARSE)
    twice = jnp.minimum(code.astype(jnp.int32) - COARSE, 0).astype(jnp.uint32)
    return to_float(jnp.where(code > 0, (code + base + twice) << cut, 0))


def view_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape blocks are taken of: trailing axes joined until the last has a block's length, or all are joined."""
    view = list(shape) or [1]
    while len(view) > 1 and view[-1] < BLOCK:
        last = view.pop()
        view[-1] *= last
    return tuple(view)


def blocked(x: Array) -> Array:
    """x as (…, blocks, block); the last block of an axis that is no multiple of 256 is filled up with zeros."""
    shape = view_shape(x.shape)
    block, count = block_of(x.shape)
    x = with_whole_blocks(x).reshape(shape)
    rest = block * count - shape[-1]
    if rest:
        x = jnp.pad(x, [(0, 0)] * (len(shape) - 1) + [(0, rest)])
    return x.reshape(*shape[:-1], count, block)


def with_whole_blocks(x: Array) -> Array:
    """x, gathered along the axes of its blocks where explicit sharding would split a block."""
    sharding = getattr(jax.typeof(x), "sharding", None)
    parts = [] if sharding is None else [*sharding.spec, *[None] * (x.ndim - len(sharding.spec))]
    joined = x.ndim - len(view_shape(x.shape)) + 1
    if sharding is None or all(part is None for part in parts[-joined:]):
        return x
    names = parts[-joined] if isinstance(parts[-joined], tuple) else (parts[-joined],)
    shards = math.prod(sharding.mesh.shape[name] for name in names if name is not None)
    first = all(part is None for part in parts[x.ndim - joined + 1 :])
    if first and math.prod(x.shape[-joined:]) % (BLOCK * shards) == 0:
        return x
    whole = PartitionSpec(*parts[:-joined], *[None] * joined)
    return jax.sharding.reshard(x, NamedSharding(sharding.mesh, whole))


def unblocked(x: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of blocked."""
    view, (block, count) = view_shape(shape), block_of(shape)
    return x.reshape(*view[:-1], block * count)[..., : view[-1]].reshape(shape)


def block_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """(elements of a block, blocks along the last axis of the view)."""
    length = view_shape(shape)[-1]
    block = max(1, min(BLOCK, length))
    return block, -(-length // block)


def bound_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an array's bounds, one a block."""
    return (*view_shape(shape)[:-1], block_of(shape)[1])


def block_bound(x: Array) -> Array:
    """The largest magnitude of every block of (…, blocks, block); of all blocks where an element is not finite.

    Passing over such elements inside the reduction would keep it from reading x directly. A bound too large costs their
    neighbors some resolution; one too small would make their second moments too small and their steps too long.
    """
    tops = jnp.maximum(jnp.max(x, -1), -jnp.min(x, -1))
    known = jnp.where(tops < jnp.inf, tops, 0)
    return jnp.where(tops < jnp.inf, tops, jnp.max(known, initial=0.0))
