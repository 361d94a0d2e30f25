"""Write optax.npz: the trajectories of optax for the optax rows of rows.py.

Run in an environment with optax==0.2.8 and jax (any release but 0.10.2), from the repository root:

    python tests/golden/make_optax.py

Needed only to make the file anew, never by the tests. Everything is float64 on the CPU.
"""

from collections.abc import Callable
from pathlib import Path

import inputs
import jax
import jax.numpy as jnp
import numpy as np
import optax
from rows import OPTAX, Row

Rate = Callable[[jax.Array], jax.Array]


def _decayed(scaling: optax.GradientTransformation, rate: Rate) -> optax.GradientTransformation:
    """Decoupled weight decay of 0.1 after a scaling."""
    return optax.chain(scaling, optax.add_decayed_weights(0.1), optax.scale_by_learning_rate(rate))


def _matrices(params: dict[str, jax.Array]) -> dict[str, bool]:
    return {k: p.ndim >= 2 for k, p in params.items()}


PEERS: dict[str, Callable[[Rate], optax.GradientTransformation]] = {
    "sgd": lambda rate: optax.sgd(rate),
    "sgd_decoupled": lambda rate: _decayed(optax.identity(), rate),
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "nesterov": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "momentum_averaged": lambda rate: optax.chain(optax.ema(0.9, debias=False), optax.scale_by_learning_rate(rate)),
    "momentum_dampened": lambda rate: optax.chain(optax.scale(0.5), optax.sgd(rate, momentum=0.9)),
    "nesterov_dampened": lambda rate: optax.chain(optax.scale(0.5), optax.sgd(rate, momentum=0.9, nesterov=True)),
    "adagrad": lambda rate: optax.adagrad(rate, initial_accumulator_value=0.0, eps=1e-8),
    "adagrad_initial": lambda rate: optax.adagrad(rate, initial_accumulator_value=0.1, eps=1e-3),
    "adagrad_zero_eps": lambda rate: optax.adagrad(rate, initial_accumulator_value=0.0, eps=0.0),
    "rmsprop": lambda rate: optax.rmsprop(rate),
    "rmsprop_eps": lambda rate: optax.rmsprop(rate, eps=1e-3),
    "rmsprop_outside": lambda rate: optax.rmsprop(rate, eps=1e-6, eps_in_sqrt=False),
    "rmsprop_centered": lambda rate: optax.rmsprop(rate, centered=True),
    "rmsprop_centered_outside": lambda rate: optax.rmsprop(rate, centered=True, eps_in_sqrt=False),
    "rmsprop_debias": lambda rate: optax.rmsprop(rate, bias_correction=True),
    "rmsprop_debias_outside": lambda rate: optax.rmsprop(rate, bias_correction=True, eps_in_sqrt=False),
    "rmsprop_momentum": lambda rate: optax.rmsprop(rate, momentum=0.9),
    "rmsprop_decoupled": lambda rate: _decayed(optax.scale_by_rms(), rate),
    "adam": lambda rate: optax.adam(rate),
    "adam_nesterov": lambda rate: optax.adam(rate, nesterov=True),
    "adam_eps": lambda rate: optax.adam(rate, eps=1e-2),
    # with eps negligible, undoing both corrections is one factor on the step: (1 - b1^t) / sqrt(1 - b2^t)
    "adam_uncorrected": lambda rate: optax.adam(
        lambda count: rate(count) * (1 - 0.9 ** (count + 1)) / jnp.sqrt(1 - 0.999 ** (count + 1)), eps=1e-30
    ),
    # the decay after the learning rate: p <- p - lr d - 2e-3 p
    "adam_independent": lambda rate: optax.chain(optax.adam(rate), optax.add_decayed_weights(-2e-3)),
    "adamw": lambda rate: optax.adamw(rate),
    "adamw_decay": lambda rate: optax.adamw(rate, weight_decay=0.1),
    "adamw_matrices": lambda rate: optax.adamw(rate, weight_decay=0.1, mask=_matrices),
    "sgd_clipped": lambda rate: optax.chain(optax.clip_by_global_norm(2.0), optax.sgd(rate)),
    "adam_clipped": lambda rate: optax.chain(optax.clip_by_global_norm(2.0), optax.adam(rate)),
}


def trajectory(row: Row, kind: str, scale: float) -> np.ndarray:
    """The saved parameters of one case, shape (saved steps, entries)."""
    rates = jnp.asarray(inputs.learning_rates(kind, row.learning_rate))
    transformation = PEERS[row.name](lambda count: rates[count])
    params = {k: jnp.asarray(p) for k, p in inputs.parameters(row.leaves).items()}
    state = transformation.init(params)

    @jax.jit
    def step(params, state, grads):
        updates, state = transformation.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    history = []
    for grads in inputs.gradients(scale, row.leaves):
        params, state = step(params, state, grads)
        history.append({k: np.asarray(p) for k, p in params.items()})
    return inputs.saved(history)


def main() -> None:
    """Write the file next to this script."""
    jax.config.update("jax_enable_x64", True)
    table = {
        row.name: np.array([[trajectory(row, kind, scale) for scale in inputs.SCALES] for kind in row.kinds])
        for row in OPTAX
    }
    np.savez_compressed(Path(__file__).with_name("optax.npz"), **table)


if __name__ == "__main__":
    main()
