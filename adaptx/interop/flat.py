"""States as flat dictionaries of named arrays, which any file of arrays holds: npz, safetensors."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ..engine.tree import paths, shortened

AGAIN = "pass the optimizer and parameters it was saved with, and carry the state over with adaptx.convert"


def state_dict(state: PyTree) -> dict[str, Array]:
    """The arrays of a state by name: "step", "slots/m/layers/0/w", "control/scalars/d", "inner/slots/v/b".

    Names are the paths of the state and of the parameters, and stay from version to version. Of wrappers, routes and
    optax's chains too. The arrays are those of the state, not copies.

        np.savez("state.npz", **adaptx.state_dict(state))
        safetensors.flax.save_file(adaptx.state_dict(state), "state.safetensors")

    Raises:
        ValueError: where two arrays would have one name.
    """
    return dict(_named(state))


def load_state_dict(opt: optax.GradientTransformation, params: PyTree, arrays: Mapping[str, PyTree]) -> PyTree:
    """The state of opt for params with arrays by name, as `state_dict` gave them, where and as opt.init has them.

        with np.load("state.npz") as arrays:
            state = adaptx.load_state_dict(opt, params, arrays)

    Nothing is unpickled. Arrays of 16 bits that a file has as bytes without a type (bf16 in npz) are what they were.

    Raises:
        ValueError: for names that are missing or that opt does not have, and for arrays of another shape or dtype.
        TypeError: where opt or arrays are none.
    """
    if not isinstance(opt, optax.GradientTransformation) or not hasattr(arrays, "keys"):
        raise TypeError(
            f"load_state_dict takes (opt, params, arrays by name), got {type(opt).__name__} and "
            f"{type(arrays).__name__}; pass an optimizer and what state_dict gave."
        )
    fresh = opt.init(params)
    wanted, given = dict(_named(fresh)), set(arrays.keys())
    missing, unexpected = [x for x in wanted if x not in given], sorted(given - set(wanted))
    if missing or unexpected:
        both = (("it lacks", missing), ("it has in addition", unexpected))
        told = " and ".join(f"{verb} {shortened(some)}" for verb, some in both if some)
        raise ValueError(f"load_state_dict: this is another optimizer's state: {told}; {AGAIN}.")
    return jax.tree.unflatten(jax.tree.structure(fresh), [_like(name, arrays[name], x) for name, x in wanted.items()])


def _named(state: PyTree) -> list[tuple[str, Array]]:
    """(name, array) in the order of the tree."""
    rows = [(path, x) for path, x in zip(paths(state), jax.tree.leaves(state, is_leaf=lambda x: x is None), strict=True)
            if x is not None]  # fmt: skip
    names = [name for name, _ in rows]
    twice = [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []
    if twice:
        raise ValueError(
            f"two arrays of this state would be named {twice[0]!r}; rename the parameters whose keys hold a '/'."
        )
    return rows


def _like(name: str, came: PyTree, fresh: Array) -> Array:
    """An array as the fresh state has it there."""
    came = came if isinstance(came, jax.Array) else np.asarray(came)
    if came.dtype.kind == "V" and came.dtype.itemsize == fresh.dtype.itemsize:
        came = came.view(fresh.dtype)
    if came.shape != fresh.shape or came.dtype != fresh.dtype:
        raise ValueError(
            f"load_state_dict: '{name}' is {came.dtype} of shape {came.shape}, expected {fresh.dtype} of shape "
            f"{fresh.shape}; {AGAIN}."
        )
    return jax.device_put(jnp.array(came, copy=True), fresh.sharding)
