"""How a parameter narrower than f32 takes an update: rounded once, by one of four policies.

    nearest       p ← RN(x + u), x = p                     updates below half an ulp vanish
    stochastic    p ← SR(x + u), x = p                     right on average, no memory
    kahan         x = p + c;  p ← RN(x + u), c ← RN(x + u − p)        one more array in p's dtype
    master        x = f32 copy;  x ← x + u, p ← RN(x)                 one more array in f32

f32 and f64 parameters are added to as they are under every policy.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, DTypeLike

from ..bits import counter_bits, mix
from .codecs import bf16_half

POLICIES = ("nearest", "stochastic", "kahan", "master")
KEPT = {"kahan": "compensation", "master": "master"}  # policy -> name of the array it keeps per parameter


def is_narrow(dtype: DTypeLike) -> bool:
    """Whether parameters of this dtype round their updates visibly."""
    return jnp.finfo(dtype).bits < 32


def is_plain(policy: str, dtype: DTypeLike) -> bool:
    """Whether adding an update in this dtype is all there is to it: neither random bits nor a kept array."""
    return policy == "nearest" or not is_narrow(dtype)


def fresh_kept(policy: str, p: Array) -> Array:
    """The array a policy keeps for a narrow parameter, at the start; never p itself."""
    if policy == "master":
        return jnp.asarray(p).astype(jnp.float32)
    zero = jnp.zeros_like(p)
    return jnp.where(p == p, zero, zero)


def opened(policy: str, p: Array, kept: Array | None, dtype: DTypeLike) -> Array:
    """The parameter as finely as it is known, in the arithmetic dtype."""
    if kept is None:
        return p.astype(dtype)
    return kept.astype(dtype) if policy == "master" else p.astype(dtype) + kept.astype(dtype)


def closed(policy: str, x: Array, p: Array, salt: Array | None) -> tuple[Array, Array | None]:
    """(the parameter in its own dtype, what is kept) for the new value x."""
    if is_plain(policy, p.dtype):
        return x.astype(p.dtype), None
    if policy == "stochastic":
        return stochastic(
            x.astype(jnp.float32), p.dtype, counter_bits(x.shape, mix(salt ^ jnp.uint32(0x5BD1E995)))
        ), None
    rounded = x.astype(p.dtype)
    if policy == "master":
        return rounded, x.astype(jnp.float32)
    return rounded, (x - rounded.astype(x.dtype)).astype(p.dtype)


def stochastic(x: Array, dtype: DTypeLike, bits: Array) -> Array:
    """x (f32) rounded to one of its two neighbors in a narrow dtype, unbiased; inf and NaN stay."""
    if dtype == jnp.bfloat16:
        return lax.bitcast_convert_type(bf16_half(x, bits & jnp.uint32(0xFFFF)).astype(jnp.uint16), jnp.bfloat16)
    # any other narrow float: on a grid of 2**(exponent − mantissa bits), no finer than the smallest subnormal
    info = jnp.finfo(dtype)
    _, exponent = jnp.frexp(x)
    power = jnp.maximum(exponent - 1, info.minexp) - info.nmant
    dice = (bits >> 8).astype(jnp.float32) * 2.0**-24
    scaled = jnp.ldexp(x, -power)
    low = jnp.floor(scaled)
    # compared, not added: the sum would be rounded itself, and now and then carry a value of the grid off it
    rounded = jnp.ldexp(low + (dice < scaled - low), power)
    limit = jnp.asarray(info.max, jnp.float32)
    return jnp.where(jnp.isfinite(x), lax.clamp(-limit, rounded, limit), x).astype(dtype)
