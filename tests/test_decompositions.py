"""Decompositions are those of NumPy, of batches too, and on a CPU no batch reaches jaxlib's kernels."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import decompositions as d

RNG = np.random.default_rng(0)
SQUARE = RNG.normal(size=(2, 3, 5, 5))
POSITIVE = SQUARE @ np.swapaxes(SQUARE, -1, -2) + np.eye(5)
TALL = RNG.normal(size=(2, 3, 7, 4))
LAPACK = re.compile(r"= (.*) custom-call\(.*custom_call_target=.lapack_")
# name -> (function, its argument, what it is by NumPy up to the signs of columns)
KINDS = {
    "eigenvalues": (lambda a: d.eigh(a)[0], POSITIVE, lambda a: np.linalg.eigh(a)[0]),
    "eigenvectors": (lambda a: d.eigh(a)[1], POSITIVE, lambda a: np.linalg.eigh(a)[1]),
    "qr": (d.q_of_qr, TALL, lambda x: np.linalg.qr(x)[0]),
    "svd": (d.left_singular_vectors, TALL, lambda x: np.linalg.svd(x, full_matrices=False)[0]),
    "triangle": (d.inverse_of_triangle, POSITIVE, lambda a: np.linalg.inv(np.triu(a))),
    "cholesky": (d.inverse_of_cholesky, POSITIVE, lambda a: np.linalg.inv(np.linalg.cholesky(a))),
}
WAYS = {
    "batch": lambda f: f,
    "vmap": jax.vmap,
    "vmap_twice": lambda f: jax.vmap(jax.vmap(f)),
    "vmap_of_the_second_axis": lambda f: jax.vmap(f, 1, 1),
}
RULES = ("shampoo", "soap", "splus", "psgd_kron", "dion", "galore")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_numpys(kind: str, way: str):
    function, x, oracle = KINDS[kind]
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(WAYS[way](function))(jnp.asarray(x)))
    want = oracle(x)
    signs = np.sign(np.sum(found * want, -2, keepdims=True)) if kind in ("eigenvectors", "qr", "svd") else 1
    np.testing.assert_allclose(found * signs, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["triangle", "cholesky"])
def test_derivatives_are_those_of_jax(kind: str):
    function, x, _ = KINDS[kind]
    with jax.enable_x64(True):
        plain = {
            "triangle": lambda a: jnp.linalg.inv(jnp.triu(a)),
            "cholesky": lambda a: jnp.linalg.inv(jnp.linalg.cholesky((a + jnp.swapaxes(a, -1, -2)) / 2)),
        }[kind]
        a, w = jnp.asarray(x), jnp.asarray(RNG.normal(size=x.shape))

        def slope(f, a):
            return jax.grad(lambda a: jnp.sum(w * f((a + jnp.swapaxes(a, -1, -2)) / 2)))(a)

        np.testing.assert_allclose(slope(function, a), slope(plain, a), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(slope(jax.vmap(function), a), slope(plain, a), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["triangle", "cholesky"])
def test_second_derivatives_through_a_scan(kind: str):
    """Differentiated twice, scan forgets the rules of custom_jvp; vmap of tangents alone sees an unbatched matrix."""
    function = KINDS[kind][0]

    def last(c):
        a = jnp.array([[2.0, 0.3, 0.1], [0.3, 1.5, 0.2], [0.1, 0.2, 1.0]])
        return jax.lax.scan(lambda c, _: (jnp.sum(jnp.sin(function(a * c))), None), c, length=2)[0]

    with jax.enable_x64(True):
        want = (jax.grad(last)(1.1 + 1e-5) - jax.grad(last)(1.1 - 1e-5)) / 2e-5
        assert abs(want) > 1e-3
        for twice in (jax.hessian(last), jax.grad(jax.grad(last)), jax.jit(jax.jacfwd(jax.jacfwd(last)))):
            np.testing.assert_allclose(twice(1.1), want, rtol=1e-6)


@pytest.mark.parametrize("kind", ["eigenvalues", "eigenvectors", "qr", "svd"])
def test_derivatives_take_it_as_a_constant(kind: str):
    function, x, _ = KINDS[kind]
    equal = jnp.broadcast_to(jnp.eye(*x.shape[-2:]), x.shape)  # where those of eigenvectors would be infinite
    assert not np.any(jax.grad(lambda a: jnp.sum(function(a)))(equal))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_without_jit(kind: str):
    function, x, _ = KINDS[kind]
    x = jnp.asarray(x, jnp.float32)
    with jax.disable_jit():
        found = function(x), jax.vmap(function)(x), jax.jvp(function, (x,), (x,))[0]
    for one in found:
        np.testing.assert_array_equal(one, function(x))


def test_debug_nans_sees_what_is_none():
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match="inverse_of_cholesky"):
        d.inverse_of_cholesky(-jnp.eye(3))


@pytest.mark.parametrize("name", RULES)
def test_no_batch_reaches_lapack(name: str):
    """Of a step of equal and of stacked matrices, and of a sweep of such steps."""
    x = {"a": jnp.ones((8, 6)), "b": jnp.ones((8, 6)), "c": jnp.ones((3, 8, 6))}
    opt = getattr(adaptx, name)(1e-2, **({"rank": 2} if name == "galore" else {}))

    state = opt.init(x)
    both = jax.tree.map(lambda y: jnp.stack([y, y]), (x, state, x))
    for program in (jax.jit(opt.step).lower(x, state, x), jax.jit(jax.vmap(opt.step)).lower(*both)):
        made = LAPACK.findall(program.compile().as_text())
        assert made
        for shapes in made:
            assert max(len(axes.split(",")) for axes in re.findall(r"\[([\d,]*)\]", shapes)) <= 2, shapes
