"""Schedule-free learning."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..engine.leaf import arithmetic
from ..engine.telemetry import read, states
from ..engine.transformation import Transformation
from ..engine.tree import as_arrays, take_apart
from ..numerics import divide
from ..values import Scalar, value_class
from .foreign import took_step
from .wrapper import Iterates, Row, Wrapper, chosen, fine_tree


@value_class
class ScheduleFree(Wrapper):
    """Schedule-free learning: gradients at a blend of the iterate and its running average.

        y = (1 − b) z + b x                                   the parameters the caller holds
        z ← z − γ (d + λ y)                                   the inner optimizer's update, its decay at y
        c = w / Σw,  w = tʳ · (largest γ so far)^power
        x ← (1 − c) x + c z                                   evaluated at x

    Defazio et al., "The road less scheduled", 2024, arXiv:2405.15682, Algorithm 1 and the authors' program.
    x is recovered from y and z, so z is the one extra array; beside narrow parameters y is kept in f32 too, and the
    optimizer inside works on that.
    Departs from the paper in: w has the largest γ so far and tʳ, as in the program, where the paper has γ²; the
    optimizer inside is any, and γ is its learning rate alone, without the program's correction of bias.
    """

    inner: Transformation
    b: Scalar = 0.9
    r: Scalar = 0.0
    power: Scalar = 2.0
    learning_rate: Scalar | None = None  # γ, where the optimizer inside does not tell it
    family = "schedule_free"

    def start(self) -> dict[str, float]:
        """The largest rate, the sum of weights, and the blend that y was formed with."""
        return {"largest": 0.0, "total": 0.0, "b": 0.0}

    def fresh(self, p: Array, narrow: bool) -> dict[str, Array | None]:
        """z, and y where it is finer than the parameter."""
        return {"z": p, "y": jnp.array(p) if narrow else None}

    def within(self, params: PyTree) -> PyTree:
        """The parameters as the optimizer inside sees them."""
        return fine_tree(params)

    def step(self, grads: PyTree, state: Iterates, params: PyTree, **extra: PyTree) -> tuple[PyTree, Iterates]:
        """(new parameters, new state)."""
        leaves = take_apart(params)
        rows, ps = self.rows(state, leaves), as_arrays(leaves.arrays)
        ys = fine_of(rows, ps)
        updates, inner = self.inner.update(grads, state.inner, leaves.join(ys, lambda leaf: leaf), **extra)
        moves, counted = as_arrays(leaves.column(updates)), took_step(state.inner, inner)
        zs = [row["z"] for row in rows]
        mine = self.numbers(state)
        rate = mine.learning_rate  # pyright: ignore[reportAttributeAccessIssue]
        rate = _told(inner) if rate is None else jnp.asarray(rate, jnp.float32)
        after = _free(mine, zs, ys, moves, rate, state.scalars)
        zs, ys, scalars = chosen(counted, after, (zs, ys, state.scalars))
        kept = [{"z": z, "y": None if row["y"] is None else y} for z, y, row in zip(zs, ys, rows, strict=True)]
        out = [y.astype(p.dtype) for y, p in zip(ys, ps, strict=True)]
        return leaves.join(out, lambda leaf: leaf), self.after(inner, kept, scalars, leaves)


def _told(inner: PyTree) -> Array:
    """The learning rate of this step, as the optimizer inside tells it.

    Raises:
        ValueError: where it does not.
    """
    if len(states(inner)) != 1 or "learning_rate" not in states(inner)[0].metrics:
        raise ValueError(
            "schedule_free weighs by the learning rate, which the optimizer inside does not tell; pass it: "
            "schedule_free(opt, learning_rate=…)."
        )
    return read(inner, "learning_rate")


def fine_of(rows: list[PyTree], ps: list[Array]) -> list[Array]:
    """y as finely as it is known."""
    return [p.astype(arithmetic(p)) if row["y"] is None else row["y"] for row, p in zip(rows, ps, strict=True)]


@jax.jit
def _free(
    wrapper: ScheduleFree, zs: list[Array], ys: list[Array], moves: list[Array], rate: Array, before: Row
) -> tuple[list[Array], list[Array], Row]:
    t, largest = before["t"] + 1, jnp.maximum(before["largest"], rate)
    weight = t.astype(jnp.float32) ** wrapper.r * largest**wrapper.power
    total = before["total"] + weight
    c = divide(weight, total)

    def one(z: Array, y: Array, u: Array) -> tuple[Array, Array]:
        share, b = c.astype(z.dtype), jnp.asarray(wrapper.b, z.dtype)
        x = average_of(y, z, before["b"])
        z = z + u.astype(z.dtype)
        x = x + share * (z - x)
        return z, z + b * (x - z)

    pairs = [one(*row) for row in zip(zs, ys, moves, strict=True)]
    scalars = {"t": t, "largest": largest, "total": total, "b": jnp.asarray(wrapper.b, jnp.float32)}
    return [z for z, _ in pairs], [y for _, y in pairs], scalars


def average_of(y: Array, z: Array, b: Array) -> Array:
    """x of y = (1 − b) z + b x; z itself before the first step, where b is 0."""
    return z + divide(y - z, b.astype(z.dtype))
