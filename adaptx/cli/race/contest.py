"""The contest: every optimizer × a grid of learning rates × several seeds, grid and seeds in one compiled program.

All optimizers see the same initial weights and the same batches (one set per seed), so that differences are theirs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import adaptx
from adaptx.engine.transformation import Transformation

from . import problem
from .contestants import Contestant
from .data import Dataset


@dataclass(frozen=True)
class Settings:
    """How the race is run."""

    steps: int  # > 0, updates of each run
    batch_size: int  # in [1, training rows]
    hidden: int  # > 0, width of the hidden layer
    seeds: int  # > 0, runs of each learning rate
    grid: tuple[float, float, int]  # lowest and highest learning rate (> 0), number of rates, evenly spaced in log
    evaluations: int = 40  # > 0, besides the one before the first step
    relative: bool = False  # whether the rates of the grid are in units of each contestant's default

    @property
    def rates(self) -> np.ndarray:
        """The learning rates of the grid, in its unit."""
        low, high, count = self.grid
        return np.geomspace(low, high, count)

    def rates_of(self, contestant: Contestant) -> np.ndarray:
        """The learning rates of a contestant, NaN for one that is not tuned."""
        unit = contestant.default_rate if self.relative else 1.0
        return unit * self.rates if contestant.tuned else np.array([np.nan])

    @property
    def evaluated(self) -> np.ndarray:
        """The numbers of steps after which the losses are measured, 0 first, evenly spread."""
        return np.unique(np.linspace(0, self.steps, min(self.evaluations, self.steps) + 1).round().astype(int))


class Measured(NamedTuple):
    """What is measured at each evaluation; arrays of shape (rates, seeds, evaluations)."""

    train_loss: np.ndarray  # nats, over all training rows
    validation_loss: np.ndarray  # nats
    test_accuracy: np.ndarray  # share of the test rows, in [0, 1]
    learning_rate: np.ndarray  # the one the last update used; NaN before the first


@dataclass(frozen=True)
class Course:
    """Everything one contestant did."""

    name: str
    rates: np.ndarray  # (rates,), NaN for a contestant that is not tuned
    steps: np.ndarray  # (evaluations,)
    measured: Measured
    compile_seconds: float  # trace and compile
    run_seconds: float  # training and evaluation of all members
    routed: bool = False  # adamw had the arrays that the optimizer does not take


def initial_params(dataset: Dataset, settings: Settings) -> problem.Params:
    """The initial weights of every seed, stacked."""
    keys = jax.vmap(jax.random.key)(jnp.arange(settings.seeds))
    return jax.vmap(lambda key: problem.init(key, dataset.features, settings.hidden, len(dataset.classes)))(keys)


def batches(dataset: Dataset, settings: Settings) -> np.ndarray:
    """Row numbers of every batch, (seeds, steps, batch): the training rows in a new random order every epoch."""
    rows, drawn = len(dataset.train.y), settings.steps * settings.batch_size

    def one_seed(seed: int) -> np.ndarray:
        generator = np.random.default_rng(seed)
        epochs = [generator.permutation(rows) for _ in range(-(-drawn // rows))]
        return np.concatenate(epochs)[:drawn].reshape(settings.steps, settings.batch_size)

    return np.stack([one_seed(seed) for seed in range(settings.seeds)]).astype(np.int32)


def run(
    contestant: Contestant, dataset: Dataset, settings: Settings, tick: Callable[[str], None] = lambda doing: None
) -> Course:
    """Trains one contestant on the whole grid with every seed.

    Args:
        tick: called with what comes next ("compiling", "training") before each piece of work; there are
            len(settings.evaluated) + 1 of them.
    """
    tick("compiling")
    start = time.perf_counter()
    rates = jnp.asarray(settings.rates_of(contestant), jnp.float32)
    data = jax.tree.map(
        jnp.asarray, tuple((part.x, part.y) for part in (dataset.train, dataset.validation, dataset.test))
    )
    rows = jnp.asarray(batches(dataset, settings))
    build = partial(contestant.optimizer, steps=settings.steps)
    members = _over_members(lambda rate, params: (params, build(rate).init(params)), "r", "s")
    carry = jax.jit(members)(rates, initial_params(dataset, settings))
    advance = jax.jit(_over_members(_advance(build), "r", "rs", "s", "", "", ""), donate_argnums=1)
    program = advance.lower(rates, carry, rows, np.int32(0), np.int32(0), data).compile()
    compiled = time.perf_counter()
    seen = []
    for first, last in zip((0, *settings.evaluated), settings.evaluated, strict=False):
        tick("training")
        carry, measured = program(rates, carry, rows, np.int32(first), np.int32(last), data)
        seen.append(jax.tree.map(np.asarray, measured))
    measured = Measured(**{name: np.stack([one[name] for one in seen], axis=-1) for name in Measured._fields})
    measured.learning_rate[..., 0] = np.nan
    return Course(
        contestant.name, np.asarray(rates, np.float64), settings.evaluated, measured,
        compiled - start, time.perf_counter() - compiled, contestant.routed,
    )  # fmt: skip


def _over_members(function: Callable, *axes: str) -> Callable:
    """`function` of one member, for all rates and seeds; each argument says which of the axes "rs" it has, in order."""
    seeds = jax.vmap(function, in_axes=tuple(0 if "s" in names else None for names in axes))
    return jax.vmap(seeds, in_axes=tuple(0 if "r" in names else None for names in axes))


def _advance(build: Callable[..., Transformation]) -> Callable:
    """Trains one member from step `first` to step `last` and evaluates it there, by the names of Measured."""

    def advance(rate, carry, rows, first, last, data):
        optimizer = build(rate)
        (x, y), validation, test = data

        def one_step(t, carry):
            params, state = carry
            value, grads = jax.value_and_grad(problem.loss)(params, x[rows[t]], y[rows[t]])
            return optimizer.step(grads, state, params, value=value)

        params, state = jax.lax.fori_loop(first, last, one_step, carry)
        measured = {
            "train_loss": problem.loss(params, x, y),
            "validation_loss": problem.loss(params, *validation),
            "test_accuracy": problem.accuracy(params, *test),
            "learning_rate": adaptx.read(
                state, "learning_rate", -1
            ),  # a route's last group: adamw, with the rest, comes before it
        }
        return (params, state), measured

    return advance
