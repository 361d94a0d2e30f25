"""The figures of the report: one panel for each contestant, the others in gray behind it, as SVG text."""

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from .contest import Course
from .summary import Row, Summary

# Paul Tol's "muted" scheme: nine hues that stay apart under every common color blindness
COLORS = ("#332288", "#117733", "#cc6677", "#882255", "#44aa99", "#aa4499", "#999933", "#0077bb", "#b8860b")
GRAY, INK = "#d4d4d8", "#3f3f46"
COLUMNS = 3
LOWEST_LOSS = 1e-4  # nats, the floor of the loss axis: below it a run has memorized its rows
RATE_SPAN = 1e-7  # the lowest learning rate shown, relative to the highest
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": "#a1a1aa",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#f0f0f2",
    "xtick.color": INK,
    "ytick.color": INK,
}

Draw = Callable[[Axes, Course, Row, str, bool], None]


def loss_curves(courses: Sequence[Course], summary: Summary) -> str:
    """Training and validation loss of each contestant at its best learning rate."""
    pairs = _pairs(courses, summary)
    training = {course.name: _at_best(course.measured.train_loss, row) for course, row in pairs}
    validation = {course.name: _at_best(course.measured.validation_loss, row) for course, row in pairs}
    every = [losses.mean(0) for losses in (*training.values(), *validation.values())]
    floor, ceiling = _smallest(every), 1.6 * float(every[0][0])

    def draw(axes: Axes, course: Course, row: Row, color: str, front: bool) -> None:
        _curve(axes, course.steps, validation[course.name], color, front, f"loss-{course.name}")
        if front:
            mean = training[course.name].mean(0)
            axes.plot(course.steps, mean, color=color, lw=1.1, ls=(0, (3, 2)), zorder=3)
            _loss_axis(axes, floor, ceiling)
            if course.name == summary.rows[0].name:
                _label(axes, course.steps, validation[course.name].mean(0), "validation", color)
                _label(axes, course.steps, mean, "training", color)

    return _panels(courses, summary, draw, "loss", "steps", "loss (nats)")


def accuracy_curves(courses: Sequence[Course], summary: Summary) -> str:
    """Test accuracy of each contestant at its best learning rate."""
    worst = min((row.accuracy_mean for row in summary.rows if math.isfinite(row.accuracy_mean)), default=0.0)
    # the worst final accuracy lies at three fourths of the height
    lowest = min(max(math.floor(10 * (1 - 4 * (1 - worst))) / 10, 0.0), 0.9)

    def draw(axes: Axes, course: Course, row: Row, color: str, front: bool) -> None:
        values = _at_best(course.measured.test_accuracy, row)
        _curve(axes, course.steps, values, color, front, f"accuracy-{course.name}")
        axes.set_ylim(lowest, 1 + 0.02 * (1 - lowest))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))

    return _panels(courses, summary, draw, "accuracy", "steps", "test accuracy")


def sensitivity_curves(courses: Sequence[Course], summary: Summary) -> str:
    """Final validation loss of each contestant over the grid of learning rates."""
    initial = float(np.mean(courses[0].measured.validation_loss[..., 0]))
    floor, ceiling = _smallest([row.final_losses for row in summary.rows]), 2.5 * initial
    tuned = [course.rates for course in courses if len(course.rates) > 1]
    limits = (np.min(tuned) / 1.3, np.max(tuned) * 1.3) if tuned else (0.1, 1.0)

    def draw(axes: Axes, course: Course, row: Row, color: str, front: bool) -> None:
        rates = course.rates if len(course.rates) > 1 else np.array(limits)
        losses = np.broadcast_to(row.final_losses, rates.shape)
        finite = np.where(np.isfinite(losses), losses, np.nan)
        _line(axes, rates, finite, color, front, f"sensitivity-{course.name}")
        if not front:
            return
        lost = np.isnan(finite)
        axes.plot(rates[lost], np.full(lost.sum(), 0.85 * ceiling), "x", color=color, ms=5, mew=1.5, zorder=3)
        if math.isfinite(row.low):
            axes.axvspan(row.low, row.high, color=color, alpha=0.12, lw=0, zorder=0)
            axes.plot(rates[row.best], losses[row.best], "o", ms=6, mfc="white", mec=color, mew=1.8, zorder=4)
        axes.set_xscale("log")
        axes.set_xlim(*limits)
        axes.xaxis.set_major_locator(LogLocator(numticks=6))
        axes.xaxis.set_major_formatter(FuncFormatter(_power_of_ten))
        axes.xaxis.set_minor_formatter(NullFormatter())
        _loss_axis(axes, floor, ceiling)

    return _panels(courses, summary, draw, "sensitivity", "learning rate", "final validation loss (nats)")


def rate_curves(courses: Sequence[Course], summary: Summary) -> str:
    """The learning rate that each contestant used, in its best run."""
    used = {course.name: _used(course, row) for course, row in _pairs(courses, summary)}
    every = np.concatenate([np.ravel(values) for values in used.values()])
    every = every[np.isfinite(every) & (every > 0)]
    low, high = (0.5 * every.min(), 2 * every.max()) if len(every) else (0.1, 1.0)
    low = max(low, RATE_SPAN * high)  # a rate that was cut without end would flatten the others

    def draw(axes: Axes, course: Course, row: Row, color: str, front: bool) -> None:
        values = used[course.name]
        _line(axes, course.steps, np.median(values, 0), color, front, f"rate-{course.name}")
        if front:
            axes.fill_between(course.steps, values.min(0), values.max(0), color=color, alpha=0.18, lw=0, zorder=2)
            axes.set_xlim(0, course.steps[-1])
            axes.set_yscale("log")
            axes.set_ylim(low, high)
            axes.yaxis.set_major_locator(LogLocator(numticks=6))
            axes.yaxis.set_major_formatter(FuncFormatter(_power_of_ten))
            axes.yaxis.set_minor_formatter(NullFormatter())

    return _panels(courses, summary, draw, "rate", "steps", "learning rate")


def _used(course: Course, row: Row) -> np.ndarray:
    """The (seeds, evaluations) of positive learning rates at the best one; the first update's where none was yet."""
    values = _at_best(course.measured.learning_rate, row).copy()
    values[:, 0] = values[:, 1]
    return np.where(values > 0, values, np.nan)


def _panels(courses: Sequence[Course], summary: Summary, draw: Draw, name: str, x_label: str, y_label: str) -> str:
    """A grid of panels, best contestant first; `draw` makes the gray curves behind and then the one in front."""
    pairs = _pairs(courses, summary)
    colors = {course.name: COLORS[index % len(COLORS)] for index, course in enumerate(courses)}
    lines = -(-len(pairs) // COLUMNS)
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 0.5 + 2.15 * lines), layout="constrained")
        for index, (course, row) in enumerate(pairs):
            axes = figure.add_subplot(lines, min(COLUMNS, len(pairs)), index + 1)
            for other, other_row in pairs:
                if other is not course:
                    draw(axes, other, other_row, GRAY, False)
            draw(axes, course, row, colors[course.name], True)
            axes.set_title(course.name, loc="left", color=colors[course.name], fontweight="bold", fontsize=10)
            axes.minorticks_off()
        figure.supxlabel(x_label, fontsize=9, color=INK)
        figure.supylabel(y_label, fontsize=9, color=INK)
        return _svg(figure, name)


def _pairs(courses: Sequence[Course], summary: Summary) -> list[tuple[Course, Row]]:
    by_name = {course.name: course for course in courses}
    return [(by_name[row.name], row) for row in summary.rows]


def _at_best(values: np.ndarray, row: Row) -> np.ndarray:
    """The (seeds, evaluations) of the best learning rate, NaN where infinite."""
    chosen = values[row.best]
    return np.where(np.isfinite(chosen), chosen, np.nan)


def _curve(axes: Axes, steps: np.ndarray, values: np.ndarray, color: str, front: bool, name: str) -> None:
    """Mean over seeds, with the range from the lowest to the highest seed around it if in front."""
    _line(axes, steps, values.mean(0), color, front, name)
    if front:
        axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.18, lw=0, zorder=2)
        axes.set_xlim(0, steps[-1])


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, color: str, front: bool, name: str) -> None:
    (line,) = axes.plot(x, y, color=color if front else GRAY, lw=2 if front else 1, zorder=3 if front else 1)
    if front:
        line.set_gid(name)


def _label(axes: Axes, x: np.ndarray, y: np.ndarray, text: str, color: str) -> None:
    """A name written above a curve, a little before its end."""
    axes.annotate(
        text,
        (x[-1], y[3 * len(y) // 4]),
        xytext=(-2, 7),
        textcoords="offset points",
        color=color,
        fontsize=8,
        ha="right",
    )


def _smallest(values: Sequence[np.ndarray]) -> float:
    """The smallest finite loss that the axes show."""
    every = np.concatenate([np.ravel(value) for value in values])
    return max(float(np.min(every[np.isfinite(every)], initial=np.inf)), LOWEST_LOSS)


def _loss_axis(axes: Axes, floor: float, ceiling: float) -> None:
    """A logarithmic axis with a label at each power of ten, or at 1, 2 and 5 times one where there are few of these."""
    low = min(floor / 1.25, ceiling / 10)
    leading = (1,) if ceiling / low > 300 else (1, 2, 5)
    axes.set_yscale("log")
    axes.set_ylim(low, ceiling)
    axes.yaxis.set_major_locator(FixedLocator([digit * 10.0**power for power in range(-6, 7) for digit in leading]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _power_of_ten(value: float, position: int | None = None) -> str:
    power = round(math.log10(value))
    return (
        f"{value:g}" if -2 <= power <= 2 else "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    )


def _svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element whose ids begin with `name`, so that several fit into one page."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}):  # ids that do not change from run to run
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'\bd="[^"]*"', _rounded, svg)
    return re.sub(r'(\bid="|href="#|url\(#)(?!(?:loss|accuracy|sensitivity|rate)-)', rf"\g<1>{name}-", svg)


def _rounded(path: re.Match[str]) -> str:
    """A path with its coordinates to a hundredth of a point, which is a third of the page's size."""
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", path[0])
