"""Pictures of trainings, on matplotlib: what was measured, which rates were used, which rate to take.

Every function returns a `matplotlib.figure.Figure`, and writes it where a path is given (its ending says as what). Hues
stay apart under every common color blindness; rates and losses that are positive have logarithmic axes.
"""

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .checks import whole
from .wrappers import layers as read_layers
from .wrappers.layers import Layers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Paul Tol's "muted" scheme
COLORS = ("#332288", "#117733", "#cc6677", "#882255", "#44aa99", "#aa4499", "#999933", "#0077bb", "#b8860b")
INK, PALE = "#3f3f46", "#d4d4d8"
STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "font.size": 9, "axes.edgecolor": "#a1a1aa", "axes.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#f0f0f2",
    "xtick.color": INK, "ytick.color": INK, "legend.frameon": False,
}  # fmt: skip
MOST_LABELS = 24  # of leaves
WINDOW = 0.02  # of a curve, of the mean that is drawn over it


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
                _curve(axes, _steps(history, name), history[name], color, name, smooth=label == "loss")
            _finish(axes, [history[name] for name in names if name in history], label, len(names) > 1)
        every[-1].set_xlabel("steps")

    return _figure(draw, (6.4, 1.2 + 1.8 * len(panels)), path)


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
        _finish(axes, list(curves.values()), "learning rate", len(curves) > 1)
        axes.set_xlabel("steps")

    return _figure(draw, (6.4, 3.2), path)


def schedule(schedule: Callable[[Any], Any] | float, steps: int, path: str | os.PathLike | None = None) -> "Figure":
    """A schedule over its steps.

    Args:
        schedule: a function of the step, as optax and `adaptx.schedules` have them, or a number.
        steps: ≥ 1, how many to draw.
        path: where to write the picture; None for nowhere.
    """
    whole("steps", steps, 1)
    curve = values(schedule, _some(steps)) if callable(schedule) else np.full(len(_some(steps)), schedule)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.plot(_some(steps), curve, color=COLORS[0], lw=1.4)
        _finish(axes, [curve], "value", legend=False)
        axes.set_xlabel("steps")

    return _figure(draw, (6.4, 3.2), path)


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

    return _figure(draw, (6.4, 3.2), path)


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
            _map(figure, axes, seen.steps, values, limits, label)
            _named(axes, seen.paths)
            side.axis("off")
        side = every[0, 1]
        side.axis("on")
        fine = np.isfinite(noise)
        side.plot(noise[fine], np.arange(count)[fine], "o", ms=3, color=COLORS[0])
        side.set_title("noise scale, log₁₀", fontsize=8)
        side.tick_params(labelbottom=True)
        every[-1, 0].set_xlabel("steps")

    return _figure(draw, (7.4, height), path)


def _map(
    figure: "Figure",
    axes: "Axes",
    steps: np.ndarray,
    values: np.ndarray,
    limits: tuple[float, float] | None,
    label: str,
) -> None:
    """Values (steps, leaves) as colors, the first leaf on top; what is not finite stays white."""
    fine = values[np.isfinite(values)]
    low, high = limits or ((float(fine.min()), float(fine.max())) if fine.size else (0.0, 1.0))
    width = (steps[-1] - steps[0]) / max(1, len(steps) - 1) or 1
    masked = np.ma.masked_invalid(values.T)
    edges = (steps[0] - width / 2, steps[-1] + width / 2, values.shape[1] - 0.5, -0.5)
    image = axes.imshow(masked, aspect="auto", interpolation="nearest", cmap="cividis", vmin=low,
                        vmax=high if high > low else low + 1, extent=edges)  # fmt: skip
    axes.grid(visible=False)
    axes.set_title(label, fontsize=8, loc="left")
    figure.colorbar(image, ax=axes, pad=0.01, aspect=12)


def _named(axes: "Axes", paths: Sequence[str]) -> None:
    """Names of leaves, as many as can be read."""
    places = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), MOST_LABELS)).astype(int))
    axes.set_yticks(places, [str(paths[int(i)]) for i in places], fontsize=6)


def _figure(draw: Callable[["Figure"], None], size: tuple[float, float], path: str | os.PathLike | None) -> "Figure":
    """A figure that is drawn and, where a path is given, written."""
    try:
        matplotlib = importlib.import_module("matplotlib")
        figures = importlib.import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pictures need matplotlib: pip install 'adaptx[train]'.") from error
    with matplotlib.rc_context(STYLE):
        figure = figures.Figure(figsize=size, layout="constrained", dpi=150)
        draw(figure)
        if path is not None:
            _write(figure, Path(path))
    return figure


def _write(figure: "Figure", path: Path) -> None:
    """The picture beside, then under its name: a disk that is full leaves the old one."""
    kinds = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in kinds or path.is_dir():
        raise ValueError(
            f"a picture cannot be written to {str(path)!r}; name a file that ends in .{', .'.join(kinds)}."
        )
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        figure.savefig(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _steps(history: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """After how many steps the values of a name were measured."""
    steps = getattr(history, "steps", None)
    return np.asarray(steps(name) if callable(steps) else np.arange(len(history[name])))


def _curve(axes: "Axes", steps: np.ndarray, values: np.ndarray, color: str, label: str, smooth: bool) -> None:
    """A curve; what is noisy in pale, with its running mean."""
    width = max(1, round(WINDOW * len(values))) if smooth else 1
    if width < 3:
        axes.plot(steps, values, color=color, lw=1.4, label=label, marker="." if len(values) < 30 else None)
        return
    axes.plot(steps, values, color=color, lw=0.7, alpha=0.25)
    kernel = np.ones(width) / width
    axes.plot(
        steps[width // 2 :][: len(values) - width + 1],
        np.convolve(values, kernel, "valid"),
        color=color,
        lw=1.4,
        label=label,
    )


def _finish(axes: "Axes", curves: Sequence[np.ndarray], label: str, legend: bool) -> None:
    """Scale and labels: logarithmic where all is positive and spans a decade or more."""
    every = np.concatenate([np.asarray(x, np.float64).reshape(-1) for x in curves]) if curves else np.ones(1)
    fine = every[np.isfinite(every)]
    if len(fine) and fine.min() > 0 and fine.max() > 10 * fine.min():
        axes.set_yscale("log")
    axes.set_ylabel(label)
    if legend:
        axes.legend()


def values(schedule: Callable[[Any], Any], steps: np.ndarray) -> np.ndarray:
    """A schedule's values at whole steps (n,), in one program where it is a function of arrays."""
    try:
        return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(steps)), np.float64)
    except (TypeError, ValueError):  # a function of Python's numbers, which says itself what is wrong with it
        return np.array([float(schedule(int(t))) for t in steps])


def _some(steps: int, most: int = 2000) -> np.ndarray:
    """Steps to draw, at most so many."""
    return np.unique(np.linspace(0, steps - 1, min(steps, most)).astype(int))
