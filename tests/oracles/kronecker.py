"""Float64 NumPy oracle of PSGD Kron: a preconditioner P = Q'Q of Kronecker factors, fitted to whiten the gradient.

Li 2015, arXiv:1512.04202, and 2024, arXiv:2402.11858; the schedule of fits, the bound of the norm, the diagonals and
the clipping are those of github.com/evanatyourservice/kron_torch. Written on the Kronecker product itself, for what it
is worth only on small matrices: h is a vector, Q = kron(Q_R, Q_L) one matrix, and its terms are partial traces of
outer products.

The random numbers are those of draws.py.
"""

import numpy as np

from .draws import coin, normals, seed_of
from .preconditioned import spans


def bound(a: np.ndarray) -> float:
    """A lower bound of the spectral norm of a symmetric matrix from its longest column."""
    column = a[:, np.argmax(np.sum(a * a, axis=0))]
    x = a @ column
    return np.linalg.norm(a @ x) / np.linalg.norm(x)


class KronBlock:
    """The factors of one matrix, or of one vector, whose Q is a diagonal.

    sides: the shape of a whole block, which says for all of them where Q is a diagonal.
    """

    def __init__(self, shape, rule, sides):
        self.rule, self.shape = rule, shape
        start = rule.precond_init_scale ** (1 / len(shape))
        self.q = [start * np.eye(n) for n in shape]
        longest = len(sides) - 1 - int(np.argmax(sides[::-1]))  # of two alike the last
        one = {"none": (), "one_diag": (longest,), "all_diag": (0, 1)}
        one["smart_one_diag"] = (longest,) if len(set(sides)) > 1 else ()
        self.diagonal = [
            len(sides) < 2 or n == 1 or n > rule.max_size_triangular or a in one[rule.memory_save_mode]
            for a, n in enumerate(sides)
        ]

    def whole(self) -> np.ndarray:
        """Q on the elements of the block in their order in memory."""
        return self.q[0] if len(self.q) == 1 else np.kron(self.q[0], self.q[1])

    def fit(self, h: np.ndarray, v: np.ndarray, balanced: bool) -> None:
        if balanced and len(self.q) == 2:
            sizes = [np.max(np.abs(q)) for q in self.q]
            self.q = [q * (np.exp(np.mean(np.log(sizes))) / size) for q, size in zip(self.q, sizes, strict=True)]
        if not np.any(h):
            return
        h = h + 2**-11.5 * np.mean(np.abs(h)) * v
        whole = self.whole()
        a = np.reshape(whole @ h.ravel(), self.shape)
        b = np.reshape(np.linalg.solve(whole.T, v.ravel()), self.shape)
        self.q = [self.moved(axis, a, b) for axis in range(len(self.q))]

    def moved(self, axis: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        others = [i for i in range(a.ndim) if i != axis]
        one, two = (np.tensordot(x, x, axes=(others, others)) for x in (a, b))
        if self.diagonal[axis]:
            one, two = np.diag(np.diag(one)), np.diag(np.diag(two))
            size = np.max(one + two)
        else:
            size = bound(one + two)
        return self.q[axis] - self.rule.precond_lr * np.triu(one - two) @ self.q[axis] / size

    def precondition(self, x: np.ndarray) -> np.ndarray:
        whole = self.whole()
        return np.reshape(whole.T @ (whole @ x.ravel()), self.shape)


class PsgdKron:
    """The mean gradient, preconditioned and clipped; a fit whenever the schedule wants one. `leaf` is its number."""

    draws = True

    def __init__(
        self,
        b1: float = 0.9,
        precond_lr: float = 0.1,
        precond_init_scale: float = 1.0,
        max_prob: float = 1.0,
        min_prob: float = 0.03,
        prob_decay: float = 0.001,
        flat_start: float = 500.0,
        balance_prob: float = 0.01,
        clip_rms: float = 1.1,
        momentum_into_precond_update: bool = True,
        max_size_triangular: int = 8192,
        memory_save_mode: str = "none",
        block_size: int | None = None,
        leaf: int = 0,
    ):
        self.leaf = leaf
        self.b1, self.precond_lr, self.precond_init_scale = b1, precond_lr, precond_init_scale
        self.max_prob, self.min_prob, self.prob_decay, self.flat_start = max_prob, min_prob, prob_decay, flat_start
        self.balance_prob, self.clip_rms, self.momentum = balance_prob, clip_rms, momentum_into_precond_update
        self.max_size_triangular, self.memory_save_mode = max_size_triangular, memory_save_mode
        self.block_size = block_size
        self.m, self.t, self.waited, self.blocks = 0.0, 0, 0, {}

    def places(self, shape: tuple[int, ...]) -> list:
        """Where the blocks of an array of two axes or more lie; the whole of one with fewer."""
        if len(shape) < 2:
            return [...]
        pairs = [(r, c) for r in spans(shape[-2], self.block_size) for c in spans(shape[-1], self.block_size)]
        return [(*index, *pair) for index in np.ndindex(*shape[:-2]) for pair in pairs]

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1 - self.b1) * g
        mean = self.m / (1 - self.b1**self.t)
        prob = self.max_prob * np.exp(-self.prob_decay * (self.t - 1 - self.flat_start))
        self.waited += 1
        due = self.waited >= 1 / np.clip(prob, self.min_prob, self.max_prob)
        if due:
            self.waited = 0
        seed = seed_of(self.t, self.leaf)
        v, balanced = normals(g.shape, seed), coin(seed) < self.balance_prob
        x = np.empty_like(mean)
        for place in self.places(g.shape):
            part = np.atleast_1d(mean[place])
            sides = [min(n, self.block_size or n) for n in g.shape[-2:]] if g.ndim >= 2 else part.shape
            block = self.blocks.setdefault(str(place), KronBlock(part.shape, self, sides))
            if due:
                h = part if self.momentum else np.atleast_1d(g[place])
                block.fit(h, np.atleast_1d(v[place]), balanced)
            x[place] = np.reshape(block.precondition(part), mean[place].shape)
        axes = (-2, -1) if g.ndim >= 2 else None
        rms = np.sqrt(np.mean(np.square(x), axis=axes, keepdims=True))
        return x * np.minimum(1.0, self.clip_rms / (rms + 1e-12))
