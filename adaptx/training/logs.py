"""Where a training writes what it measures: JSON lines, or anything with two methods."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import PyTree

from .files import replacing


@runtime_checkable
class Log(Protocol):
    """What `fit` writes to; a run of Weights & Biases is one as it is.

    For TensorBoard, with the writer of any library:

        class TensorBoard:
            def __init__(self, writer): self.writer = writer
            def log(self, values, step): [self.writer.add_scalar(name, x, step) for name, x in values.items()]
            def finish(self): self.writer.close()
    """

    def log(self, values: dict[str, float], step: int) -> object:
        """Numbers by name, measured after so many steps; steps never decrease."""
        ...

    def finish(self) -> object:
        """Called once, however the training ends."""
        ...


class JsonLines:
    """A file with one JSON object a line: {"step": 0, "loss": 2.3, "learning_rate": 0.001}; null is not finite.

    Every line is flushed, so that a run that is killed leaves what it wrote. A training that goes on from a checkpoint
    takes out what was written after that, and appends; any other begins the file anew.
    """

    def __init__(self, path: str | os.PathLike, begin: int = 0):
        self.path = Path(path)
        if self.path.is_dir():
            raise IsADirectoryError(
                f"log={str(path)!r} is a directory, expected a file for JSON lines; name one in it."
            )
        self._begin, self._file = begin, None

    def _opened(self) -> IO[str]:
        """The file, which is touched no sooner than there is something to write."""
        if self._file is None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                kept = self._before(self._begin) if self._begin and self.path.exists() else []
                with replacing(self.path) as file:
                    file.writelines(kept)
                self._file = self.path.open("a", encoding="utf-8")
            except OSError as error:
                raise OSError(f"log={str(self.path)!r} cannot be written ({error}); name another path.") from error
        return self._file

    def _before(self, step: int) -> list[str]:
        """The whole lines that were written before so many steps were saved."""
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
            try:
                row = json.loads(line)
                saved = row["step"] < step + ("loss" not in row)  # an evaluation precedes what is saved with it
            except (ValueError, KeyError, TypeError):
                break  # cut off by a kill
            kept += [line] if saved else []
        return kept

    def log(self, values: dict[str, float], step: int) -> None:
        """Append a line."""
        file = self._opened()
        file.write(json.dumps({"step": step, **{k: x if math.isfinite(x) else None for k, x in values.items()}}) + "\n")
        file.flush()

    def finish(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class Logs:
    """Several at once."""

    def __init__(self, logs: Sequence[Log], every: int):
        self._logs, self._every = logs, every

    def steps(self, step: int, values: Mapping[str, np.ndarray], last: int) -> None:
        """What was measured at steps step, step + 1, …; of those, every so many, and the last of the training."""
        count = len(next(iter(values.values()), ()))
        for i in range(count if self._logs else 0):
            if (step + i) % self._every == 0 or step + i == last:
                self.once(step + i, {name: float(x[i]) for name, x in values.items()})

    def once(self, step: int, values: dict[str, float]) -> None:
        """What was measured after so many steps."""
        for log in self._logs:
            log.log(values, step=step)

    def finish(self) -> None:
        """The training ended."""
        for log in self._logs:
            log.finish()


def as_logs(log: PyTree, every: int, begin: int) -> Logs:
    """What a user gave as log=: a path, something with `log` and `finish`, or several of these."""
    given = log if isinstance(log, (list, tuple)) else [] if log is None else [log]
    made = []
    for one in given:
        if isinstance(one, (str, os.PathLike)):
            made.append(JsonLines(one, begin))
        elif isinstance(one, Log) and not isinstance(one, type):
            made.append(one)
        else:
            raise TypeError(
                f"log must be a path for JSON lines, something with log(values, step=) and finish(), or several of "
                f"these, got {type(one).__name__}; see adaptx.training.logs.Log."
            )
    return Logs(made, every)
