"""What a training measured, by name."""

import csv
import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import plots
from .files import replacing


class Series(NamedTuple):
    """One measured thing."""

    steps: np.ndarray  # int64, after how many steps each was measured
    values: np.ndarray  # float64


class History(Mapping[str, np.ndarray]):
    """Arrays by name: history["loss"], history["learning_rate"], history["eval/accuracy"], …

    Entry i of what a step measures belongs to step i, counted from 0: the loss at the parameters before it, the rate
    with which it moved them. What eval_fn gives is measured more seldom: `history.steps("eval/accuracy")` says after
    how many steps.
    """

    def __init__(self, series: Mapping[str, Series], stopped: str = ""):
        self._series = dict(series)
        self.stopped = stopped  # why the training ended before its last step; "" where it did not

    def __getitem__(self, name: str) -> np.ndarray:
        return self.series(name).values

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)

    def __repr__(self) -> str:
        why = [f"stopped={self.stopped!r}"] if self.stopped else []
        return f"History({', '.join([f'{name}: {len(x.steps)}' for name, x in self._series.items()] + why)})"

    def series(self, name: str) -> Series:
        """(steps, values) of a name."""
        if name not in self._series:
            raise KeyError(f"no {name!r} in this history, which has {', '.join(self._series) or 'nothing yet'}")
        return self._series[name]

    def steps(self, name: str) -> np.ndarray:
        """After how many steps each value of a name was measured."""
        return self.series(name).steps

    def rows(self) -> list[dict[str, Any]]:
        """One dict for every number of steps at which something was measured: "step" and what was."""
        found: dict[int, dict[str, Any]] = {}
        for name, series in self._series.items():
            for step, value in zip(series.steps.tolist(), series.values.tolist(), strict=True):
                found.setdefault(step, {"step": step})[name] = value
        return [found[step] for step in sorted(found)]

    def to_csv(self, path: str | os.PathLike) -> Path:
        """Write a table with a column for every name, empty where nothing was measured; returns its path.

        The file is whole or not there. Raises OSError where it cannot be written.
        """
        with replacing(path) as file:
            table = csv.DictWriter(file, ["step", *self._series], restval="")
            table.writeheader()
            table.writerows(self.rows())
        return Path(path)

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """Loss, evaluations and rates over the steps: a matplotlib figure, which is also written where a path is given.

        Raises:
            ModuleNotFoundError: where matplotlib is not installed.
        """
        return plots.history(self, path)

    def to_pandas(self) -> Any:
        """The same table as a pandas.DataFrame, by step.

        Raises:
            ModuleNotFoundError: where pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("to_pandas needs pandas: pip install pandas, or take to_csv.") from error
        return pandas.DataFrame(self.rows(), columns=["step", *self._series]).set_index("step")


class Recorder:
    """Gathers a history while a training runs."""

    def __init__(self, history: History | None = None):
        self._parts: dict[str, list[Series]] = {}
        for name in history or ():
            self._parts[name] = [history.series(name)]  # pyright: ignore

    def add(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """What was measured at steps step, step + 1, … (once: numbers without an axis), by name."""
        for name, x in values.items():
            x = np.atleast_1d(np.asarray(x, np.float64))
            self._parts.setdefault(name, []).append(Series(np.arange(step, step + len(x)), x))

    def history(self, stopped: str = "") -> History:
        """All of it."""
        joined = {name: Series(*map(np.concatenate, zip(*parts, strict=True))) for name, parts in self._parts.items()}
        self._parts = {name: [series] for name, series in joined.items()}
        return History(joined, stopped)
