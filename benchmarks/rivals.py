"""The rows of the step-time benchmark: one optimizer in adaptx, optax and torch, and the bytes it cannot avoid."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptx

try:
    import torch
except ImportError:  # torch is compared where it is installed, never needed
    torch = None

RATE, DECAY, MAX_NORM = 1e-3, 1e-2, 1.0


class Row(NamedTuple):
    """One optimizer, three times."""

    adaptx: adaptx.Optimizer
    optax: optax.GradientTransformation
    torch: Callable[[Any], Any]  # parameters -> torch.optim.Optimizer
    clipped: bool
    floor: int  # bytes per f32 parameter and step: everything read once, everything new written once


ROWS = {
    "sgd": Row(adaptx.sgd(RATE), optax.sgd(RATE), lambda p: torch.optim.SGD(p, RATE, fused=True), False, 12),
    "momentum": Row(
        adaptx.momentum(RATE, 0.9),
        optax.sgd(RATE, momentum=0.9),
        lambda p: torch.optim.SGD(p, RATE, momentum=0.9, fused=True),
        False,
        20,
    ),
    "rmsprop": Row(  # torch has no fused RMSProp
        adaptx.rmsprop(RATE, 0.9),
        optax.rmsprop(RATE, decay=0.9, eps_in_sqrt=True),
        lambda p: torch.optim.RMSprop(p, RATE, alpha=0.9, foreach=True),
        False,
        20,
    ),
    "adam": Row(adaptx.adam(RATE), optax.adam(RATE), lambda p: torch.optim.Adam(p, RATE, fused=True), False, 28),
    "adamw+clip": Row(
        adaptx.adamw(RATE, weight_decay=DECAY, max_norm=MAX_NORM),
        optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adamw(RATE, weight_decay=DECAY)),
        lambda p: torch.optim.AdamW(p, RATE, weight_decay=DECAY, fused=True),
        True,
        32,  # the gradients are read once more, for their norm
    ),
}


def step_function(opt: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """(params, state, grads) -> (params, state), as a user of the library writes it."""
    if isinstance(opt, adaptx.Optimizer):
        return lambda params, state, grads: opt.step(grads, state, params)

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = opt.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def jitted(opt: Any) -> Any:
    """One donated jit of a step."""
    return jax.jit(step_function(opt), donate_argnums=(0, 1))


def torch_step(row: Row, params: Any, grads: Any) -> Callable[[], None]:
    """A call that does one torch step on the device jax uses, and waits for it."""
    device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
    leaves = [torch.nn.Parameter(torch.tensor(np.asarray(x), device=device)) for x in jax.tree.leaves(params)]
    for x, g in zip(leaves, jax.tree.leaves(grads), strict=True):
        x.grad = torch.tensor(np.asarray(g), device=device)
    optimizer = row.torch(leaves)

    def call() -> None:
        if row.clipped:
            torch.nn.utils.clip_grad_norm_(leaves, MAX_NORM)
        optimizer.step()

    return call


def synchronize() -> None:
    """Waits for torch's device."""
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def triad(elements: int) -> tuple[Any, list[jax.Array]]:
    """(compiled x = a·x + y in place, [x, y]): 12 bytes an element, the bandwidth everything else is held against."""
    x, y = jnp.ones(elements, jnp.float32), jnp.full(elements, 1e-3, jnp.float32)
    return jax.jit(lambda x, y: 0.999 * x + y, donate_argnums=0).lower(x, y).compile(), [x, y]
