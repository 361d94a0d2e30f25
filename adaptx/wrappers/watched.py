"""Watching layers: what an optimizer does to every leaf, in a ring of fixed size that lies in its state."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from ..bits import counter_bits, mix
from ..engine.leaf import arithmetic
from ..engine.norms import LANES, LARGE, global_norm, local_axes
from ..engine.transformation import Transformation
from ..engine.tree import Leaves, as_arrays, gradients, nothing, take_apart
from ..numerics import divide
from ..sharded import gathered
from ..values import is_concrete, static, value_class
from .foreign import took_step
from .wrapper import Iterates, Row, Wrapper, chosen

SAMPLE = 4096  # elements of a leaf whose rates are sorted
QUANTILES = (0.1, 0.5, 0.9)
BUCKETS = 256  # of the sketch of a gradient
SIGNS = 0x5EED  # of its hash
NUMBERS = ("grad_norm", "ratio", "cosine", "still", "square", "product")


@value_class
class Watched(Wrapper):
    """What the optimizer inside does to every leaf, every so many steps; the training itself is unchanged, bit by bit.

    Of a leaf with gradient g and displacement u of p ← p + u:

        grad_norm    ‖g‖                     before what the optimizer inside does to it
        ratio        ‖u‖ / ‖p‖
        cosine       −⟨u, g⟩ / (‖u‖ ‖g‖)     1 for gradient descent
        rate         quantiles 0.1, 0.5, 0.9 of |uᵢ| / |gᵢ| where gᵢ ≠ 0, over 4,096 elements spread over the leaf
        still        the share of elements with gᵢ ≠ 0 that did not move: masked, frozen, or lost to rounding
        noise        E‖g‖² and E⟨g, g′⟩, g′ the gradient of the step before: `adaptx.layers` makes the noise scale of
                     them

    What is 0/0 is NaN. u is what `update` gives, rounded to p's dtype: where rounding keeps the rest (Kahan, master),
    narrow parameters stand still at most steps.
    ⟨g, g′⟩ is taken of sketches, 256 sums of elements with random signs, exact for leaves of up to 256 elements. For
    larger ones a product of two gradients without noise is right within some 9 %, and noise adds about ‖g‖²/16 to it,
    up or down, which averages out over records: from n of them, noise scales up to about 16 √n can be told.
    """

    inner: Transformation
    every: int = static(default=100)  # ≥ 1, steps between two records
    keep: int = static(default=128)  # ≥ 1, the newest records, which are what the ring holds
    family = "watched"

    @property
    def kind(self) -> str:
        """What its state belongs to: the ring has a size, and says nothing without how often it was written."""
        return f"watched_{self.keep}_every_{self.every}"

    def fresh(self, p: Array, narrow: bool) -> dict[str, Array | None]:
        """The ring of a leaf, and the sketch of its last gradient."""
        shapes = dict.fromkeys(NUMBERS, (self.keep,)) | {"rate": (self.keep, len(QUANTILES))}
        rings = {name: jnp.full(shape, jnp.nan, jnp.float32) for name, shape in shapes.items()}
        return {**rings, "sketch": jnp.zeros((min(BUCKETS, np.size(p)),), jnp.float32)}

    def step(self, grads: PyTree, state: Iterates, params: PyTree, **extra: PyTree) -> tuple[PyTree, Iterates]:
        """(new parameters, new state)."""
        rows, grads, leaves = self._looked(grads, state, params, extra)
        new, inner = self.inner.step(grads, state.inner, params, **extra)
        return new, self._after(state, inner, rows, leaves)

    def update(  # pyright: ignore[reportIncompatibleMethodOverride, reportIncompatibleVariableOverride]
        self, grads: PyTree, state: Iterates, params: PyTree | None = None, **extra: PyTree
    ) -> tuple[PyTree, Iterates]:
        """optax's contract: (updates in the parameter's dtype, new state); add the updates to the parameters."""
        if params is None:
            raise ValueError(
                "update(grads, state) was called without params, beside which watched looks at updates; call "
                "update(grads, state, params)."
            )
        extra = self._taken(extra)
        rows, grads, leaves = self._looked(grads, state, params, extra)
        updates, inner = self.inner.update(grads, state.inner, params, **extra)
        return updates, self._after(state, inner, rows, leaves)

    def _after(self, state: Iterates, inner: PyTree, rows: list[Row], leaves: Leaves) -> Iterates:
        t = state.scalars["t"]
        return self.after(inner, rows, {"t": chosen(took_step(state.inner, inner), t + 1, t)}, leaves)

    def _looked(
        self, grads: PyTree, state: Iterates, params: PyTree, extra: dict[str, PyTree]
    ) -> tuple[list[Row], PyTree, Leaves]:
        """(the rings after this step, the gradients, the leaves).

        Where it is looked at, the step is taken twice, the first time for its updates alone: beside new parameters the
        old ones would have to be kept, in a copy at every step, looked at or not.
        """
        leaves = take_apart(params)
        rows, ps, t = self.rows(state, leaves), as_arrays(leaves.arrays), state.scalars["t"]
        _refuse_parts(ps)
        gs = gradients(grads, leaves)

        def looked() -> list[Row]:
            updates, inner = self.inner.update(grads, state.inner, params, **extra)
            us = as_arrays(leaves.column(updates))
            after = _recorded(rows, gs, us, ps, t, (self.every, self.keep))
            return chosen(took_step(state.inner, inner), after, rows)

        due = (t % self.every == 0) | ((t + 1) % self.every == 0)  # and the step before, for its gradient
        if is_concrete(due):  # without jit every condition would be a program of its own
            return (looked() if bool(due) else rows), grads, leaves
        rows = lax.cond(due, looked, lambda: rows)
        return rows, leaves.join([_awaiting(rows, g) for g in gs], nothing), leaves


def _refuse_parts(ps: list[Array]) -> None:
    """Raise ValueError inside shard_map, where leaves are parts of arrays."""
    split = sorted({axis for p in ps for axis in local_axes(p)})
    if split:
        raise ValueError(
            f"watched measures whole leaves, but inside shard_map they are split over {', '.join(split)}; leave it out "
            "there, or shard with jit alone."
        )


def _awaiting(rows: list[Row], g: Array | None) -> Array | None:
    """g, as a function of the rings: known before them, it lets the compiler step first, and copy what they need."""
    if g is None or not rows:
        return g
    seen = rows[0]["square"][0]
    one = jnp.where(jnp.isnan(seen) | (seen >= 0), 1.0, jnp.nan)  # 1, as squares are
    return g * one.astype(g.dtype)


@partial(jax.jit, static_argnums=5)
def _recorded(
    rows: list[Row], gs: list[Array | None], us: list[Array], ps: list[Array], t: Array, ring: tuple[int, int]
) -> list[Row]:
    """The rings of all leaves after a step at which they were looked at."""
    every = zip(rows, gs, us, ps, strict=True)
    return [_record(row, g, u, p, (t, *ring)) for row, g, u, p in every]


def _record(row: Row, g: Array | None, u: Array, p: Array, at: tuple[Array, int, int]) -> Row:
    """The ring of a leaf after a step at which it was looked at."""
    t, every, keep = at
    dtype = arithmetic(p)
    u = u.astype(dtype)
    nan = jnp.full((), jnp.nan, jnp.float32)
    sketch = row["sketch"]
    norm_u = global_norm([u])
    seen = {"ratio": _over(norm_u, global_norm([p]))}
    if g is not None and p.size:
        g = g.astype(dtype)
        norm_g = global_norm([g])
        units = (divide(jnp.ones_like(x), x) for x in (norm_u, norm_g))
        dot, still, there, sketch = _sums(u, g, p, *(x.astype(dtype) for x in units))
        seen |= {
            "grad_norm": norm_g, "square": norm_g * norm_g, "still": _over(still, there),
            "cosine": jnp.where((norm_u > 0) & (norm_g > 0), -dot, jnp.nan),
            "product": jnp.where(t == 0, jnp.nan, jnp.sum(sketch * row["sketch"])),
            "rate": jnp.nanquantile(_rates(u, g), jnp.array(QUANTILES, dtype)),
        }  # fmt: skip
    due, place = t % every == 0, (t // every) % keep

    def put(ring: Array, x: Array) -> Array:
        return jnp.where(due, ring.at[place].set(x.astype(jnp.float32)), ring)

    rings = {name: put(row[name], seen.get(name, nan)) for name in (*NUMBERS, "rate")}
    return {**rings, "sketch": sketch.astype(jnp.float32)}


def _over(x: Array, y: Array) -> Array:
    """x / y, NaN where y is 0."""
    return jnp.where(y == 0, jnp.nan, divide(x, y))


Sums = tuple[Array, Array, Array, Array]


def _sums(u: Array, g: Array, p: Array, per_u: Array, per_g: Array) -> Sums:
    """(⟨u, g⟩ in units of their norms, how many gᵢ ≠ 0 did not move, how many there are, the sketch of g)."""

    def terms(u: Array, g: Array, p: Array, salt: Array) -> Sums:
        signed = jnp.where(counter_bits(g.shape, salt) >> 31 == 0, g, -g)
        moving, there = (x.astype(u.dtype) for x in ((p + u.astype(p.dtype) == p) & (g != 0), g != 0))
        return (per_u * u) * (per_g * g), moving, there, signed

    def at_once(u: Array, g: Array, p: Array) -> Sums:
        *sums, signed = terms(u, g, p, jnp.uint32(SIGNS))
        dot, still, there = map(jnp.sum, sums)
        return dot, still, there, _folded(gathered(signed).reshape(-1))

    def in_blocks(u: Array, g: Array, p: Array) -> Sums:
        """Block by block: the CPU's compiler keeps in memory what it is going to reduce."""
        arrays = tuple(x.reshape(-1) for x in (u, g, p))
        whole = u.size // LANES * LANES

        def body(i: Array, lanes: Sums) -> Sums:
            u, g, p = (lax.dynamic_slice_in_dim(x, i * LANES, LANES) for x in arrays)
            more = terms(u, g, p, mix(lax.convert_element_type(i, jnp.uint32) ^ jnp.uint32(SIGNS)))
            return lanes[0] + more[0], lanes[1] + more[1], lanes[2] + more[2], lanes[3] + more[3]

        zero = jnp.zeros(LANES, u.dtype)
        *lanes, signed = lax.fori_loop(0, whole // LANES, body, (zero, zero, zero, zero))
        u, g, p = (x[whole:] for x in arrays)
        *rest, last = terms(u, g, p, jnp.uint32(SIGNS))
        dot, still, there = (jnp.sum(x) + jnp.sum(y) for x, y in zip(lanes, rest, strict=True))
        return dot, still, there, _folded(signed) + _folded(last, BUCKETS)

    if u.size < LARGE or jax.device_count() > 1:
        return at_once(u, g, p)
    return lax.platform_dependent(u, g, p, cpu=in_blocks, default=at_once)


def _folded(x: Array, size: int | None = None) -> Array:
    """Sums of every so many elements: one for each bucket, or the elements themselves where there are fewer."""
    size = min(BUCKETS, x.size) if size is None else size
    whole = x.size - x.size % max(size, 1)
    out = jnp.sum(x[:whole].reshape(-1, size), 0) if whole else jnp.zeros(size, x.dtype)
    return out.at[: x.size - whole].add(x[whole:])


def _rates(u: Array, g: Array) -> Array:
    """|uᵢ| / |gᵢ| of elements spread over a leaf, NaN where gᵢ = 0."""
    stride = max(1, u.size // SAMPLE) | 1  # odd, so that not all lie in a few columns
    u, g = (gathered(x).reshape(-1)[::stride] for x in (u, g))
    return jnp.where(g == 0, jnp.nan, jnp.abs(divide(u, g)))
