"""The verbs: arithmetic on one array that every rule shares, written for accuracy at the ends of the range."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from .values import Decay

# Taylor coefficients 1/k! of (eˣ − 1)/x, highest first: below |x| = 0.7 the remainder is under half an f32 ulp.
_EXPM1 = tuple(1.0 / math.factorial(k) for k in range(11, 0, -1))


def ema(old, new, decay: Decay):
    """b·old + (1 − b)·new, formed as old + c·(new − old) so that only the accurate complement c enters."""
    return old + decay.complement * (new - old)


def one_minus_power(decay: Decay, t):
    """1 − bᵗ to 3e-7 relative in f32, for b in [0, 0.9999] and t from 1 to 10⁶.

    x = t·log1p(−c); then −expm1(x), by its series for x > −0.7 (XLA's own f32 expm1 errs by 3.3e-7 there on jax 0.10)
    and as 1 − eˣ below, where nothing cancels.
    """
    none = jnp.asarray(decay.complement) >= 1  # b = 0: log b = -inf, whose slope is infinite too
    x = jnp.where(none, -jnp.inf, t * jnp.log1p(-jnp.where(none, 0.5, decay.complement)))
    if jnp.result_type(x) == jnp.float64:
        return -jnp.expm1(x)
    near = jnp.maximum(x, -0.7)  # keeps the branch not taken finite, so that derivatives are too
    series = jnp.zeros_like(near)
    for coefficient in _EXPM1:
        series = series * near + coefficient
    return jnp.where(x > -0.7, -near * series, 1.0 - jnp.exp(x))


def debias(x, decay: Decay, t, ahead: int = 0):
    """x / (1 − bᵗ): the mean an exponential average started at zero stands for after t steps; ahead=1 for t + 1."""
    return x * (1.0 / one_minus_power(decay, t + ahead) if decay.inverses is None else decay.inverses[ahead])


def at_step(rule, t, dtype):
    """rule with numbers of `dtype` whose decays know 1/(1 − bᵗ): formed once a step instead of once an array.

    As reciprocals: a divisor that is a scalar expression would be copied into the loop of every array.
    """

    def formed(x):
        if not isinstance(x, Decay):
            return jnp.asarray(x, dtype)
        x = Decay(jnp.asarray(x.complement, dtype))
        return Decay(x.complement, (1.0 / one_minus_power(x, t), 1.0 / one_minus_power(x, t + 1)))

    return jax.tree.map(formed, rule, is_leaf=lambda x: isinstance(x, Decay))


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


def counter_bits(shape: tuple[int, ...], salt: Any) -> Array:
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


def counter_uniform(seed: int, count: Any) -> Array:
    """A number in [0, 1) that is a hash of (seed, count)."""
    h = mix(jnp.asarray(count).astype(jnp.uint32) * jnp.uint32(0x9E3779B9) ^ mix(jnp.uint32(seed & 0xFFFFFFFF)))
    return (h >> 8).astype(jnp.float32) * 2.0**-24
