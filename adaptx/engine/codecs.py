"""Narrow floats in integer words: bfloat16, and one byte relative to a block's bound. Closed forms, no tables.

A byte is a tiny float. Of an f32 word the exponent and the first mantissa bits are kept, counted down from the top of
the block's bound, so that consecutive codes are consecutive floats and rounding is adding random bits below the cut:

    signed      sign, 127 levels with 2 mantissa bits        31 binades below the bound
    unsigned    255 levels with 3 mantissa bits              31 binades below the bound

Code 0 stands for 0 and nothing else; no level is subnormal or infinite. What lies below the smallest level is rounded
to it or to 0 if signed, so that it stays unbiased; if unsigned it is raised to it, because a second moment rounded to 0
beside a first that is not makes a step of m/ε. Rounding is stochastic: nearest rounding freezes an idle second moment.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, UInt32

SIGN, MAGNITUDE, INFINITE = jnp.uint32(0x80000000), jnp.uint32(0x7FFFFFFF), jnp.uint32(0x7F800000)
BLOCK = 256  # elements of the last axis that share a bound


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


def levels(signed: bool) -> tuple[int, int]:
    """(largest code of a magnitude, mantissa bits)."""
    return (127, 2) if signed else (255, 3)


def base_of(bound: Array, signed: bool) -> UInt32[Array, "..."]:
    """What is added to a code to give the top bits of its float: the top code is the power of two above the bound.

    At the ends of the range the levels stop short of inf (a bound above 2¹²⁷ is clipped to that) and of subnormals.
    """
    top, bits = levels(signed)
    exponent = jnp.minimum((to_word(bound) >> 23) + 1, 254)
    return jnp.maximum((exponent << bits).astype(jnp.int32) - top, (1 << bits) - 1).astype(jnp.uint32)


def to_code(x: Array, base: Array, dice: Array, signed: bool) -> UInt32[Array, "..."]:
    """x (f32, magnitude at most the bound) as a code, rounded stochastically by 16 random bits; not finite gives 0."""
    top, bits = levels(signed)
    cut = 23 - bits
    word = to_word(x)
    magnitude = word & MAGNITUDE
    level = ((magnitude + (dice << (cut - 16))) >> cut).astype(jnp.int32) - base.astype(jnp.int32)
    level = jnp.clip(level, 0, top).astype(jnp.uint32)
    if signed:
        least = to_float((base + 1) << cut)
        up = dice.astype(jnp.float32) * least < jnp.abs(x) * 65536.0
        level = jnp.where(jnp.abs(x) < least, up.astype(jnp.uint32), level)
    else:
        level = jnp.maximum(level, (x > 0).astype(jnp.uint32))
    if not signed:
        return jnp.where(magnitude < INFINITE, level, 0)
    # 128 would be a second zero
    return jnp.where((magnitude < INFINITE) & (level > 0), level | ((word >> 24) & jnp.uint32(0x80)), 0)


def from_code(code: Array, base: Array, signed: bool) -> Array:
    """The f32 value of a code."""
    _, bits = levels(signed)
    level = code & 127 if signed else code
    word = (level + base) << (23 - bits)
    if signed:
        word = word | ((code & 128) << 24)
    return to_float(jnp.where(level > 0, word, 0))


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
    x = x.reshape(shape)
    rest = block * count - shape[-1]
    if rest:
        x = jnp.pad(x, [(0, 0)] * (len(shape) - 1) + [(0, rest)])
    return x.reshape(*shape[:-1], count, block)


def unblocked(x: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of blocked."""
    view, (block, count) = view_shape(shape), block_of(shape)
    return x.reshape(*view[:-1], block * count)[..., : view[-1]].reshape(shape)


def block_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """(elements of a block, blocks along the last axis of the view)."""
    length = view_shape(shape)[-1]
    block = max(1, min(BLOCK, length))
    return block, -(-length // block)


def block_bound(x: Array) -> Array:
    """The largest magnitude of every block of (…, blocks, block); of all blocks where an element is not finite.

    Passing over such elements inside the reduction would keep it from reading x directly. A bound too large costs their
    neighbors some resolution; one too small would make their second moments too small and their steps too long.
    """
    tops = jnp.maximum(jnp.max(x, -1), -jnp.min(x, -1))
    known = jnp.where(tops < jnp.inf, tops, 0)
    return jnp.where(tops < jnp.inf, tops, jnp.max(known, initial=0.0))
