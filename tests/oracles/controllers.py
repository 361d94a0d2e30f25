"""The frame of the controller oracles: a closed loop, base rules on trees of arrays, sums over a tree.

A controller decides a rate from what the loop shows, so its oracle is a whole loop: parameters go into a problem,
a loss and gradients come out, a base rule turns gradients into directions, the controller names the rate, and

    x ← x − η_t · d_t                    one step, η_t a scalar, or one per leaf, or one per element

Everything is float64 NumPy written from the papers; nothing here imports the library under test.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .trajectories import ORACLES

Tree = dict[str, np.ndarray]
Problem = Callable[[int, Tree], tuple[float, Tree]]  # (t counted from 0, x) -> (loss, gradients)
Rule = Callable[[Tree], Tree]  # gradients -> directions, keeping its moments between calls
Rate = float | dict


class Trace(NamedTuple):
    """What a loop did; entry t belongs to step t, counted from 0."""

    params: list[Tree]  # x after step t
    rate: np.ndarray  # (steps,) or (steps, leaves): the rate step t used
    extra: dict[str, np.ndarray]  # method-specific scalars by name, (steps,)


def each(function: Callable, *trees: Tree) -> Tree:
    """Apply a function leaf by leaf."""
    return {name: function(*(tree[name] for tree in trees)) for name in trees[0]}


def dot(a: Tree, b: Tree) -> float:
    """Σ over all leaves of ⟨a, b⟩."""
    return float(sum(np.sum(a[name] * b[name]) for name in a))


def norm(a: Tree) -> float:
    """Euclidean norm of all leaves taken as one vector."""
    return float(np.sqrt(dot(a, a)))


def l1(a: Tree) -> float:
    """Sum of magnitudes over all leaves."""
    return float(sum(np.sum(np.abs(leaf)) for leaf in a.values()))


def zeros(x: Tree) -> Tree:
    """A tree of zeros like x."""
    return each(np.zeros_like, x)


def mix(a: float, x: Tree, b: float, y: Tree) -> Tree:
    """a x + b y."""
    return each(lambda x, y: a * x + b * y, x, y)


def value_at(rate: float | Callable[[int], float], t: int) -> float:
    """A constant, or a schedule at step t counted from 0."""
    return rate(t) if callable(rate) else rate


def base(name: str = "sgd", **hyper) -> Rule:
    """A classical rule on every leaf, by the name of its oracle, with its own hyperparameters."""
    leaves: dict = {}

    def direction(g: Tree) -> Tree:
        return {leaf: leaves.setdefault(leaf, ORACLES[name](**hyper)).step(g[leaf]) for leaf in g}

    return direction


def with_l2(problem: Problem, weight_decay: float) -> Problem:
    """The problem with λ x added to its gradients, its loss unchanged: coupled weight decay."""

    def penalized(t: int, x: Tree) -> tuple[float, Tree]:
        loss, g = problem(t, x)
        return loss, mix(1, g, weight_decay, x)

    return penalized


def run(
    problem: Problem,
    x: Tree,
    steps: int,
    rule: Rule,
    rate_of: Callable[[int, float, Tree, Tree, Tree], Rate],
    extra: dict[str, list] | None = None,
) -> Trace:
    """The loop: `rate_of(t, loss, g, d, x)` may be a scalar or a dict of one rate (or array of rates) per leaf."""
    params, rates = [], []
    for t in range(steps):
        loss, g = problem(t, x)
        d = rule(g)
        rate = rate_of(t, loss, g, d, x)
        per_leaf = rate if isinstance(rate, dict) else dict.fromkeys(x, rate)
        x = {name: x[name] - per_leaf[name] * d[name] for name in x}
        params.append(x)
        if not isinstance(rate, dict):
            rates.append(rate)
        else:
            rates.append(list(rate.values()) if all(np.ndim(r) == 0 for r in rate.values()) else np.nan)
    return Trace(params, np.asarray(rates, float), {name: np.asarray(values) for name, values in (extra or {}).items()})
