"""Float64 NumPy oracles of Muon and its kin: the momentum of a matrix with its singular values brought near 1.

Jordan et al. 2024, kellerjordan.github.io/posts/muon: the rule, the iteration and its coefficients; scale="spectral"
and the place of eps are those of its program, github.com/KellerJordan/Muon. scale="rms" is of Liu et al. 2025,
arXiv:2502.16982.

The post accumulates B <- decay B + g, the program averages. The iteration divides by the norm, so the two are one rule
but for eps: the sum is the average over 1 - decay, and eps counts that much less against it. Averages here.

NorMuon: Li et al. 2025, arXiv:2510.05491, Algorithm 1, and its program, github.com/zichongli5/NorMuon. Scion: Pethick
et al. 2025, arXiv:2502.07529, and github.com/LIONS-EPFL/scion. Dion: Ahn et al. 2025, arXiv:2504.05295, Algorithm 1,
and github.com/microsoft/dion.
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


def seen(x: np.ndarray, view: str, output: str) -> np.ndarray:
    """x as matrices with outputs as rows: view "first" joins all axes but the first, "last" all but the last."""
    if x.ndim > 2 and view == "first":
        x = x.reshape(x.shape[0], -1)
    if x.ndim > 2 and view == "last":
        x = x.reshape(-1, x.shape[-1])
    return np.moveaxis(x, -1, -2) if output == "columns" else x


def unseen(x: np.ndarray, like: np.ndarray, output: str) -> np.ndarray:
    """The inverse of seen."""
    return (np.moveaxis(x, -1, -2) if output == "columns" else x).reshape(like.shape)


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
        view: str = "batch",
        output: str = "columns",
        precision: str = "auto",
    ):
        if scale not in ("spectral", "rms"):
            raise ValueError(f"scale: expected 'spectral' or 'rms', got {scale!r}; pass one of the two.")
        self.decay, self.nesterov, self.steps = decay, nesterov, steps
        self.coefficients, self.eps, self.scale = coefficients, eps, scale
        self.view, self.output = view, output
        self.m = 0.0

    def orthogonal(self, g: np.ndarray) -> np.ndarray:
        """The orthogonalized momentum after gradient g, as matrices."""
        if g.ndim < 2:
            raise ValueError(
                f"muon: expected an array of two axes or more, got shape {g.shape}; pass only the matrices."
            )
        self.m = self.decay * self.m + (1.0 - self.decay) * g
        u = (1.0 - self.decay) * g + self.decay * self.m if self.nesterov else self.m
        return orthogonalized(seen(u, self.view, self.output), self.steps, self.coefficients, self.eps)

    def step(self, g: np.ndarray) -> np.ndarray:
        x = self.orthogonal(g)
        rows, columns = x.shape[-2:]
        s = np.sqrt(max(1.0, rows / columns)) if self.scale == "spectral" else 0.2 * np.sqrt(max(rows, columns))
        return s * unseen(x, g, self.output)


class Normuon(Muon):
    """Muon's O; v <- b2 v + (1 - b2) row means of O^2; O' = O / (sqrt(v) + eps2), brought to a length.

    That of 0.2 sqrt(rows columns) for scale="rms", the paper's; that of Muon's step for scale="spectral". As in the
    paper: a factor on the learning rate. A zero gradient gives a zero direction.
    """

    def __init__(self, b2: float = 0.95, eps2: float = 1e-10, **muon):
        super().__init__(**muon)
        self.b2, self.eps2, self.v = b2, eps2, 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        o = self.orthogonal(g)
        rows, columns = o.shape[-2:]
        self.v = self.b2 * self.v + (1.0 - self.b2) * np.einsum("...ij,...ij->...i", o, o) / columns
        even = ratio(o, np.sqrt(self.v)[..., None] + self.eps2)
        if self.scale == "rms":
            length = np.full(o.shape[:-2], 0.2 * np.sqrt(rows * columns))
        else:
            length = np.linalg.norm(o, axis=(-2, -1)) * np.sqrt(max(1.0, rows / columns))
        return unseen(ratio(length, np.linalg.norm(even, axis=(-2, -1)))[..., None, None] * even, g, self.output)


class Scion:
    """m <- decay m + (1 - decay) g; d = radius lmo(m), the lmo that of the norm for matrices of outputs x inputs.

    "spectral": sqrt(outputs / inputs) times the orthogonalized m. "sign": sign(m) / inputs. "column": every column over
    its root mean square + eps. "row": every row over sqrt(inputs) times its length, + eps. Anything with fewer than two
    axes: over its root mean square + eps.
    """

    def __init__(
        self,
        decay: float = 0.9,
        norm: str = "spectral",
        radius: float = 50.0,
        eps: float = 1e-7,
        coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        steps: int = 5,
        view: str = "batch",
        output: str = "columns",
        precision: str = "auto",
    ):
        self.decay, self.norm, self.radius, self.eps = decay, norm, radius, eps
        self.coefficients, self.steps, self.view, self.output = coefficients, steps, view, output
        self.m = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.m = self.decay * self.m + (1.0 - self.decay) * g
        if g.ndim < 2:
            return self.radius * ratio(self.m, np.sqrt(np.mean(self.m**2)) + self.eps)
        return self.radius * unseen(self.lmo(seen(self.m, self.view, self.output)), g, self.output)

    def lmo(self, m: np.ndarray) -> np.ndarray:
        outputs, inputs = m.shape[-2:]
        if self.norm == "spectral":
            return np.sqrt(outputs / inputs) * orthogonalized(m, self.steps, self.coefficients, self.eps)
        if self.norm == "sign":
            return np.sign(m) / inputs
        if self.norm == "column":
            return ratio(m, np.sqrt(np.mean(m**2, -2, keepdims=True)) + self.eps)
        return ratio(m, np.sqrt(inputs) * np.linalg.norm(m, axis=-1, keepdims=True) + self.eps)


def first_columns(inputs: int, rank: int) -> np.ndarray:
    """Numbers in [-1, 1), a hash of their index: what Dion starts its Q from."""
    h = (np.arange(inputs * rank, dtype=np.uint64) * 0x9E3779B9) & 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 0x21F0AAAD) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 0x735A2D97) & 0xFFFFFFFF
    return (((h ^ (h >> 15)) >> 8).astype(np.float64) * 2.0**-23 - 1.0).reshape(inputs, rank)


class Dion:
    """B = M + g; P from the QR of B Q; R = B' P; M <- B - (1 - decay) P R'; Q <- R over its columns' lengths + eps.

    d = sqrt(outputs / inputs) P Q'. A column of R that is zero leaves Q's as it was, and so does a zero B everything.
    """

    def __init__(
        self,
        decay: float = 0.95,
        eps: float = 1e-8,
        rank_fraction: float = 1.0,
        view: str = "batch",
        output: str = "columns",
    ):
        self.decay, self.eps, self.rank_fraction = decay, eps, rank_fraction
        self.view, self.output = view, output
        self.m, self.q = 0.0, None

    def step(self, g: np.ndarray) -> np.ndarray:
        x = seen(g, self.view, self.output)
        outputs, inputs = x.shape[-2:]
        if self.q is None:
            rank = min(int(np.ceil(self.rank_fraction * min(outputs, inputs))), outputs, inputs)
            self.q = np.broadcast_to(first_columns(inputs, rank), (*x.shape[:-2], inputs, rank)).copy()
        b = self.m + x
        p = np.linalg.qr(b @ self.q)[0] * (np.abs(b).max(axis=(-2, -1), keepdims=True) > 0)
        r = np.swapaxes(b, -1, -2) @ p
        self.m = b - (1.0 - self.decay) * p @ np.swapaxes(r, -1, -2)
        length = np.linalg.norm(r, axis=-2, keepdims=True)
        self.q = np.where(length > 0, ratio(r, length + self.eps), self.q)
        return np.sqrt(outputs / inputs) * unseen(p @ np.swapaxes(self.q, -1, -2), g, self.output)
