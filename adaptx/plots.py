"""Pictures of trainings, on matplotlib: what was measured, which rates were used, which rate to take.

Every function returns a `matplotlib.figure.Figure`, and writes it where a path is given (its ending says as what). Hues
stay apart under every common color blindness; rates and losses that are positive have logarithmic axes.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import whole
from .drawing import COLORS, MOST_LABELS, PALE, colored, curve, drawn, finished, labelled, some, steps_of
from .schedule_value import values_at
from .wrappers import layers as read_layers
from .wrappers.layers import Layers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_STEPS = 2**31 - 1


def history(history: Mapping[str, np.ndarray], path: str | os.PathLike | None = None) -> "Figure":
    """Loss (with an evaluated "loss"), what else was evaluated, and the learning rate.

    Args:
        history: what `fit` returned.
        path: where to write the picture; None for nowhere.
    """
    if not isinstance(history, Mapping):
        raise TypeError(f"plots.history takes arrays by name, got {type(history).__name__}; pass fit(…).history.")
    evaluated = [name for name in history if name.startswith("eval")]
    losses = [name for name in evaluated if name == "eval/loss"]
    others = [name for name in evaluated if name not in losses]
    rates = [name for name in history if name.rpartition("/")[2] == "learning_rate"]
    panels = [(["loss", *losses], "loss")]
    panels += [(others, others[0] if len(others) == 1 else "evaluation")] if others else []
    panels += [(rates, "learning rate")] if rates else []

    def draw(figure: "Figure") -> None:
        every = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
        for axes, (names, label) in zip(every, panels, strict=True):
            for color, name in zip(cycle(COLORS), [name for name in names if name in history], strict=False):
                curve(axes, steps_of(history, name), history[name], color, name, smooth=label == "loss")
            finished(axes, [history[name] for name in names if name in history], label, len(names) > 1)
        every[-1].set_xlabel("steps")

    return drawn(draw, (6.4, 1.2 + 1.8 * len(panels)), path)


def learning_rates(
    runs: Mapping[str, Mapping[str, np.ndarray] | np.ndarray | Sequence[float]], path: str | os.PathLike | None = None
) -> "Figure":
    """The rates of several trainings over one another, or of the groups of one.

    Args:
        runs: name -> a history, or the rate of every step.
        path: where to write the picture; None for nowhere.
    """
    curves: dict[str, np.ndarray] = {}
    for name, run in runs.items():
        if not isinstance(run, Mapping):
            curves[name] = np.asarray(run, np.float64)
            continue
        found = [key for key in run if key.rpartition("/")[2] == "learning_rate"]
        curves |= {name if len(found) == 1 else f"{name}: {key.rpartition('/')[0]}": run[key] for key in found}
    if not curves or len(curves) > len(COLORS):
        raise ValueError(f"learning_rates draws 1 to {len(COLORS)} curves, got {len(curves)}; pass some of them.")

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for color, (name, values) in zip(COLORS, curves.items(), strict=False):
            axes.plot(np.arange(len(values)), values, color=color, label=name, lw=1.4)
        finished(axes, list(curves.values()), "learning rate", len(curves) > 1)
        axes.set_xlabel("steps")

    return drawn(draw, (6.4, 3.2), path)


def schedule(schedule: Callable[[Any], Any] | float, steps: int, path: str | os.PathLike | None = None) -> "Figure":
    """A schedule over its steps.

    Args:
        schedule: a function of the step, as optax and `adaptx.schedules` have them, or a number.
        steps: ≥ 1, how many to draw.
        path: where to write the picture; None for nowhere.
    """
    whole("steps", steps, 1)
    if steps > MOST_STEPS:
        raise ValueError(f"steps must be at most {MOST_STEPS}, where the counter of steps ends, got {steps}.")
    at = some(steps)
    values = values_at(schedule, at) if callable(schedule) else np.full(len(at), schedule)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.plot(at, values, color=COLORS[0], lw=1.4)
        finished(axes, [values], "value", legend=False)
        axes.set_xlabel("steps")

    return drawn(draw, (6.4, 3.2), path)


def finder(found: Any, path: str | os.PathLike | None = None) -> "Figure":
    """The losses of a range test over its rates, and the suggestion.

    Args:
        found: what `find_lr` returned.
        path: where to write the picture; None for nowhere.
    """
    if not hasattr(found, "smoothed"):
        raise TypeError(f"plots.finder takes what find_lr returned, got {type(found).__name__}; pass that.")

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.plot(found.rates, found.losses, color=PALE, lw=1, label="every step")
        axes.plot(found.rates, found.smoothed, color=COLORS[0], lw=1.6, label="mean")
        axes.legend(loc="lower left")
        axes.set_xscale("log")
        fine = found.smoothed[np.isfinite(found.smoothed)]
        if len(fine):
            low, first = float(fine.min()), float(fine[0])
            span = max(first - low, 0.1 * abs(first)) or 1.0
            axes.set_ylim(low - 0.1 * span, first + 0.6 * span)
        axes.set(xlabel=found.what, ylabel="loss")
        if np.isfinite(found.suggestion):
            axes.axvline(found.suggestion, color=COLORS[2], lw=1.2)
            axes.annotate(f"{found.suggestion:.2g}", (found.suggestion, 1), (4, -4), ("data", "axes fraction"),
                          "offset points", color=COLORS[2], va="top")  # fmt: skip

    return drawn(draw, (6.4, 3.2), path)


def layers(seen: Any, path: str | os.PathLike | None = None) -> "Figure":
    """What `adaptx.watched` recorded: maps of leaves by steps, and the noise scale.

    One map each for ratio, median of |update| / |gradient| and gradient norm (colored by their logarithm to base 10),
    cosine and stillness; what is NaN or infinite is left white, and has no dot among the noise scales.

    Args:
        seen: the state of a watched optimizer, or what `adaptx.layers` made of it.
        path: where to write the picture; None for nowhere.

    Raises:
        ValueError: where nothing was recorded yet.
    """
    seen = seen if isinstance(seen, Layers) else read_layers(seen)
    if not len(seen.steps):
        raise ValueError("layers has nothing to draw: no step was recorded yet; train first.")
    sizes = {"update / parameter": seen.ratio, "|update| / |gradient|": seen.rate, "gradient norm": seen.grad_norm}
    with np.errstate(divide="ignore"):
        panels = [(f"{name}, log₁₀", np.log10(x), None) for name, x in sizes.items()]
        panels += [("cosine", seen.cosine, (-1.0, 1.0)), ("still", seen.still, (0.0, 1.0))]
        noise = np.log10(seen.noise_scale)
    count = len(seen.paths)
    height = 1.0 + max(1.6, 0.16 * min(count, MOST_LABELS)) * len(panels)

    def draw(figure: "Figure") -> None:
        every = figure.subplots(len(panels), 2, sharey=True, sharex="col", width_ratios=(12, 2))
        for (label, values, limits), (axes, side) in zip(panels, every, strict=True):
            colored(figure, axes, seen.steps, values, limits, label)
            labelled(axes, seen.paths)
            side.axis("off")
        side = every[0, 1]
        side.axis("on")
        fine = np.isfinite(noise)
        side.plot(noise[fine], np.arange(count)[fine], "o", ms=3, color=COLORS[0])
        side.set_title("noise scale, log₁₀", fontsize=8)
        side.tick_params(labelbottom=True)
        every[-1, 0].set_xlabel("steps")

    return drawn(draw, (7.4, height), path)
