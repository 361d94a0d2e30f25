"""Where minibatches come from: arrays, a function of the step, or an iterator."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from ..checks import one_of, whole

Batch = tuple[PyTree, ...]
REMAINDERS = ("drop", "keep", "error")


class Source(ABC):
    """The minibatch of every step, in order."""

    @abstractmethod
    def batch(self, step: int) -> Batch | None:
        """What loss_fn is given after params at a step; None where there is no more. Steps come in order."""

    def seek(self, step: int, position: Any) -> None:
        """Go on at a step, where `position` was saved."""
        del step, position

    def position(self, unused: int) -> Any:
        """What `seek` needs besides the step, as JSON has it, the last so many minibatches not being used."""
        del unused

    @property
    def facts(self) -> dict[str, Any]:
        """What must be the same when a training goes on: what kind of data there is, and more."""
        return {"data": type(self).__name__.lower()}


class Arrays(Source):
    """Rows of arrays, all of them in another order in every epoch; the batch depends on (seed, step) alone."""

    def __init__(self, data: PyTree, batch_size: int | None, seed: int, remainder: str):
        self._data = jax.tree.map(_host, data)
        self._rows = _common_rows(self._data)
        size = self._rows if batch_size is None else whole("batch_size", batch_size, 1)
        if size > self._rows:
            raise ValueError(
                f"batch_size must be at most the {self._rows} rows of data, got {size}; pass a smaller one, or None "
                "for all rows at every step."
            )
        over = self._rows % size
        if over and remainder == "error":
            raise ValueError(
                f"the {self._rows} rows of data are no multiple of batch_size={size}: {over} are left over in every "
                'epoch; pass remainder="drop" (other rows are left out in every epoch) or "keep" (a smaller batch).'
            )
        self._size, self._seed = size, seed
        self._facts = {"rows": self._rows, "batch_size": size, "remainder": remainder}
        self.per_epoch = self._rows // size + (over > 0 and remainder == "keep")
        self._epoch, self._order = -1, np.arange(0)

    def batch(self, step: int) -> Batch:
        """The rows of a step."""
        epoch, i = divmod(step, self.per_epoch)
        if self._size == self._rows:
            return _as_tuple(self._data)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng((self._seed, epoch)).permutation(self._rows)
        rows = self._order[i * self._size : (i + 1) * self._size]
        return _as_tuple(jax.tree.map(lambda x: x[rows], self._data))

    @property
    def facts(self) -> dict[str, Any]:
        """What the order of the rows depends on, besides the seed."""
        return super().facts | self._facts


class Function(Source):
    """A function of the step."""

    def __init__(self, function: Callable[[int], PyTree]):
        self._function = function

    def batch(self, step: int) -> Batch:
        """The function's value."""
        found = self._function(step)
        if found is None:
            raise TypeError(f"data({step}) returned None, expected a minibatch; return arrays, such as (x, y).")
        return _as_tuple(found)


class Iterated(Source):
    """Minibatches one after another; what can be begun anew (a list, a loader) is, at its end.

    A resumed training skips as many as were taken, unless the iterator has get_state() and set_state(state), as those
    of grain have.
    """

    def __init__(self, batches: Iterable[PyTree]):
        self._batches = batches
        self._iterator: Iterator[PyTree] = iter(batches)
        self._again = self._iterator is not batches
        self._taken = 0

    def batch(self, step: int) -> Batch | None:
        """The next one."""
        del step
        found = next(self._iterator, None)
        if found is None and self._again and self._taken:
            self._iterator = iter(self._batches)
            found = next(self._iterator, None)
        self._taken += found is not None
        return None if found is None else _as_tuple(found)

    def position(self, unused: int) -> Any:
        """How many were used, and the iterator's own state where it is of that."""
        own = None if unused else getattr(self._iterator, "get_state", None)
        return {"taken": self._taken - unused, "state": own() if callable(own) else None}

    def seek(self, step: int, position: Any) -> None:
        """Go on where the position was taken."""
        own = getattr(self._iterator, "set_state", None)
        if callable(own) and position["state"] is not None:
            own(position["state"])
            self._taken = position["taken"]
            return
        for _ in range(position["taken"]):
            if self.batch(step) is None:
                raise ValueError(
                    f"data ended after {self._taken} batches, but the saved training had taken {position['taken']}; "
                    "pass the same data from its beginning."
                )


def as_source(data: PyTree, batch_size: int | None, seed: int, remainder: str) -> Source:
    """What a user gave as data=.

    Raises:
        TypeError, ValueError: for what is no data, and for settings that data of this kind does not have.
    """
    one_of("remainder", remainder, REMAINDERS)
    if _is_arrays(data):
        return Arrays(data, batch_size, seed, remainder)
    if isinstance(data, str) or (not callable(data) and not isinstance(data, Iterable)):
        raise TypeError(
            f"data must be arrays, an iterator of minibatches or a function of the step, got {type(data).__name__}; "
            "pass for example (x, y) with rows along the first axes."
        )
    if batch_size is not None or remainder != "drop":
        name = "batch_size" if batch_size is not None else "remainder"
        what = "a function" if callable(data) else "an iterator"
        raise ValueError(f"{name} is for arrays; {what} gives whole minibatches: remove it, or pass arrays.")
    return Function(data) if callable(data) else Iterated(data)


def _is_arrays(data: PyTree) -> bool:
    """Arrays by themselves or in tuples and dicts; a list is one of minibatches."""
    if isinstance(data, (tuple, dict)):
        return bool(data) and all(map(_is_arrays, data.values() if isinstance(data, dict) else data))
    return hasattr(data, "shape") and hasattr(data, "dtype")


def _host(x: PyTree) -> np.ndarray:
    return x if isinstance(x, np.ndarray) else np.asarray(x)


def _common_rows(data: PyTree) -> int:
    shapes = [np.shape(x) for x in jax.tree.leaves(data)]
    rows = {shape[:1] for shape in shapes}
    if len(rows) != 1 or () in rows or (0,) in rows:
        raise ValueError(
            f"the arrays of data must have one number of rows, at least one, along their first axes, got the shapes "
            f"{', '.join(map(str, shapes))}; pass arrays of (rows, …), or an iterator of minibatches."
        )
    return rows.pop()[0]


def _as_tuple(batch: PyTree) -> Batch:
    return batch if isinstance(batch, tuple) else (batch,)
