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


def stilled(d: np.ndarray, factors: dict[int, np.ndarray]) -> np.ndarray:
    """d with 0 where an axis never had a gradient: what is there is the noise of a decomposition."""
    for axis, factor in factors.items():
        shape = [-1 if a == axis else 1 for a in range(d.ndim)]
        d = d * np.reshape(np.diag(factor) != 0, shape)
    return d


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
        return stilled(d, self.gg)

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


def inverse_root(a: np.ndarray, power: float, eps: float) -> np.ndarray:
    """(a + eps)^(-power) of a symmetric matrix by its singular values, 0 where they are."""
    left, values, _ = np.linalg.svd(a)  # the right ones are of the other sign where a value is noise below 0
    values = np.maximum(values, len(a) * np.finfo(np.float64).eps * np.max(values)) + eps
    return (left * ratio(np.ones_like(values), values**power)) @ left.T


class ShampooBlock:
    """Shampoo on one matrix or vector: a tensor of order k with the root of 2k on every axis that has a factor."""

    def __init__(self, shape, rule):
        self.rule = rule
        self.axes = [a for a, n in enumerate(shape) if n <= rule.max_dim]
        self.factors = {a: np.zeros((shape[a], shape[a])) for a in self.axes}
        self.roots = {a: np.eye(shape[a]) for a in self.axes}
        self.m, self.v, self.t = np.zeros(shape), np.zeros(shape), 0

    def grafted(self, g: np.ndarray, u: np.ndarray) -> np.ndarray:
        r = self.rule
        if r.graft in ("sgd", "none"):
            return u
        if r.graft == "adagrad":
            self.v = self.v + g * g
            return ratio(u, np.sqrt(self.v) + r.graft_eps)
        self.v = r.graft_b2 * self.v + (1 - r.graft_b2) * g * g
        bias = 1 - r.graft_b2**self.t if r.graft == "adam" else 1.0
        return ratio(u, np.sqrt(self.v / bias) + r.graft_eps)

    def step(self, g: np.ndarray) -> np.ndarray:
        r, self.t = self.rule, self.t + 1
        for a in self.axes:
            others = [b for b in range(g.ndim) if b != a]
            square = np.tensordot(g, g, axes=(others, others))
            self.factors[a] = self.factors[a] + square if r.b2 is None else r.b2 * self.factors[a] + (1 - r.b2) * square
        if self.t == r.start or (self.t > r.start and self.t % r.every == 0):
            bias = 1.0 if r.b2 is None else 1 - r.b2**self.t
            for a in self.axes:
                self.roots[a] = inverse_root(self.factors[a] / bias, 1 / (2 * len(self.axes)), r.eps)
        u = g
        if r.b1 is not None:
            self.m = r.b1 * self.m + (1 - r.b1) * g
            u = self.m / (1 - r.b1**self.t)
        a = self.grafted(g, u)
        if self.t < r.start or not self.axes:
            return a
        x = u
        for axis in self.axes:
            x = np.moveaxis(np.tensordot(self.roots[axis], x, axes=(1, axis)), 0, axis)
        x = stilled(x, self.factors)
        return x if r.graft == "none" else ratio(x, np.linalg.norm(x)) * np.linalg.norm(a)


class Shampoo:
    """Gupta et al. 2018, arXiv:1802.09568, with the grafting of Anil et al. 2020, arXiv:2002.09018.

    The order of a step and the moments are those of Shi et al. 2023, arXiv:2309.06497.
    """

    def __init__(
        self,
        b1: float | None = 0.9,
        b2: float | None = 0.999,
        eps: float = 1e-12,
        graft: str = "adam",
        graft_b2: float = 0.999,
        graft_eps: float = 1e-8,
        every: int = 10,
        start: int = 10,
        max_dim: int = 8192,
        block_size: int | None = 1024,
    ):
        self.b1, self.b2, self.eps, self.max_dim = b1, b2, eps, max_dim
        self.graft, self.graft_b2, self.graft_eps, self.every, self.start = graft, graft_b2, graft_eps, every, start
        self.size = block_size
        self.blocks = Blocks(lambda shape: ShampooBlock(shape, self), block_size)

    def step(self, g: np.ndarray) -> np.ndarray:
        if g.ndim >= 2:
            return self.blocks.step(g)
        flat = np.reshape(g, -1)
        parts = [self.blocks.part(part.start, flat[part]) for part in spans(flat.size, self.size)]
        return np.reshape(np.concatenate(parts), g.shape) if parts else g


class SplusBlock:
    """SPlus on one matrix, or on an array with fewer axes; the sign alone, without its length."""

    def __init__(self, shape, b1, b2, every, max_dim):
        self.b1, self.b2, self.every = b1, b2, every
        self.axes = [a for a, n in enumerate(shape) if len(shape) == 2 and n <= max_dim]
        self.sides = {a: np.zeros((shape[a], shape[a])) for a in self.axes}
        self.q = {a: np.eye(shape[a]) for a in self.axes}
        self.m, self.t = np.zeros(shape), 0

    def turn(self, x: np.ndarray, back: bool) -> np.ndarray:
        for a in self.axes:
            x = np.moveaxis(np.tensordot(self.q[a], x, axes=(1 if back else 0, a)), 0, a)
        return x

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        d = self.turn(np.sign(self.turn(self.m, back=False)), back=True)
        for a in self.axes:
            self.sides[a] = self.b2 * self.sides[a] + (1 - self.b2) * np.tensordot(g, g, axes=(1 - a, 1 - a))
        if self.t == 1 or self.t % self.every == 0:
            self.q = {a: np.linalg.eigh(self.sides[a])[1] for a in self.axes}
        return stilled(d, self.sides)


class Splus:
    """Frans et al. 2025, arXiv:2506.07254, Algorithm 1, as github.com/kvfrans/splus (torch) does it, without decay."""

    def __init__(
        self,
        b1: float = 0.9,
        b2: float = 0.999,
        every: int = 100,
        max_dim: int = 10000,
        block_size: int | None = None,
        nonstandard_constant: float = 1e-3,
    ):
        self.max_dim, self.size, self.constant = max_dim, block_size, nonstandard_constant
        self.blocks = Blocks(lambda shape: SplusBlock(shape, b1, b2, every, max_dim), block_size)

    def step(self, g: np.ndarray) -> np.ndarray:
        d = self.blocks.step(g)
        longest = max((min(n, self.size or n) for n in g.shape[-2:]), default=0)
        return d * (2 / sum(g.shape[-2:]) if g.ndim >= 2 and longest <= self.max_dim else self.constant)
