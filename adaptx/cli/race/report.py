"""The report folder: results.json for programs, report.html for people. Both are complete or not there at all."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import jinja2
import numpy as np

import adaptx

from ...training.files import replacing
from ..words import InputError
from . import figures
from .contest import Course, Settings
from .data import Dataset
from .sentences import COLUMNS, cells, notes, verdict
from .summary import Summary

SCHEMA = 2  # of results.json; raised when a key changes its meaning or goes
CAPTIONS = (
    (
        "Loss",
        figures.loss_curves,
        "Solid: validation loss, the range over seeds shaded. Dashed: training loss. Each at the optimizer's best "
        "learning rate; gray: the validation loss of the others.",
    ),
    (
        "Accuracy",
        figures.accuracy_curves,
        "Share of the held-out test rows that are classified rightly, at the best learning rate; the range over seeds "
        "shaded.",
    ),
    (
        "Sensitivity to the learning rate",
        figures.sensitivity_curves,
        "Final validation loss over the grid of learning rates, mean over seeds. Circle: the best. Shaded: the range "
        "within 5 % of it. Crosses: diverged.",
    ),
)
RATES = (
    "Learning rate",
    figures.rate_curves,
    "The learning rate that was used: median over seeds, their range shaded; with a grid, from its best initial rate. "
    "Under different rules one rate means steps of different length: compare the course, not the size.",
)


def check_folder(folder: Path) -> None:
    """Refuses, before hours of training, a folder that cannot be written to.

    Raises:
        InputError: the path or one above it is a file, or writing is not permitted.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"--output {folder}: {there} is a file; name a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"--output {folder}: no permission to write to {there}; name another folder.")


def write(folder: Path, dataset: Dataset, settings: Settings, courses: Sequence[Course], summary: Summary) -> Path:
    """Writes results.json and report.html into the folder and returns the path of the latter.

    Raises:
        InputError: the folder cannot be written to.
    """
    results = json.dumps(as_results(dataset, settings, courses, summary), separators=(",", ":"), allow_nan=False)
    page = as_html(dataset, settings, courses, summary)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("results.json", results + "\n"), ("report.html", page)):
            with replacing(folder / name) as file:
                file.write(text)
    except OSError as error:
        raise InputError(f"--output {folder}: the report cannot be written ({error.strerror or error}).") from error
    return folder / "report.html"


def as_results(dataset: Dataset, settings: Settings, courses: Sequence[Course], summary: Summary) -> dict[str, object]:
    """Everything measured, as JSON values of six digits; NaN (undefined) and infinity (never, diverged) become null."""
    rows = {row.name: row for row in summary.rows}
    parts = {name: len(getattr(dataset, name).y) for name in ("train", "validation", "test")}
    contestants = [
        {
            "name": course.name,
            "summary": {**asdict(rows[course.name]), "width": rows[course.name].width},
            "rates": course.rates,
            "steps": course.steps,
            "compile_seconds": course.compile_seconds,
            "run_seconds": course.run_seconds,
            **course.measured._asdict(),
        }
        for course in courses
    ]
    results = {
        "schema": SCHEMA,
        "versions": {"adaptx": adaptx.__version__, **{name: version(name) for name in ("jax", "optax", "numpy")}},
        "data": {"name": dataset.name, "features": dataset.features, "classes": dataset.classes, "rows": parts},
        "settings": asdict(settings),
        "target_loss": summary.target_loss,
        "verdict": verdict(summary),
        "ranking": [row.name for row in summary.rows],
        "contestants": contestants,
    }
    return {name: _plain(value) for name, value in results.items()}


def as_html(dataset: Dataset, settings: Settings, courses: Sequence[Course], summary: Summary) -> str:
    """The page, with its figures inside it."""
    parts = (dataset.train, dataset.validation, dataset.test)
    low, high, count = settings.grid
    unit = " times each optimizer's default" if settings.relative else ""
    facts = [
        ("data", f"{dataset.name}: {dataset.features} features, {len(dataset.classes)} classes"),
        ("rows", " / ".join(str(len(part.y)) for part in parts) + " for training / validation / test"),
        ("model", f"{dataset.features}–{settings.hidden}–{len(dataset.classes)}, ReLU, cross entropy"),
        ("training", f"{settings.steps} steps of {settings.batch_size} rows"),
        ("learning rates", f"{count} from {low:g} to {high:g}{unit}, evenly spaced in the logarithm"),
        ("seeds", f"{settings.seeds}, each with its own initial weights and batches, the same for every optimizer"),
        ("versions", f"adaptx {adaptx.__version__}, jax {version('jax')}"),
    ]
    captions = (*CAPTIONS, RATES) if any(_moves(course) for course in courses) else CAPTIONS
    environment = jinja2.Environment(loader=jinja2.PackageLoader("adaptx.cli.race"), autoescape=True, trim_blocks=True)
    return environment.get_template("report.html.j2").render(
        data=dataset,
        settings={"rates": count, "seeds": settings.seeds, "steps": settings.steps},
        verdict=verdict(summary),
        columns=COLUMNS,
        table=[cells(row) for row in summary.rows],
        notes=notes(summary),
        figures=[{"title": t, "caption": c, "svg": draw(courses, summary)} for t, draw, c in captions],
        facts=facts,
    )


def _moves(course: Course) -> bool:
    """Whether the learning rate changes during training."""
    used = course.measured.learning_rate[..., 1:]
    return bool(np.any(np.isfinite(used) & (used != used[..., :1])))


def _plain(value: object) -> object:
    """JSON values for nested dicts, tuples, arrays and numbers."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
