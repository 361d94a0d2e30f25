"""Float64 NumPy oracles of SOAP, Shampoo and SPlus: matrices preconditioned by a factor for each of their axes.

SOAP: Vyas et al. 2024, arXiv:2409.11321, Algorithm 3, with the order of a step, the sorting and the QR iteration of the
authors' program, github.com/nikhilvyas/SOAP. It refreshes the basis at the end of a step and carries the mean gradient
inside of the basis, turning it whenever that changes.

All three treat a stack of matrices as its matrices one by one, and a matrix cut into blocks as its blocks one by one,
the last of an axis as short as it comes: nothing is padded here.
"""

import numpy as np

from .classical import ratio


def spans(length: int, size: int | None) -> list[slice]:
    """The pieces of an axis, none longer than size."""
    step = max(length, 1) if size is None else size
    return [slice(i, min(i + step, length)) for i in range(0, length, step)]


class Blocks:
    """A rule on one array as rules on the blocks of its last two axes; `make(shape)` gives the rule of a block."""

    def __init__(self, make, size: int | None):
        self.make, self.size, self.parts = make, size, {}

    def step(self, g: np.ndarray) -> np.ndarray:
        if g.ndim < 2 or g.size == 0:
            return self.part("whole", g)
        d = np.empty_like(g)
        for index in np.ndindex(*g.shape[:-2]):
            for rows in spans(g.shape[-2], self.size):
                for columns in spans(g.shape[-1], self.size):
                    where = (*index, rows, columns)
                    d[where] = self.part((*index, rows.start, columns.start), g[where])
        return d

    def part(self, key, g: np.ndarray) -> np.ndarray:
        if key not in self.parts:
            self.parts[key] = self.make(g.shape)
        return self.parts[key].step(g)


class SoapBlock:
    """SOAP on one matrix, or on an array with fewer axes."""

    def __init__(self, shape, b1, b2, eps, beta, every, max_dim, one_sided):
        self.b1, self.b2, self.eps, self.beta, self.every = b1, b2, eps, beta, every
        self.axes = [a for a, n in enumerate(shape) if len(shape) == 2 and n <= max_dim]
        if one_sided and self.axes:
            shorter = int(np.argmin(shape))
            self.axes = [a for a in self.axes if a == shorter]
        self.gg = {a: np.zeros((shape[a], shape[a])) for a in self.axes}
        self.q = None
        self.m, self.v, self.s = np.zeros(shape), np.zeros(shape), 0

    def turn(self, x: np.ndarray, back: bool) -> np.ndarray:
        for a in self.axes:
            x = np.moveaxis(np.tensordot(self.q[a], x, axes=(1 if back else 0, a)), 0, a)
        return x

    def step(self, g: np.ndarray) -> np.ndarray:
        d = np.zeros_like(g)
        if self.q is not None:
            self.s += 1
            x = self.turn(g, back=False)
            self.m = self.b1 * self.m + (1 - self.b1) * x
            self.v = self.b2 * self.v + (1 - self.b2) * x * x
            length = np.sqrt(1 - self.b2**self.s) / (1 - self.b1**self.s)
            d = length * self.turn(ratio(self.m, np.sqrt(self.v) + self.eps), back=True)
        for a in self.axes:
            self.gg[a] = self.beta * self.gg[a] + (1 - self.beta) * np.tensordot(g, g, axes=(1 - a, 1 - a))
        if self.q is None:
            self.q = {a: np.linalg.eigh(self.gg[a])[1][:, ::-1] for a in self.axes}
        elif self.s % self.every == 0:
            self.refresh()
        return d

    def refresh(self) -> None:
        self.m = self.turn(self.m, back=True)
        for a in self.axes:
            gg, q = self.gg[a], self.q[a]
            order = np.argsort(-np.einsum("ij,ik,kj->j", q, gg, q), kind="stable")
            self.v = np.take(self.v, order, axis=a)
            self.q[a] = np.linalg.qr(gg @ q[:, order])[0]
        self.m = self.turn(self.m, back=False)


class Soap:
    """The first step only initialises; from then on Adam in the basis, which follows the factors every few steps."""

    def __init__(
        self,
        b1: float = 0.95,
        b2: float = 0.95,
        eps: float = 1e-8,
        shampoo_beta: float | None = None,
        every: int = 10,
        max_dim: int = 10000,
        block_size: int | None = None,
        one_sided: bool = False,
    ):
        beta = b2 if shampoo_beta is None else shampoo_beta
        self.blocks = Blocks(lambda shape: SoapBlock(shape, b1, b2, eps, beta, every, max_dim, one_sided), block_size)

    def step(self, g: np.ndarray) -> np.ndarray:
        return self.blocks.step(g)
