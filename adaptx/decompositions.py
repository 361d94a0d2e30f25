"""Decompositions of matrices: on a CPU one matrix after another, elsewhere all of a batch at once.

jaxlib's kernels for the CPU hand the matrices of a batch to the threads that run the program, and wait for them in one
of these threads. Where as many batches are asked for at once as there are threads, each waits for a free one, and the
program hangs. (jax 0.10.1 on two cores: 24 batches of six matrices hang within seconds, by QR or by Cholesky; Shampoo's
eigenvectors did after minutes.) A matrix alone is decomposed by the thread that asks for it. Batches are what has more
than two axes, and what `jax.vmap` makes.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from .sharded import product

exact = partial(product, exact=True)


def one_by_one(function: Callable[[Array], PyTree]) -> Callable[[Array], PyTree]:
    """A function of one square or oblong matrix, or of a batch of them, that sees a matrix at a time on a CPU."""

    def each(x: Array) -> PyTree:
        return function(x) if x.ndim == 2 else lax.map(each, x)

    @jax.custom_batching.custom_vmap
    def mapped(x: Array) -> PyTree:
        return lax.platform_dependent(x, cpu=each, default=function)

    @mapped.def_vmap
    def _(size: int, batched: list[bool], x: Array) -> tuple[PyTree, PyTree]:
        del size, batched
        out = mapped(x)
        return out, jax.tree.map(lambda _: True, out)

    return mapped


@one_by_one
def _eigh(a: Array) -> tuple[Array, Array]:
    values, vectors = jnp.linalg.eigh(a, symmetrize_input=False)
    return values, vectors


def eigh(a):
    """(eigenvalues, rising; eigenvectors as columns) of symmetric a, of which the lower triangle counts.

    Derivatives take both as constants: those of eigenvectors are infinite where two eigenvalues agree.
    """
    return _eigh(lax.stop_gradient(a))


@one_by_one
def _orthonormal(x: Array) -> Array:
    return jnp.linalg.qr(x)[0]


def q_of_qr(x):
    """The Q of x = Q R; derivatives take it as a constant."""
    return _orthonormal(lax.stop_gradient(x))


@one_by_one
def _left(x: Array) -> Array:
    return jnp.linalg.svd(x, full_matrices=False)[0]


def left_singular_vectors(x):
    """The left singular vectors of x as columns, the largest singular value first; constants for derivatives."""
    return _left(lax.stop_gradient(x))


@one_by_one
def _inverse_of_triangle(a: Array) -> Array:
    eye = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    return lax.linalg.triangular_solve(a, eye, left_side=True, lower=False)


@jax.custom_jvp
def inverse_of_triangle(a):
    """a⁻¹ of a whose upper triangle alone counts.

    Its derivative is −a⁻¹ da a⁻¹, in products, so that derivatives too decompose no batch.
    """
    return _inverse_of_triangle(a)


@inverse_of_triangle.defjvp
def _(primals, tangents):
    (a,), (da,) = primals, tangents
    inverse = inverse_of_triangle(a)
    return inverse, -exact(exact(inverse, jnp.triu(da)), inverse)


@one_by_one
def _inverse_of_cholesky(a: Array) -> Array:
    eye = jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)
    return lax.linalg.triangular_solve(jnp.linalg.cholesky(a), eye, left_side=True, lower=True)


@jax.custom_jvp
def inverse_of_cholesky(a):
    """L⁻¹, L being the lower triangle of a = L Lᵀ, a symmetric and positive.

    Its derivative is −Φ(L⁻¹ da L⁻ᵀ) L⁻¹, where Φ takes the lower triangle and half of the diagonal.
    """
    return _inverse_of_cholesky(a)


@inverse_of_cholesky.defjvp
def _(primals, tangents):
    (a,), (da,) = primals, tangents
    inverse = inverse_of_cholesky(a)
    whole = exact(exact(inverse, da), jnp.swapaxes(inverse, -1, -2))
    half = jnp.tril(whole) * (1 - 0.5 * jnp.eye(a.shape[-1], dtype=a.dtype))
    return inverse, -exact(half, inverse)
