"""Several steps of training in one dispatch, which stops by itself at what is not finite.

One program takes any number of steps: how many go into a dispatch changes no number. Against the program of one step,
`train_step`, a compiler may sum in another order inside a loop: equal to rounding, often to the last bit.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from ..engine.tree import Frozen
from .one import FINE, Given, Structure, one_step


class Stretch(NamedTuple):
    """What came of some steps."""

    arrays: list[PyTree]
    state: PyTree
    out: dict[str, Array]  # of every step taken, in rows
    taken: Array  # int32, how many counted
    bad: Array  # int32: FINE, or the first leaf whose gradient is not finite at the step that did not count


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(4, 5))
def stretch(
    structure: Structure, rest: Frozen, guarded: bool, given: Given, arrays: list[PyTree], state: PyTree,
    batches: tuple[PyTree, ...], count: Array,
) -> Stretch:  # fmt: skip
    """The first `count` of the minibatches stacked in batches, one step each; fewer where one is not finite."""

    parts = structure.micro.count > 1

    def step(carry: tuple[list[PyTree], PyTree], i: Array):
        batch = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i, keepdims=False), batches)
        now = given if given.step is None else given._replace(step=given.step + i)
        arrays, state, out = one_step(structure, rest, now, carry, batch, guarded)
        return arrays, state, {name: x for name, x in out.items() if name != "aux"} | numbers(out.get("aux"), parts)

    rows = jax.tree.leaves(batches)[0].shape[0]
    shapes = jax.eval_shape(step, (arrays, state), jnp.int32(0))[2]
    shapes.pop("bad", None)
    outs = jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), shapes)

    def more(now: Stretch) -> Array:
        return (now.taken < count) & (now.bad == FINE)

    def body(now: Stretch) -> Stretch:
        arrays, state, out = step((now.arrays, now.state), now.taken)
        bad = out.pop("bad", jnp.int32(FINE))
        outs = {name: now.out[name].at[now.taken].set(x) for name, x in out.items()}
        return Stretch(arrays, state, outs, now.taken + (bad == FINE), bad)

    return lax.while_loop(more, body, Stretch(arrays, state, outs, jnp.int32(0), jnp.int32(FINE)))


def numbers(aux: PyTree, parts: bool) -> dict[str, Array]:
    """The single numbers among auxiliary outputs, by path: "aux/accuracy"; of those of several parts, the means."""
    found = {}
    for path, x in jax.tree_util.tree_leaves_with_path(aux):
        x = jnp.mean(x, 0) if parts and jnp.ndim(x) == 1 and jnp.issubdtype(x.dtype, jnp.number) else x
        if jnp.ndim(x) == 0 and jnp.issubdtype(jnp.result_type(x), jnp.number):
            name = "/".join(str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path)
            found[f"aux/{name}" if name else "aux"] = jnp.asarray(x, jnp.float32)
    return found


def stacked(batches: list[tuple[PyTree, ...]], rows: int) -> tuple[PyTree, ...]:
    """Minibatches along a new first axis of so many rows, those that are not there repeated."""
    filled = batches + batches[-1:] * (rows - len(batches))
    return jax.tree.map(lambda *xs: (np if isinstance(xs[0], (np.ndarray, np.generic)) else jnp).stack(xs), *filled)
