"""Float64 NumPy oracles of rules that are given an estimate of the Hessian's diagonal, each on one array.

Their step takes (g, estimate), the estimate None where there is none. Liu et al. 2023, arXiv:2305.14342 (sophia); Yao
et al. 2021, arXiv:2006.00719, averaged as in the authors' programs (adahessian).
"""

import numpy as np

from .classical import bias_correction, ratio


class Sophia:
    """m and h average gradients and estimates; every entry of d is m / max(gamma h, eps), cut to [-1, 1]."""

    reads_hessian = True

    def __init__(self, b1: float = 0.96, b2: float = 0.99, gamma: float = 0.01, eps: float = 1e-12):
        self.b1, self.b2, self.gamma, self.eps = b1, b2, gamma, eps
        self.m = self.h = 0.0

    def step(self, g: np.ndarray, estimate: np.ndarray | None) -> np.ndarray:
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        if estimate is not None:
            self.h = self.b2 * self.h + (1.0 - self.b2) * estimate
        with np.errstate(divide="ignore"):  # m over 0 is infinite, and cut too
            return np.clip(ratio(self.m, np.maximum(self.gamma * self.h, self.eps)), -1.0, 1.0)


class Adahessian:
    """d = m_hat / (sqrt(v_hat)^hessian_power + eps), v averages squares of |estimate|, itself averaged over blocks.

    v_hat is v over the weights of the n estimates so far, 1 - b2^n.
    """

    reads_hessian = True

    def __init__(
        self,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-4,
        hessian_power: float = 1.0,
        average: str = "kernels",
        window: str = "first",
    ):
        self.b1, self.b2, self.eps, self.power = b1, b2, eps, hessian_power
        self.average, self.window = average, window
        self.t = self.n = 0
        self.m = self.v = 0.0

    def blocks(self, size: np.ndarray) -> np.ndarray:
        """Kernels (h, w, in, out), (w, in, out) and matrices (in, out) for window="first"; turned round for "last"."""
        if self.average == "none" or size.ndim < 2 or (self.average == "kernels" and size.ndim < 4):
            return size
        if self.window == "last":
            turned = Adahessian(average=self.average).blocks(size.transpose())
            return turned.transpose()
        parts = size.reshape(-1, *size.shape[1:] if size.ndim == 2 else size.shape[-2:])
        return np.broadcast_to(sum(parts) / len(parts), size.shape)

    def step(self, g: np.ndarray, estimate: np.ndarray | None) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        if estimate is not None:
            self.n += 1
            self.v = self.b2 * self.v + (1.0 - self.b2) * self.blocks(np.abs(estimate)) ** 2
        v = np.zeros_like(g) if self.n == 0 else self.v / bias_correction(self.b2, self.n)
        return ratio(self.m / bias_correction(self.b1, self.t), np.sqrt(v) ** self.power + self.eps)
