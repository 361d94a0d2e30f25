"""Float64 NumPy oracle of Muon: the momentum of a matrix with its singular values brought near 1.

Jordan et al. 2024, kellerjordan.github.io/posts/muon: the rule, the iteration and its coefficients; scale="spectral"
and the place of eps are those of its program, github.com/KellerJordan/Muon. scale="rms" is of Liu et al. 2025,
arXiv:2502.16982.

The post accumulates B <- decay B + g, the program averages. The iteration divides by the norm, so the two are one rule
but for eps: the sum is the average over 1 - decay, and eps counts that much less against it. Averages here.
"""

import numpy as np

from .classical import ratio


def orthogonalized(u: np.ndarray, steps: int, coefficients: tuple[float, float, float], eps: float) -> np.ndarray:
    """The Newton-Schulz iteration on the last two axes: steps times X <- a X + (b A + c A^2) X with A = X X'.

    From X = u / (||u||_F + eps); a matrix with more rows than columns is transposed on the way in and out, for the
    smaller A. One step takes every singular value x of X to a x + b x^3 + c x^5 and leaves the singular vectors.
    """
    a, b, c = coefficients
    tall = u.shape[-2] > u.shape[-1]
    x = ratio(u, np.sqrt(np.sum(np.square(u), axis=(-2, -1), keepdims=True)) + eps)
    x = np.swapaxes(x, -2, -1) if tall else x
    for _ in range(steps):
        gram = x @ np.swapaxes(x, -2, -1)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return np.swapaxes(x, -2, -1) if tall else x


class Muon:
    """m <- decay m + (1 - decay) g; u = (1 - decay) g + decay m with nesterov, else m; d = s orthogonalized(u).

    s = sqrt(max(1, rows/columns)) for scale="spectral", 0.2 sqrt(max(rows, columns)) for scale="rms".
    On the last two axes; an axis in front of them is a batch of matrices. A zero gradient gives a zero direction, for
    every eps including 0. eps has the unit of the gradient.
    """

    def __init__(
        self,
        decay: float = 0.95,
        nesterov: bool = True,
        steps: int = 5,
        coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        scale: str = "spectral",
    ):
        if scale not in ("spectral", "rms"):
            raise ValueError(f"scale: expected 'spectral' or 'rms', got {scale!r}; pass one of the two.")
        self.decay, self.nesterov, self.steps = decay, nesterov, steps
        self.coefficients, self.eps, self.scale = coefficients, eps, scale
        self.m = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        if g.ndim < 2:
            raise ValueError(
                f"muon: expected an array of two axes or more, got shape {g.shape}; pass only the matrices."
            )
        self.m = self.decay * self.m + (1.0 - self.decay) * g
        u = (1.0 - self.decay) * g + self.decay * self.m if self.nesterov else self.m
        rows, columns = g.shape[-2:]
        s = np.sqrt(max(1.0, rows / columns)) if self.scale == "spectral" else 0.2 * np.sqrt(max(rows, columns))
        return s * orthogonalized(u, self.steps, self.coefficients, self.eps)
