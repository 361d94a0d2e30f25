"""Which learning rate: a short training whose rate rises from far too small until the loss does."""

import dataclasses
import os
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, PyTree

from .. import plots
from ..checks import number, whole
from ..controllers.constant import Constant
from ..engine.optimizer import Optimizer
from ..engine.tree import Frozen
from ..schedule_value import values_at
from ..values import is_scheduled
from ..wrappers.inside import optimizers_in
from .fit import takes_rng
from .loop import stacked
from .micro import MicroBatches
from .one import Given, Structure, one_step
from .refusals import Extra, Loss, check_not_donated
from .run import kind
from .sources import Arrays, as_source
from .step import prepared
from .trees import split

DECAY = 0.8  # of the running mean of losses by which the test is stopped: of some five steps, a quarter of a decade
DIVERGED = 3.0  # the test stops where that mean is above its start by so many times what it had fallen by
WIDTH = 0.25  # decades to either side, of the means whose least is looked for afterwards
BACK = 6.0  # the suggestion is the rate of the least mean over this: benchmarks/find_lr.py says how good it is
HEAD = 10  # the first steps, whose rates do nothing yet: their losses are where it begins, and how they scatter
LEAST_STEPS = 2 * HEAD
LEAST = 0.02  # a loss has fallen where its least mean is below its start by this share of it, and
CHANCE = 0.75  # by this share of the scatter, below which the least of many means lies by chance


@dataclasses.dataclass(frozen=True)
class RateFound:
    """What `find_lr` saw, and what it suggests."""

    suggestion: float  # a learning rate, or a factor on those that the optimizer has: see `what`
    reason: str  # in a sentence
    what: str  # "learning rate" or "factor"
    rates: np.ndarray  # (n,), of every step that was taken until it diverged, n ≤ steps
    losses: np.ndarray  # (n,), at the parameters before it
    smoothed: np.ndarray  # (n,), their means over half a decade, which are looked at

    def plot(self, path: str | os.PathLike | None = None) -> Any:
        """The losses over the rates: a matplotlib figure, which is also written where a path is given."""
        return plots.finder(self, path)

    def __repr__(self) -> str:
        return f"RateFound(suggestion={self.suggestion:.3g}, {self.reason!r}, {len(self.rates)} steps)"


def find_lr(
    loss_fn: Loss,
    opt: optax.GradientTransformation,
    params: PyTree,
    data: PyTree,
    *,
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 160,
    batch_size: int | None = None,
    seed: int = 0,
    accumulate: int | MicroBatches = 1,
    has_aux: bool = False,
    extra: Extra | None = None,
) -> RateFound:
    """A learning rate to begin with, by a range test: a training of `steps` steps whose rate rises from low to high.

        η_t = low (high/low)^(t/(steps − 1)),  stopped where the loss is not finite, or far above where it began

    One compiled loop; params are not touched. The loss falls while the rate is of use, and rises where it is too large;
    the suggestion is a sixth of the rate at which its mean over half a decade is smallest. The rate or the schedule
    that opt has is not used. Of a route, of a wrapper, and of another library's optimizer, whose rates are several or
    hidden, what rises is a factor on all steps (`.what` says which of both): multiply their rates by it, as
    `opt.scaled(factor)` does. Their schedules are held at their largest values, so that no warm-up is part of the test;
    those of other libraries' optimizers cannot be, pass these with constant rates.

    Args:
        loss_fn: as `fit` takes it; rng=key if it has an argument `rng`.
        opt: the optimizer that is to be used.
        params: where it begins.
        data: as `fit` takes them; all minibatches of the test are held at once.
        low: > 0, the first rate, or factor; 1e-7.
        high: > low, the last; 10.
        steps: ≥ 20, of the test, 160; twenty for a decade are enough.
        batch_size: rows of a minibatch, for arrays, None for all; that of the training to come, as the rate depends on
            it.
        seed: ≥ 0, of the order of rows and of what loss_fn draws.
        accumulate: as `fit` takes it.
        has_aux: whether loss_fn returns auxiliary outputs.
        extra: what the optimizer requires besides the loss, as `train_step` takes it.

    Returns:
        What it saw; `.suggestion` is NaN where the loss never fell, and `.reason` says what to do.

    Raises:
        TypeError: for an optimizer with a controller, which finds its rate itself.
        ValueError: for a range that is none.

    Smith, "Cyclical learning rates for training neural networks", 2015, arXiv:1506.01186, section 3.3; a minimum
    divided by a number, in place of a look at the curve, is common practice.
    """
    whole("steps", steps, LEAST_STEPS)
    if not float(number("low", low, 0.0, open_low=True)) < float(number("high", high, 0.0)):
        raise ValueError(f"low must be less than high, got low={low!r} and high={high!r}; pass a wider range.")
    refuse_controllers(opt)
    source = as_source(data, batch_size, whole("seed", seed, 0), "drop")
    whole_batch = isinstance(source, Arrays) and source.per_epoch == 1  # the same rows at every step
    found = [source.batch(t) for t in range(1 if whole_batch else steps)]
    if found[-1] is None:
        raise ValueError(f"data ended before {steps} minibatches were taken; pass fewer steps=, or more of them.")
    structure, given = prepared(loss_fn, opt, has_aux, extra, accumulate, seed if takes_rng(loss_fn) else None, None)
    given = given._replace(opt=held(given.opt))
    arrays, rest = split(params)
    check_not_donated(arrays, None)
    rates = np.geomspace(low, high, steps)
    batches = [batch for batch in found if batch is not None]
    if len({str(kind(batch)) for batch in batches}) > 1:
        raise ValueError("data gave minibatches of several shapes or dtypes, expected one; leave the odd ones out.")
    losses, taken = _swept(structure, rest, given, arrays, opt.init(params), stacked(batches, len(batches)),
                           jnp.asarray(rates, jnp.float32))  # fmt: skip
    count = int(taken)
    what = "learning rate" if isinstance(opt, Optimizer) else "factor"
    return suggested(rates[:count], np.asarray(losses, np.float64)[:count], count < steps, what)


def refuse_controllers(opt: PyTree) -> None:
    """Raise TypeError for an optimizer whose rate a controller finds."""
    for one in optimizers_in(opt):
        if not isinstance(one.controller, Constant) and not one.of_controller:  # lars and lamb have rates
            raise TypeError(
                f"find_lr looks for a constant rate, but that of this optimizer is {one.controller.name}'s, which "
                "finds it while it trains; pass the optimizer with a number, or just train."
            )


def held(opt: PyTree) -> PyTree:
    """The optimizer with every scheduled rate at the largest value of the schedule."""

    def constant(one: PyTree) -> PyTree:
        if not isinstance(one, Optimizer):
            return one
        rate = one.controller.base if one.of_controller else one.learning_rate
        return one.replace(learning_rate=largest(rate)) if is_scheduled(rate) else one

    return jax.tree.map(constant, opt, is_leaf=lambda x: isinstance(x, Optimizer))


def largest(schedule: Any) -> float:
    """The largest value of a schedule: of its first thousand steps, and of a thousand more up to ten million."""
    steps = [*range(1000), *np.geomspace(1000, 1e7, 1000).astype(int)]
    return float(values_at(schedule.schedule, np.array(steps)).max())


def at_rate(given: Given, rate: Array) -> Given:
    """The same with a rate; of what is no single optimizer, a factor."""
    opt = given.opt
    if opt is None:
        return given._replace(factor=rate)
    made = opt.replace(learning_rate=rate) if isinstance(opt, Optimizer) else opt.scaled(rate)
    return given._replace(opt=made)


class Sweep(NamedTuple):
    """A range test at some step."""

    arrays: list[PyTree]
    state: PyTree
    losses: Array
    taken: Array
    mean: Array  # of the losses, decaying, not corrected for its start
    least: Array
    over: Array  # whether it has diverged


@partial(jax.jit, static_argnums=(0, 1))
def _swept(
    structure: Structure, rest: Frozen, given: Given, arrays: list[PyTree], state: PyTree, batches: PyTree, rates: Array
) -> tuple[Array, Array]:
    """(losses, how many steps were taken)."""

    def body(now: Sweep) -> Sweep:
        i = now.taken
        batch = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, i % len(x), keepdims=False), batches)
        at = at_rate(given, rates[i])._replace(step=i)
        arrays, state, out = one_step(structure, rest, at, (now.arrays, now.state), batch)
        loss = out["loss"]
        mean = DECAY * now.mean + (1 - DECAY) * loss
        watched = mean / (1 - DECAY ** (i + 1.0))
        losses = now.losses.at[i].set(loss)
        first, spread = jnp.mean(losses[:HEAD]), jnp.std(losses[:HEAD])
        least = jnp.minimum(now.least, jnp.where(i >= HEAD, watched, first))
        far = DIVERGED * jnp.maximum(first - least, jnp.maximum(0.1 * jnp.abs(first), spread))
        over = ~jnp.isfinite(loss) | ((i >= HEAD) & (watched > first + far))
        return Sweep(arrays, state, losses, i + 1, mean, least, over)

    zero, steps = jnp.zeros((), jnp.float32), len(rates)
    start = Sweep(arrays, state, jnp.zeros(steps), jnp.int32(0), zero, jnp.full((), jnp.inf), jnp.zeros((), bool))
    end = lax.while_loop(lambda now: (now.taken < steps) & ~now.over, body, start)
    return end.losses, end.taken


def suggested(rates: np.ndarray, losses: np.ndarray, diverged: bool, what: str) -> RateFound:
    """What the losses at rising rates say."""
    fine = np.isfinite(losses)
    if not fine.any():
        return RateFound(float("nan"), f"the loss is not finite at the first rate, {rates[0]:.3g}; look at loss_fn and "
                         "params, or pass a smaller low=", what, rates, losses, losses)  # fmt: skip
    rates, losses = rates[fine], losses[fine]
    places = np.log10(rates)
    near = np.abs(places[:, None] - places) <= WIDTH
    smoothed = (near * losses).sum(1) / near.sum(1)
    best = int(np.argmin(smoothed))
    first, spread = losses[:HEAD].mean(), losses[:HEAD].std()
    if first - smoothed[best] <= max(LEAST * abs(first), CHANCE * spread):
        return RateFound(float("nan"), f"the loss fell by no more than chance: it {_ended(diverged, rates)}; "
                         "look at loss_fn, or pass another low= and high=", what, rates, losses, smoothed)  # fmt: skip
    rate = float(rates[best] / BACK)
    reason = f"a {BACK:g}th of {rates[best]:.3g}, where the loss was smallest ({smoothed[best]:.4g}); it "
    reason += _ended(diverged, rates)
    if best == len(rates) - 1 and not diverged:
        reason += ", and may fall at larger ones: pass a larger high="
    return RateFound(rate, reason, what, rates, losses, smoothed)


def _ended(diverged: bool, rates: np.ndarray) -> str:
    return f"diverged at {rates[-1]:.3g}" if diverged else f"was still finite at {rates[-1]:.3g}"
