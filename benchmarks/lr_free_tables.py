"""The tables of lr_free.py, from the final losses of all runs.

gap = (f − f*) / (f₀ − f*), median over the seeds; infinite for a run that ended in NaN or infinity
ratio = gap / (the least gap of the base rule over the grid of fixed rates), per problem
decades = the widest range of consecutive initial rates with ratio ≤ 3
loss ratio = final loss, median over the seeds / that of Adam with the best cosine of the grid, per data set
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from lr_free_methods import METHODS, Method
from lr_free_problems import MODELS, NAMES

CLOSE = 3.0  # times the best fixed rate's gap
TARGET_DECADES = 6.0
TARGET_MEAN, TARGET_WORST = 1.2, 1.5  # times the loss of Adam with a tuned cosine
REFERENCE = "adam × cosine"


@dataclass(frozen=True)
class Outcome:
    """Everything the tables are made of; arrays have problems (both models' data sets, one after the other) first."""

    rates: tuple[float, ...]
    losses: dict[str, np.ndarray]  # method -> (problems, knobs, seeds), infinite where a run diverged
    start: np.ndarray  # f₀, (problems, seeds)
    least: np.ndarray  # f*, (problems,)

    def gaps(self, name: str) -> np.ndarray:
        """(problems, knobs) of a method."""
        least = self.least[:, None, None]
        return np.median((self.losses[name] - least) / (self.start[:, None, :] - least), axis=-1)

    def ratios(self, method: Method) -> np.ndarray:
        """The gaps in units of the best fixed rate's."""
        best = self.gaps(method.base)[:, : len(self.rates)].min(axis=1, keepdims=True)
        return self.gaps(method.name) / best

    @property
    def methods(self) -> list[Method]:
        """The methods that were run, in order."""
        return [method for method in METHODS if method.name in self.losses]


def least_seen(losses: dict[str, np.ndarray], found: np.ndarray) -> np.ndarray:
    """f*: what a solver found, or for perceptrons a smaller loss that any run ended with; (problems,)."""
    seen = np.min([np.min(values, axis=(1, 2)) for values in losses.values()], axis=0)
    convex = np.arange(len(found)) < len(NAMES)
    return np.where(convex, found, np.minimum(found, seen))


def decades(ratios: np.ndarray, rates: tuple[float, ...]) -> float:
    """The width of the widest range of consecutive rates with ratio ≤ 3; 0 for a single one or none."""
    best, start = 0.0, None
    for rate, ratio in zip(rates, ratios, strict=True):
        start = None if not ratio <= CLOSE else rate if start is None else start
        best = max(best, 0.0 if start is None else float(np.log10(rate / start)))
    return best


def robustness(outcome: Outcome) -> list[dict[str, Any]]:
    """One row for every method: its gaps over the initial rates, and how many decades of them are good."""
    rows = []
    for method in outcome.methods:
        gaps, ratios, count = outcome.gaps(method.name), outcome.ratios(method), len(outcome.rates)
        over = gaps[:, :count] if method.knob else np.repeat(gaps, count, axis=1)
        wide = ratios[:, :count] if method.knob else np.repeat(ratios, count, axis=1)
        widths = [decades(row, outcome.rates) for row in wide]
        rows.append({
            "method": method.name,
            "knob": method.knob or "none",
            "gap": dict(zip(map(float, outcome.rates), np.median(over, axis=0), strict=True)),
            "gap_at_default": float(np.median(gaps[:, -1])) if method.default is not None else None,
            "worst_gap": float(np.max(np.median(over, axis=0))),
            "decades": dict(zip(problem_names(), widths, strict=True)),
            "decades_median": float(np.median(widths)),
            "decades_least": min(widths),
            "worst_ratio": float(np.max(wide)),
        })  # fmt: skip
    return rows


def against_tuned(outcome: Outcome) -> list[dict[str, Any]]:
    """One row for every method at its defaults, and for fixed rates and cosines tuned on each data set."""
    finals = {name: np.median(values, axis=-1) for name, values in outcome.losses.items()}
    best = finals[REFERENCE][:, : len(outcome.rates)].min(axis=1)
    rows = []
    for method in outcome.methods:
        values = finals[method.name]
        if method.shuffled:
            continue
        if method.default is not None or not method.knob:
            rows.append(row(f"{method.name}{at_default(method)}", values[:, -1] / best))
        if method.knob == "rate" and method.name.split(" × ")[-1] in (method.base, "cosine"):
            rows.append(row(f"{method.name}, tuned", values[:, : len(outcome.rates)].min(axis=1) / best))
    return sorted(rows, key=lambda row: row["mean"]["all"])


def at_default(method: Method) -> str:
    """What is said of the default: the rate where it is one, nothing where the method has no rate."""
    return f" at {method.default:g}" if method.knob == "rate" else ""


def row(name: str, ratios: np.ndarray) -> dict[str, Any]:
    """Geometric means and worst cases of the loss ratios, for each model and for all."""
    parts = {model: ratios[i * len(NAMES) : (i + 1) * len(NAMES)] for i, model in enumerate(MODELS)}
    parts["all"] = ratios
    with np.errstate(over="ignore"):
        mean = {model: float(np.exp(np.mean(np.log(values)))) for model, values in parts.items()}
    worst = {model: float(np.max(values)) for model, values in parts.items()}
    return {"method": name, "mean": mean, "worst": worst, "ratio": dict(zip(problem_names(), ratios, strict=True))}


def problem_names() -> list[str]:
    """linear breast_cancer, …, mlp diabetes: the order of axis 0."""
    return [f"{model} {name}" for model in MODELS for name in NAMES]


def targets(outcome: Outcome) -> list[dict[str, Any]]:
    """What was to be reached, what was, and whether it is enough."""
    found = []

    def judge(what: str, value: float, bound: float, above: bool) -> None:
        met = value >= bound if above else value <= bound
        found.append({"what": what, "wanted": f"{'≥' if above else '≤'} {bound:g}", "value": value, "met": met})

    for row in robustness(outcome):
        if row["method"] in ("sgd × hypergradient", "sgd × shield(hypergradient)"):
            for part in ("least", "median"):
                what = f"{row['method']}: decades within {CLOSE:g}× of the best fixed rate's gap, {part} over problems"
                judge(what, row[f"decades_{part}"], TARGET_DECADES, True)
    for row in against_tuned(outcome):
        if row["method"] == "adam × prodigy × cosine":
            for model in MODELS:
                what = f"{row['method']}: loss / that of Adam with a tuned cosine, {model} problems"
                judge(f"{what}, mean", row["mean"][model], TARGET_MEAN, False)
                judge(f"{what}, worst", row["worst"][model], TARGET_WORST, False)
    return found
