"""The verbs on Kronecker factors: squares for the rows and the columns of a matrix, None where an axis has none.

A matrix may be cut into blocks; the last block of an axis is padded with zeros; eigenvectors never mix the padding with
the array.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from .decompositions import eigh, inverse_of_triangle, q_of_qr
from .numerics import divide, root
from .sharded import filled, gathered, product


def cut(x, size: int | None):
    """x as a grid of blocks no longer than size: (…, blocks down, blocks across, rows, columns); x where it fits."""
    if _fits(x.shape, size):
        return x
    *batch, m, n = x.shape
    (i, a), (j, b) = (_pieces(length, size) for length in (m, n))
    x = jnp.pad(gathered(x), [(0, 0)] * len(batch) + [(0, i * a - m), (0, j * b - n)])  # a block lies on one device
    return jnp.swapaxes(jnp.reshape(x, (*batch, i, a, j, b)), -3, -2)


def joined(x, shape: tuple[int, ...], size: int | None):
    """The inverse of `cut` for an array of this shape."""
    if _fits(shape, size):
        return x
    i, j, a, b = x.shape[-4:]
    return jnp.reshape(jnp.swapaxes(x, -3, -2), (*shape[:-2], i * a, j * b))[..., : shape[-2], : shape[-1]]


def _fits(shape: tuple[int, ...], size: int | None) -> bool:
    return size is None or len(shape) < 2 or max(shape[-2:]) <= size


def _pieces(length: int, size: int | None) -> tuple[int, int]:
    """(how many pieces, their length) of an axis."""
    size = min(length, size or length)
    return max(-(-length // max(size, 1)), 1), size


def inside(shape: tuple[int, ...], size: int | None, axis: int):
    """Which entries of a factor's axis are the array's own: (blocks down, blocks across, length); None for all."""
    if _fits(shape, size) or shape[axis] % _pieces(shape[axis], size)[1] == 0:
        return None
    (i, a), (j, b) = (_pieces(length, size) for length in shape[-2:])
    count, length = (i, a) if axis == -2 else (j, b)
    own = jnp.reshape(jnp.arange(count * length) < shape[axis], (count, length))
    return own[:, None] if axis == -2 else own[None]


def zeros_of(x, axis: int):
    """A factor of an axis of x, 0, its rows sharded as that axis is."""
    rows = jnp.sum(x, -1 if axis == -2 else -2)
    return filled(jnp.broadcast_to(rows[..., None], (*rows.shape, rows.shape[-1])), 0.0)


def identity_of(x, axis: int):
    """A factor of an axis of x, 1."""
    return zeros_of(x, axis) + jnp.eye(x.shape[axis], dtype=x.dtype)


def transposed(x):
    """x with its last two axes swapped; None, the identity, stays."""
    return None if x is None else jnp.swapaxes(x, -1, -2)


def sandwich(left, x, right):
    """left x right, None for the identity."""
    x = x if left is None else product(left, x)
    return x if right is None else product(x, right)


def gram(x):
    """x xᵀ; of a longer x, whose squares are out of range, that of a shorter one of its direction."""
    within = (jnp.finfo(x.dtype).max / (4 * max(x.shape[-1], 1))) ** 0.5
    top = lax.stop_gradient(jnp.max(jnp.abs(x), (-2, -1), keepdims=True, initial=0))
    x = x * jnp.where(top > within, within / top, 1)  # by 1 of NaN too
    return product(x, jnp.swapaxes(x, -1, -2))


def grams(x, left, right):
    """(x xᵀ, xᵀ x), None in place of what is None."""
    return None if left is None else gram(x), None if right is None else gram(transposed(x))


def moving(x, left, right):
    """x with 0 in the rows and columns that never had a gradient, by their factors: the noise of a basis is in them."""
    for a, axis in ((left, -1), (right, -2)):
        if a is not None:
            x = jnp.where(jnp.expand_dims(jnp.diagonal(a, axis1=-2, axis2=-1), axis) != 0, x, 0)
    return x


def apart(a, own):
    """Symmetric a ≥ 0 over its largest entry, with −1 on the diagonal outside `own`: no eigenspace mixes the two."""
    a = divide(a, jnp.max(jnp.abs(a), (-2, -1), keepdims=True))
    return a if own is None else a - jnp.where(own, 0, 1)[..., None] * jnp.eye(a.shape[-1], dtype=a.dtype)


def eigenbasis(a, own=None):
    """The eigenvectors of symmetric a ≥ 0 as columns, largest eigenvalue first; outside `own` the identity's, last."""
    q = jnp.flip(eigh(apart(a, own))[1], -1)
    return q if own is None else jnp.where(own[..., None] == own[..., None, :], q, 0)


def tracked(a, q, own=None):
    """(an orthonormal basis closer to a's eigenvectors than q, the order its columns were put in).

    One power iteration from the columns of q, those of the largest quotients qᵀ a q first, made orthonormal by QR.
    """
    a, q = lax.stop_gradient((apart(a, own), q))
    order = jnp.argsort(-jnp.sum(q * product(a, q), -2), -1)
    q = q_of_qr(product(a, jnp.take_along_axis(q, order[..., None, :], -1)))
    return q if own is None else jnp.where(own[..., None] == own[..., None, :], q, 0), order


def _noise(values):
    """What rounding makes of eigenvalues that are 0, relative to the largest."""
    return values.shape[-1] * jnp.finfo(values.dtype).eps


def _powers(values, top, power: float, eps):
    """(top λ + ε)^(−power) for eigenvalues λ, 0 where that is 0; its slopes by λ and by ε, 0 for noise."""
    base = values * top + eps
    some = base != 0  # of NaN too
    powers = jnp.where(some, jnp.where(some, base, 1) ** -power, 0)
    by_eps = jnp.where(values > _noise(values), -power * divide(powers, base), 0)
    return powers, by_eps * top, by_eps


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def inverse_power(a, power: float, eps):
    """(a + ε)^(−power) for symmetric a ≥ 0, 0 where that is 0.

    Eigenvalues below the rounding of the largest count as that: they are noise, and may be negative. The derivative is
    the product of dA in the eigenbasis with the divided differences of λ^(−power), which exists where eigenvalues agree
    too; derivatives of a higher order take the eigenvectors as constants. Noise has none, by ε neither: what Shampoo
    multiplies with the root lies where a is not 0, and a slope of ε^(−power − 1) would only make its rounding large.
    """
    return _inverse_power(a, power, eps)[0]


def _inverse_power(a, power: float, eps):
    """(The power, eigenvalues over `top`, eigenvectors, top)."""
    top = jnp.max(jnp.abs(a), (-2, -1))[..., None]
    values, q = eigh(divide(a, top[..., None]))
    values = jnp.maximum(values, _noise(values))
    powers = _powers(values, top, power, eps)[0]
    return product(q * powers[..., None, :], jnp.swapaxes(q, -1, -2)), values, q, top


@inverse_power.defjvp
def _(power, primals, tangents):
    (a, eps), (da, deps) = primals, tangents
    out, values, q, top = _inverse_power(a, power, eps)
    turned = jnp.swapaxes(q, -1, -2)
    inside = product(product(turned, divide(da, top[..., None])), q)
    powers, _, by_eps = _powers(values, top, power, eps)
    mine, other = values[..., None], values[..., None, :]
    near = jnp.abs(mine - other) <= jnp.finfo(a.dtype).eps ** (1 / 3) * jnp.maximum(mine, other)
    between = (powers[..., None] - powers[..., None, :]) / jnp.where(near, 1, mine - other)
    # where they are near, a difference of powers is rounding more than slope
    slopes = jnp.where(near, _powers((mine + other) / 2, top[..., None], power, eps)[1], between)
    moved = inside * slopes + (by_eps * deps)[..., None] * jnp.eye(a.shape[-1], dtype=a.dtype)
    return out, product(product(q, moved), turned)


def length(x):
    """The Frobenius norm of every matrix, with its axes kept, in range where squares are not."""
    top = jnp.max(jnp.abs(x), (-2, -1), keepdims=True, initial=0)
    x = divide(x, top)
    return top * root(jnp.sum(x * x, (-2, -1), keepdims=True))


# Factors that are a diagonal where an axis is too long for a matrix, told apart by their number of axes.


def is_diagonal(q, x) -> bool:
    """Whether q is the diagonal of a factor of the matrix x."""
    return q.ndim < x.ndim


def scaled_by(q, x, axis: int, *, turned: bool = False):
    """q times the columns of x (axis −2), or times its rows (axis −1), x qᵀ; qᵀ in place of q where it is turned."""
    if is_diagonal(q, x):
        return x * (q[..., None] if axis == -2 else q[..., None, :])
    left = jnp.swapaxes(q, -1, -2) if turned == (axis == -2) else q
    return product(left, x) if axis == -2 else product(x, left)


def solved_by(q, x, axis: int):
    """q⁻ᵀ x (axis −2) or x q⁻¹ (axis −1) for an upper triangle, or a diagonal, q."""
    if is_diagonal(q, x):
        return x / (q[..., None] if axis == -2 else q[..., None, :])
    inverse = inverse_of_triangle(q)
    inverse = jnp.swapaxes(inverse, -1, -2) if axis == -2 else inverse
    return product(inverse, x, exact=True) if axis == -2 else product(x, inverse, exact=True)


def norm_bound(a):
    """A lower bound of the largest eigenvalue of symmetric a ≥ 0, with its axes kept: from its longest column."""
    top = jnp.max(jnp.abs(a), (-2, -1), keepdims=True)
    a = divide(a, top)
    longest = jnp.argmax(jnp.sum(a * a, -2, keepdims=True), -1, keepdims=True)
    column = jnp.take_along_axis(a, longest, -1)
    x = product(a, column)
    return top * length(product(a, divide(x, length(x))))
