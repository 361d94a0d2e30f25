"""Write optax.npz: the trajectories of optax for the optax rows of rows.py.

Run in an environment with optax==0.2.8 and jax (any release but 0.10.2), from the folder tests:

    python -m golden.make_optax

Needed only to make the file anew, never by the tests. Everything is float64 on the CPU.
"""

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from . import inputs
from .rows import OPTAX, OPTAX_FAMILY, OPTAX_MORE, Row

Rate = Callable[[jax.Array], jax.Array]


def _decayed(scaling: optax.GradientTransformation, rate: Rate) -> optax.GradientTransformation:
    """Decoupled weight decay of 0.1 after a scaling."""
    return optax.chain(scaling, optax.add_decayed_weights(0.1), optax.scale_by_learning_rate(rate))


def _matrices(params: dict[str, jax.Array]) -> dict[str, bool]:
    return {k: p.ndim >= 2 for k, p in params.items()}


def _adafactor(
    rate: Rate,
    *,
    decay_rate: float = 0.8,
    eps: float = 1e-30,
    least: int = 1,
    threshold: float = 1.0,
    min_scale: float | None = 1e-3,
    b1: float | None = None,
) -> optax.GradientTransformation:
    """The parts of optax.adafactor, which computes beta2 in float32 and has no flag for eps2; the moment before both
    the parameter's scale and the learning rate, which stands last here.
    """

    def beta2(step: jax.Array, exponent: float) -> jax.Array:
        return 1.0 - (step + 1.0).astype(jnp.float64) ** -exponent

    parts = [
        optax.scale_by_factored_rms(True, decay_rate, 0, least, eps, decay_rate_fn=beta2),
        optax.clip_by_block_rms(threshold),
        optax.identity() if b1 is None else optax.ema(b1, debias=False),
        optax.identity() if min_scale is None else optax.scale_by_param_block_rms(min_scale),
    ]
    return optax.chain(*parts, optax.scale_by_learning_rate(rate))


# W x here: with the axes swapped, optax's scale is sqrt(max(1, rows/columns))
AXES = dict.fromkeys(inputs.MATRICES, optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=0))


def _muon(rate: Rate, decay: float = 0.95, nesterov: bool = True, **flags) -> optax.GradientTransformation:
    """optax.contrib.muon on a momentum that is not corrected for its start.

    optax corrects both terms of the nesterov sum, each by its own power of beta, and no flag turns that off. beta=0
    leaves nothing to correct, and the momentum is optax.trace's.
    """
    flags = {"eps": 1e-7, **flags}
    return optax.chain(
        optax.scale(1.0 - decay),
        optax.trace(decay, nesterov=nesterov),
        optax.contrib.muon(rate, beta=0.0, nesterov=False, muon_weight_dimension_numbers=AXES, **flags),
    )


def _yogi(rate: Rate, **flags: float) -> optax.GradientTransformation:
    """optax.yogi, whose alias has no flag for where the moments start."""
    scaling = optax.scale_by_yogi(initial_accumulator_value=0.0, **flags)
    return optax.chain(scaling, optax.scale_by_learning_rate(rate))


def _signum(rate: Rate, decay: float) -> optax.GradientTransformation:
    return optax.chain(optax.ema(decay, debias=False), optax.scale_by_sign(), optax.scale_by_learning_rate(rate))


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
    "lion": lambda rate: optax.lion(rate, weight_decay=0.0),
    "lion_decays": lambda rate: optax.lion(rate, b1=0.8, b2=0.95, weight_decay=0.0),
    "lion_decay": lambda rate: optax.lion(rate, weight_decay=0.1),
    "lion_matrices": lambda rate: optax.lion(rate, weight_decay=0.1, mask=_matrices),
    "adafactor": lambda rate: _adafactor(rate),
    "adafactor_shapes": lambda rate: _adafactor(rate),
    "adafactor_flags": lambda rate: _adafactor(rate, decay_rate=0.5, threshold=1.5, min_scale=0.4),
    "adafactor_eps": lambda rate: _adafactor(rate, eps=1e-4),
    "adafactor_least": lambda rate: _adafactor(rate, least=3),
    "adafactor_unscaled": lambda rate: _adafactor(rate, min_scale=None),
    "adafactor_momentum": lambda rate: _adafactor(rate, b1=0.9),
    # optax.adafactor's own order: the moment of what has the learning rate in it already
    "adafactor_momentum_last": lambda rate: optax.chain(_adafactor(rate, min_scale=None), optax.ema(0.9, debias=False)),
    # the decay after the learning rate, as optax.adafactor has it: p <- p - lr d - 2e-3 p
    "adafactor_independent": lambda rate: optax.chain(_adafactor(rate), optax.add_decayed_weights(-2e-3)),
    "muon": lambda rate: _muon(rate),
    # without nesterov the correction is a factor, which the norm takes out if eps is 0
    "muon_plain": lambda rate: optax.contrib.muon(rate, eps=0.0, nesterov=False, muon_weight_dimension_numbers=AXES),
    "muon_eps": lambda rate: _muon(rate, nesterov=False, eps=1e-2),
    "muon_rms": lambda rate: _muon(rate, consistent_rms=0.2),
    "muon_flags": lambda rate: _muon(rate, decay=0.8, ns_steps=3, ns_coeffs=(2.0, -1.5, 0.5)),
    "muon_decay": lambda rate: _muon(rate, weight_decay=0.1),
    "nadamw": lambda rate: optax.nadamw(rate, b1=0.8, weight_decay=0.1),
    "radam": lambda rate: optax.radam(rate),
    "radam_short": lambda rate: optax.radam(rate, b2=0.9, eps=1e-3),
    "adamax": lambda rate: optax.adamax(rate),
    "adamax_decay": lambda rate: optax.adamaxw(rate, b2=0.9, weight_decay=0.1),
    "adadelta": lambda rate: optax.adadelta(rate),
    "adabelief": lambda rate: optax.adabelief(rate),
    "adabelief_eps": lambda rate: optax.adabelief(rate, b1=0.8, b2=0.95, eps=1e-3, eps_root=1e-6),
    "yogi": lambda rate: _yogi(rate),
    "yogi_eps": lambda rate: _yogi(rate, b2=0.9, eps=1e-8),
    "ademamix": lambda rate: optax.contrib.ademamix(rate, alpha=6.0),
    "ademamix_decays": lambda rate: optax.contrib.ademamix(rate, b1=0.8, b2=0.95, b3=0.99, alpha=2.0, eps=1e-3),
    "simplified_ademamix": lambda rate: optax.contrib.simplified_ademamix(rate),
    "simplified_ademamix_mixed": lambda rate: optax.contrib.simplified_ademamix(rate, b1=0.9, alpha=3.0, eps=1e-3),
    "adopt": lambda rate: optax.contrib.adopt(rate),
    "adopt_plain": lambda rate: optax.contrib.adopt(rate, b2=0.95, use_clipping=False),
    "novograd": lambda rate: optax.novograd(rate, b1=0.95, b2=0.98),
    "novograd_decays": lambda rate: optax.novograd(rate, b1=0.8, b2=0.25, eps=1e-8),
    "signum": lambda rate: _signum(rate, 0.9),
    "sign_sgd": lambda rate: optax.sign_sgd(rate),
    "signum_decay": lambda rate: optax.chain(optax.ema(0.965, debias=False), _decayed(optax.scale_by_sign(), rate)),
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
        for row in OPTAX + OPTAX_MORE + OPTAX_FAMILY
    }
    np.savez_compressed(Path(__file__).with_name("optax.npz"), **table)


if __name__ == "__main__":
    main()
