"""The numbers of a summary as words, the same on the terminal and in the report."""

import math

from ..words import loss, rate
from .summary import SLACK, Row, Summary

COLUMNS = ("optimizer", "best rate", "val. loss", "test acc., %", "steps", "width", "seconds")


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table, in the order of COLUMNS."""
    return (
        row.name + ("‡" if row.routed else ""),
        rate(row.best_rate) + ("*" if row.on_edge else "†" if row.found else ""),
        loss(row.validation_loss) if math.isfinite(row.validation_loss) else "diverged",
        accuracy(row),
        f"{row.steps_to_target:.0f}" if math.isfinite(row.steps_to_target) else "–",
        f"{'≥ ' if row.cut else ''}{row.width:.1f}" if math.isfinite(row.width) else "–",
        f"{row.seconds:.1f}",
    )


def accuracy(row: Row) -> str:
    """Mean ± standard deviation over seeds, in percent."""
    if not math.isfinite(row.accuracy_mean):
        return "–"
    spread = f" ± {100 * row.accuracy_sd:.1f}" if math.isfinite(row.accuracy_sd) else ""
    return f"{100 * row.accuracy_mean:.1f}{spread}"


def verdict(summary: Summary) -> str:
    """The answer in one or two sentences."""
    best = summary.rows[0]
    if not math.isfinite(best.validation_loss):
        return "Every run diverged: lower the learning rates of --grid."
    at = "with the learning rate it found itself" if best.found else f"at a learning rate of {rate(best.best_rate)}"
    sentence = f"{best.name} {at} ends with the lowest validation loss"
    sentence += f" ({loss(best.validation_loss)} nats; test accuracy {accuracy(best)} %)."
    widest = max(summary.rows, key=lambda row: -1 if math.isnan(row.width) else row.width)
    if math.isfinite(widest.width):
        bound, name = "at least " if widest.cut else "", "It also" if widest is best else widest.name
        sentence += (
            f" {name} forgives the most: {bound}{widest.width:.1f} decades of learning rates are nearly as good."
        )
    return sentence


def notes(summary: Summary) -> list[str]:
    """The definitions of the columns, and what to be careful about."""
    share = f"{100 * SLACK:.0f} %"
    lines = [
        "Best rate: the rate of the grid (the initial one, if it adapts) with the lowest final validation loss (mean "
        "over seeds).",
        "Test accuracy: mean ± standard deviation over seeds after the last step, at the best rate.",
        f"Steps: to the target, a validation loss of {loss(summary.target_loss)} nats, which keeps "
        f"{100 - 100 * SLACK:.0f} % of the improvement of the best optimizer; median over seeds; – if never.",
        f"Width: decades of learning rate within {share} of the best, that is, which lose at most {share} of the "
        "improvement of the same optimizer at its best rate; ≥ where they reach an end of the grid.",
        "Seconds: to compile and to train all learning rates and seeds of this optimizer.",
    ]
    if any(row.found for row in summary.rows):
        lines.append("† Not chosen: the optimizer finds its own rate; this is the median of what it used.")
    if any(row.routed for row in summary.rows):
        lines.append("‡ Takes matrices alone: adamw has the other arrays, at the same multiple of its default rate.")
    if any(row.on_edge for row in summary.rows):
        lines.append("* The best rate lies on the edge of the grid: a wider --grid may do better.")
    diverged = [f"{row.name} at {row.diverged} of {len(row.final_losses)}" for row in summary.rows if row.diverged]
    if diverged:
        lines.append(f"Diverged learning rates (loss NaN or infinite, counted as infinite): {', '.join(diverged)}.")
    return lines
