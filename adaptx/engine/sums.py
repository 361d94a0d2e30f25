"""Sums over all parameters: the global norm, in f32 or wider, from any mix of dtypes and sizes."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

# Leaves below this size are reduced together: a thousand reductions cost a compiler far more than one concatenation.
SMALL = 1 << 15


def global_norm(arrays: list[Array]) -> Array:
    """√(Σ x²) over all arrays, summed in f32 (f64 where an array is f64).

    Safe at any scale: where the plain sum of squares overflows or underflows, the norm is taken again relative to the
    largest magnitude. inf or NaN anywhere gives a non-finite norm.
    """
    if not arrays:
        return jnp.zeros((), jnp.float32)
    dtype = jnp.result_type(jnp.float32, *(x.dtype for x in arrays))
    pieces = gather(arrays, dtype)
    total = sum_of_squares(pieces, dtype)
    info = jnp.finfo(dtype)
    plain = (total > info.tiny / info.eps**2) & (total < jnp.inf)
    return lax.cond(plain, lambda _, t: jnp.sqrt(t), lambda xs, _: _scaled_norm(xs, dtype), pieces, total)


def gather(arrays: list[Array], dtype: jnp.dtype) -> list[Array]:
    """The arrays, small ones joined into one vector of `dtype` (sharded ones stay apart: joining would move them)."""
    small = [x for x in arrays if x.size < SMALL and _is_whole(x)]
    if len(small) < 2:
        return arrays
    rest = [x for x in arrays if not (x.size < SMALL and _is_whole(x))]
    return [jnp.concatenate([x.astype(dtype).reshape(-1) for x in small]), *rest]


def sum_of_squares(pieces: list[Array], dtype: jnp.dtype) -> Array:
    """Σ x² over all pieces. (A product and a sum: jnp.vdot loses half of a large f32 sum on some CPU versions.)"""
    return sum((_sum_of_squares(x, dtype) for x in pieces), start=jnp.zeros((), dtype))


def _sum_of_squares(x: Array, dtype: jnp.dtype) -> Array:
    x = x.astype(dtype)
    return jnp.sum(x * x)


def _scaled_norm(pieces: list[Array], dtype: jnp.dtype) -> Array:
    largest = jnp.zeros((), dtype)
    for x in pieces:
        largest = jnp.maximum(largest, jnp.max(jnp.abs(x), initial=0).astype(dtype))
    scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    return scale * jnp.sqrt(sum((jnp.sum((x.astype(dtype) / scale) ** 2) for x in pieces), start=jnp.zeros((), dtype)))


def _is_whole(x: Array) -> bool:
    """Whether x's type says it lies whole on every device (explicitly sharded arrays say otherwise)."""
    sharding = getattr(jax.typeof(x), "sharding", None)
    return sharding is None or all(part is None for part in sharding.spec)
