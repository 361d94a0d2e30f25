"""Float64 NumPy oracle of Adafactor: second moments of a matrix from the means of its rows and of its columns.

Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4 (matrices), 5 (vectors) and 6 (hyperparameters), without the
paper's relative step size rho_t = min(1e-2, 1/sqrt(t)): a learning rate stands in its place.

Means here, sums in the paper: with n rows and m columns R = m r and C = n c, so R C / (1' R) = r c / mean(r).

The algorithms have no first moment, and so do not say where one would go. What they do say decides it:

- clipping before the moment: line 9 clips U_t, whose RMS the paper defines by g^2 / v_hat, without a moment;
- the parameter's scale after it: line 3 makes max(eps2, RMS(X)) a factor of the step size alpha_t, and line 10 applies
  alpha_t last, as Algorithm 1 applies Adam's to the finished moment. The learning rate is outside of m here as well.

The authors' program (tensor2tensor), T5X, transformers and optax clip at the same place but put the moment last, on
rate * scale * u. That is another trajectory where the rate or the parameter's scale changes (golden/rows.py has
the distances), and the same one with a constant rate and scale_parameter=False. torch has no first moment.
"""

import numpy as np

from .classical import ratio


def rms(x: np.ndarray) -> np.float64:
    """Root of the mean square over the whole array."""
    return np.sqrt(np.mean(np.square(x)))


class Adafactor:
    """u = g / sqrt(v_hat) / max(1, RMS of that / clip_threshold); d = max(eps2, RMS(p)) u, p that before the step.

    With w = t^(-decay_rate), which is 1 - beta2_t, and s = g^2 + eps1:
    factored: r <- (1 - w) r + w mean(s over columns), c <- (1 - w) c + w mean(s over rows), v_hat = r c / mean(r), for
    an array whose last two axes both have at least min_dim_size_to_factor elements; axes in front of these are a batch
    for r, c and mean(r), but not for the two RMS (T5X takes those for every matrix of a stack; optax and torch do not);
    any other array: v <- (1 - w) v + w s, v_hat = v.
    b1: m <- b1 m + (1 - b1) u from m = 0, uncorrected, in the place of u in d; scale_parameter=False: d without its
    factor. eps1 has the unit of g^2, eps2 that of p.
    """

    reads_parameter = True

    def __init__(
        self,
        decay_rate: float = 0.8,
        eps1: float = 1e-30,
        eps2: float = 1e-3,
        clip_threshold: float = 1.0,
        b1: float | None = None,
        min_dim_size_to_factor: int = 1,
        scale_parameter: bool = True,
    ):
        self.decay_rate, self.eps1, self.eps2 = decay_rate, eps1, eps2
        self.clip_threshold, self.b1 = clip_threshold, b1
        self.min_dim_size_to_factor, self.scale_parameter = min_dim_size_to_factor, scale_parameter
        self.t = 0
        self.r = self.c = self.v = self.m = 0.0

    def _second_moment(self, square: np.ndarray) -> np.ndarray:
        """v_hat after one more square."""
        w = float(self.t) ** -self.decay_rate
        if square.ndim < 2 or min(square.shape[-2:]) < self.min_dim_size_to_factor:
            self.v = (1.0 - w) * self.v + w * square
            return self.v
        self.r = (1.0 - w) * self.r + w * np.mean(square, axis=-1, keepdims=True)
        self.c = (1.0 - w) * self.c + w * np.mean(square, axis=-2, keepdims=True)
        return ratio(self.r, np.mean(self.r, axis=-2, keepdims=True)) * self.c

    def step(self, g: np.ndarray, p: np.ndarray) -> np.ndarray:
        self.t += 1
        u = ratio(g, np.sqrt(self._second_moment(np.square(g) + self.eps1)))
        u = u / max(1.0, rms(u) / self.clip_threshold)
        if self.b1 is not None:
            u = self.m = self.b1 * self.m + (1.0 - self.b1) * u
        return max(self.eps2, rms(p)) * u if self.scale_parameter else u


class Came:
    """Adafactor's clipped u with decay b2; m <- b1 m + (1 - b1) u; d = m / sqrt(factored mean of (u - m)^2 + eps2).

    Arrays with fewer than two axes keep the mean of g^2 + eps1 whole, and d = m.
    """

    def __init__(
        self,
        b1: float = 0.9,
        b2: float = 0.999,
        b3: float = 0.9999,
        eps1: float = 1e-30,
        eps2: float = 1e-16,
        clip_threshold: float = 1.0,
    ):
        self.b1, self.b2, self.b3 = b1, b2, b3
        self.eps1, self.eps2, self.clip_threshold = eps1, eps2, clip_threshold
        self.m = self.v = self.rows = self.columns = self.unsure_rows = self.unsure_columns = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        square = g * g + self.eps1
        if g.ndim < 2:
            self.v = self.b2 * self.v + (1.0 - self.b2) * square
            self.m = self.b1 * self.m + (1.0 - self.b1) * self.clipped(ratio(g, np.sqrt(self.v)))
            return self.m
        self.rows = self.b2 * self.rows + (1.0 - self.b2) * square.mean(-1)
        self.columns = self.b2 * self.columns + (1.0 - self.b2) * square.mean(-2)
        u = self.clipped(ratio(g, np.sqrt(self.outer(self.rows, self.columns))))
        self.m = self.b1 * self.m + (1.0 - self.b1) * u
        unsure = (u - self.m) ** 2 + self.eps2
        self.unsure_rows = self.b3 * self.unsure_rows + (1.0 - self.b3) * unsure.mean(-1)
        self.unsure_columns = self.b3 * self.unsure_columns + (1.0 - self.b3) * unsure.mean(-2)
        return ratio(self.m, np.sqrt(self.outer(self.unsure_rows, self.unsure_columns)))

    def clipped(self, u: np.ndarray) -> np.ndarray:
        return u / max(1.0, float(np.sqrt(np.mean(u * u))) / self.clip_threshold)

    @staticmethod
    def outer(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return ratio(rows, rows.mean(-1, keepdims=True))[..., None] * columns[..., None, :]


class Sm3:
    """nu = least of the covers of every entry + g^2; every cover is the largest nu of its slice;

    u = g / sqrt(nu + eps).

    d = u, or with b1 the mean m <- b1 m + (1 - b1) u.
    """

    def __init__(self, b1: float | None = 0.9, eps: float = 0.0):
        self.b1, self.eps = b1, eps
        self.m, self.covers = 0.0, None

    def step(self, g: np.ndarray) -> np.ndarray:
        others = [tuple(b for b in range(g.ndim) if b != a) for a in range(max(g.ndim, 1))]
        if self.covers is None:
            self.covers = [np.zeros(())] if g.ndim == 0 else [np.zeros(n) for n in g.shape]
        spread = [np.expand_dims(mu, rest) for mu, rest in zip(self.covers, others, strict=True)]
        nu = np.minimum.reduce(np.broadcast_arrays(*spread)) + g * g
        self.covers = [nu.max(rest) for rest in others]
        u = ratio(g, np.sqrt(np.where(nu > 0, nu + self.eps, 0.0)))
        if self.b1 is None:
            return u
        self.m = self.b1 * self.m + (1.0 - self.b1) * u
        return self.m
