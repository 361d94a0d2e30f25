"""Reads a classification problem from a CSV or NPZ file or from scikit-learn, and refuses what is not one."""

import csv
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..words import InputError, reading

BUILTIN = ("digits", "breast_cancer", "wine")


@dataclass(frozen=True)
class Examples:
    """Rows of numbers and the class of each, all finite."""

    features: np.ndarray  # (rows, columns) float64
    labels: np.ndarray  # (rows,) of strings or integers
    columns: tuple[str, ...]  # names of the feature columns


def read(source: str, target: str | None) -> Examples:
    """The examples of a built-in data set, a .csv file or an .npz file.

    Args:
        source: one of BUILTIN, or the path of a file.
        target: the CSV column or NPZ array that holds the class; required for CSV, "y" if None for NPZ.
    Raises:
        InputError: no such file or column, text or NaN among the numbers, arrays that do not fit together.
    """
    path = Path(source)
    if source in BUILTIN:
        if target is not None:
            raise InputError(
                f"--target {target}: {source} has a known target; leave --target out, or pass a file to --data."
            )
        return _builtin(source)
    if path.suffix.lower() not in (".csv", ".npz"):
        raise InputError(f"--data {source}: expected one of {', '.join(BUILTIN)}, or a .csv or .npz file.")
    with reading(f"--data {source}", path):
        return _read_npz(path, target) if path.suffix.lower() == ".npz" else _read_csv(path, target)


def _builtin(name: str) -> Examples:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    return Examples(bunch.data, np.asarray(bunch.target_names)[bunch.target], tuple(map(str, bunch.feature_names)))


def _read_csv(path: Path, target: str | None) -> Examples:
    lines, header, cells = _csv_cells(path)
    if target is None:
        raise InputError(
            f"{path}: a CSV file needs --target COLUMN, the column to predict; its columns are {_listed(header)}."
        )
    if target not in header:
        raise InputError(
            f"{path}: there is no column {target!r} to use as --target; its columns are {_listed(header)}."
        )
    labels = [row[header.index(target)].strip() for row in cells]
    for line, label in zip(lines, labels, strict=True):
        if label.lower() in ("", "nan"):
            raise InputError(
                f"{path}: the target column {target!r} is empty in line {line}; fill it in or remove the line."
            )
    columns = tuple(name for name in header if name != target)
    if not columns:
        raise InputError(
            f"{path}: {target!r} is the only column; at least one column of numbers is needed to predict it."
        )
    features = [_numbers(path, name, [row[header.index(name)] for row in cells], lines) for name in columns]
    return Examples(np.stack(features, axis=1), np.array(labels), columns)


def _csv_cells(path: Path) -> tuple[list[int], list[str], list[list[str]]]:
    """Line numbers, header and cells of a CSV file whose separator is a comma, a semicolon or a tab."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            separator = max(",;\t", key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator)
            numbered = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({error}); save it as CSV with UTF-8 encoding.") from error
    if len(numbered) < 2:
        raise InputError(f"{path}: expected a header line and rows of data, found {len(numbered)} lines.")
    (_, header), *rows = numbered
    header = [name.strip() for name in header]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"{path}: the header has more than one column {twice!r}; give every column its own name.")
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(f"{path}: line {line} has {len(row)} cells, but the header has {len(header)}.")
    return [line for line, _ in rows], header, [row for _, row in rows]


def _numbers(path: Path, column: str, texts: list[str], lines: list[int]) -> np.ndarray:
    """One column as float64."""
    for line, text in zip(lines, texts, strict=True):
        place = f"{path}: column {column!r}, line {line}"
        try:
            number = float(text)
        except ValueError as error:
            if not text.strip():
                raise InputError(f"{place}: the cell is empty; fill it in or remove the line.") from error
            raise InputError(
                f"{place}: expected a number, got the text {text.strip()!r}; encode the column as numbers or remove it."
            ) from error
        if not np.isfinite(number):
            raise InputError(f"{place}: expected a finite number, got {text.strip()}; fill it in or remove the line.")
    return np.array(texts, dtype=np.float64)


def _read_npz(path: Path, target: str | None) -> Examples:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, ValueError, EOFError, AttributeError) as error:
        raise InputError(
            f"{path}: not an .npz archive of plain arrays ({error}); "
            "write one with numpy.savez(file, X=features, y=labels)."
        ) from error
    key = target if target is not None else "y"
    if key not in arrays:
        raise InputError(
            f"{path}: there is no array {key!r} with the labels; name one of {_listed(arrays)} with --target."
        )
    others = [name for name in arrays if name != key]
    names = [name for name in ("X", "x") if name in others] or others
    if len(names) != 1 and names[:1] not in (["X"], ["x"]):
        raise InputError(
            f"{path}: expected the features in an array 'X', found {_listed(others)}; rename the array to X."
        )
    return _from_arrays(path, names[0], arrays[names[0]], key, arrays[key])


def _from_arrays(path: Path, name: str, features: np.ndarray, key: str, labels: np.ndarray) -> Examples:
    if features.ndim < 2 or features.shape[0] == 0 or features.dtype.kind not in "buif":
        raise InputError(
            f"{path}: array {name!r} should be numbers of shape (rows, columns), got {features.dtype} {features.shape}."
        )
    if labels.shape != features.shape[:1]:
        raise InputError(
            f"{path}: array {key!r} should be one label for each of the {len(features)} rows of {name!r}, "
            f"got shape {labels.shape}."
        )
    features = features.reshape(len(features), -1).astype(np.float64)
    for what, values in ((name, features), (key, labels.reshape(-1, 1))):
        bad = np.argwhere(~np.isfinite(values)) if values.dtype.kind == "f" else np.empty((0, 2), int)
        if len(bad):
            row, column = bad[0]
            value = values[row, column]
            raise InputError(
                f"{path}: array {what!r} has {value} at row {row}, column {column} (counted from 0); "
                "fill it in or remove the row."
            )
    return Examples(features, labels, tuple(f"{name}[{column}]" for column in range(features.shape[1])))


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    shown = ", ".join(map(repr, names[:20]))
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown or "none"
