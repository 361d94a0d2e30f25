"""What the race says about each contestant: numbers a person can compare, with their definitions.

The learning rate of a contestant is chosen by its final validation loss (mean over seeds); the test rows are only
reported at that rate. A run that ends in NaN or infinity has diverged and counts as an infinite loss.

With L₀ the initial validation loss and L* the best final one, "within 5 % of the best" means a validation loss of at
most

    L* + 0.05 (L₀ − L*)

that is, 95 % of the improvement is kept. For the target loss L* is the best of all contestants, for the range of good
learning rates it is the contestant's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .contest import Course

SLACK = 0.05  # share of the improvement that may be missing


@dataclass(frozen=True)
class Row:
    """One contestant in the table. Infinite and NaN values mean that there is none."""

    name: str
    best: int  # index of the best learning rate
    best_rate: float  # that rate; of a contestant that finds its own the median it used; NaN if every run diverged
    found: bool  # whether the contestant finds its own rate
    on_edge: bool  # the best rate is the first or last of the grid: a better one may lie outside
    final_losses: np.ndarray  # (rates,) nats, final validation loss, mean over seeds, infinite if a seed diverged
    diverged: int  # number of learning rates at which at least one seed diverged
    validation_loss: float  # nats, at the best rate
    threshold: float  # nats, the validation loss that is within 5 % of its own best
    accuracy_mean: float  # share of the test rows at the best rate
    accuracy_sd: float  # over seeds, n − 1 in the denominator; NaN for one seed
    steps_to_target: float  # median over seeds at the best rate; infinite if missed
    low: float  # the range of learning rates within 5 % of the best begins here; NaN for a single rate
    high: float  # and ends here
    cut: bool  # the range reaches an end of the grid, so it may be wider
    seconds: float  # to compile and train all rates and seeds
    routed: bool  # adamw had the arrays that the optimizer does not take

    @property
    def width(self) -> float:
        """The range of good learning rates in decades; NaN if there is none."""
        return float(np.log10(self.high / self.low))


@dataclass(frozen=True)
class Summary:
    """The table, best validation loss first, and the loss that `steps_to_target` waits for."""

    rows: tuple[Row, ...]
    target_loss: float  # nats


def summarize(courses: Sequence[Course]) -> Summary:
    """The summary of courses that were run on the same data with the same settings."""
    finals = [final_losses(course) for course in courses]
    initial = float(np.mean(courses[0].measured.validation_loss[..., 0]))
    target = within_slack(initial, min(float(losses.min()) for losses in finals))
    rows = [_row(course, losses, initial, target) for course, losses in zip(courses, finals, strict=True)]
    return Summary(tuple(sorted(rows, key=lambda row: row.validation_loss)), target)


def final_losses(course: Course) -> np.ndarray:
    """The final validation loss of each learning rate, mean over seeds, infinite where a seed diverged."""
    last = course.measured.validation_loss[..., -1]
    return np.where(np.isfinite(last), last, np.inf).mean(axis=1)


def within_slack(initial: float, best: float) -> float:
    """The largest loss that is within 5 % of the best; NaN if everything diverged."""
    return best + SLACK * max(initial - best, 0.0) if np.isfinite(best) else float("nan")


def good_range(rates: np.ndarray, losses: np.ndarray, threshold: float) -> tuple[float, float, bool]:
    """The range of rates around the best one in which the loss stays at or below the threshold.

    The loss is taken to be linear in log₁₀(rate) between the rates of the grid; next to a rate that diverged the range
    ends at the last good one.

    Returns:
        Its two ends, NaN if there are fewer than two rates or all diverged, and whether an end of the grid cuts it off.
    """
    logs, best = np.log10(rates), int(np.argmin(losses))
    if len(rates) < 2 or not np.isfinite(losses[best]):
        return float("nan"), float("nan"), False

    def edge(direction: int) -> tuple[float, bool]:
        here = best
        while 0 <= here + direction < len(rates):
            there = here + direction
            if losses[there] > threshold:
                share = (threshold - losses[here]) / (losses[there] - losses[here])  # 0 if the loss there is infinite
                return float(10 ** (logs[here] + share * (logs[there] - logs[here]))), False
            here = there
        return float(rates[here]), True

    (low, low_cut), (high, high_cut) = edge(-1), edge(+1)
    return low, high, low_cut or high_cut


def _row(course: Course, losses: np.ndarray, initial: float, target: float) -> Row:
    measured, best = course.measured, int(np.argmin(losses))
    accuracies = measured.test_accuracy[best, :, -1]
    threshold = within_slack(initial, float(losses[best]))
    reached = measured.validation_loss[best] <= target
    steps = np.where(reached.any(axis=-1), course.steps[reached.argmax(axis=-1)], np.inf)
    low, high, cut = good_range(course.rates, losses, threshold)
    good = bool(np.isfinite(losses[best]))
    return Row(
        name=course.name,
        best=best,
        best_rate=_rate(course, best) if good else float("nan"),
        found=bool(np.isnan(course.rates[best])),
        on_edge=good and len(losses) > 1 and best in (0, len(losses) - 1),
        final_losses=losses,
        diverged=int(np.sum(~np.isfinite(losses))),
        validation_loss=float(losses[best]),
        threshold=threshold,
        accuracy_mean=float(accuracies.mean()) if good else float("nan"),
        accuracy_sd=float(accuracies.std(ddof=1)) if good and len(accuracies) > 1 else float("nan"),
        steps_to_target=float(np.median(steps)) if good else float("inf"),
        low=low,
        high=high,
        cut=cut,
        seconds=course.compile_seconds + course.run_seconds,
        routed=course.routed,
    )


def _rate(course: Course, best: int) -> float:
    """The rate of the grid, or the median that was used where there is no grid."""
    chosen = float(course.rates[best])
    return chosen if np.isfinite(chosen) else float(np.median(course.measured.learning_rate[best, :, 1:]))
