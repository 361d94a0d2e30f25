"""The arithmetic of steps_to_target.py: when a loss was reached, and what a few seeds say about the difference."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from harness import table

SMOOTHED = 3  # evaluations: one alone is noisy at a constant rate
BASE = "adamw"
LEVEL = 0.05  # of significance, divided by the number of comparisons (Bonferroni)
Z95 = 1.959964  # two-sided 95 % of a normal


def smoothed(curve: Sequence[float]) -> np.ndarray:
    """The mean of each value and the two before it (of those there are)."""
    values = np.asarray(curve, np.float64)
    return np.array([values[max(0, i + 1 - SMOOTHED) : i + 1].mean() for i in range(len(values))])


def final(curve: Sequence[float], evaluations: int) -> float:
    """The smoothed loss after so many evaluations, infinite for a run that diverged."""
    value = smoothed(curve)[evaluations - 1]
    return float(value) if np.isfinite(value) else math.inf


def reached(curve: Sequence[float], every: int, target: float) -> float | None:
    """Steps until the smoothed loss is at most the target, linear between evaluations; None if never.

    Args:
        curve: the loss after every, 2·every, … steps.
        every: steps between evaluations.
        target: a loss.
    """
    values = smoothed(curve)
    hits = np.flatnonzero(values <= target)
    if not len(hits):
        return None
    i = int(hits[0])
    before, after = (values[i - 1], values[i]) if i else (math.inf, values[0])
    share = (before - target) / (before - after) if math.isfinite(before) else 1.0
    return float(every * (i + share))


def compared(mine: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Mean steps over those of the base, with a 95 % interval, and the two-sided z-test of the difference.

    The variance is pooled over both samples: s² = (Σ(x − x̄)² + Σ(y − ȳ)²) / (n + m − 2), z = (x̄ − ȳ)/(s √(1/n + 1/m)).
    The interval is that of log(x̄/ȳ), whose variance is about s²/(n x̄²) + s²/(m ȳ²).
    """
    x, y = np.asarray(mine, np.float64), np.asarray(theirs, np.float64)
    n, m = len(x), len(y)
    ratio = float(x.mean() / y.mean())
    spread = n + m - 2
    if spread < 1:
        return {"ratio": ratio, "interval": None, "z": None, "p": None}
    variance = float(((x - x.mean()) ** 2).sum() + ((y - y.mean()) ** 2).sum()) / spread
    error = math.sqrt(variance / (n * x.mean() ** 2) + variance / (m * y.mean() ** 2))
    width = math.exp(Z95 * error)
    deviation = math.sqrt(variance * (1 / n + 1 / m))
    z = float(x.mean() - y.mean()) / deviation if deviation else None
    p = math.erfc(abs(z) / math.sqrt(2)) if z is not None else None
    return {"ratio": ratio, "interval": [ratio / width, ratio * width], "z": z, "p": p}


def rows(runs: dict[str, Any], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every optimizer that has finished on a task whose base has.

    Seed by seed the target is the loss with which the base ends its budget: the start and the minibatches are the same.
    A seed that does not reach it counts with all the steps it was trained for, so that the mean is the restricted mean
    of survival analysis, which for the steps to the target is a lower bound.
    """
    out = []
    for task, found in runs.items():
        done = {name: one for name, one in found.items() if "curves" in one}
        if BASE not in done:
            continue
        every, budget = settings["every"], settings["steps"][task] // settings["every"]
        targets = [final(curve, budget) for curve in done[BASE]["curves"]]
        taken = {
            name: [reached(curve, every, target) for curve, target in zip(one["curves"], targets, strict=True)]
            for name, one in done.items()
        }
        for name, one in done.items():
            longest = every * len(one["curves"][0])
            out.append(row(task, name, one, targets, taken, budget, longest, len(done) - 1))
    return out


def row(
    task: str,
    name: str,
    one: dict[str, Any],
    targets: list[float],
    taken: dict[str, list],
    budget: int,
    longest: int,
    others: int,
) -> dict[str, Any]:
    """What one optimizer did on one task."""
    finals = [final(curve, budget) for curve in one["curves"]]
    steps = taken[name]
    counted = [longest if s is None else s for s in steps]
    mean = float(np.mean(counted))
    test = {"ratio": 1.0, "interval": None, "z": None, "p": None} if name == BASE else compared(counted, taken[BASE])
    return {
        "task": task, "optimizer": name, "rate": one["rate"], "decay": one["decay"], "on_edge": one["on_edge"],
        "final_loss": float(np.mean(finals)) if np.all(np.isfinite(finals)) else None,
        "target": float(np.mean(targets)),
        "reached": sum(s is not None for s in steps), "seeds": len(steps), "steps": steps, "mean_steps": mean,
        **test, "significant": test["p"] is not None and test["p"] * max(1, others) < LEVEL,
        "step_seconds": one["step_seconds"], "step_ratio": one["step_ratio"],
        "seconds": mean * one["step_seconds"], "seconds_ratio": test["ratio"] * one["step_ratio"],
    }  # fmt: skip


def interval(found: dict[str, Any]) -> str:
    """The ratio with its interval; at least that, and how many seeds got there, where some did not."""
    short = found["reached"] < found["seeds"]
    low, high = found["interval"] or (None, None)
    spread = "" if low is None else f" ({low:.2f}–{high:.2f})"
    there = f", {found['reached']} of {found['seeds']} reach it" if short else ""
    return f"{at_least(found['ratio'], short)}{spread}{there}"


def at_least(ratio: float, short: bool) -> str:
    """A ratio, marked as a lower bound where runs ended before they were there."""
    return f"{'≥ ' if short else ''}{ratio:.2f}"


def report(results: list[dict[str, Any]]) -> str:
    """The table on the terminal."""
    header = ["task", "optimizer", "rate", "decay", "final loss", "steps", "÷ adamw", "z", "p", "", "step ÷ adamw",
              "seconds", "÷ adamw"]  # fmt: skip
    cells = [
        [
            r["task"], r["optimizer"], f"{r['rate']:.2g}{'*' if r['on_edge'] else ''}", f"{r['decay']:g}",
            r["final_loss"], r["mean_steps"], interval(r), r["z"], r["p"], "sign." if r["significant"] else "",
            r["step_ratio"], r["seconds"], r["seconds_ratio"],
        ]
        for r in sorted(results, key=lambda r: (r["task"], r["ratio"]))
    ]  # fmt: skip
    return table(header, cells)
