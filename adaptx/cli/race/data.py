"""A data set ready for the race: stratified training, validation and test rows, standardized by the training rows."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..words import InputError
from .readers import Examples, read

SPLIT_SEED = 0
SHARE = 0.2  # of all rows, for validation and for test each
MIN_ROWS = 5  # of each class, so that a fifth of it is at least one row


@dataclass(frozen=True)
class Split:
    """Examples of one part of the data."""

    x: np.ndarray  # (rows, features) float32
    y: np.ndarray  # (rows,) int32, index into classes


@dataclass(frozen=True)
class Dataset:
    """Training rows fit the model, validation rows choose the learning rate, test rows are only reported."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]

    @property
    def features(self) -> int:
        """Number of inputs of the model."""
        return self.train.x.shape[1]


def load(source: str, target: str | None = None) -> Dataset:
    """The data set named by `--data` and `--target`, split 60 : 20 : 20 by class with a fixed seed.

    Each feature is shifted and scaled to mean 0 and standard deviation 1 over the training rows alone; a feature that
    is constant there is only shifted.

    Raises:
        InputError: whatever is wrong with the file, or data with one class or too few rows of one.
    """
    examples = read(source, target)
    name = source if not Path(source).suffix else Path(source).name
    labels = examples.labels
    classes, y = np.unique(labels, return_inverse=True)
    counts = Counter(labels.tolist())
    if len(classes) < 2:
        raise InputError(f"{name}: every row has the class {classes[0]!s}; at least two classes are needed.")
    rarest, rows = min(counts.items(), key=lambda item: item[1])
    if rows < MIN_ROWS:
        raise InputError(
            f"{name}: too few rows, {rows} of class {str(rarest)!r} (there are {len(classes)} classes); each class "
            f"needs {MIN_ROWS} or more, so merge or remove rare ones and check that the target is no measurement."
        )
    return _split(name, examples, y.astype(np.int32), tuple(map(str, classes)))


def _split(name: str, examples: Examples, y: np.ndarray, classes: tuple[str, ...]) -> Dataset:
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    def cut(rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        kept, taken = train_test_split(rows, test_size=size, stratify=y[rows], random_state=SPLIT_SEED)
        return np.asarray(kept), np.asarray(taken)

    size = max(round(SHARE * len(y)), len(classes))
    rest, test = cut(np.arange(len(y)), size)
    train, validation = cut(rest, size)
    with np.errstate(all="ignore"):  # what overflows here is refused below
        x_all = np.asarray(StandardScaler().fit(examples.features[train]).transform(examples.features), np.float32)

    def part(rows: np.ndarray) -> Split:
        x = x_all[rows]
        if not np.all(np.isfinite(x)):
            column = examples.columns[int(np.argwhere(~np.isfinite(x))[0, 1])]
            raise InputError(
                f"{name}: the numbers of column {column!r} are too large to standardize; rescale the column."
            )
        return Split(x, y[rows])

    return Dataset(name, part(train), part(validation), part(test), classes)
