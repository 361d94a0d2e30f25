"""Sums over all parameters: the global norm, in f32 or wider, from any mix of dtypes and sizes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

# Leaves below this size are reduced together: a thousand reductions cost a compiler far more than one concatenation.
SMALL = 1 << 15
# XLA on the CPU of jax 0.10 writes all squares to memory before it adds them; a loop that adds vectors does not.
WRITES_SQUARES = jax.__version_info__ < (0, 11)
LARGE, LANES = 1 << 17, 1 << 13


def global_norm(arrays: list[Array]) -> Array:
    """√(Σ x²) over all arrays, summed in f32 (f64 where an array is f64).

    Safe at any scale: where the plain sum of squares overflows or underflows, it is taken again of numbers scaled by a
    power of two. inf or NaN anywhere gives a non-finite norm.
    """
    if not arrays:
        return jnp.zeros((), jnp.float32)
    dtype = jnp.result_type(jnp.float32, *(x.dtype for x in arrays))
    pieces = gather(arrays, dtype)
    total = sum_of_squares(pieces, dtype, 1.0)
    info = jnp.finfo(dtype)
    plain = (total > info.tiny / info.eps**2) & (total < jnp.inf)
    return lax.cond(plain, lambda _, t: jnp.sqrt(t), lambda xs, t: _scaled_norm(xs, t, dtype), pieces, total)


def gather(arrays: list[Array], dtype: Any) -> list[Array]:
    """The arrays, small ones joined into one vector of `dtype` (sharded ones stay apart: joining would move them)."""
    # Under a mesh of automatic axes no type tells whether a leaf is sharded, so none is joined.
    if jax.sharding.get_abstract_mesh().size > 1:
        return arrays
    small = [x for x in arrays if x.size < SMALL and _is_whole(x)]
    if len(small) < 2:
        return arrays
    rest = [x for x in arrays if not (x.size < SMALL and _is_whole(x))]
    return [jnp.concatenate([x.astype(dtype).reshape(-1) for x in small]), *rest]


def sum_of_squares(pieces: list[Array], dtype: Any, scale: Any) -> Array:
    """Σ (scale·x)². (A product and a sum: jnp.vdot loses half of a large f32 sum on some CPU versions.)"""
    return sum((_sum_of_squares(x, dtype, scale) for x in pieces), start=jnp.zeros((), dtype))


def _scaled_norm(pieces: list[Array], total: Array, dtype: Any) -> Array:
    reach = int(0.8 * jnp.finfo(dtype).maxexp)  # 102 for f32: twice that covers every exponent
    scale = jnp.asarray(jnp.where(total < 1, 2.0**reach, 2.0**-reach), dtype)
    return jnp.sqrt(sum_of_squares(pieces, dtype, scale)) / scale


def _sum_of_squares(x: Array, dtype: Any, scale: Any) -> Array:
    def direct(x: Array) -> Array:
        y = scale * x.astype(dtype)
        return jnp.sum(y * y)

    if not WRITES_SQUARES or x.size < LARGE or jax.device_count() > 1 or not _is_whole(x):
        return direct(x)
    return lax.platform_dependent(x, cpu=lambda x: _in_blocks(x, dtype, scale), default=direct)


def _in_blocks(x: Array, dtype: Any, scale: Any) -> Array:
    flat = x.reshape(-1)
    whole = flat.size // LANES * LANES

    def square(y: Array) -> Array:
        y = scale * y.astype(dtype)
        return y * y

    def body(i: Any, lanes: Array) -> Array:
        return lanes + square(lax.dynamic_slice_in_dim(flat, i * LANES, LANES))

    lanes = lax.fori_loop(0, whole // LANES, body, jnp.zeros(LANES, dtype))
    return jnp.sum(lanes) + jnp.sum(square(flat[whole:]))


def _is_whole(x: Array) -> bool:
    """Whether x's type says it lies whole on every device (explicitly sharded arrays say otherwise)."""
    sharding = getattr(jax.typeof(x), "sharding", None)
    return sharding is None or all(part is None for part in sharding.spec)
