"""Float64 NumPy oracles of rules that are Adam with another memory of the gradients, each on one array.

Xie et al. 2022, arXiv:2208.06677, decays as in the authors' program (adan); Taniguchi et al. 2024, arXiv:2411.02853
(adopt); Pagliardini et al. 2024, arXiv:2409.03137 (ademamix); Morwani et al. 2025, arXiv:2502.02431
(simplified_ademamix); Ziyin et al. 2020, arXiv:2002.04839 (laprop); Yuan et al. 2024, arXiv:2411.10438 (mars); Ginsburg
et al. 2019, arXiv:1905.11286 (novograd).
"""

import numpy as np

from .classical import bias_correction, ratio


class Adan:
    """m, v and n average g, its change and (g + b2 change)^2; d = (m_hat + b2 v_hat) / (sqrt(n_hat) + eps)."""

    def __init__(self, b1: float = 0.98, b2: float = 0.92, b3: float = 0.99, eps: float = 1e-8):
        self.b1, self.b2, self.b3, self.eps = b1, b2, b3, eps
        self.t, self.before = 0, None
        self.m = self.v = self.n = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        change = np.zeros_like(g) if self.before is None else g - self.before
        self.before = g
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        self.v = self.b2 * self.v + (1.0 - self.b2) * change
        self.n = self.b3 * self.n + (1.0 - self.b3) * (g + self.b2 * change) ** 2
        mean = self.m / bias_correction(self.b1, self.t) + self.b2 * self.v / bias_correction(self.b2, self.t)
        return ratio(mean, np.sqrt(self.n / bias_correction(self.b3, self.t)) + self.eps)


class Adopt:
    """The first gradient sets v; from then on m averages clip(g / max(sqrt(v), eps), (t - 1)^(1/4)), d = m, then v."""

    def __init__(self, b1: float = 0.9, b2: float = 0.9999, eps: float = 1e-6, clip: bool = True):
        self.b1, self.b2, self.eps, self.clip = b1, b2, eps, clip
        self.t, self.m, self.v = 0, 0.0, None

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        if self.v is None:
            self.v = g * g
            return np.zeros_like(g)
        u = ratio(g, np.maximum(np.sqrt(self.v), self.eps))
        if self.clip:
            u = np.clip(u, -((self.t - 1) ** 0.25), (self.t - 1) ** 0.25)
        self.m = self.b1 * self.m + (1.0 - self.b1) * u
        self.v = self.b2 * self.v + (1.0 - self.b2) * g * g
        return self.m


class Ademamix:
    """d = (m1 / (1 - b1^t) + alpha m2) / (sqrt(v / (1 - b2^t)) + eps), m1 and m2 with the decays b1 and b3."""

    def __init__(self, b1: float = 0.9, b2: float = 0.999, b3: float = 0.9999, alpha: float = 5.0, eps: float = 1e-8):
        self.b1, self.b2, self.b3, self.alpha, self.eps = b1, b2, b3, alpha, eps
        self.t = 0
        self.fast = self.slow = self.v = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.fast = self.b1 * self.fast + (1.0 - self.b1) * g
        self.slow = self.b3 * self.slow + (1.0 - self.b3) * g
        self.v = self.b2 * self.v + (1.0 - self.b2) * g * g
        mean = self.fast / bias_correction(self.b1, self.t) + self.alpha * self.slow
        return ratio(mean, np.sqrt(self.v / bias_correction(self.b2, self.t)) + self.eps)


class SimplifiedAdemamix:
    """m <- b1 m + g; d = (alpha g + m) / (sqrt(v / (1 - b2^t)) + eps)."""

    def __init__(self, b1: float = 0.99, b2: float = 0.95, alpha: float = 0.0, eps: float = 1e-8):
        self.b1, self.b2, self.alpha, self.eps = b1, b2, alpha, eps
        self.t = 0
        self.m = self.v = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + g
        self.v = self.b2 * self.v + (1.0 - self.b2) * g * g
        return ratio(self.alpha * g + self.m, np.sqrt(self.v / bias_correction(self.b2, self.t)) + self.eps)


class Laprop:
    """m averages g / (sqrt(v_hat) + eps); d = m / (1 - b1^t)."""

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-15):
        self.b1, self.b2, self.eps = b1, b2, eps
        self.t = 0
        self.m = self.v = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.v = self.b2 * self.v + (1.0 - self.b2) * g * g
        u = ratio(g, np.sqrt(self.v / bias_correction(self.b2, self.t)) + self.eps)
        self.m = self.b1 * self.m + (1.0 - self.b1) * u
        return self.m / bias_correction(self.b1, self.t)


class Mars:
    """Adam on c = g + gamma b1 / (1 - b1) (g - g before), g before 0 at first, no longer than 1."""

    def __init__(self, b1: float = 0.95, b2: float = 0.99, eps: float = 1e-8, gamma: float = 0.025):
        self.b1, self.b2, self.eps, self.gamma = b1, b2, eps, gamma
        self.t = 0
        self.m = self.v = self.before = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        c = g + self.gamma * self.b1 / (1.0 - self.b1) * (g - self.before)
        self.before = g
        c = c / max(1.0, float(np.sqrt(np.sum(c * c))))
        self.m = self.b1 * self.m + (1.0 - self.b1) * c
        self.v = self.b2 * self.v + (1.0 - self.b2) * c * c
        size = np.sqrt(self.v / bias_correction(self.b2, self.t)) + self.eps
        return ratio(self.m / bias_correction(self.b1, self.t), size)


class Novograd:
    """v averages the squared norm of the array's gradient, from the first one; m <- b1 m + g / (sqrt(v) + eps)."""

    def __init__(self, b1: float = 0.95, b2: float = 0.98, eps: float = 1e-8):
        self.b1, self.b2, self.eps = b1, b2, eps
        self.m, self.v = 0.0, None

    def step(self, g: np.ndarray) -> np.ndarray:
        square = np.sum(g * g)
        self.v = square if self.v is None else self.b2 * self.v + (1.0 - self.b2) * square
        self.m = self.b1 * self.m + ratio(g, np.sqrt(self.v) + self.eps)
        return self.m
