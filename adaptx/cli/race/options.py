"""The options of `adaptx race`, and the settings they make, checked."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated

from typer import Option

from ..words import InputError
from .contest import Settings
from .contestants import CLASSICAL, CONTROLLED, FAMILIES
from .data import Dataset
from .readers import BUILTIN

RACING = [name for name in FAMILIES if name != "curvature"]  # which asks for more than gradients and the loss
# default rates are those of large networks: small ones take larger rates rather than smaller
DEFAULT = Settings(steps=2000, batch_size=64, hidden=32, seeds=10, grid=(1e-2, 1e3, 21), relative=True)
QUICK = Settings(steps=300, batch_size=64, hidden=32, seeds=3, grid=(1e-2, 1e3, 11), relative=True)
EVERYONE = ",".join(CLASSICAL)

Source = Annotated[str, Option("--data", metavar="NAME|FILE", help=f"{', '.join(BUILTIN)}, or a .csv or .npz file.")]
Target = Annotated[
    str | None, Option(metavar="COLUMN", help="The column (CSV) or array (NPZ, default y) with the class.")
]
Names = Annotated[
    str,
    Option(
        metavar="A,B,C",
        help=f"Who races, separated by commas: all, a family ({', '.join(RACING)}), or names, which `adaptx show` "
        "lists; adam+prodigy is adam under a controller.",
    ),
]
Controllers = Annotated[bool, Option("--controllers", help=f"Also {', '.join(CONTROLLED)}: rates that adapt.")]
Steps = Annotated[int | None, Option(help=f"Updates of each run [{DEFAULT.steps}; quick {QUICK.steps}].")]
BatchSize = Annotated[
    int | None, Option(help=f"Rows of each update [{DEFAULT.batch_size}, or all training rows if fewer].")
]
Hidden = Annotated[int | None, Option(help=f"Hidden units of the model [{DEFAULT.hidden}].")]
Seeds = Annotated[int | None, Option(help=f"Runs of each learning rate [{DEFAULT.seeds}; quick {QUICK.seeds}].")]
Grid = Annotated[
    str | None,
    Option(
        metavar="LOW:HIGH:N",
        help="Learning rates, evenly spaced in the logarithm [1e-2:1e3:N times each optimizer's default].",
    ),
]
Output = Annotated[Path, Option(metavar="FOLDER", help="Where the report goes.")]
Quick = Annotated[bool, Option("--quick", help="A small race: about a minute on two idle cores.")]


def settings(
    dataset: Dataset,
    quick: bool,
    *,
    steps: int | None = None,
    batch_size: int | None = None,
    hidden: int | None = None,
    seeds: int | None = None,
    grid: str | None = None,
) -> Settings:
    """The preset with what the user gave in its place.

    Raises:
        InputError: a number that is not positive, more rows in a batch than there are, or a grid that is none.
    """
    preset, rows = QUICK if quick else DEFAULT, len(dataset.train.y)
    given = {"steps": steps, "batch_size": batch_size, "hidden": hidden, "seeds": seeds}
    for name, number in given.items():
        if number is not None and number < 1:
            raise InputError(f"--{name.replace('_', '-')} {number}: expected a number of at least 1.")
    if batch_size is not None and batch_size > rows:
        raise InputError(f"--batch-size {batch_size}: there are only {rows} training rows; choose a smaller batch.")
    given["batch_size"] = batch_size if batch_size is not None else min(preset.batch_size, rows)
    changes = {name: number for name, number in given.items() if number is not None}
    if grid is not None:
        preset = dataclasses.replace(preset, grid=parse_grid(grid), relative=False)
    return dataclasses.replace(preset, **changes)


def parse_grid(text: str) -> tuple[float, float, int]:
    """LOW:HIGH:N, N ≥ 2 learning rates from LOW > 0 to HIGH > LOW.

    Raises:
        InputError: anything else.
    """
    try:
        low, high, count = text.split(":")
        grid = float(low), float(high), int(count)
    except ValueError as error:
        raise InputError(
            f"--grid {text}: expected LOW:HIGH:N with two numbers and a whole number, as 1e-4:1:9."
        ) from error
    if not (0 < grid[0] < grid[1] < math.inf):
        raise InputError(f"--grid {text}: expected 0 < LOW < HIGH, got {grid[0]:g} and {grid[1]:g}.")
    if grid[2] < 2:
        raise InputError(f"--grid {text}: expected N of at least 2 learning rates, got {grid[2]}.")
    return grid
