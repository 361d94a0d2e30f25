"""The training step, and an epoch of them in one dispatch.

Both are module-level jitted functions that take the optimizer as an argument, so that two trainings which differ only
in numbers (learning rate, decay rates) share one compilation.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, PyTree

from ..engine.transformation import Transformation
from .micro import MicroBatches, as_micro
from .one import Given, Structure, one_step
from .placement import as_placement
from .refusals import Extra, Loss, as_key, check_functions, check_lengths, check_not_donated
from .trees import join, split, unshared

Step = Callable[..., tuple[PyTree, PyTree, dict[str, PyTree]]]


def train_step(
    loss_fn: Loss,
    opt: optax.GradientTransformation,
    has_aux: bool = False,
    extra: Extra | None = None,
    *,
    accumulate: int | MicroBatches = 1,
    rng: int | Array | None = None,
    sharding: tuple[PyTree, PyTree] | None = None,
) -> Step:
    """A jitted training step: (params, state, *batch) -> (params, state, metrics).

    params and state are donated: use what comes back, not what went in. Leaves of params that are not arrays
    (functions, strings, None) are carried along, except under an optimizer of another library, which is given them.

    Args:
        loss_fn: loss_fn(params, *batch) -> a scalar loss, or (loss, aux) with has_aux.
        opt: an adaptx optimizer, or any optax transformation. The loss reaches it as `value=`; what takes gradients at
            other points of the same batch, such as `adaptx.sam`, is given `grad_fn=`, a function of params.
        has_aux: whether loss_fn returns auxiliary outputs; they come back as metrics["aux"].
        extra: what the optimizer requires besides the loss (`opt.requires`), by name, as functions of (params, *batch)
            or as `hutchinson` and `gauss_newton_bartlett` make them: {"hessian": adaptx.hutchinson(loss_fn, every=10)}.
        accumulate: in how many micro-batches the batch is taken, one after another, or what `adaptx.micro_batches`
            gives; one step of the optimizer on their mean loss and gradient, summed in f32 or wider. What extra gives
            is their mean as well; aux is stacked.
        rng: a seed or a random key, with which loss_fn is called as loss_fn(params, *batch, rng=key): another key at
            every step (fold_in with the state's step number) and, of several, for every micro-batch. A training that
            goes on from a saved state draws what it would have drawn.
        sharding: (of params, of the state), which the results are held to: trees of `jax.sharding.Sharding` like them,
            or one for a whole branch, or None for what stays as the compiler places it.

    Returns:
        The step. metrics holds "loss" and what `adaptx.metrics(state)` holds ("learning_rate", …), f32 scalars.
    """
    return _bound(_step, loss_fn, opt, has_aux, extra, accumulate, rng, sharding)


def train_epoch(
    loss_fn: Loss,
    opt: optax.GradientTransformation,
    has_aux: bool = False,
    extra: Extra | None = None,
    *,
    accumulate: int | MicroBatches = 1,
    rng: int | Array | None = None,
    sharding: tuple[PyTree, PyTree] | None = None,
) -> Step:
    """Many training steps as one dispatch: (params, state, *batches) -> (params, state, metrics).

    Every array in batches has the steps along its first axis; `lax.scan` runs them in order. metrics are stacked along
    the same axis. Otherwise as `train_step`.
    """
    return _bound(_epoch, loss_fn, opt, has_aux, extra, accumulate, rng, sharding)


def _bound(run, loss_fn, opt, has_aux, extra, accumulate, rng, sharding) -> Step:
    structure, given = prepared(loss_fn, opt, has_aux, extra, accumulate, rng, sharding)

    def call(
        params: PyTree, state: PyTree, *batch: PyTree, **keywords: PyTree
    ) -> tuple[PyTree, PyTree, dict[str, PyTree]]:
        if keywords:
            raise TypeError(
                f"a training step takes (params, state, *batch), got the keyword {next(iter(keywords))!r}; pass the "
                "batch by position, in the order of loss_fn."
            )
        arrays, rest = split(params)
        check_not_donated(arrays, state)
        state = unshared(state)
        arrays, state, out = run(structure, rest, given, arrays, state, *batch)
        return join(arrays, rest), state, out

    return call


def prepared(loss_fn, opt, has_aux, extra, accumulate, rng, sharding) -> tuple[Structure, Given]:
    """What was asked for, checked: the part that is compiled in, and the part that is passed."""
    extra = {} if extra is None else extra
    opt = opt.gradient_transformation() if isinstance(opt, optax.MultiSteps) else opt
    check_functions(loss_fn, opt, has_aux, extra)
    ours = isinstance(opt, Transformation)
    structure = Structure(loss_fn, has_aux, None if ours else opt, tuple(extra.items()), as_micro(accumulate),
                          as_placement(sharding))  # fmt: skip
    # numbers become device arrays here, once, instead of at every call
    return structure, Given(jax.tree.map(jnp.asarray, opt) if ours else None, as_key(rng))


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def _step(structure, rest, given, arrays, state, *batch):
    return one_step(structure, rest, given, (arrays, state), batch)


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def _epoch(structure, rest, given, arrays, state, *batches):
    check_lengths(batches)

    def body(carry, batch):
        arrays, state, out = one_step(structure, rest, given, carry, batch)
        return (arrays, state), out

    (arrays, state), out = lax.scan(body, (arrays, state), batches)
    return arrays, state, out
