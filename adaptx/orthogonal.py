"""The verbs that make matrices orthogonal: views as matrices, Newton-Schulz, bases."""

import math
from functools import partial

import jax.numpy as jnp
from jax import lax

from .decompositions import inverse_of_cholesky
from .numerics import divide, root
from .sharded import product

VIEWS, OUTPUTS, PRECISIONS = ("batch", "first", "last"), ("columns", "rows"), ("auto", "full")


def as_matrices(x, view: str, output: str):
    """x as matrices with outputs as rows, the last two axes.

    view: of more than two axes, "batch" the last two are the matrix, "first" the first against all others (kernels
    O×I×H×W), "last" all others against the last (kernels H×W×I×O). output: which side of that matrix is the output.
    """
    if x.ndim > 2 and view != "batch":
        rest = math.prod(x.shape[1:] if view == "first" else x.shape[:-1])
        x = x.reshape((x.shape[0], rest) if view == "first" else (rest, x.shape[-1]))
    return jnp.swapaxes(x, -1, -2) if output == "columns" else x


def as_before(x, shape: tuple[int, ...], output: str):
    """The inverse of `as_matrices` for an array of this shape."""
    return (jnp.swapaxes(x, -1, -2) if output == "columns" else x).reshape(shape)


def unit_of(x, least=0, axes: tuple[int, ...] = (-2, -1)):
    """A unit for x in which its squares are in range: the largest magnitude over these axes, or a least one.

    A constant to derivatives: what is computed in a unit, and taken out of it, does not depend on it.
    """
    return lax.stop_gradient(jnp.maximum(jnp.max(jnp.abs(x), axes, keepdims=True, initial=0), least))


def over_norm(x, eps, axes: tuple[int, ...] = (-2, -1)):
    """x / (‖x‖ + ε), the Euclidean norm over these axes, for x of any magnitude: 0 where x is 0, whatever ε."""
    unit = unit_of(x, eps, axes)  # ε in it is in range too
    x = divide(x, unit)
    return divide(x, root(jnp.sum(x * x, axes, keepdims=True)) + divide(eps, unit))


def orthogonalized(x, coefficients, steps: int, eps, precision: str):
    """Newton-Schulz: matrices with the singular vectors of x and singular values near 1.

    X = x / (‖x‖_F + ε), then `steps` times A = X Xᵀ, X ← a X + (b A + c A²) X: each takes a singular value s to
    a s + b s³ + c s⁵. A matrix with more rows than columns is transposed for the smaller A.

    precision: "full", to the last bit of the dtype of x; "auto", products of bf16 operands summed in f32, but in the
    dtype of x on the CPU, which has no fast ones, and for f64. It is chosen as the program is lowered for a device.
    """
    turned = x.shape[-2] > x.shape[-1]
    x = over_norm(jnp.swapaxes(x, -1, -2) if turned else x, eps)
    iterate = partial(_newton_schulz, coefficients, steps)
    if precision == "full" or x.dtype != jnp.float32:
        x = iterate(partial(product, exact=True), x)
    else:
        x = lax.platform_dependent(x, cpu=partial(iterate, product), default=partial(iterate, product_of_bf16))
    return jnp.swapaxes(x, -1, -2) if turned else x


def _newton_schulz(coefficients, steps: int, times, x):
    a, b, c = coefficients
    for _ in range(steps):
        gram = times(x, jnp.swapaxes(x, -1, -2))
        x = a * x + times(b * gram + c * times(gram, gram), x)
    return x


def product_of_bf16(x, y):
    """x y of operands rounded to bf16, summed in the dtype they had."""
    return product(x.astype(jnp.bfloat16), y.astype(jnp.bfloat16), x.dtype)


def spectral_length(rows: int, columns: int, scale: str) -> float:
    """What orthogonal matrices are multiplied by.

    "spectral": √max(1, rows/columns). "rms": 0.2·√max(rows, columns), a root mean square of 0.2 where all singular
    values are 1, as long as Adam's updates.
    """
    return max(1.0, rows / max(columns, 1)) ** 0.5 if scale == "spectral" else 0.2 * max(rows, columns) ** 0.5


def orthonormal(x):
    """A basis of the columns of x, r ≤ m columns of length 1 that are orthogonal: the Q of x = Q R.

    Three times x ← x L⁻ᵀ with L Lᵀ = xᵀx + σ: Cholesky QR, shifted so that it never breaks down (Fukaya et al., 2020,
    arXiv:1809.11085, with the likely error of xᵀx in place of the largest), because it is products and factors of
    r × r, however x is sharded. Directions that x lacks stay 0, or are what rounding leaves there.
    """
    x = over_norm(x, 0, (-2,))  # a basis all the same, and columns of one length are better conditioned
    m, r = x.shape[-2:]
    eye, shift = jnp.eye(r, dtype=x.dtype), 8 * math.sqrt(m * r) * float(jnp.finfo(x.dtype).eps)
    for _ in range(3):
        inverse = inverse_of_cholesky(product(jnp.swapaxes(x, -1, -2), x, exact=True) + shift * eye)
        # the root undoes what the shift does to columns that are orthogonal already
        x = math.sqrt(1 + shift) * product(x, jnp.swapaxes(inverse, -1, -2), exact=True)
    return x
