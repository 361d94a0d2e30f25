"""Grokfast: the slow component of the gradients, amplified."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..engine.leaf import arithmetic
from ..engine.transformation import Transformation
from ..numerics import ema
from ..values import Decay, Scalar, static, value_class
from .gradients import Call, Changed, OnGradients
from .inside import refuse_gathering
from .wrapper import Iterates, Row


@value_class
class Grokfast(OnGradients):
    """Gradients with their slow component amplified, before the optimizer inside.

        alpha     s ← α s + (1 − α) g, s = g at the first step;  g ← g + λ s                           Algorithm 2
        window    s = the mean of the last w gradients;  g ← g + λ s  from the w-th step on            Algorithm 1

    Lee, Kang, Kim & Lee, "Grokfast: accelerated grokking by amplifying slow gradients", 2024, arXiv:2405.20233.
    One array is kept of every parameter, with a window w of them.
    Departs from the paper in: the average starts at the first gradient and the window waits until it is full, as in the
    authors' program; g + λ s stays in range where g is.
    """

    inner: Transformation
    alpha: Decay | None = None  # α in [0, 1)
    lamb: Scalar = 2.0  # λ ≥ 0
    window: int | None = static(default=None)  # w ≥ 1, steps
    family = "grokfast"

    @property
    def kind(self) -> str:
        """What its state belongs to."""
        return "grokfast" if self.window is None else f"grokfast_of_{self.window}"

    def start(self) -> dict[str, float]:
        """Gradients seen, at most as many as the window has, and where the next one goes."""
        return {"seen": 0.0, "next": 0.0}

    def fresh(self, p: Array, narrow: bool) -> dict[str, Array | None]:
        """The average, or the last gradients."""
        zero = jnp.where(p == p, jnp.zeros_like(p), jnp.zeros_like(p))  # sharded as p, under jit too
        if self.window is None:
            return {"mean": zero}
        return {"last": jnp.where(zero[None] == 0, jnp.zeros((self.window, *p.shape), p.dtype), zero[None])}

    def init(self, params: PyTree) -> Iterates:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Fresh state for params; shares no buffer with them."""
        state = super().init(params)
        refuse_gathering(self.family, state.inner)
        return state

    def seen(self, mine: PyTree, call: Call) -> Changed:
        """The amplified gradients."""
        gs, rows = _amplified(mine, call.rows, call.gs, call.leaves.arrays, call.scalars)
        size, before = self.window or 1, call.scalars
        place = {"seen": jnp.minimum(before["seen"] + 1, size), "next": (before["next"] + 1) % size}
        return Changed(gs, rows, {**before, **place}, call.extra)


@jax.jit
def _amplified(
    grokfast: Grokfast, rows: list[Row], gs: list[Array | None], ps: list[Array], c: Row
) -> tuple[list[Array | None], list[Row]]:
    """(gradients with their slow component, what is kept of them)."""

    def one(row: Row, g: Array | None, p: Array) -> tuple[Array | None, Row]:
        if g is None:
            return g, row
        g = g.astype(arithmetic(p))
        if grokfast.window is None:
            assert grokfast.alpha is not None, "one of the two is given"
            alpha = Decay(jnp.asarray(grokfast.alpha.complement, g.dtype))
            row = {"mean": jnp.where(c["seen"] == 0, g, ema(row["mean"], g, alpha))}
            slow = row["mean"]
        else:
            size = grokfast.window
            row = {"last": jax.lax.dynamic_update_index_in_dim(row["last"], g, c["next"].astype(jnp.int32), 0)}
            slow = jnp.where(c["seen"] + 1 >= size, jnp.sum(row["last"] / size, 0), 0)
        most = jnp.finfo(g.dtype).max
        # finite gradients stay so: the optimizer inside knows what to do with large ones
        return jnp.where(jnp.isfinite(g), jnp.clip(g + jnp.asarray(grokfast.lamb, g.dtype) * slow, -most, most), g), row

    pairs = [one(*x) for x in zip(rows, gs, ps, strict=True)]
    return [g for g, _ in pairs], [row for _, row in pairs]
