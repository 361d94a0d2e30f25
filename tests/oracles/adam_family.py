"""Float64 NumPy oracles of Adam's family, each on one array, as in `classical`.

Dozat 2016 and torch's schedule (nadam); Liu et al. 2019, arXiv:1908.03265 (radam); Kingma & Ba 2014, arXiv:1412.6980,
Algorithm 2 (adamax); Zeiler 2012, arXiv:1212.5701 (adadelta); Zhuang et al. 2020, arXiv:2010.07468 (adabelief);
Zaheer et al. 2018 (yogi); Luo et al. 2019, arXiv:1902.09843 (adabound); Ma & Yarats 2018, arXiv:1810.06801 (qhadam);
Choudhury et al. 2024, arXiv:2403.02648 (kate).
"""

import numpy as np

from .classical import bias_correction, ratio


class Nadam:
    """mu(t) = b1 (1 - 0.96^(t momentum_decay) / 2); the product of all mu so far corrects the bias of the first moment.

    momentum_decay None: mu is b1 itself.

    d = (mu(t+1) m / (1 - product to t+1) + (1 - mu(t)) g / (1 - product to t)) / (sqrt(v / (1 - b2^t)) + eps).
    """

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, momentum_decay: float | None = 4e-3):
        self.b1, self.b2, self.eps, self.psi = b1, b2, eps, momentum_decay
        self.t, self.product = 0, 1.0
        self.m = self.v = 0.0

    def mu(self, t: int) -> float:
        return self.b1 if self.psi is None else self.b1 * (1.0 - 0.5 * 0.96 ** (t * self.psi))

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        now, ahead = self.mu(self.t), self.mu(self.t + 1)
        self.product *= now
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        self.v = self.b2 * self.v + (1.0 - self.b2) * g * g
        mean = ahead * self.m / (1.0 - self.product * ahead) + (1.0 - now) * g / (1.0 - self.product)
        return ratio(mean, np.sqrt(self.v / bias_correction(self.b2, self.t)) + self.eps)


class Radam:
    """Adam's direction times r where rho > threshold, the corrected first moment elsewhere.

    rho_inf = 2 / (1 - b2) - 1; rho = rho_inf - 2 t b2^t / (1 - b2^t);
    r = sqrt((rho - 4)(rho - 2) rho_inf / ((rho_inf - 4)(rho_inf - 2) rho)).
    """

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, threshold: float = 5.0):
        self.b1, self.b2, self.eps, self.threshold = b1, b2, eps, threshold
        self.t = 0
        self.m = self.v = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        self.v = self.b2 * self.v + (1.0 - self.b2) * g * g
        mean = self.m / bias_correction(self.b1, self.t)
        most = 2.0 / (1.0 - self.b2) - 1.0
        rho = most - 2.0 * self.t * self.b2**self.t / bias_correction(self.b2, self.t)
        if rho <= self.threshold:
            return mean
        r = np.sqrt((rho - 4.0) * (rho - 2.0) * most / ((most - 4.0) * (most - 2.0) * rho))
        return r * ratio(mean, np.sqrt(self.v / bias_correction(self.b2, self.t)) + self.eps)


class Adamax:
    """u <- max(b2 u, |g| + eps); d = m / (1 - b1^t) / u."""

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8):
        self.b1, self.b2, self.eps = b1, b2, eps
        self.t = 0
        self.m = self.u = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        self.u = np.maximum(self.b2 * self.u, np.abs(g) + self.eps)
        return ratio(self.m / bias_correction(self.b1, self.t), self.u)


class Adadelta:
    """v <- decay v + (1 - decay) g^2; d = sqrt(u + eps_step) / sqrt(v + eps) g; u <- decay u + (1 - decay) d^2."""

    def __init__(self, decay: float = 0.9, eps: float = 1e-6, eps_step: float | None = None):
        self.decay, self.eps, self.eps_step = decay, eps, eps if eps_step is None else eps_step
        self.u = self.v = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.v = self.decay * self.v + (1.0 - self.decay) * g * g
        d = np.sqrt(self.u + self.eps_step) * ratio(g, np.sqrt(self.v + self.eps))
        self.u = self.decay * self.u + (1.0 - self.decay) * d * d
        return d


class Adabelief:
    """s <- b2 s + (1 - b2) (g - m)^2 + eps_root with the new m; d = m_hat / (sqrt(s_hat) + eps)."""

    def __init__(self, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-16, eps_root: float = 1e-16):
        self.b1, self.b2, self.eps, self.eps_root = b1, b2, eps, eps_root
        self.t = 0
        self.m = self.s = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        self.s = self.b2 * self.s + (1.0 - self.b2) * (g - self.m) ** 2 + self.eps_root
        spread = np.sqrt(self.s / bias_correction(self.b2, self.t))
        return ratio(self.m / bias_correction(self.b1, self.t), spread + self.eps)


class Yogi:
    """v <- v - (1 - b2) sign(v - g^2) g^2 from v = initial_accumulator; d as Adam's, or without its corrections."""

    def __init__(
        self,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        debias: bool = True,
    ):
        self.b1, self.b2, self.eps, self.debias = b1, b2, eps, debias
        self.t = 0
        self.m, self.v = 0.0, initial_accumulator

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        self.v = self.v - (1.0 - self.b2) * np.sign(self.v - g * g) * g * g
        first = bias_correction(self.b1, self.t) if self.debias else 1.0
        second = bias_correction(self.b2, self.t) if self.debias else 1.0
        return ratio(self.m / first, np.sqrt(self.v / second) + self.eps)


class Adabound:
    """The rate of every entry clipped between f (1 - 1/(gamma t + 1)) and f (1 + 1/(gamma t)), f = final_lr / base_lr.

    d = clip(sqrt(1 - b2^t) / (1 - b1^t) / (sqrt(v) + eps)) m; amsbound: v is the largest v so far.
    """

    def __init__(
        self,
        b1: float = 0.9,
        b2: float = 0.999,
        final_lr: float = 0.1,
        base_lr: float = 1e-3,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        amsbound: bool = False,
    ):
        self.b1, self.b2, self.gamma, self.eps, self.amsbound = b1, b2, gamma, eps, amsbound
        self.final = final_lr / base_lr
        self.t = 0
        self.m = self.v = self.largest = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        self.v = self.b2 * self.v + (1.0 - self.b2) * g * g
        self.largest = np.maximum(self.largest, self.v)
        size = np.sqrt(self.largest if self.amsbound else self.v) + self.eps
        with np.errstate(divide="ignore"):  # an entry without a gradient has the largest rate, and m = 0
            rate = np.sqrt(bias_correction(self.b2, self.t)) / bias_correction(self.b1, self.t) / size
        low = self.final * (1.0 - 1.0 / (self.gamma * self.t + 1.0))
        high = self.final * (1.0 + 1.0 / (self.gamma * self.t))
        return np.clip(rate, low, high) * self.m


class Qhadam:
    """d = ((1 - nu1) g + nu1 m_hat) / (sqrt((1 - nu2) g^2 + nu2 v_hat) + eps)."""

    def __init__(self, b1: float = 0.995, b2: float = 0.999, nu1: float = 0.7, nu2: float = 1.0, eps: float = 1e-8):
        self.b1, self.b2, self.nu1, self.nu2, self.eps = b1, b2, nu1, nu2, eps
        self.t = 0
        self.m = self.v = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        self.v = self.b2 * self.v + (1.0 - self.b2) * g * g
        mean = (1.0 - self.nu1) * g + self.nu1 * self.m / bias_correction(self.b1, self.t)
        square = (1.0 - self.nu2) * g * g + self.nu2 * self.v / bias_correction(self.b2, self.t)
        return ratio(mean, np.sqrt(square) + self.eps)


class Kate:
    """b <- b + g^2; m <- m + eta g^2 + g^2 / (b + eps); d = sqrt(m) g / (b + eps)."""

    def __init__(self, eta: float = 0.0, eps: float = 1e-8):
        self.eta, self.eps = eta, eps
        self.b = self.m = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.b = self.b + g * g
        self.m = self.m + self.eta * g * g + ratio(g * g, self.b + self.eps)
        return ratio(np.sqrt(self.m) * g, self.b + self.eps)
