"""Schedule-free learning."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..numerics import divide
from ..values import Scalar, value_class
from .layout import nothing
from .leaf import arithmetic
from .lift import as_arrays
from .rounding import is_narrow
from .run import concrete
from .telemetry import read
from .tree import take_apart
from .value import Transformation
from .wrapper import Iterates, Wrapper, copied


@value_class
class ScheduleFree(Wrapper):
    """Schedule-free learning: gradients at a blend of the iterate and its running average.

        y = (1 − b) z + b x                                   the parameters the caller holds
        z ← z − γ (d + λ y)                                   the inner optimizer's update, its decay at y
        c = w / Σw,  w = tʳ · (largest γ so far)^power
        x ← (1 − c) x + c z                                   evaluated at x

    Defazio et al., "The road less scheduled", 2024, arXiv:2405.15682, Algorithm 1 and the authors' code.
    x is recovered from y and z, so z is the one extra array; beside narrow parameters y is kept in f32 too.
    """

    inner: Transformation
    b: Scalar = 0.9
    r: Scalar = 0.0
    power: Scalar = 2.0

    def _fresh(self, p: Array) -> dict[str, Array]:
        return {"z": p}

    def init(self, params: PyTree) -> Iterates:
        """Fresh state for params; shares no buffer with them."""
        state = super().init(params)
        leaves = take_apart(params)
        fine = [copied(concrete(p)) if is_narrow(concrete(p).dtype) else None for p in leaves.arrays]
        return state._replace(iterates={**state.iterates, "y": leaves.join(fine, nothing)})

    def _scalars(self) -> dict[str, Array]:
        return {name: jnp.zeros((), jnp.float32) for name in ("t", "largest", "total")}

    def step(self, grads: PyTree, state: Iterates, params: PyTree, **extra: Any) -> tuple[PyTree, Iterates]:
        """(new parameters, new state)."""
        leaves = take_apart(params)
        rows, ps = self._rows(state, leaves), as_arrays(leaves.arrays)
        ys = [p.astype(arithmetic(p)) if y is None else y for p, y in zip(ps, rows["y"], strict=True)]
        updates, inner = self.inner.update(grads, state.inner, leaves.join(ys, lambda leaf: leaf), **extra)
        moves = as_arrays(take_apart(updates).arrays)
        zs, ys, scalars = _free(self, rows["z"], ys, moves, read(inner, "learning_rate"), state.scalars)
        kept = [y if old is not None else None for y, old in zip(ys, rows["y"], strict=True)]
        out = [y.astype(p.dtype) for y, p in zip(ys, ps, strict=True)]
        iterates = {"z": leaves.join(zs, nothing), "y": leaves.join(kept, nothing)}
        return leaves.join(out, lambda leaf: leaf), Iterates(inner, iterates, scalars)

    def eval_params(self, state: Iterates, params: PyTree) -> PyTree:
        """The average x, in the parameters' dtypes."""
        leaves = take_apart(params)
        rows, ps = self._rows(state, leaves), as_arrays(leaves.arrays)
        ys = [p.astype(arithmetic(p)) if y is None else y for p, y in zip(ps, rows["y"], strict=True)]
        out = [_average_of(self, y, z).astype(p.dtype) for y, z, p in zip(ys, rows["z"], ps, strict=True)]
        return leaves.join(out, lambda leaf: leaf)


@jax.jit
def _free(wrapper: ScheduleFree, zs: list, ys: list, moves: list, rate: Array, before: dict):
    t, largest = before["t"] + 1, jnp.maximum(before["largest"], rate)
    weight = t**wrapper.r * largest**wrapper.power
    total = before["total"] + weight
    c = divide(weight, total)

    def one(z, y, u):
        share, b = c.astype(z.dtype), jnp.asarray(wrapper.b, z.dtype)
        x = _average_of(wrapper, y, z)
        z = z + u.astype(z.dtype)
        x = x + share * (z - x)
        return z, z + b * (x - z)

    pairs = [one(*row) for row in zip(zs, ys, moves, strict=True)]
    scalars = {name: jnp.asarray(x, jnp.float32) for name, x in (("t", t), ("largest", largest), ("total", total))}
    return [z for z, _ in pairs], [y for _, y in pairs], scalars


def _average_of(wrapper: ScheduleFree, y: Array, z: Array) -> Array:
    b = jnp.asarray(wrapper.b, z.dtype)
    return z + (y - z) / b
