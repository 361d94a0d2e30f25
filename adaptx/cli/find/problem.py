"""What `adaptx find-lr` trains: the race's model on a data set, or a function's own."""

from collections.abc import Callable
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from ..functions import current_folder_importable, imported
from ..race import data, problem
from ..words import InputError, cause

EXPECTED = "a function without arguments that returns (loss_fn, params, data), as adaptx.find_lr takes them"
BATCH = 64  # rows, of a data set


class Problem(NamedTuple):
    """Something to train."""

    name: str
    loss_fn: Callable[..., PyTree]
    params: PyTree
    data: PyTree
    batch_size: int | None


def load(source: str, target: str | None, batch_size: int | None, hidden: int) -> Problem:
    """The problem of a name.

    Args:
        source: a data set of `adaptx race`, or "module:function".
        target: the column of the class, of a file.
        batch_size: rows of a minibatch; None for 64, or what a function's data are made for.
        hidden: units of the perceptron, of a data set.

    Raises:
        InputError: no such data set or function, or one that gives something else.
    """
    if ":" in source:
        if target is not None:
            raise InputError(f"--target {target}: {source} brings its own data; leave --target out.")
        return Problem(source, *_called(source), batch_size)
    found = data.load(source, target)
    rows = found.train.y.shape[0]
    if batch_size is not None and batch_size > rows:
        raise InputError(f"--batch-size {batch_size}: there are only {rows} training rows; choose a smaller batch.")
    params = problem.init(jax.random.key(0), found.features, hidden, len(found.classes))
    return Problem(found.name, problem.loss, params, (found.train.x, found.train.y), min(batch_size or BATCH, rows))


def _called(source: str) -> tuple[Callable[..., PyTree], PyTree, PyTree]:
    name, _, path = source.partition(":")
    if not name or not path:
        raise InputError(f"{source}: expected module:function, as training:problem for `problem` in training.py.")
    with current_folder_importable():
        function = imported(source, name, path)
        try:
            found = function()
        except Exception as error:
            raise InputError(f"{source} raised {cause(error)}; expected {EXPECTED}.") from error
    if not isinstance(found, tuple) or len(found) != 3:
        came = f"{len(found)} things" if isinstance(found, tuple) else type(found).__name__
        raise InputError(f"{source} returned {came}; expected {EXPECTED}.")
    return found
