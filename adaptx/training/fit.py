"""A training from beginning to end, as one call."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from ..checks import flag, one_of, whole
from ..engine.telemetry import found
from ..engine.transformation import Transformation
from ..wrappers import horizons
from .checkpoints import Checkpoints
from .micro import MicroBatches
from .refusals import Extra, Loss, check_not_donated
from .run import Fitted, Program, Run, Wanted
from .sources import as_source
from .step import prepared
from .trees import is_array, split


def fit(
    loss_fn: Loss,
    opt: optax.GradientTransformation,
    params: PyTree,
    data: PyTree,
    *,
    steps: int,
    batch_size: int | None = None,
    eval_fn: Callable[[PyTree], PyTree] | None = None,
    eval_every: int | None = None,
    accumulate: int | MicroBatches = 1,
    checkpoint: Any = None,
    log: PyTree = None,
    progress: bool = True,
    seed: int = 0,
    state: PyTree = None,
    has_aux: bool = False,
    extra: Extra | None = None,
    remainder: str = "drop",
    log_every: int = 1,
    nonfinite: str | None = None,
    sharding: tuple[PyTree, PyTree] | None = None,
) -> Fitted:
    """Train: `steps` steps of opt on minibatches of data.

    Several steps go into one dispatch, as many as take a tenth of a second together; how many changes no number. params
    and state are not donated: they can be used afterwards. Ctrl-C stops after the step, saves, and returns what there
    is; `history.stopped` says so.

    Args:
        loss_fn: loss_fn(params, *batch) -> a scalar loss, or (loss, aux) with has_aux. If it has an argument `rng`, it
            is called with another random key, rng=key, at every step, which depends on seed and step alone.
        opt: an adaptx optimizer, or any optax transformation.
        params: a tree; leaves that are no arrays of floats are carried along, except under an optimizer of another
            library, which is given them all.
        data: arrays with rows along their first axes, such as (x, y) or {"x": x}, all rows of which are taken in
            another order in every epoch, by seed; or a function of the step, counted from 0; or an iterable of
            minibatches: a list or a loader begins anew at its end, an iterator ends the training. A minibatch that is
            a tuple is several arguments of loss_fn, anything else one; so (x, y) are two arrays, [x, y] two
            minibatches.
        steps: ≥ 1, in all: of a training that goes on from a checkpoint, those before count; one that has as many
            already is returned as it is.
        batch_size: rows of a minibatch, for arrays; None for all.
        eval_fn: eval_fn(params) -> a number, which the history has as "eval", or numbers by name, as "eval/name".
            params are those of `adaptx.eval_params`; of several averages each is evaluated, as "eval/horizon/name". It
            is not compiled: jit what it does.
        eval_every: ≥ 1, steps between two calls of it; None for a tenth of `steps`. It is called at the end too, not
            at the start.
        accumulate: in how many micro-batches a minibatch is taken, or what `adaptx.micro_batches` gives.
        checkpoint: a folder, or what `adaptx.checkpoints` gives. A training that finds a checkpoint there goes on from
            it, and ends with the bitwise same numbers as one that was never interrupted: params= and state= are then
            those of the checkpoint. Data of other sizes, another seed and other arrays are refused; another optimizer
            whose state is alike, such as one of another rate, is told in a warning; loss_fn, eval_fn, accumulate= and
            what the data hold are not compared, nor are optax's optimizers. An error on the way saves what there is.
        log: a path for JSON lines, a file that is begun anew unless the training goes on; or something with
            log(values, step=) and finish(), as a run of Weights & Biases is; or several of these.
        progress: whether a bar is shown, where standard error is a terminal.
        seed: ≥ 0, of the order of rows and of what loss_fn draws.
        state: of an earlier training, as opt returned it; None for opt.init(params).
        has_aux: whether loss_fn returns auxiliary outputs; those that are single numbers are in the history, as
            "aux/name" (with accumulate their mean over micro-batches), the others are not kept.
        extra: what the optimizer requires besides the loss, as `train_step` takes it.
        remainder: of arrays, what becomes of rows that do not fill a minibatch at the end of an epoch: "drop" (others
            are left out in every epoch), "keep" (a smaller minibatch), "error".
        log_every: ≥ 1, steps between two lines of the log; the history has all of them.
        nonfinite: what happens where the loss or a gradient is not finite: "stop", before the parameters are touched,
            or "ignore"; None for "stop", unless the optimizer skips such steps itself.
        sharding: (of params, of the state), as `train_step` takes it.

    Returns:
        (params, state, history): history["loss"][t] is the loss of step t, see `History`.

    Raises:
        NonFiniteError: with the step, the first bad leaf and the training before it as `fitted`.
        TypeError, ValueError: for arguments that do not fit together.
    """
    source = as_source(data, batch_size, whole("seed", seed, 0), remainder)
    wanted = Wanted(
        steps=whole("steps", steps, 1), eval_fn=check_eval(eval_fn, eval_every),
        eval_every=-(-steps // 10) if eval_every is None else whole("eval_every", eval_every, 1),
        progress=flag("progress", progress), log=log, log_every=whole("log_every", log_every, 1), seed=seed,
        optimizer=re.sub(" at 0x[0-9a-f]+", "", repr(opt)) if isinstance(opt, Transformation) else "",
        checkpoint=checkpoint if checkpoint is None or isinstance(checkpoint, Checkpoints) else Checkpoints(checkpoint),
    )  # fmt: skip
    structure, given = prepared(
        loss_fn, opt, has_aux, extra, accumulate, seed if takes_rng(loss_fn) else None, sharding
    )
    arrays, rest = split(params)
    check_not_donated(arrays, state)
    if state is not None and not all(map(is_array, jax.tree.leaves(state))):
        raise TypeError(f"state must be what opt returned or opt.init(params), got {type(state).__name__}; pass that.")
    state = opt.init(params) if state is None else state
    guarded = not skips(state) if nonfinite is None else one_of("nonfinite", nonfinite, ("stop", "ignore")) == "stop"
    horizons(state if eval_fn is not None else None)  # before any step, whether there is something to evaluate
    program = Program(structure, given, rest, guarded)
    return Run(wanted, program, source, owned(arrays), owned(state)).go()


def takes_rng(loss_fn: Loss) -> bool:
    """Whether loss_fn has an argument `rng`."""
    try:
        return "rng" in inspect.signature(loss_fn).parameters
    except (TypeError, ValueError):  # no function, or a built-in without a signature
        return False


def check_eval(eval_fn: PyTree, eval_every: int | None) -> PyTree:
    """That eval_fn is a function of params, or None, and so is eval_every then."""
    if eval_fn is None and eval_every is not None:
        raise TypeError(f"eval_every={eval_every!r} is for eval_fn, which is None; pass one, or leave eval_every out.")
    if eval_fn is not None and not callable(eval_fn):
        raise TypeError(f"eval_fn must be a function of params, got {type(eval_fn).__name__}; pass one, or None.")
    return eval_fn


def skips(state: PyTree) -> bool:
    """Whether the optimizer of a state does something itself about steps that are not finite."""
    return any(not {"skipped", "rollbacks"}.isdisjoint(one.shown) for one in found(state)) or any(
        isinstance(x, optax.ApplyIfFiniteState)
        for x in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, optax.ApplyIfFiniteState))
    )


def owned(tree: PyTree) -> PyTree:
    """A copy of every array, which may be donated."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True) if is_array(x) else x, tree)
