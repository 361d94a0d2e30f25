"""One step of training: the loss and its gradients, whatever the optimizer is to be told, the step itself."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, PyTree

from ..engine.telemetry import found, metrics
from ..engine.transformation import Transformation
from ..engine.tree import Frozen, is_trained
from ..wrappers.sam import takes_second
from ..wrappers.wrapper import takes_any
from .curvature import Estimate
from .micro import Averaged, Mean, MicroBatches, over_all
from .placement import Placement, held
from .refusals import Loss, check_batch, check_loss, pair
from .trees import join, merged, split, without

FINE, LOSS_ALONE = -1, -2  # in place of a leaf whose gradient is not finite


class Structure(NamedTuple):
    """What a compiled step depends on besides shapes."""

    loss_fn: Loss
    has_aux: bool
    opt: optax.GradientTransformation | None  # of another library
    extra: tuple[tuple[str, Callable[..., PyTree]], ...]
    micro: MicroBatches
    placement: Placement | None


class Given(NamedTuple):
    """What it is given besides parameters, state and batch."""

    opt: Transformation | None  # an adaptx optimizer
    rng: Array | None
    factor: Array | None = None  # on the updates of an optimizer of another library
    step: Array | None = None  # its number, for states that count none


def one_step(
    structure: Structure,
    rest: Frozen,
    given: Given,
    carry: tuple[list[PyTree], PyTree],
    batch: tuple[PyTree, ...],
    guarded: bool = False,
) -> tuple[list[PyTree], PyTree, dict[str, PyTree]]:
    """(arrays, state, metrics) after a step.

    Guarded, a step whose loss or gradients are not finite leaves everything as it is, and metrics["bad"] says which
    leaf is the first, see `first_bad`.
    """
    arrays, state = carry
    check_batch(structure.loss_fn, len(batch), given.rng is not None)
    key = None if given.rng is None else jax.random.fold_in(given.rng, _count(state, given, "rng= draws"))
    over = partial(_over, structure.micro, batch)

    def loss_of(trained, key, *batch):
        keys = {} if key is None else {"rng": key}
        result = structure.loss_fn(join(merged(trained, arrays), rest), *batch, **keys)
        loss, aux = pair(result) if structure.has_aux else (result, None)
        check_loss(loss, structure.has_aux)
        return loss, aux

    def loss_and_grads(key, *batch):
        (loss, aux), grads = jax.value_and_grad(loss_of, has_aux=True)(_trained(arrays), key, *batch)
        return (loss, grads), aux

    def grad_fn(params):  # of this batch, elsewhere
        at = partial(jax.grad(loss_of, has_aux=True), _trained(split(params)[0]))
        return join(over(key, at).mean, without(rest))

    def value_fn(params):
        return over(key, partial(loss_of, split(params)[0])).mean

    (loss, found_grads), aux, left_out = over(key, loss_and_grads)
    grads = join(found_grads, without(rest))
    searches = {"grad": grads, "value_fn": value_fn} if _searches(structure, given) else {}
    if takes_second(state):  # not otherwise: a line search refuses what it does not know
        searches["grad_fn"] = grad_fn
    moved = partial(_moved, structure, given, join(arrays, rest), state, grads, {"value": loss, **searches})

    def go() -> tuple[list[PyTree], PyTree]:
        after = _with_extra(moved, structure.extra, (join(arrays, rest), state, over, given), {})
        return held(structure.placement, rest, after[0], after[1])

    bad = first_bad(loss, found_grads) if guarded else None
    new_arrays, new_state = go() if bad is None else lax.cond(bad == FINE, go, lambda: (arrays, state))
    out = {"loss": loss.astype(jnp.float32), **(metrics(new_state) if found(new_state) else {})}
    out |= {"left_out": left_out} if structure.micro.leave_out_nonfinite else {}
    out |= {} if bad is None else {"bad": bad}
    return new_arrays, new_state, {**out, "aux": aux} if structure.has_aux else out


def first_bad(loss: Array, grads: list[PyTree]) -> Array:
    """FINE, or the position of the first leaf whose gradient is not finite, or LOSS_ALONE."""
    places = [i for i, g in enumerate(grads) if g is not None]
    fine = jnp.stack([jnp.all(jnp.isfinite(grads[i])) for i in places])
    leaf = jnp.where(jnp.all(fine), LOSS_ALONE, jnp.array(places)[jnp.argmin(fine)])
    return jnp.where(jnp.isfinite(loss) & jnp.all(fine), FINE, leaf).astype(jnp.int32)


def _over(micro: MicroBatches, batch: tuple[PyTree, ...], key: Array | None, mean: Mean) -> Averaged:
    """The mean over the batch, taken at once or in micro-batches."""
    return Averaged(*mean(key, *batch), jnp.zeros(())) if micro.count == 1 else over_all(mean, batch, key, micro)


def _searches(structure: Structure, given: Given) -> bool:
    """Whether the optimizer may be a line search of optax."""
    return structure.opt is not None or takes_any(given.opt)


def _moved(structure, given, params, state, grads, told, more):
    """(arrays, state) after the optimizer's step, which is told the loss and more."""
    if structure.opt is None:
        after, new = given.opt.step(grads, state, params, **told, **more)
    else:
        opt = optax.with_extra_args_support(structure.opt)
        if structure.micro.count > 1:  # summed in f32, while the state is of the parameters' dtype
            grads = jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)
        updates, new = opt.update(grads, state, params, **told, **more)
        if given.factor is not None:
            updates = jax.tree.map(lambda u: (given.factor * u).astype(u.dtype), updates)
        after = optax.apply_updates(params, updates)
    return split(after)[0], new


def _with_extra(moved, extra, now, more) -> Any:
    """moved(more), more with all extra arguments; an estimate that is not due at this step is None."""
    if not extra:
        return moved(more)
    (name, function), *rest = extra
    params, state, over, given = now

    def go(value):
        return _with_extra(moved, rest, now, {**more, name: value})

    if not isinstance(function, Estimate):
        return go(over(None, lambda _, *batch: (function(params, *batch), None)).mean)
    step = _count(state, given, f"extra[{name!r}] is an estimate, which is drawn and due")
    drawn = partial(over, jax.random.fold_in(jax.random.key(function.seed), step))

    def estimated():
        return go(drawn(lambda key, *batch: (function(params, key, *batch), None)).mean)

    if function.every == 1:
        return estimated()
    return lax.cond(step % function.every == 0, estimated, lambda: go(None))


def _count(state: PyTree, given: Given, what: str) -> Array:
    """The number of the step, by the state, or as it is given."""
    steps = [one.shown["step"] for one in found(state) if "step" in one.shown]
    if not steps and given.step is not None:
        return given.step
    if not steps:
        raise TypeError(
            f"{what} by the number of the step, but the state is {type(state).__name__}, expected that of an adaptx "
            "optimizer; pass such a state, or what depends on no step."
        )
    return steps[0]


def _trained(arrays: list[PyTree]) -> list[PyTree]:
    return [x if is_trained(x) else None for x in arrays]
