"""The rows of the step-time benchmark: one optimizer in adaptx, optax and torch."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptx
from adaptx.engine.transformation import Transformation

try:
    import torch
except ImportError:  # torch is compared where it is installed, never needed
    torch = None

RATE, DECAY, MAX_NORM = 1e-3, 1e-2, 1.0


class Row(NamedTuple):
    """One optimizer, three times."""

    adaptx: Any  # an adaptx optimizer, or a route
    optax: optax.GradientTransformation
    torch: Callable[[dict[str, Any]], Any] | None = None  # parameters by name -> torch.optim.Optimizer; None for none
    clipped: bool = False
    beside: str = ""  # what stands in optax's place where optax lacks it
    same: bool = True  # whether optax's step is the same to rounding
    period: int = 1  # a timing takes a multiple of so many steps
    costly: bool = False  # seconds a step on a CPU: measured there only where it is named


ROWS = {
    "sgd": Row(adaptx.sgd(RATE), optax.sgd(RATE), lambda p: torch.optim.SGD(p.values(), RATE, fused=True)),
    "momentum": Row(
        adaptx.momentum(RATE, 0.9),
        optax.sgd(RATE, momentum=0.9),
        lambda p: torch.optim.SGD(p.values(), RATE, momentum=0.9, fused=True),
    ),
    "rmsprop": Row(  # torch has no fused RMSProp
        adaptx.rmsprop(RATE, 0.9),
        optax.rmsprop(RATE, decay=0.9, eps_in_sqrt=True),
        lambda p: torch.optim.RMSprop(p.values(), RATE, alpha=0.9, foreach=True),
    ),
    "adam": Row(adaptx.adam(RATE), optax.adam(RATE), lambda p: torch.optim.Adam(p.values(), RATE, fused=True)),
    "adamw+clip": Row(
        adaptx.adamw(RATE, weight_decay=DECAY, max_norm=MAX_NORM),
        optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adamw(RATE, weight_decay=DECAY)),
        lambda p: torch.optim.AdamW(p.values(), RATE, weight_decay=DECAY, fused=True),
        clipped=True,
    ),
}


def step_function(opt: Any) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """(params, state, grads) -> (params, state), as a user of the library writes it."""
    if isinstance(opt, Transformation):
        return lambda params, state, grads: opt.step(grads, state, params)

    def step(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = opt.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    return step


def jitted(opt: Any) -> Any:
    """One donated jit of a step."""
    return jax.jit(step_function(opt), donate_argnums=(0, 1))


class TorchStepper:
    """Steps of a row's torch optimizer on the device that jax uses."""

    def __init__(self, row: Row, params: dict[str, Any], grads: dict[str, Any]):
        device = "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"
        self.params = {
            name: torch.nn.Parameter(torch.tensor(np.asarray(x), device=device)) for name, x in params.items()
        }
        for name, x in self.params.items():
            x.grad = torch.tensor(np.asarray(grads[name]), device=device)
        self.optimizer, self.clipped = row.torch(self.params), row.clipped

    def __call__(self, steps: int) -> None:
        for _ in range(steps):
            if self.clipped:
                torch.nn.utils.clip_grad_norm_(self.params.values(), MAX_NORM)
            self.optimizer.step()
        synchronize()

    def state_bytes(self) -> int:
        """Bytes of the state's tensors, after a step."""
        kept = [x for one in self.optimizer.state.values() for x in one.values() if isinstance(x, torch.Tensor)]
        return sum(x.numel() * x.element_size() for x in kept)


def synchronize() -> None:
    """Waits for torch's device."""
    if torch is not None and torch.cuda.is_available():
        torch.cuda.synchronize()


def triad(elements: int) -> tuple[Any, list[jax.Array]]:
    """(compiled x = a·x + y in place, [x, y]): 12 bytes an element, the bandwidth everything else is held against."""
    x, y = jnp.ones(elements, jnp.float32), jnp.full(elements, 1e-3, jnp.float32)
    return jax.jit(lambda x, y: 0.999 * x + y, donate_argnums=0).lower(x, y).compile(), [x, y]
