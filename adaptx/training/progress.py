"""A bar on the terminal: loss, rate, steps per second, time left; nothing where nobody looks."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class Quiet:
    """No bar."""

    def moved(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """So many steps are done."""

    def finish(self) -> None:
        """The training ended."""


class Bar(Quiet):
    """A bar of rich."""

    def __init__(self, steps: int, begin: int, console: Any):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (MofNCompleteColumn(), BarColumn(), TextColumn("{task.description}"),
                   TextColumn("{task.fields[speed]}"), TimeRemainingColumn())  # fmt: skip
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("", total=steps, completed=begin, speed="")
        self._progress.start()

    def moved(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Show the last of the values."""
        shown = [f"{word} {values[name][-1]:.4g}" for name, word in (("loss", "loss"), ("learning_rate", "rate"))
                 if len(values.get(name, ()))]  # fmt: skip
        speed = self._progress.tasks[self._task].speed
        words = f"{speed:.3g} steps/s" if speed else ""
        self._progress.update(self._task, completed=step, description=" · ".join(shown), speed=words)

    def finish(self) -> None:
        """Leave the bar as it is."""
        self._progress.stop()


def progress_bar(wanted: bool, steps: int, begin: int) -> Quiet:
    """A bar where one is wanted and standard error is a terminal or a notebook."""
    if not wanted:
        return Quiet()
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return Quiet()
    console = Console(stderr=True)
    return Bar(steps, begin, console) if console.is_terminal or console.is_jupyter else Quiet()
