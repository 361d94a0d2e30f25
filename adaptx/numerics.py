"""The verbs: arithmetic on one array that every rule shares, written for accuracy at the ends of the range."""

import math

import jax.numpy as jnp

from .base import Decay

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


def debias(x, decay: Decay, t):
    """x / (1 − bᵗ): the mean an exponential average started at zero stands for after t steps."""
    return x / one_minus_power(decay, t)


def root(x):
    """√x with root(0) = 0 and a derivative of 0 there, and 0 for the tiny negatives rounding leaves."""
    zero = x <= 0  # false for NaN, which must come out as NaN
    return jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, x)))


def divide(x, y):
    """x / y with x / 0 = 0: a coordinate that never had a gradient has no direction."""
    zero = y == 0
    return jnp.where(zero, 0.0, x / jnp.where(zero, 1.0, y))
