"""The verbs: arithmetic on one array that every rule shares, written for accuracy at the ends of the range.

In `lax` where they run on every array: an operator of `jax.numpy` takes four times as long to trace for a new shape.
"""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, DTypeLike, PyTree

from .values import Decay, Inverse, Scalar

# Taylor coefficients 1/k! of (eˣ − 1)/x, highest first: below |x| = 0.7 the remainder is under half an f32 ulp.
_EXPM1 = tuple(1.0 / math.factorial(k) for k in range(11, 0, -1))


def ema(old, new, decay: Decay):
    """b·old + (1 − b)·new, to an ulp of the larger of both: new itself for b = 0.

    As old − c·old: with b = 1 − c rounded, the average of a constant would be wrong by that rounding over c.
    """
    c = lax.full_like(old, decay.complement)
    return lax.add(lax.sub(old, lax.mul(c, old)), lax.mul(c, new))


def ema_of_squares(old, x, decay: Decay, least: Scalar | None = None):
    """b·old + (1 − b)·x², in range where x² is not: c·x in between is smaller than the sum or its root.

    least: what is added too. (Added last, XLA would form the sum twice, of a copy of `old`.)
    """
    c = lax.full_like(old, decay.complement)
    square = lax.mul(lax.mul(c, x), x)
    return lax.add(lax.sub(old, lax.mul(c, old)), square if least is None else lax.add(square, lax.full_like(x, least)))


def capped(x):
    """x with the largest finite number in place of inf; NaN stays. (With a minimum XLA copies a slot on the CPU.)"""
    most = lax.full_like(x, jnp.finfo(x.dtype).max)
    return lax.select(lax.gt(x, most), most, x)


def largest_squarable(dtype: DTypeLike) -> float:
    """A power of two whose square is in range, a few of them added too."""
    return 2.0 ** (jnp.finfo(dtype).maxexp // 2 - 1)


def squarable(g):
    """g brought where squares are in range, inf too: see `showing`; NaN stays.

    A second moment that stops at the largest number, under a gradient that goes on, would be a step of any length.
    """
    limit = largest_squarable(g.dtype)
    return lax.clamp(lax.full((), -limit, g.dtype), g, lax.full((), limit, g.dtype))


def showing(x, g):
    """x, NaN where g is not finite.

    Why `squarable` does not keep inf itself: XLA repeats operations on one array wherever their result is read, but
    stores a choice between two, which would be a copy of every gradient.
    """
    return lax.add(x, lax.sub(g, g))


def one_minus_power(decay: Decay, t):
    """1 − bᵗ to 3e-7 relative in f32, for b in [0, 0.9999] and t from 1 to 10⁶.

    x = t·log1p(−c); then −expm1(x), by its series for x > −0.7 (XLA's own f32 expm1 errs by 3.3e-7 there on jax 0.10)
    and as 1 − eˣ below, where nothing cancels.
    """
    return _one_minus_power(jnp.asarray(decay.complement), jnp.asarray(t))


@jax.jit  # traced once for every shape, and one function of the program wherever it is called
def _one_minus_power(c, t):
    dtype = jnp.result_type(c, t, jnp.float32)
    c, t = jnp.broadcast_arrays(c.astype(dtype), t.astype(dtype))
    full = partial(lax.full_like, c)
    none = lax.ge(c, full(1))  # b = 0: log b = -inf, whose slope is infinite too
    log = lax.log1p(lax.neg(lax.select(none, full(0.5), c)))
    x = lax.select(none, full(-jnp.inf), lax.mul(t, log))
    if dtype == jnp.float64:
        return lax.neg(lax.expm1(x))
    near = lax.max(x, full(-0.7))  # keeps the branch not taken finite, so that derivatives are too
    series = full(_EXPM1[0])
    for coefficient in _EXPM1[1:]:
        series = lax.add(lax.mul(series, near), full(coefficient))
    return lax.select(lax.gt(x, full(-0.7)), lax.neg(lax.mul(near, series)), lax.sub(full(1), lax.exp(x)))


def debias(x, decay: Decay, k: PyTree, ahead: int = 0):
    """x / (1 − bᵗ): the mean an exponential average started at zero stands for after k.t steps; ahead=1 for t + 1.

    x itself where the clock says that the controller makes this correction.
    """
    if not k.debias:
        return x
    return scaled(_inverse(decay, k, ahead).plain, x)


def debias_root(x, decay: Decay, k: PyTree):
    """x / √(1 − bᵗ): the root of what `debias` gives of x², in range where that is not."""
    return scaled(_inverse(decay, k, 0).root, x) if k.debias else x


def _inverse(decay: Decay, k: PyTree, ahead: int) -> Inverse:
    """As formed once for all arrays, or here."""
    known = decay.inverses
    return known[ahead] if ahead < len(known) else _inverted(one_minus_power(decay, k.t + ahead))


def _inverted(x: Array) -> Inverse:
    inverse = lax.div(lax.full_like(x, 1), x)
    return Inverse(inverse, lax.sqrt(inverse))


def formed(value: PyTree, ahead: dict[str, int], t: Array, dtype: DTypeLike) -> PyTree:
    """value with numbers of `dtype`, its decays with what bias is divided by: once a step instead of once an array.

    ahead: the decays of which 1/(1 − bᵗ) is wanted, and so many steps on.
    """
    value = jax.tree.map(lambda x: lax.convert_element_type(x, dtype), value)
    changes = {}
    for field in dataclasses.fields(value):
        decay = getattr(value, field.name)
        if isinstance(decay, Decay):
            times = [lax.convert_element_type(t + n if n else t, dtype) for n in range(1 + ahead.get(field.name, -1))]
            inverses = tuple(_inverted(one_minus_power(decay, time)) for time in times)
            changes[field.name] = Decay(decay.complement, inverses)
    copy = object.__new__(type(value))  # past its checks
    copy.__dict__.update(value.__dict__, **changes)
    return copy


def root(x):
    """√x with root(0) = 0 and a derivative of 0 there, and 0 for the tiny negatives rounding leaves."""
    x = jnp.asarray(x)
    zero = lax.full_like(x, 0)
    none = lax.le(x, zero)  # of NaN, which stays, not so
    return lax.select(none, zero, lax.sqrt(lax.select(none, lax.full_like(x, 1), x)))


def positive_root(x):
    """√x, and √tiny (1e-19 in f32) where x is less: what a coordinate is divided by, one without a gradient too.

    Its derivative is 0 there. `root` is exact at 0, for twice as many operations in every loop.
    """
    return lax.sqrt(lax.max(x, lax.full_like(x, jnp.finfo(x.dtype).tiny)))


def positive_cube_root(x):
    """∛x, and ∛tiny (2e-13 in f32) where x is less; its derivative is 0 there."""
    return lax.cbrt(lax.max(x, lax.full_like(x, jnp.finfo(x.dtype).tiny)))


def over(x, size, eps: Scalar):
    """x / (size + ε), for sizes that are positive."""
    return lax.div(x, lax.add(size, lax.convert_element_type(eps, size.dtype)))


def over_larger(x, size, eps: Scalar):
    """x / max(size, ε), for sizes that are positive."""
    return lax.div(x, lax.max(size, lax.full_like(size, eps)))


def over_root(x, square, eps: Scalar, inside: bool):
    """x / √(square + ε), or with ε outside of the root."""
    if not inside:
        return over(x, positive_root(square), eps)
    return lax.div(x, positive_root(lax.add(square, lax.convert_element_type(eps, square.dtype))))


def divide(x, y):
    """x / y with x / 0 = 0: a coordinate that never had a gradient has no direction; its derivatives are 0 there too.

    A y that x is broadcast against is inverted once; a select would want it sharded like x.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.shape != y.shape:
        return x * divide(lax.full_like(y, 1), y)
    if x.dtype != y.dtype:
        dtype = jnp.result_type(x, y)
        x, y = x.astype(dtype), y.astype(dtype)
    # by inf where y is 0: a select on the quotient would want x and y sharded alike, and this one keeps NaN
    return _quotient(x, lax.select(lax.eq(y, lax.full_like(y, 0)), lax.full_like(y, math.inf), y))


@jax.custom_jvp
def _quotient(x, y):
    return lax.div(x, y)


@_quotient.defjvp
def _quotient_jvp(primals, tangents):
    (x, y), (dx, dy) = primals, tangents
    quotient = _quotient(x, y)
    # lax.div's own derivative forms 1/y², which may be out of range
    return quotient, lax.div(lax.sub(dx, lax.mul(quotient, dy)), y)


def scaled(c: Scalar, x):
    """c·x with the number c in the dtype of the array x."""
    x = jnp.asarray(x)
    return lax.mul(c if getattr(c, "dtype", None) == x.dtype else lax.convert_element_type(c, x.dtype), x)
