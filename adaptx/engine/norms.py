"""Sums over all parameters: the global norm, in f32 or wider, from any mix of dtypes and sizes."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, DTypeLike

from ..base import Record
from ..control import Controller
from ..numerics import capped

# Leaves below this size are reduced together, at most so many: a thousand reductions take a compiler very long, and so
# does one expression of many leaves (of 160, a step of 1,600 leaves compiled a sixth longer than of 32). More at once
# than XLA fuses on a CPU would be written to memory.
SMALL, TOGETHER, AT_ONCE = 1 << 15, 32, 16
# XLA on the CPU of jax 0.10 writes all squares to memory before it adds them; a loop that adds vectors does not.
WRITES_SQUARES = jax.__version_info__ < (0, 11)
# Later ones make one kernel of a loop over small arrays, which takes minutes for thousands of them.
ONE_KERNEL = not WRITES_SQUARES
LARGE, LANES = 1 << 17, 1 << 13


def global_norm(arrays: list[Array], axis_name: tuple[str, ...] = ()) -> Array:
    """√(Σ x²) over all arrays, summed in f32 (f64 where an array is f64).

    Safe at any scale: where the plain sum of squares overflows or underflows, it is taken again of numbers scaled by a
    power of two. inf or NaN anywhere gives a norm that is not finite, finite arrays one that is. Arrays of which a
    device of the manual mesh axes axis_name holds a part are added over them.
    """
    if not arrays:
        return jnp.zeros((), jnp.float32)
    dtype = jnp.result_type(jnp.float32, *(x.dtype for x in arrays))
    if not axis_name:
        return _norm(arrays, dtype)
    parts = [x for x in arrays if varies(x, axis_name)]
    local, same = (_norm(some, dtype) for some in (parts, [x for x in arrays if not varies(x, axis_name)]))
    largest = jnp.maximum(lax.pmax(local, axis_name), same) if parts else same
    unit = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
    total = summed_over(axis_name, (local / unit) ** 2) if parts else jnp.zeros((), dtype)
    return _times(unit, jnp.sqrt(total + (same / unit) ** 2))


def varies(x: Array, axis_name: tuple[str, ...]) -> bool:
    """Whether devices along manual mesh axes hold different parts of x; taken to be so where jax keeps no account."""
    known = bool(local_axes(lax.axis_index(axis_name)))
    return not known or bool(local_axes(x) & set(axis_name))


def local_axes(x: Array) -> frozenset[str]:
    """The manual mesh axes along which x is known to differ."""
    kind = jax.typeof(x)
    account = getattr(kind, "manual_axis_type", None)  # jax before 0.10 has the axes themselves
    return frozenset(getattr(kind, "vma", ()) if account is None else account.varying)


def summed_over(axis_name: tuple[str, ...], x: Array) -> Array:
    """Σ x over the devices along manual mesh axes."""
    return lax.psum(x, axis_name)


def summed_rows(axis_name: tuple[str, ...], rows: list[Record], arrays: list[Array]) -> list[Record]:
    """The sums of every array, those of arrays that devices hold parts of added over them."""
    if not axis_name:
        return rows
    added = partial(summed_over, axis_name)
    pairs = zip(rows, arrays, strict=True)
    return [jax.tree.map(added, row) if varies(x, axis_name) else row for row, x in pairs]


def summed(controller: Controller, rows: list[Record], dtype: DTypeLike) -> Record:
    """The sums of all leaves, or with scope="leaf" their vector, from one record a leaf."""
    stacked = jax.tree.map(lambda *column: jnp.stack([x.astype(dtype) for x in column]), *rows)
    return stacked if controller.scope == "leaf" else jax.tree.map(jnp.sum, stacked)


def refuse_local(axis_name: tuple[str, ...], arrays: list[Array], what: str) -> None:
    """Raise ValueError where arrays are known to be parts, and what is formed of them would be of one device's."""
    split = {axis for x in arrays for axis in local_axes(x)} - set(axis_name)
    if split:
        raise ValueError(
            f"inside shard_map the parameters are split over {', '.join(sorted(split))}, and {what} would be those of "
            f"one device's part; make the optimizer with axis_name={tuple(sorted(split))!r}."
        )


def bound(axis_name: tuple[str, ...]) -> tuple[str, ...]:
    """The axes, or none outside the shard_map that they belong to, where arrays are whole."""
    if axis_name:
        try:
            lax.axis_index(axis_name)
        except NameError:
            return ()
    return axis_name


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _norm(arrays: list[Array], dtype: DTypeLike) -> Array:
    groups, info = together(arrays, dtype), jnp.finfo(dtype)
    reach = int(0.8 * info.maxexp)  # 102 for f32: twice that covers every exponent

    def summed(scale: Array | None) -> Array:
        return sum((_sum_of_squares(group, dtype, scale) for group in groups), jnp.zeros((), dtype))

    def plain(total: Array) -> Array:
        return (total > info.tiny / info.eps**2) & (total < jnp.inf)

    def power(total: Array) -> Array:
        return jnp.asarray(jnp.where(total < 1, 2.0**reach, 2.0**-reach), dtype)

    # a branch too where arrays are parts of a shard_map: what a loop starts with would have to be marked as such
    if (ONE_KERNEL and all(x.size < SMALL for x in arrays)) or any(local_axes(x) for x in arrays):
        total = summed(None)
        scale = power(total)
        return lax.cond(plain(total), lambda: jnp.sqrt(total), lambda: _times(1 / scale, jnp.sqrt(summed(scale))))

    def run(state: tuple) -> tuple:
        runs, _, total = state
        scale = jnp.where(runs == 0, 1.0, power(total)).astype(dtype)
        return runs + 1, scale, summed(scale)

    # a loop that runs once or twice instead of a branch, so that the sums are compiled once
    start = jnp.zeros((), jnp.int32), jnp.ones((), dtype), jnp.zeros((), dtype)
    _, scale, total = lax.while_loop(lambda s: (s[0] == 0) | ((s[0] == 1) & ~plain(s[2])), run, start)
    return _times(1 / scale, jnp.sqrt(total))


def _times(unit: Array, length: Array) -> Array:
    """The product, at most the largest number where both are finite."""
    return jnp.where(jnp.isfinite(length), capped(unit * length), length)


@_norm.defjvp
def _norm_jvp(dtype: DTypeLike, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (xs,), (ds,) = primals, tangents
    norm = _norm(xs, dtype)
    unit = jnp.where(norm == 0, 1, norm)  # the derivative at 0 is 0
    parts = [jnp.sum(x.astype(dtype) / unit * d.astype(dtype)) for x, d in zip(xs, ds, strict=True)]
    return norm, sum(parts, jnp.zeros((), dtype))


def together(arrays: list[Array], dtype: DTypeLike) -> list[list[Array]]:
    """The arrays in groups of equal shapes, whose squares are added element by element before they are reduced.

    Small arrays without an equal are joined into one vector of `dtype`. What may be sharded is not: that would move it.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if any(mesh.shape[axis] > 1 for axis in mesh.auto_axes):  # no type tells whether such an array is sharded
        return [[x] for x in arrays]
    alike: dict[object, list[Array]] = {}
    for i, x in enumerate(arrays):
        alike.setdefault((x.shape, _spec(x)) if x.size < SMALL else i, []).append(x)
    groups = [group[i : i + TOGETHER] for group in alike.values() for i in range(0, len(group), TOGETHER)]
    lone = [group[0] for group in groups if _is_lone(group)]
    if len(lone) > 1:
        lone = [jnp.concatenate([x.astype(dtype).reshape(-1) for x in lone])]
    return [group for group in groups if not _is_lone(group)] + [[x] for x in lone]


def _is_lone(group: list[Array]) -> bool:
    return len(group) == 1 and group[0].size < SMALL and not any(_spec(group[0]))


def _sum_of_squares(group: list[Array], dtype: DTypeLike, scale: Array | None) -> Array:
    x = group[0]
    if not WRITES_SQUARES or x.size < LARGE or jax.device_count() > 1 or any(_spec(x)) or local_axes(x):
        return _at_once(group, dtype, scale)
    return lax.platform_dependent(
        x, cpu=lambda x: _in_blocks(x, dtype, scale), default=lambda x: _at_once([x], dtype, scale)
    )


@partial(jax.jit, static_argnames="dtype")  # so that equal groups are traced once
def _at_once(group: list[Array], dtype: DTypeLike, scale: Array | None) -> Array:
    """Σ (scale·x)². (A product and a sum: jnp.vdot loses half of a large f32 sum on some CPU versions.)"""
    total = jnp.zeros((), dtype)
    each = None if scale is None else lax.full_like(group[0], scale, dtype)
    for i in range(0, len(group), AT_ONCE):
        squares = [_square(x, dtype, each) for x in group[i : i + AT_ONCE]]
        total = _added([lax.optimization_barrier(total), *squares])
    return jnp.sum(total)


def _square(x: Array, dtype: DTypeLike, scale: Array | None) -> Array:
    x = x.astype(dtype)
    return lax.square(x if scale is None else lax.mul(scale, x))


def _added(xs: list[Array]) -> Array:
    """x₁ + … + xₙ, in pairs: few roundings."""
    half = len(xs) // 2
    return lax.add(_added(xs[:half]), _added(xs[half:])) if half else xs[0]


def _in_blocks(x: Array, dtype: DTypeLike, scale: Array | None) -> Array:
    flat = x.reshape(-1)
    whole = flat.size // LANES * LANES

    def body(i: Array, lanes: Array) -> Array:
        return lanes + _square(lax.dynamic_slice_in_dim(flat, i * LANES, LANES), dtype, scale)

    lanes = lax.fori_loop(0, whole // LANES, body, jnp.zeros(LANES, dtype))
    return jnp.sum(lanes) + jnp.sum(_square(flat[whole:], dtype, scale))


def _spec(x: Array) -> tuple:
    """How x's type says it is sharded, axis by axis (of an explicit mesh; None is whole)."""
    sharding = getattr(jax.typeof(x), "sharding", None)
    return () if sharding is None else tuple(sharding.spec)
