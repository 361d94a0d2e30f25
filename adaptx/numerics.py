"""The verbs: arithmetic on one array that every rule shares, written for accuracy at the ends of the range."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from .values import Decay, Scalar

# Taylor coefficients 1/k! of (eˣ − 1)/x, highest first: below |x| = 0.7 the remainder is under half an f32 ulp.
_EXPM1 = tuple(1.0 / math.factorial(k) for k in range(11, 0, -1))


def ema(old, new, decay: Decay):
    """b·old + (1 − b)·new, to an ulp of the larger term; b·old is formed from the accurate complement c = 1 − b.

    b is 1 − c rounded, plus what the rounding left out: with b alone the average of a constant would drift.
    """
    b = 1 - decay.complement
    return (b * old + (1 - b - decay.complement) * old) + decay.complement * new


def ema_of_squares(old, x, decay: Decay):
    """b·old + (1 − b)·x², in range where x² is not, and never inf for a finite x: that would stay for ever."""
    scaled = jnp.sqrt(decay.complement) * x
    b = 1 - decay.complement
    return capped((b * old + (1 - b - decay.complement) * old) + scaled * scaled)


def capped(x):
    """x with the largest finite number in place of inf; NaN stays. (With a minimum XLA copies a slot on the CPU.)"""
    most = jnp.finfo(x.dtype).max
    return jnp.where(x > most, most, x)


def one_minus_power(decay: Decay, t):
    """1 − bᵗ to 3e-7 relative in f32, for b in [0, 0.9999] and t from 1 to 10⁶.

    x = t·log1p(−c); then −expm1(x), by its series for x > −0.7 (XLA's own f32 expm1 errs by 3.3e-7 there on jax 0.10)
    and as 1 − eˣ below, where nothing cancels.
    """
    return _one_minus_power(decay.complement, t)


@jax.jit  # traced once for every dtype, and one function of the program wherever it is called
def _one_minus_power(complement, t):
    none = jnp.asarray(complement) >= 1  # b = 0: log b = -inf, whose slope is infinite too
    x = jnp.where(none, -jnp.inf, t * jnp.log1p(-jnp.where(none, 0.5, complement)))
    if x.dtype == jnp.float64:
        return -jnp.expm1(x)
    near = jnp.maximum(x, -0.7)  # keeps the branch not taken finite, so that derivatives are too
    series = jnp.zeros_like(near)
    for coefficient in _EXPM1:
        series = series * near + coefficient
    return jnp.where(x > -0.7, -near * series, 1.0 - jnp.exp(x))


def debias(x, decay: Decay, k: Any, ahead: int = 0):
    """x / (1 − bᵗ): the mean an exponential average started at zero stands for after k.t steps; ahead=1 for t + 1.

    x itself where the clock says that the controller makes this correction.
    """
    if not k.debias:
        return x
    known = len(decay.inverses) > ahead
    return x * (decay.inverses[ahead] if known else 1.0 / one_minus_power(decay, k.t + ahead))


def with_inverses(value: PyTree, ahead: dict[str, int], t, dtype: Any) -> PyTree:
    """value with numbers of `dtype`, and those decays that `ahead` names with their 1/(1 − bᵗ) up to so many steps on.

    Formed once a step instead of once an array, all in one vector; as reciprocals, because a divisor that is a scalar
    expression would be copied into the loop of every array.
    """
    value = jax.tree.map(lambda x: lax.convert_element_type(x, dtype), value)
    wanted = [(name, n) for name, last in ahead.items() for n in range(last + 1)]
    if not wanted:
        return value
    t = lax.convert_element_type(t, dtype)
    complements = jnp.stack([getattr(value, name).complement for name, _ in wanted])
    inverses = 1.0 / one_minus_power(Decay(complements), jnp.stack([t + n for _, n in wanted]))
    found: dict[str, tuple[Array, ...]] = {name: () for name in ahead}
    for i, (name, _) in enumerate(wanted):
        found[name] += (inverses[i],)
    changes = {name: Decay(getattr(value, name).complement, parts) for name, parts in found.items()}
    return replaced(value, **changes)


def replaced(value: PyTree, **fields: Scalar) -> PyTree:
    """A frozen record with other fields, past its checks."""
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__, **fields)
    return copy


@jax.custom_jvp
def root(x):
    """√x with root(0) = 0 and a derivative of 0 there, and 0 for the tiny negatives rounding leaves."""
    return jnp.sqrt(jnp.maximum(x, 0))


@root.defjvp
def _root_jvp(primals, tangents):
    y = root(*primals)
    return y, tangents[0] * divide(jnp.full_like(y, 0.5), y)


@jax.custom_jvp
def divide(x, y):
    """x / y with x / 0 = 0: a coordinate that never had a gradient has no direction."""
    return jnp.where(y == 0, 0.0, jnp.divide(x, y))


@divide.defjvp
def _divide_jvp(primals, tangents):
    x, y = primals
    inverse = jnp.where(y == 0, 0.0, 1 / jnp.where(y == 0, 1, y))
    return divide(x, y), inverse * (tangents[0] - x * inverse * tangents[1])


def filled(like: Array, value: Scalar, dtype: Any = None) -> Array:
    """A new array like another and sharded as it, every element `value`; never a view of it."""
    return tied(jnp.full_like(like, value, dtype), like)


def tied(x: Array, like: Array) -> Array:
    """x, sharded as an array of its shape: under jit a constant would come out replicated, a select on it does not."""
    return jnp.where(like == like, x, x) if isinstance(like, jax.core.Tracer) and x.shape == like.shape else x


def counter_bits(shape: tuple[int, ...], salt: Array) -> Array:
    """32 random bits for every element of an array, a hash of (salt, element index): no key, the same when sharded."""
    index = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(len(shape))):
        index = index + lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride & 0xFFFFFFFF)
        stride *= shape[axis]
    return mix(index * jnp.uint32(0x9E3779B9) ^ salt)


def mix(h: Array) -> Array:
    """A 32-bit finalizer: every input bit flips every output bit with probability about one half."""
    h = (h ^ (h >> 16)) * jnp.uint32(0x21F0AAAD)
    h = (h ^ (h >> 15)) * jnp.uint32(0x735A2D97)
    return h ^ (h >> 15)


def counter_uniform(seed: int, count: Scalar) -> Array:
    """A number in [0, 1) that is a hash of (seed, count)."""
    h = mix(jnp.asarray(count).astype(jnp.uint32) * jnp.uint32(0x9E3779B9) ^ mix(jnp.uint32(seed & 0xFFFFFFFF)))
    return (h >> 8).astype(jnp.float32) * 2.0**-24
