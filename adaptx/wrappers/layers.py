"""Reading what a watched optimizer recorded of its layers."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from ..engine.tree import is_none, paths
from .watched import Watched
from .wrapper import Iterates


class Layers(NamedTuple):
    """What was recorded of every leaf: n records of m leaves, NaN where there is nothing to say."""

    steps: np.ndarray  # (n,), the 0-based steps that were looked at
    paths: list[str]  # of the m leaves
    grad_norm: np.ndarray  # (n, m), ‖g‖
    ratio: np.ndarray  # (n, m), ‖u‖ / ‖p‖
    cosine: np.ndarray  # (n, m), of −u and g
    rate_low: np.ndarray  # (n, m), quantile 0.1 of |uᵢ| / |gᵢ|
    rate: np.ndarray  # (n, m), the median
    rate_high: np.ndarray  # (n, m), quantile 0.9
    still: np.ndarray  # (n, m), share of elements that did not move
    noise_scale: np.ndarray  # (m,), tr Σ / ‖G‖² in minibatches, of all records together; inf where E⟨g, g′⟩ ≤ 0
    total_noise_scale: float  # of all leaves together


def layers(state: PyTree) -> Layers:
    """What `adaptx.watched` recorded, on the host.

    The noise scale is how many minibatches must be joined to one until its gradient has as much of the true gradient as
    of noise: larger batches help as long as it is well above 1. It is taken from E‖g‖² = ‖G‖² + tr Σ and
    E⟨g, g′⟩ = ‖G‖² of gradients at successive steps, as means over the records. It comes out too large where steps are
    so long that the gradient turns around, and where an epoch has few minibatches, each of which lacks the rows of the
    one before.

    Args:
        state: that of a watched optimizer, or any tree that holds one.

    Raises:
        TypeError: where there is none, or several.
        ValueError: for the states of a batch of trainings.

    Noise scale: McCandlish, Kaplan & Amodei, "An empirical model of large-batch training", 2018, arXiv:1812.06162,
    section 2.2.
    """
    found = _found(state)
    if len(found) != 1:
        came = "no watched optimizer's state" if not found else f"{len(found)} of them"
        raise TypeError(f"layers takes the state of adaptx.watched(opt), got a tree with {came}; pass one such state.")
    one = found[0]
    if np.ndim(one.scalars["t"]):
        raise ValueError(
            f"layers takes one state, got those of {np.size(one.scalars['t'])} trainings; pass "
            "jax.tree.map(lambda x: x[i], state)."
        )
    keep, every = (int(x) for x in next(iter(one.made_by)).removeprefix("watched_").split("_every_"))
    count = -(-int(one.scalars["t"]) // every)
    records = np.arange(max(0, count - keep), count)
    columns = {
        name: np.stack([np.asarray(x)[records % keep] for x in jax.tree.leaves(tree)], 1)
        for name, tree in one.iterates.items()
        if name != "sketch"
    }
    rings = one.iterates["ratio"]
    every_leaf = zip(paths(rings), jax.tree.leaves(rings, is_leaf=is_none), strict=True)
    names = [path for path, x in every_leaf if x is not None]  # of leaves that are trained
    low, middle, high = np.moveaxis(columns.pop("rate"), -1, 0)
    square, product = columns.pop("square"), columns.pop("product")
    noise = noise_scale(square, product)
    total = float(noise_scale(np.nansum(square, 1)[:, None], np.where(np.isnan(product).all(1), np.nan,
                              np.nansum(product, 1))[:, None])[0])  # fmt: skip
    return Layers(records * every, names, rate_low=low, rate=middle, rate_high=high,
                  noise_scale=noise, total_noise_scale=total, **columns)  # fmt: skip


def noise_scale(square: np.ndarray, product: np.ndarray) -> np.ndarray:
    """(E‖g‖² − E⟨g, g′⟩) / E⟨g, g′⟩ of every column, over the rows that have both."""
    both = np.isfinite(product) & np.isfinite(square)
    count = np.maximum(both.sum(0), 1)
    squares, products = (np.where(both, x, 0).sum(0) / count for x in (square, product))
    noise = np.maximum(squares - products, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(both.any(0), np.where(products > 0, noise / products, np.inf), np.nan)


def _found(state: PyTree) -> list[Iterates]:
    """Every state of a watched optimizer inside a tree."""
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Iterates))
    out = []
    for node in nodes:
        if isinstance(node, Iterates):
            mine = next(iter(node.made_by)).startswith(Watched.family)
            out += [node] if mine else _found(node.inner)
    return out
