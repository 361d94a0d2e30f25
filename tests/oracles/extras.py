"""What the engine does around a rule, on one array, and StableAdamW. float64 NumPy, written from the papers.

Brock et al. 2021, arXiv:2102.06171, equation 3 (agc); Yong et al. 2020, arXiv:2004.01461, equation 1 (centralize, whose
matrices have a column per unit: the last axis here); Liang et al. 2024, arXiv:2411.16085, Algorithm 1 (cautious);
Chen et al. 2025, arXiv:2510.12402, Algorithm 1 (cautious decay); Wortsman et al. 2023, arXiv:2304.13013, Algorithm 2
(clipping by the RMS of the update; stableadamw).
"""

from itertools import product

import numpy as np

from .classical import ratio


class Stableadamw:
    """Averages whose decay rates carry the correction of bias, b (1 - b^(t-1)) / (1 - b^t), as Algorithm 2 has them."""

    clip_update_rms = 1.0

    def __init__(self, b1: float = 0.9, b2: float = 0.99, eps: float = 1e-6):
        self.b1, self.b2, self.eps = b1, b2, eps
        self.t = 0
        self.m = self.v = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        first, second = (b * (1.0 - b ** (self.t - 1)) / (1.0 - b**self.t) for b in (self.b1, self.b2))
        self.m = first * self.m + (1.0 - first) * g
        self.v = second * self.v + (1.0 - second) * g * g
        self.surprise = ratio(g, np.sqrt(np.maximum(self.v, self.eps**2)))
        return ratio(self.m, np.sqrt(self.v) + self.eps)


def units(shape: tuple[int, ...]) -> list[tuple]:
    """An index for the weights of every unit of agc."""
    if sum(n > 1 for n in shape) <= 1:
        return [(...,)]
    lead = 1 if len(shape) in (2, 3) else len(shape) - 1
    return [(slice(None),) * lead + rest for rest in product(*map(range, shape[lead:]))]


def agc(g: np.ndarray, p: np.ndarray, share: float) -> np.ndarray:
    """Every unit's gradient at most share * max(|W|, 1e-3) long."""
    out = np.array(g)
    for unit in units(g.shape):
        length, most = np.sqrt(np.sum(g[unit] ** 2)), share * max(np.sqrt(np.sum(p[unit] ** 2)), 1e-3)
        if length > most:
            out[unit] = g[unit] * most / length
    return out


def leaf_clipped(g: np.ndarray, most: float) -> np.ndarray:
    """At most so long."""
    length = np.sqrt(np.sum(g**2))
    return g * most / length if length > most else g


def centralized(g: np.ndarray, units: str) -> np.ndarray:
    """P g with P = I - e e^T, e of length 1, on the weights of every unit: a matrix with a column per unit."""
    if g.ndim < 2:
        return g
    matrix = np.moveaxis(g, -1 if units == "last" else 0, -1)
    columns = matrix.reshape(-1, matrix.shape[-1])
    e = np.full((len(columns), 1), len(columns) ** -0.5)
    flat = (np.eye(len(columns)) - e @ e.T) @ columns
    return np.moveaxis(flat.reshape(matrix.shape), -1, -1 if units == "last" else 0)


def cautious(d: np.ndarray, g: np.ndarray, rescale: str) -> np.ndarray:
    """d where it has the sign of g."""
    mask = np.sign(d) * np.sign(g) > 0
    if rescale == "mask":
        return d * mask
    if rescale == "mean":
        return d * mask / max(np.mean(mask), 1e-3)
    return d * mask * mask.size / (np.sum(mask) + 1)


def shrinking(d: np.ndarray, p: np.ndarray) -> np.ndarray:
    """p where cautious decay takes it."""
    return np.where(np.sign(d) * np.sign(p) >= 0, p, 0.0)


def surprised(surprise: np.ndarray, most: float) -> float:
    """What the rate is divided by."""
    return max(1.0, np.sqrt(np.mean(surprise**2)) / most)
