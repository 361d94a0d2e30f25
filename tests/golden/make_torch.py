"""Write torch.npz: the trajectories of torch.optim for the torch rows of rows.py.

Run in an environment with torch==2.13.0 and numpy, from the folder tests:

    python -m golden.make_torch

Needed only to make the file anew, never by the tests. Everything is float64 on the CPU.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from . import inputs
from .rows import TORCH, TORCH_FAMILY, TORCH_MORE, Row

MOMENTUM = {"momentum": 0.9}
AVERAGED = {"momentum": 0.9, "dampening": 0.9}
DAMPENED = {"momentum": 0.9, "dampening": 0.5}
TINY = 1e-150  # no root of a second moment on these inputs is smaller, and its square is not yet subnormal
UNADDED = {"eps": (TINY, 1e-3)}
PRIMED = ("momentum_dampened", "momentum_averaged")  # rows.PRIMED says why

PEERS: dict[str, tuple[Callable, dict]] = {
    "sgd": (torch.optim.SGD, {}),
    "sgd_l2": (torch.optim.SGD, {"weight_decay": 0.1}),
    "momentum": (torch.optim.SGD, MOMENTUM),
    "momentum_l2": (torch.optim.SGD, {**MOMENTUM, "weight_decay": 0.1}),
    "nesterov": (torch.optim.SGD, {**MOMENTUM, "nesterov": True}),
    "nesterov_l2": (torch.optim.SGD, {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "momentum_dampened": (torch.optim.SGD, DAMPENED),
    "momentum_averaged": (torch.optim.SGD, AVERAGED),
    "adagrad": (torch.optim.Adagrad, {}),
    "adagrad_eps": (torch.optim.Adagrad, {"eps": 1e-3}),
    "adagrad_initial": (torch.optim.Adagrad, {"initial_accumulator_value": 0.1}),
    "adagrad_l2": (torch.optim.Adagrad, {"eps": 1e-8, "weight_decay": 0.1}),
    "adagrad_lr_decay": (torch.optim.Adagrad, {"lr_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "rmsprop_eps": (torch.optim.RMSprop, {"eps": 1e-3}),
    "rmsprop_centered": (torch.optim.RMSprop, {"centered": True}),
    "rmsprop_momentum": (torch.optim.RMSprop, {"momentum": 0.9}),
    "rmsprop_centered_momentum": (torch.optim.RMSprop, {"centered": True, "momentum": 0.9, "eps": 1e-6}),
    "rmsprop_l2": (torch.optim.RMSprop, {"weight_decay": 0.1}),
    "adam": (torch.optim.Adam, {}),
    "adam_decays": (torch.optim.Adam, {"betas": (0.8, 0.95)}),
    "adam_eps": (torch.optim.Adam, {"eps": 1e-2}),
    "adam_l2": (torch.optim.Adam, {"weight_decay": 0.1}),
    "amsgrad": (torch.optim.Adam, {"amsgrad": True}),
    "amsgrad_decays": (torch.optim.Adam, {"amsgrad": True, "betas": (0.9, 0.9)}),
    "adamw": (torch.optim.AdamW, {}),
    "adamw_decay": (torch.optim.AdamW, {"weight_decay": 0.1}),
    "adafactor": (torch.optim.Adafactor, UNADDED),
    "adafactor_shapes": (torch.optim.Adafactor, UNADDED),
    "adafactor_flags": (torch.optim.Adafactor, {"beta2_decay": -0.5, "eps": (TINY, 0.4), "d": 1.5}),
    "adafactor_decay": (torch.optim.Adafactor, {**UNADDED, "weight_decay": 0.1}),
    "nadam": (torch.optim.NAdam, {}),
    "nadam_decays": (torch.optim.NAdam, {"betas": (0.8, 0.95), "momentum_decay": 0.5, "eps": 1e-3}),
    "nadam_l2": (torch.optim.NAdam, {"weight_decay": 0.1}),
    "nadamw": (torch.optim.NAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    "radam": (torch.optim.RAdam, {"eps": TINY}),
    "radam_short": (torch.optim.RAdam, {"eps": TINY, "betas": (0.9, 0.9)}),
    "radam_l2": (torch.optim.RAdam, {"eps": TINY, "weight_decay": 0.1}),
    "radam_decay": (torch.optim.RAdam, {"eps": TINY, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "adamax": (torch.optim.Adamax, {}),
    "adamax_decays": (torch.optim.Adamax, {"betas": (0.8, 0.9), "eps": 1e-3}),
    "adamax_l2": (torch.optim.Adamax, {"weight_decay": 0.1}),
    "adadelta": (torch.optim.Adadelta, {}),
    "adadelta_eps": (torch.optim.Adadelta, {"rho": 0.8, "eps": 1e-2}),
    "adadelta_l2": (torch.optim.Adadelta, {"weight_decay": 0.1}),
    "rprop": (torch.optim.Rprop, {}),
    "rprop_bounded": (torch.optim.Rprop, {"etas": (0.3, 1.5), "step_sizes": (2e-3, 3e-2)}),
    "adamw_amsgrad": (torch.optim.AdamW, {"amsgrad": True, "betas": (0.9, 0.9), "weight_decay": 0.1}),
}


def trajectory(row: Row, kind: str, scale: float) -> np.ndarray:
    """The saved parameters of one case, shape (saved steps, entries)."""
    make, arguments = PEERS[row.name]
    params = {
        k: torch.tensor(p, dtype=torch.float64, requires_grad=True) for k, p in inputs.parameters(row.leaves).items()
    }
    optimizer = make(params.values(), lr=row.learning_rate, **arguments)
    group = optimizer.param_groups[0]

    def step(grads: dict[str, np.ndarray], learning_rate: float) -> dict[str, np.ndarray]:
        group["lr"] = learning_rate
        for k, p in params.items():
            p.grad = torch.tensor(grads[k], dtype=torch.float64)
        optimizer.step()
        return {k: p.detach().numpy().copy() for k, p in params.items()}

    if row.name in PRIMED:
        step({k: np.zeros(inputs.LEAVES[k]) for k in row.leaves}, 0.0)
    # torch's own lr_decay makes the sequence "reciprocal" out of a constant: that is what its row compares
    rates = inputs.learning_rates("constant" if kind == "reciprocal" else kind, row.learning_rate)
    return inputs.saved([step(g, rate) for g, rate in zip(inputs.gradients(scale, row.leaves), rates, strict=True)])


def main() -> None:
    """Write the file next to this script."""
    torch.set_default_dtype(torch.float64)  # NAdam keeps its product of momenta in the default dtype
    table = {
        row.name: np.array([[trajectory(row, kind, scale) for scale in inputs.SCALES] for kind in row.kinds])
        for row in TORCH + TORCH_MORE + TORCH_FAMILY
    }
    np.savez_compressed(Path(__file__).with_name("torch.npz"), **table)


if __name__ == "__main__":
    main()
