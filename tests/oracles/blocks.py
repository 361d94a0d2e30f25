"""Float64 NumPy oracles of rules that share one size among many entries: Adam-mini, SGD-SaI.

Zhang et al. 2024, arXiv:2406.16793 (adam_mini); Xu et al. 2024, arXiv:2412.11768 (sgd_sai).
"""

import numpy as np


class AdamMini:
    """Adam on every block by itself, the gradient's mean square over the block in place of every entry's.

    Blocks are `size` neighbors along an axis with everything in the other axes, the last one fewer where the axis is no
    multiple; axis=None, or a scalar, is one block.
    """

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, axis: int | None = 0, size: int = 1):
        self.b1, self.b2, self.eps, self.axis, self.size = b1, b2, eps, axis, size
        self.t, self.m, self.v = 0, 0.0, None

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        one = self.axis is None or g.ndim == 0
        starts = [0] if one else range(0, g.shape[self.axis], self.size)
        blocks = [np.s_[...] if one else self.block(g, i) for i in starts]
        self.v = np.zeros(len(blocks)) if self.v is None else self.v
        d = np.zeros_like(g)
        for i, block in enumerate(blocks):
            self.v[i] = self.b2 * self.v[i] + (1.0 - self.b2) * np.vdot(g[block], g[block]) / np.size(g[block])
            size = np.sqrt(self.v[i] / (1.0 - self.b2**self.t)) + self.eps
            if size > 0:
                d[block] = self.m[block] / (1.0 - self.b1**self.t) / size
        return d

    def block(self, g: np.ndarray, start: int) -> tuple:
        """The index of a block."""
        index = [slice(None)] * g.ndim
        index[self.axis] = slice(start, start + self.size)
        return tuple(index)


class SgdSai:
    """d = h m with m <- decay m + (1 - decay) g from m = g, h = ||g|| / (std(g) + eps) of the first nonzero gradient.

    The standard deviation is that of a sample, over n - 1. h = sqrt(n) where all entries are equal.
    """

    def __init__(self, decay: float = 0.9, eps: float = 1e-8):
        self.decay, self.eps = decay, eps
        self.m, self.h = 0.0, None

    def step(self, g: np.ndarray) -> np.ndarray:
        if self.h is None and not np.any(g):
            return np.zeros_like(g)
        if self.h is None:
            equal = np.all(g == g.flat[0])
            self.h = np.sqrt(g.size) if equal else np.linalg.norm(g) / (np.std(g, ddof=1) + self.eps)
            self.m = g
        else:
            self.m = self.decay * self.m + (1.0 - self.decay) * g
        return self.h * self.m
