"""What pictures are drawn with: figures that are written whole, axes, curves, maps."""

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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


def colored(
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


def labelled(axes: "Axes", paths: Sequence[str]) -> None:
    """Names of leaves, as many as can be read."""
    places = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), MOST_LABELS)).astype(int))
    axes.set_yticks(places, [str(paths[int(i)]) for i in places], fontsize=6)


def drawn(draw: Callable[["Figure"], None], size: tuple[float, float], path: str | os.PathLike | None) -> "Figure":
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
            written(figure, Path(path))
    return figure


def written(figure: "Figure", path: Path) -> None:
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


def steps_of(history: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """After how many steps the values of a name were measured."""
    steps = getattr(history, "steps", None)
    return np.asarray(steps(name) if callable(steps) else np.arange(len(history[name])))


def curve(axes: "Axes", steps: np.ndarray, values: np.ndarray, color: str, label: str, smooth: bool) -> None:
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


def finished(axes: "Axes", curves: Sequence[np.ndarray], label: str, legend: bool) -> None:
    """Scale and labels: logarithmic where all is positive and spans a decade or more."""
    every = np.concatenate([np.asarray(x, np.float64).reshape(-1) for x in curves]) if curves else np.ones(1)
    fine = every[np.isfinite(every)]
    if len(fine) and fine.min() > 0 and fine.max() > 10 * fine.min():
        axes.set_yscale("log")
    axes.set_ylabel(label)
    if legend:
        axes.legend()


def some(steps: int, most: int = 2000) -> np.ndarray:
    """Steps to draw, at most so many."""
    return np.unique(np.linspace(0, steps - 1, min(steps, most)).astype(int))
