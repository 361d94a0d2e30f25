"""What tests measure: types of leaves, traces, compilations, buffers, errors relative to a displacement."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


class Compilations:
    """Counts compilations: a listener for jax.monitoring."""

    EVENT = "/jax/core/compile/backend_compile_duration"

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: str, duration: float, **_: Any) -> None:
        self.count += event == self.EVENT


class Traced:
    """A function that counts how often it is traced (called by Python)."""

    def __init__(self, function: Callable):
        self.function, self.count = function, 0

    def __call__(self, *args: Any) -> Any:
        self.count += 1
        return self.function(*args)


def avals(tree: Any) -> dict[str, tuple]:
    """Path -> (shape, dtype, weak_type) of every array of a tree."""
    entries, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(k): (x.shape, np.dtype(x.dtype), getattr(x, "weak_type", False)) for k, x in entries}


def pointers(tree: Any) -> dict[str, int]:
    """Path -> address of the buffer of every non-empty array of a tree."""
    entries, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(k): x.unsafe_buffer_pointer() for k, x in entries if x.size}


def flat(tree: Any) -> np.ndarray:
    """All numbers of a tree as one float64 vector."""
    leaves = [np.asarray(x).astype(np.float64).reshape(-1) for x in jax.tree.leaves(tree)]
    return np.concatenate(leaves) if leaves else np.zeros(0)


def assert_close(got: Any, want: Any, rtol: float, atol: float = 0.0) -> None:
    """Equal structure, equal shapes, and |got − want| ≤ atol + rtol·|want| element by element; NaN equals nothing."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    pairs = itertools.zip_longest(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want))
    for (path, a), b in pairs:
        a, b = np.asarray(a).astype(np.float64), np.asarray(b).astype(np.float64)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, equal_nan=False, err_msg=jax.tree_util.keystr(path))


def assert_identical(got: Any, want: Any) -> None:
    """The same structure and, leaf by leaf, the same type and the same bits (NaN equals NaN)."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    assert avals(got) == avals(want)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), jax.tree_util.keystr(path)


def excess(got: np.ndarray, want: np.ndarray, start: np.ndarray, rtol: float, rounding: float) -> float:
    """Largest error of a trajectory in units of its tolerance; up to 1 is agreement, NaN if anything is.

    got, want: (steps, entries); start: (entries,). The tolerance is rtol times how far an entry has moved so far, plus
    `rounding` times its magnitude: at a gradient scale of 1e-8 a parameter of order 1 moves by 1e-10, and a tolerance
    relative to its value would let a wrong rule through.
    """
    reach = np.maximum.accumulate(np.abs(want - start), axis=0)
    tolerance = rtol * reach + rounding * np.maximum(np.abs(want), np.abs(start))
    return float(np.max(np.abs(got - want) / np.maximum(tolerance, 1e-30)))


LIKE_PARAMS = ("slots", "kept", "marks", "iterates")  # the entries of a state that hold trees like the parameters


def is_like_params(path: tuple) -> bool:
    """Whether a leaf of a state lies in a tree like the parameters, by its path."""
    names = (getattr(key, "name", None) for key in path)
    return any(name in LIKE_PARAMS for name in names)
