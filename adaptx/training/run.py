"""A training while it runs: stretches of steps, and what happens between them."""

import contextlib
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..engine.tree import Frozen
from ..wrappers import eval_params, horizons
from .checkpoints import Checkpoints, Keeper, Saved
from .history import Recorder
from .interrupts import Interrupts
from .logs import as_logs
from .loop import Stretch, stacked, stretch
from .named import named_arrays, put_back
from .one import FINE, Given, Structure
from .outcome import Fitted, measured, non_finite
from .progress import Quiet, progress_bar
from .restored import newest, refuse_other_facts, warn_of_another
from .sources import Batch, Source
from .trees import join, unshared

AHEAD = 2**24  # bytes of the minibatches in one dispatch, few beside parameters of any size
MOST = 64  # and their number: what a dispatch costs is then spread over so many steps
LONG = 0.1  # seconds that a dispatch should take: Ctrl-C and the bar wait no longer


@dataclass(frozen=True)
class Wanted:
    """What a user asked for around the steps."""

    steps: int
    eval_fn: Callable[[PyTree], PyTree] | None
    eval_every: int
    progress: bool
    log: PyTree
    log_every: int
    checkpoint: Checkpoints | None
    seed: int
    optimizer: str  # in words, "" where it has none


class Program(NamedTuple):
    """What is compiled, and its arguments that never change."""

    structure: Structure
    given: Given
    rest: Frozen
    guarded: bool


class Run:
    """A training at some step."""

    def __init__(self, wanted: Wanted, program: Program, source: Source, arrays: list[PyTree], state: PyTree):
        self.wanted, self.program, self.source = wanted, program, source
        self.arrays, self.state = arrays, unshared(state)
        self.done = self.fetched = 0  # steps taken, and minibatches, of which some wait in `queue`
        self.recorder = Recorder()
        self.queue: list[Batch] = []
        self.ended = False  # the source has no more
        self.rows = self.pace = 0  # of a dispatch: how many it has room for, and how many it takes
        self.keeper = self.resumed() if wanted.checkpoint else None
        self.logs = as_logs(wanted.log, wanted.log_every, self.done)
        self.bar = Quiet()

    @property
    def params(self) -> PyTree:
        """The parameters as they are."""
        return join(self.arrays, self.program.rest)

    @property
    def facts(self) -> dict[str, Any]:
        """What a training that goes on must share with this one."""
        return {"seed": self.wanted.seed, **self.source.facts}

    def resumed(self) -> Keeper:
        """Go on where a checkpoint was written, if there is one; returns what writes the next ones.

        Raises:
            ValueError: where it is of another training.
        """
        where = self.wanted.checkpoint
        assert where is not None
        saved = newest(where, named_arrays(self.params, self.state))
        if saved is not None:
            refuse_other_facts(where, saved, self.facts)
            warn_of_another(where, saved, self.wanted.optimizer)
            if saved.step > self.wanted.steps:
                warnings.warn(f"checkpoint {saved.step} of {where.folder} is beyond steps={self.wanted.steps}; it is "
                              "returned as it is.", stacklevel=5)  # fmt: skip
            self.arrays, self.state = put_back(saved.arrays, self.params, self.state)
            self.done = self.fetched = saved.step
            self.recorder = Recorder(saved.history)
            self.source.seek(saved.step, saved.position)
        return Keeper(where)

    def save(self) -> None:
        """Begin to write a checkpoint."""
        if self.keeper is not None:
            position = self.source.position(self.fetched - self.done)
            arrays = named_arrays(self.params, self.state)
            facts = {**self.facts, "optimizer": self.wanted.optimizer}
            self.keeper.save(Saved(self.done, arrays, self.recorder.history(), position, facts))

    def go(self) -> Fitted:
        """Train to the end, or as far as it goes."""
        self.bar = progress_bar(self.wanted.progress, self.wanted.steps, self.done)
        try:
            with Interrupts() as interrupts:
                while self.done < self.wanted.steps and (self.queue or not (self.ended or interrupts.came)):
                    self.advance(interrupts)
                self.save()
            why = "interrupted" if interrupts.came else "data ended" if self.ended else ""
            if self.ended and not self.done:
                raise ValueError("data ended before the first step; pass at least one minibatch.")
            if self.ended and self.done < self.wanted.steps:
                warnings.warn(f"data ended after {self.done} of {self.wanted.steps} steps.", stacklevel=3)
            return self.fitted(why if self.done < self.wanted.steps else "")
        except Exception:
            with contextlib.suppress(Exception):  # what went wrong first is what is raised
                self.save()
            raise
        finally:
            self.bar.finish()
            self.logs.finish()
            if self.keeper is not None:
                self.keeper.close()

    def fitted(self, why: str = "") -> Fitted:
        """The training as it is, and why it ended here."""
        return Fitted(self.params, self.state, self.recorder.history(why))

    def until(self) -> int:
        """The next step before which something else is due."""
        every = [self.wanted.eval_every] if self.wanted.eval_fn is not None else []
        every += [self.wanted.checkpoint.every] if self.wanted.checkpoint is not None else []
        return min([self.wanted.steps, *((self.done // each + 1) * each for each in every)])

    def fill(self, count: int) -> None:
        """Take minibatches until there are so many; fewer where the source ends."""
        while len(self.queue) < count and not self.ended:
            batch = self.source.batch(self.fetched)
            self.ended = batch is None
            self.queue += [] if batch is None else [batch]
            self.fetched += batch is not None

    def advance(self, interrupts: Interrupts) -> None:
        """One dispatch, and what is due after it."""
        until = self.until()
        self.fill(len(self.queue) if interrupts.came else min(max(self.pace, 1), until - self.done))
        if not self.queue:
            return
        if not self.rows:
            size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(self.queue[0]))
            self.rows, self.pace = max(1, min(MOST, AHEAD // max(size, 1))), 1
        alike = kind(self.queue[0])
        count = next((i for i, batch in enumerate(self.queue) if kind(batch) != alike), len(self.queue))
        count = min(count, until - self.done, self.rows)
        batches, self.queue = self.queue[:count], self.queue[count:]
        now = self.dispatched(batches, until if not interrupts.came else 0)
        taken, bad = int(now.taken), int(now.bad)
        outs = {name: np.asarray(now.out[name]) for name in sorted(now.out, key=lambda name: name != "loss")}
        self.recorded(taken, {name: x[:taken] for name, x in outs.items()})
        if bad != FINE:
            raise non_finite(bad, float(outs["loss"][taken]), self.fitted("not finite"), self.done)
        if self.done == until:
            self.between()

    def dispatched(self, batches: list[Batch], until: int) -> Stretch:
        """Steps on some minibatches; the next ones, up to a step, are taken while the device is at it."""
        began, (structure, given, rest, guarded) = time.perf_counter(), self.program
        count = len(batches)
        given = given._replace(step=jnp.int32(self.done))
        now = stretch(structure, rest, guarded, given, self.arrays, self.state, stacked(batches, self.rows),
                      jnp.int32(count))  # fmt: skip
        self.arrays, self.state = now.arrays, now.state
        self.fill(min(self.pace, until - self.done - count))
        jax.block_until_ready(now.taken)
        self.pace = paced(self.pace, count, time.perf_counter() - began, self.rows)
        return now

    def recorded(self, taken: int, values: Mapping[str, np.ndarray]) -> None:
        """Count, write and show what some steps measured."""
        first, self.done = self.done, self.done + taken  # and then what may fail, a log
        self.recorder.add(first, values)
        self.logs.steps(first, values, self.wanted.steps - 1)
        self.bar.moved(self.done, values)

    def between(self) -> None:
        """What is due after so many steps; a checkpoint comes last, and holds what the others found."""
        last, wanted = self.done == self.wanted.steps, self.wanted
        if wanted.eval_fn is not None and (last or self.done % wanted.eval_every == 0):
            self.evaluate(wanted.eval_fn)
        if wanted.checkpoint is not None and (last or self.done % wanted.checkpoint.every == 0):
            self.save()

    def evaluate(self, eval_fn: Callable[[PyTree], PyTree]) -> None:
        """What eval_fn says of the parameters."""
        opt = self.program.structure.opt or self.program.given.opt
        values: dict[str, float] = {}
        for horizon in horizons(self.state) or (None,):
            found = eval_fn(eval_params(opt, self.state, self.params, horizon))
            values |= measured(found, "eval" if horizon is None else f"eval/{horizon}")
        self.recorder.add(self.done, {name: np.asarray(x) for name, x in values.items()})
        self.logs.once(self.done, values)


def kind(batch: Batch) -> Any:
    """What batches must share to be stacked."""
    leaves, treedef = jax.tree.flatten(batch)
    return treedef, [(np.shape(x), getattr(x, "dtype", type(x))) for x in leaves]


def paced(pace: int, count: int, seconds: float, rows: int) -> int:
    """How many steps to dispatch next, so that one takes about LONG; at most twice as many as now."""
    wished = round(LONG * count / max(seconds, 1e-9))
    return max(1, min(wished, 2 * pace, rows))
