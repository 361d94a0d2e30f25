"""The command `adaptx find-lr`: a range test, its suggestion, its picture."""

import json
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from rich.console import Console
from typer import Argument, Option

import adaptx
from adaptx import optimizers
from adaptx.engine.transformation import Transformation
from adaptx.training.files import replacing
from adaptx.training.finder import LEAST_STEPS

from ..plan.options import Changes
from ..plan.recipe import optimizer
from ..race.readers import BUILTIN
from ..words import InputError, cause, console, rate, say
from . import problem

Source = Annotated[
    str, Argument(metavar="DATA", help=f"{', '.join(BUILTIN)}, a .csv or .npz file, or module:function that returns "
                  "(loss_fn, params, data).")
]  # fmt: skip
Target = Annotated[str | None, Option(metavar="COLUMN", help="The column (CSV) or array (NPZ) with the class.")]
Name = Annotated[str, Option("--optimizer", metavar="NAME", help=f"One of {', '.join(optimizers.ALL)}.")]
Low = Annotated[float, Option(help="The first rate; where rates are several, the first factor on them.")]
High = Annotated[float, Option(help="The last.")]
Steps = Annotated[int, Option(help="Of the test, at least 20.")]
BatchSize = Annotated[int | None, Option(help=f"Rows of each update [{problem.BATCH} of a data set].")]
Hidden = Annotated[int, Option(help="Hidden units of the model, of a data set.")]
Seed = Annotated[int, Option(help="Of the order of rows.")]
Plot = Annotated[Path | None, Option(metavar="FILE", help="Also draw the losses: .png, .svg or .pdf.")]
Output = Annotated[Path | None, Option("--json", metavar="FILE", help="Also write rates and losses.")]


def command(
    source: Source = "digits",
    target: Target = None,
    name: Name = "adam",
    changes: Changes = None,
    low: Low = 1e-7,
    high: High = 10.0,
    steps: Steps = 160,
    batch_size: BatchSize = None,
    hidden: Hidden = 32,
    seed: Seed = 0,
    plot: Plot = None,
    output: Output = None,
) -> None:
    """Which learning rate to begin with?

    Trains for some steps while the rate rises, and suggests a sixth of that at which the loss was smallest.
    """
    for option, number in (("batch-size", batch_size), ("hidden", hidden)):
        if number is not None and number < 1:
            raise InputError(f"--{option} {number}: expected a number of at least 1.")
    if steps < LEAST_STEPS:
        raise InputError(f"--steps {steps}: expected a number of at least {LEAST_STEPS}.")
    opt = checked(name, changes or ())
    one = problem.load(source, target, batch_size, hidden)
    with Console(stderr=True).status(f"{steps} steps"):
        try:
            found = adaptx.find_lr(
                one.loss_fn, opt, one.params, one.data, low=low, high=high, steps=steps, batch_size=one.batch_size,
                seed=seed,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
            raise InputError(f"{one.name}, {name}: {error}") from error
        except Exception as error:  # of a function that is the user's
            raise InputError(f"{one.name}, {name}: {cause(error)}; look at loss_fn.") from error
    _shown(one.name, name, changes or (), found)
    _written(found, plot, output)
    if plot is not None:
        say(console(), f"Picture: {plot}")


def checked(name: str, changes: Sequence[str]) -> Transformation:
    """The optimizer of a name whose rate can be looked for.

    Raises:
        InputError: for changes of the rate, and for an optimizer that asks for more than a loss gives.
    """
    for text in changes:
        if text.partition("=")[0].strip() == "learning_rate":
            raise InputError(f"--set {text}: the learning rate is what is looked for, between --low and --high.")
    opt = optimizer(name, changes=changes, flags=())
    more = sorted(opt.requires - {"value", "grad_fn"})
    if more:
        raise InputError(f"{name} requires {more[0]}, which a data set has not; use adaptx.find_lr(…, extra=…).")
    return opt


def _written(found: adaptx.RateFound, plot: Path | None, output: Path | None) -> None:
    """Write what was asked for."""
    for path, write in ((plot, found.plot), (output, partial(_write_json, found))):
        if path is None:
            continue
        try:
            write(path)
        except (OSError, ValueError, ModuleNotFoundError) as error:
            raise InputError(f"{path}: cannot be written ({cause(error)}); choose another path.") from error


def _write_json(found: adaptx.RateFound, path: Path) -> None:
    numbers = {key: np.asarray(getattr(found, key)).tolist() for key in ("rates", "losses", "smoothed")}
    suggestion = found.suggestion if math.isfinite(found.suggestion) else None
    text = json.dumps({"suggestion": suggestion, "reason": found.reason, "what": found.what, **numbers}, indent=1)
    with replacing(path) as file:
        file.write(text + "\n")


def _shown(source: str, name: str, changes: Sequence[str], found: adaptx.RateFound) -> None:
    """Print the suggestion, why, and what to write."""
    out = console()
    if math.isfinite(found.suggestion):
        number = f"{float(rate(found.suggestion)):g}"
        say(out, f"{source}, {name}: a {found.what} of {rate(found.suggestion)}", "bold")
        say(out, f"  {found.reason}.")
        call = f"  adaptx.{name}({', '.join([number, *changes])})"
        say(out, call if found.what == "learning rate" else f"  all rates × {number}")
    else:
        say(out, f"{source}, {name}: no suggestion", "bold")
        say(out, f"  {found.reason}.")
