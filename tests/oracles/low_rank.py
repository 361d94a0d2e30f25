"""Float64 NumPy oracles of rules that see a gradient through a projection: GaLore, APOLLO.

Zhao et al. 2024, arXiv:2403.03507 (galore); Zhu et al. 2024, arXiv:2412.05270 (apollo, apollo_mini).

Both projections lie on the shorter of the last two axes, the columns' where they are equally long. Arrays with fewer
axes, and matrices whose shorter axis is no longer than the rank, have Adam.
"""

import numpy as np

from .classical import ratio
from .draws import normals, seed_of


class Moments:
    """Adam's two means of whatever they are shown."""

    def __init__(self, b1: float, b2: float):
        self.b1, self.b2 = b1, b2
        self.t, self.m, self.v = 0, 0.0, 0.0

    def see(self, g: np.ndarray) -> None:
        self.t += 1
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        self.v = self.b2 * self.v + (1.0 - self.b2) * g * g

    @property
    def first(self) -> np.ndarray:
        return self.m / (1.0 - self.b1**self.t)

    @property
    def second(self) -> np.ndarray:
        return self.v / (1.0 - self.b2**self.t)

    @property
    def correction(self) -> float:
        return np.sqrt(1.0 - self.b2**self.t) / (1.0 - self.b1**self.t)


def projected(g: np.ndarray, rank: int) -> bool:
    """Whether an array is a matrix (or a batch of them) that the rank is small for."""
    return g.ndim >= 2 and min(g.shape[-2:]) > rank


class Galore:
    """d = scale Q Adam(Q' g), on the columns' side d = scale Adam(g Q) Q'; Q anew every gap steps, from step 1 on.

    Q: the rank eigenvectors of g g' (or g' g) with the largest eigenvalues, which are the singular vectors of g on that
    side; the largest entry of each is positive.
    """

    def __init__(
        self,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-8,
        scale: float = 0.25,
        rank: int = 128,
        gap: int = 200,
    ):
        self.moments, self.eps = Moments(b1, b2), eps
        self.scale, self.rank, self.gap, self.q = scale, rank, gap, None

    def vectors(self, gram: np.ndarray) -> np.ndarray:
        """Eigenvectors as columns, the largest eigenvalue first."""
        q = np.linalg.eigh(gram)[1][..., ::-1][..., : self.rank]
        return q * np.sign(np.take_along_axis(q, np.abs(q).argmax(-2)[..., None, :], -2))

    def step(self, g: np.ndarray) -> np.ndarray:
        whole, rows = not projected(g, self.rank), g.ndim > 1 and g.shape[-2] < g.shape[-1]
        if not whole and self.moments.t % self.gap == 0:
            x = g / (np.abs(g).max() or 1.0)
            self.q = self.vectors(x @ np.swapaxes(x, -1, -2) if rows else np.swapaxes(x, -1, -2) @ x)
        q = self.q
        self.moments.see(g if whole else np.swapaxes(q, -1, -2) @ g if rows else g @ q)
        d = ratio(self.moments.first, np.sqrt(self.moments.second) + self.eps)
        if whole:
            return d
        return self.scale * (q @ d if rows else d @ np.swapaxes(q, -1, -2))


class Apollo:
    """d = scale c G: G the gradient with every channel, or the array, as much longer as Adam makes its projection.

    c = sqrt(1 - b2^t) / (1 - b1^t). The norm of G grows by no more than `limit` from one step to the next.
    """

    draws = True

    def __init__(
        self,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-6,
        scale: float | None = 1.0,
        limit: float | None = 1.01,
        rank: int = 256,
        gap: int = 200,
        scaling: str = "channel",
        leaf: int = 0,
    ):
        self.moments, self.eps, self.scale, self.limit = Moments(b1, b2), eps, scale, limit
        self.rank, self.gap, self.scaling, self.leaf, self.norm = rank, gap, scaling, leaf, 0.0

    def factors(self, low: np.ndarray, u: np.ndarray, axis: int) -> np.ndarray | float:
        """How much longer u is than the projection, channel by channel or as a whole."""
        if self.scaling == "tensor":
            return ratio(np.linalg.norm(u), np.linalg.norm(low))
        return ratio(np.linalg.norm(u, axis=axis, keepdims=True), np.linalg.norm(low, axis=axis, keepdims=True))

    def step(self, g: np.ndarray) -> np.ndarray:
        moments = self.moments
        if not projected(g, self.rank):
            moments.see(g)
            return moments.correction * ratio(moments.m, np.sqrt(moments.v) + self.eps)
        rows, columns = g.shape[-2:]
        short, axis = min(rows, columns), -2 if rows < columns else -1
        q = normals((*g.shape[:-2], short, self.rank), seed_of(moments.t // self.gap + 1, self.leaf)) / np.sqrt(
            self.rank
        )
        low = np.swapaxes(q, -1, -2) @ g if axis == -2 else g @ q
        moments.see(low)
        longer = g * self.factors(low, ratio(moments.m, np.sqrt(moments.v) + self.eps), axis)
        norm = np.linalg.norm(longer)
        if self.limit is not None and 0.0 < self.limit * self.norm < norm:
            longer, norm = longer * (self.limit * self.norm / norm), self.limit * self.norm
        self.norm = norm
        scale = np.sqrt(short / self.rank) if self.scale is None else self.scale
        return scale * moments.correction * longer


class ApolloMini(Apollo):
    """The same with rank 1, one factor for the array, and a scale of sqrt(128)."""

    def __init__(
        self,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-6,
        scale: float | None = 128.0**0.5,
        limit: float | None = 1.01,
        gap: int = 200,
        leaf: int = 0,
    ):
        super().__init__(b1, b2, eps, scale, limit, 1, gap, "tensor", leaf)
