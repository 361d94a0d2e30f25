"""A batch in micro-batches, one after another, so that its mean needs no more memory than that of one of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from ..checks import flag, whole

Batch = tuple[PyTree, ...]
Mean = Callable[..., tuple[PyTree, PyTree]]  # of (key, *micro-batch): (what is averaged, what is stacked)


@dataclass(frozen=True)
class MicroBatches:
    """How a batch is split; as `micro_batches` makes it."""

    count: int = 1  # ≥ 1
    weight: Callable[..., Array] | None = None  # of (*micro-batch): its examples or tokens; None: its rows
    leave_out_nonfinite: bool = False

    def __post_init__(self) -> None:
        whole("accumulate", self.count, 1)
        flag("leave_out_nonfinite", self.leave_out_nonfinite)
        if self.weight is not None and not callable(self.weight):
            raise TypeError(
                f"weight must be a function of (*batch) or None, got {type(self.weight).__name__}; pass a function "
                "such as lambda x, mask: mask.sum()."
            )


def micro_batches(
    count: int, weight: Callable[..., Array] | None = None, leave_out_nonfinite: bool = False
) -> MicroBatches:
    """What `accumulate=` takes where a number does not say enough.

        g = Σᵢ wᵢ gᵢ / Σᵢ wᵢ,  loss = Σᵢ wᵢ lossᵢ / Σᵢ wᵢ          summed in f32 or wider, one step of the optimizer

    Micro-batch i of k is rows i, i + k, i + 2k, … of every array of the batch, so that rows which lie on several
    devices stay where they are. Where k does not divide the rows, the last micro-batch has fewer. With a loss that is a
    mean over rows this is the gradient of the whole batch.

    Args:
        count: k ≥ 1 micro-batches; 1 is the batch as it is.
        weight: of (*micro-batch), what its loss is a mean over, such as the number of tokens that are no padding;
            None for its rows.
        leave_out_nonfinite: whether micro-batches whose loss or gradients are not finite are left out, rather than
            make the whole gradient so (which `skip_nonfinite` of the optimizer then skips). Where all are left out the
            gradient is NaN. The share left out is shown as "left_out".

    Raises:
        TypeError, ValueError: for what is no such number, function or flag.
    """
    return MicroBatches(count, weight, leave_out_nonfinite)


def as_micro(accumulate: PyTree) -> MicroBatches:
    """What a user gave as accumulate=."""
    if isinstance(accumulate, MicroBatches):
        return accumulate
    if isinstance(accumulate, bool) or not isinstance(accumulate, (int, np.integer)):
        raise TypeError(
            f"accumulate must be a number of micro-batches or adaptx.micro_batches(…), got {accumulate!r} "
            f"({type(accumulate).__name__}); pass an int."
        )
    return MicroBatches(int(accumulate))


class Total(NamedTuple):
    """What was added up so far."""

    weight: Array  # of what was not left out; in all 1
    sums: PyTree


class Averaged(NamedTuple):
    """What came of all micro-batches."""

    mean: PyTree
    stacked: PyTree  # one entry for every micro-batch
    left_out: Array  # their share, f32


def over_all(mean: Mean, batch: Batch, key: Array | None, how: MicroBatches) -> Averaged:
    """The weighted mean over the micro-batches of what `mean` gives first, and its second things stacked.

    mean is called with (key, *micro-batch), the key folded with the number of the micro-batch.
    """
    full, last, sizes = cut(batch, how.count)
    weights = normalized(full, last, sizes, how)
    count = len(weights) - (last is not None)  # of those that lie in `full`
    keys = None if key is None else jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(len(weights)))

    def nth(i: int) -> PyTree:
        return None if keys is None else keys[i]

    def one(total: Total, at: tuple[Batch, Array, PyTree]) -> tuple[Total, tuple[PyTree, Array]]:
        piece, w, its_key = at
        found, second = mean(its_key, *piece)
        if how.weight is not None:  # one of nothing but padding has a mean of 0/0
            found = jax.tree.map(lambda x: jnp.where(w == 0, 0, x), found)
        if not how.leave_out_nonfinite:
            return Total(total.weight, plus(total.sums, found, w)), (second, jnp.ones((), bool))
        good = finite(found)
        kept = jax.tree.map(lambda x: jnp.where(good, x, 0), found)
        return Total(total.weight + jnp.where(good, w, 0), plus(total.sums, kept, w)), (second, good)

    first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), full)
    found = jax.eval_shape(lambda piece: mean(nth(0), *piece)[0], first)
    none = Total(jnp.zeros((), weights.dtype), jax.tree.map(lambda x: jnp.zeros(x.shape, wide(x)), found))
    total, (seconds, goods) = lax.scan(one, none, (full, weights[:count], None if keys is None else keys[:count]))
    if last is not None:
        total, (second, good) = one(total, (last, weights[count], nth(count)))
        seconds, goods = appended(seconds, second), jnp.append(goods, good)
    if not how.leave_out_nonfinite:
        return Averaged(total.sums, seconds, jnp.zeros(()))
    left = jax.tree.map(lambda x: x / total.weight.astype(x.dtype), total.sums)
    return Averaged(left, seconds, 1 - jnp.mean(goods, dtype=jnp.float32))


def plus(sums: PyTree, found: PyTree, w: Array) -> PyTree:
    """The sums and w times what was found."""
    return jax.tree.map(lambda total, x: total + w.astype(total.dtype) * x.astype(total.dtype), sums, found)


def wide(x: Array) -> np.dtype:
    """The dtype in which such things are summed: f32 or wider."""
    return jnp.promote_types(x.dtype, jnp.float32)


def finite(tree: PyTree) -> Array:
    """Whether every number in a tree is."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree)]))


def appended(stack: PyTree, last: PyTree) -> PyTree:
    """What came of the last, smaller micro-batch, behind that of the others."""
    for a, b in zip(jax.tree.leaves(stack), jax.tree.leaves(last), strict=True):
        if jnp.shape(a)[1:] != jnp.shape(b):
            raise ValueError(
                f"aux of the micro-batches is stacked, but has shape {jnp.shape(a)[1:]} in whole ones and shape "
                f"{jnp.shape(b)} in the last, smaller one; pass a batch whose rows accumulate= divides, or reduce aux."
            )
    return jax.tree.map(lambda a, b: jnp.concatenate([a, jnp.asarray(b)[None]]), stack, last)


def normalized(full: Batch, last: Batch | None, sizes: list[int], how: MicroBatches) -> Array:
    """The weights of the micro-batches, of sum 1, so that no sum is larger than the largest gradient."""
    if how.weight is None:
        return jnp.array(np.array(sizes) / sum(sizes), widest())
    found = lax.map(lambda piece: weighed(how, piece), full)
    found = found if last is None else jnp.append(found, weighed(how, last))
    return found / jnp.sum(found)


def weighed(how: MicroBatches, piece: Batch) -> Array:
    """What the loss of a micro-batch is a mean over."""
    found = how.weight(*piece)  # pyright: ignore[reportOptionalCall]
    if jnp.ndim(found) or not jnp.issubdtype(jnp.result_type(found), jnp.number):
        raise TypeError(
            f"weight must return one number, got {getattr(found, 'dtype', type(found).__name__)} of shape "
            f"{jnp.shape(found)}; sum it, as in mask.sum()."
        )
    return jnp.asarray(found, widest())


def widest() -> np.dtype:
    """The dtype of weights: that of Python's floats, which is f64 where that is enabled."""
    return jnp.result_type(float)


def cut(batch: Batch, count: int) -> tuple[Batch, Batch | None, list[int]]:
    """(whole micro-batches, stacked along a new first axis; the last, smaller one or None; the rows of each).

    What has no axis, such as a random key, is given to every one of them.

    Raises:
        ValueError: where the arrays have different numbers of rows, or fewer than micro-batches are wanted.
    """
    rows = {jnp.shape(x)[0] for x in jax.tree.leaves(batch) if jnp.ndim(x)}
    if len(rows) != 1 or min(rows) < count:
        came = f"{min(rows)} rows" if len(rows) == 1 else f"first axes {sorted(rows)}" if rows else "no rows"
        raise ValueError(
            f"accumulate={count} splits every array of the batch along its first axis, expected one number of rows, "
            f"at least {count}, got {came}; pass arrays of (rows, …), and random keys with rng=."
        )
    each, n = -(-min(rows) // count), min(rows)
    many, over = divmod(n, each)

    def whole_ones(x: Array) -> Array:
        if not jnp.ndim(x):
            return jnp.broadcast_to(x, (many,))
        # rows i, i + many, …: where rows are spread over devices, none has to move
        return jnp.moveaxis(jnp.reshape(x[: many * each], (each, many, *jnp.shape(x)[1:])), 1, 0)

    full, sizes = jax.tree.map(whole_ones, batch), [each] * many
    if not over:
        return full, None, sizes
    return full, jax.tree.map(lambda x: x[many * each :] if jnp.ndim(x) else x, batch), [*sizes, over]
