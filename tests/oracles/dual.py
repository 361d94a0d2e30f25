"""Float64 NumPy oracle of dual averaging, on one array, as in `classical`.

Defazio & Jelassi 2021, arXiv:2101.11075, Algorithm 1, with the eps of the authors' program in the weights (madgrad).
"""

import numpy as np

from .classical import ratio


class Madgrad:
    """p <- momentum p + (1 - momentum) z, z = x0 - s / (cbrt(v) + eps), where nothing but the rule moves p, and x0 = 0.

    s and v sum (lr + eps_rate) sqrt(t) times g and g^2; eps_rate None is eps. d = (p - that) / lr. Where lr is 0,
    nothing is summed, and p does not move.
    """

    reads_rate = True

    def __init__(self, momentum: float = 0.9, eps: float = 1e-6, eps_rate: float | None = None):
        self.momentum, self.eps, self.eps_rate = momentum, eps, eps if eps_rate is None else eps_rate
        self.t = 0
        self.p = self.s = self.v = 0.0

    def step(self, g: np.ndarray, learning_rate: float) -> np.ndarray:
        self.t += 1
        if learning_rate == 0.0:
            return np.zeros_like(g)
        weight = (learning_rate + self.eps_rate) * np.sqrt(self.t)
        self.s = self.s + weight * g
        self.v = self.v + weight * g * g
        z = -ratio(self.s, np.cbrt(self.v) + self.eps)
        before, self.p = self.p, self.momentum * self.p + (1.0 - self.momentum) * z
        return (before - self.p) / learning_rate
