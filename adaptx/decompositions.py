"""Decompositions of matrices: on a CPU one matrix after another, elsewhere all of a batch at once.

jaxlib's kernels for the CPU hand the matrices of a batch to the threads that run the program, and wait for them in one
of these threads. Where as many batches are asked for at once as there are threads, each waits for a free one, and the
program hangs. (jax 0.10.1 on two cores: 24 batches of six matrices hang within seconds, by QR or by Cholesky; Shampoo's
eigenvectors did after minutes.) A matrix alone is decomposed by the thread that asks for it. Batches are what has more
than two axes, and what `jax.vmap` makes.

Each is a primitive of jax: a rule for `vmap` and one for derivatives that no transformation loses on its way, as `scan`
does those of `custom_jvp` when it is differentiated twice.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.interpreters.xla import apply_primitive
from jax.sharding import AbstractMesh, PartitionSpec
from jaxtyping import Array, PyTree

from .sharded import product

Matrices = Callable[[Array], Sequence[Array]]  # of one matrix, or of a batch of them
Slope = Callable[[Array, Sequence[Array], Array], Sequence[Array]]  # (x, results, dx) -> the results' derivatives


def one_by_one(name: str, function: Matrices, slope: Slope | None = None) -> Matrices:
    """A function of one matrix, or of a batch, that sees a matrix at a time on a CPU.

    Args:
        name: of the primitive.
        function: its results for matrices over the last two axes.
        slope: linear in dx; None where derivatives take the results as constants.
    """
    made = Primitive(name)
    made.multiple_results = True

    def each(x: Array) -> Sequence[Array]:
        return function(x) if x.ndim == 2 else lax.map(each, x)

    def derivative(primals: Sequence[Array], tangents: Sequence[PyTree]) -> tuple[Sequence[Array], Sequence[PyTree]]:
        (x,), (dx,) = primals, tangents
        out = made.bind(x)
        if slope is None or isinstance(dx, ad.Zero):
            return out, [ad.Zero(jax.typeof(y).to_tangent_aval()) for y in out]
        return out, slope(x, out, dx)

    made.def_impl(partial(apply_primitive, made))  # compiled where nothing else is, and looks for NaN as others do
    made.def_abstract_eval(lambda x: _results(function, x))
    ad.primitive_jvps[made] = derivative
    batching.primitive_batchers[made] = lambda args, axes: _batched(made, args[0], axes[0])
    mlir.register_lowering(made, _lowered(each), platform="cpu")
    mlir.register_lowering(made, _lowered(function))
    return made.bind


def _results(function: Matrices, x: PyTree) -> list[PyTree]:
    """What the results are like: batches split over devices as those of x, matrices whole."""
    shapes = jax.eval_shape(function, jax.ShapeDtypeStruct(x.shape, x.dtype))
    batch = x.sharding.spec[: x.ndim - 2]
    return [
        x.update(
            shape=y.shape, weak_type=False,
            sharding=x.sharding.update(spec=PartitionSpec(*batch, *[None] * (len(y.shape) - len(batch)))),
        )
        for y in shapes
    ]  # fmt: skip


def _batched(made: Primitive, x: Array, axis: int) -> tuple[Sequence[Array], list[int]]:
    out = made.bind(jnp.moveaxis(x, axis, 0))
    return out, [0] * len(out)


def _lowered(function: Matrices) -> Callable[..., PyTree]:
    """The rule that lowers a function of arrays of which the compiler alone knows how they are split."""
    lower = mlir.lower_fun(function, multiple_results=True)

    def rule(context: PyTree, x: PyTree) -> PyTree:
        both = context.avals_in, context.avals_out
        before, after = ([type(a)(a.shape, a.dtype) for a in avals] for avals in both)
        with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
            return lower(context.replace(avals_in=before, avals_out=after), x)

    return rule


_eigh = one_by_one("eigh_one_by_one", lambda a: jnp.linalg.eigh(a, symmetrize_input=False))
_q = one_by_one("q_of_qr_one_by_one", lambda x: [jnp.linalg.qr(x)[0]])
_svd = one_by_one("left_singular_vectors_one_by_one", lambda x: [jnp.linalg.svd(x, full_matrices=False)[0]])


def eigh(a):
    """(eigenvalues, rising; eigenvectors as columns) of symmetric a, of which the lower triangle counts.

    Derivatives take both as constants: those of eigenvectors are infinite where two eigenvalues agree.
    """
    values, vectors = _eigh(a)
    return values, vectors


def q_of_qr(x):
    """The Q of x = Q R; derivatives take it as a constant."""
    return _q(x)[0]


def left_singular_vectors(x):
    """The left singular vectors of x as columns, the largest singular value first; constants for derivatives."""
    return _svd(x)[0]


def _eye(a: Array) -> Array:
    return jnp.broadcast_to(jnp.eye(a.shape[-1], dtype=a.dtype), a.shape)


def _solved(a: Array) -> list[Array]:
    return [lax.linalg.triangular_solve(a, _eye(a), left_side=True, lower=False)]


def _slope_of_solved(a: Array, out: Sequence[Array], da: Array) -> list[Array]:
    return [-exact(exact(out[0], jnp.triu(da)), out[0])]


def _factored(a: Array) -> list[Array]:
    return [lax.linalg.triangular_solve(jnp.linalg.cholesky(a), _eye(a), left_side=True, lower=True)]


def _slope_of_factored(a: Array, out: Sequence[Array], da: Array) -> list[Array]:
    whole = exact(exact(out[0], da), jnp.swapaxes(out[0], -1, -2))
    return [-exact(jnp.tril(whole) * (1 - 0.5 * jnp.eye(a.shape[-1], dtype=a.dtype)), out[0])]


def exact(x: Array, y: Array) -> Array:
    """x y to every bit of the factors."""
    return product(x, y, exact=True)


_inverse_of_triangle = one_by_one("inverse_of_triangle", _solved, _slope_of_solved)
_inverse_of_cholesky = one_by_one("inverse_of_cholesky", _factored, _slope_of_factored)


def inverse_of_triangle(a):
    """a⁻¹ of a whose upper triangle alone counts.

    Its derivative is −a⁻¹ da a⁻¹, in products, so that derivatives too decompose no batch.
    """
    return _inverse_of_triangle(a)[0]


def inverse_of_cholesky(a):
    """L⁻¹, L being the lower triangle of a = L Lᵀ, a symmetric and positive.

    Its derivative is −Φ(L⁻¹ da L⁻ᵀ) L⁻¹, where Φ takes the lower triangle and half of the diagonal.
    """
    return _inverse_of_cholesky(a)[0]
