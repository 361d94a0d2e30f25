"""Write engine.npz: other programs' trajectories for the rows of rows_engine.py.

Run in an environment with torch==2.13.0, optax==0.2.8 and numpy, from the folder tests, with checkouts of optimi,
C-Optim and Gradient-Centralization at the commits that rows_engine.py names:

    python -m golden.make_engine OPTIMI C_OPTIM GRADIENT_CENTRALIZATION

Needed only to make the file anew, never by the tests. Everything is float64 on the CPU.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from . import inputs
from .row import Row
from .rows_engine import ENGINE, PEER

optimi, c_optim, centralization = sys.argv[1:4]
sys.path[:0] = [optimi, c_optim, str(Path(centralization, "algorithm-GC"))]

import c_lion  # noqa: E402, from the checkouts
import c_muon  # noqa: E402
from algorithm import Adam as gc_adam  # noqa: E402
from optimi import StableAdamW  # noqa: E402


def cautious_adam(params, lr: float, **more) -> torch.optim.Optimizer:
    """The Adam beside the authors' Muon."""
    plain = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
    group = {"params": list(params), "lr": lr, "use_muon": False, **plain, **more}
    return c_muon.SingleDeviceMuonWithAuxAdam([group])


def stable(params, lr: float, **more) -> torch.optim.Optimizer:
    """optimi's, a loop over the parameters."""
    return StableAdamW(params, lr, foreach=False, triton=False, kahan_sum=False, **more)


def leaf_clipped(most: float) -> optax.GradientTransformation:
    """Each leaf by the norm of its own."""
    clip = optax.clip_by_global_norm(most)

    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda g: clip.update(g, clip.init(g))[0], updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


TORCH: dict[str, tuple[Callable, dict]] = {
    "stableadamw": (stable, {}),
    "stableadamw_decay": (stable, {"betas": (0.8, 0.9), "weight_decay": 0.3}),
    "stableadamw_eps": (stable, {"betas": (0.9, 0.8), "eps": 0.1}),
    "cautious_adam": (cautious_adam, {"betas": (0.9, 0.95)}),
    "cautious_adam_decay": (cautious_adam, {"betas": (0.95, 0.999), "weight_decay": 0.1}),
    "cautious_lion": (c_lion.Lion, {"betas": (0.9, 0.99)}),
    "cautious_lion_decay": (c_lion.Lion, {"betas": (0.8, 0.99), "weight_decay": 0.1}),
    "centralize": (gc_adam.Adam, {"use_gc": True, "gc_loc": True}),
    "centralize_l2": (gc_adam.Adam, {"use_gc": True, "gc_loc": True, "weight_decay": 0.1}),
}
OPTAX: dict[str, Callable[[Callable], optax.GradientTransformation]] = {
    "agc": lambda rate: optax.chain(optax.adaptive_grad_clip(0.5), optax.sgd(rate)),
    "agc_adam": lambda rate: optax.chain(optax.adaptive_grad_clip(0.01), optax.adam(rate)),
    "max_leaf_norm": lambda rate: optax.chain(leaf_clipped(0.5), optax.sgd(rate)),
    "max_leaf_norm_adam": lambda rate: optax.chain(leaf_clipped(0.5), optax.adam(rate)),
    "centralize_optax": lambda rate: optax.chain(optax.centralize(), optax.sgd(rate, momentum=0.9)),
}


def by_torch(row: Row, rates: list[float], grads: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Parameters after every step of a torch optimizer."""
    make, arguments = TORCH[row.name]
    params = {
        k: torch.tensor(p, dtype=torch.float64, requires_grad=True) for k, p in inputs.parameters(row.leaves).items()
    }
    optimizer, history = make(params.values(), lr=row.learning_rate, **arguments), []
    for tree, rate in zip(grads, rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        for k, p in params.items():
            p.grad = torch.tensor(tree[k], dtype=torch.float64)
        optimizer.step()
        history.append({k: p.detach().numpy().copy() for k, p in params.items()})
    return history


def by_optax(row: Row, rates: list[float], grads: list[dict[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """Parameters after every step of an optax transformation."""
    table = jnp.asarray(rates)
    transformation = OPTAX[row.name](lambda count: table[count])
    params = {k: jnp.asarray(p) for k, p in inputs.parameters(row.leaves).items()}
    state, history = transformation.init(params), []
    for tree in grads:
        updates, state = transformation.update(jax.tree.map(jnp.asarray, tree), state, params)
        params = optax.apply_updates(params, updates)
        history.append({k: np.asarray(p) for k, p in params.items()})
    return history


def trajectory(row: Row, kind: str, scale: float) -> np.ndarray:
    """The saved parameters of one case, shape (saved steps, entries)."""
    run = by_torch if row.name in TORCH else by_optax
    rates = inputs.learning_rates(kind, row.learning_rate)
    return inputs.saved(run(row, rates, inputs.gradients(scale, row.leaves)))


def main() -> None:
    """Write the file next to this script."""
    jax.config.update("jax_enable_x64", True)
    table = {
        row.name: np.array([[trajectory(row, kind, scale) for scale in inputs.SCALES] for kind in row.kinds])
        for row in ENGINE
    }
    np.savez_compressed(Path(__file__).with_name(f"{PEER}.npz"), **table)


if __name__ == "__main__":
    main()
