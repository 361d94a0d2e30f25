"""Write preconditioned.npz: the trajectories of the authors' programs for the rows of rows_preconditioned.py.

Run in an environment with torch==2.13.0 and numpy, from the folder tests, with the folders of four checkouts:

    TORCHDYNAMO_DISABLE=1 python -m golden.make_preconditioned SOAP OPTIMIZERS KRON_TORCH SPLUS

which are github.com/nikhilvyas/SOAP at a1e5535, facebookresearch/optimizers at f606606, evanatyourservice/kron_torch at
884427c and kvfrans/splus at d96bd16. Names of rows behind them make these alone anew, and keep the others as they are
in the file. Needed only to make the file anew, never by the tests. Everything is float64 on the CPU: SOAP and
kron_torch call `Tensor.float` on their factors, which stands for `Tensor.double` here, and Shampoo keeps its rate in a
float32 array, which a float64 one replaces. kron_torch draws the numbers of the oracle, and fits to a copy of the
gradient, to which it adds its noise in place.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from oracles import draws

from . import inputs
from .row import Row
from .rows_preconditioned import ROWS

Options = dict


def soap(p: list, options: Options, row: Row) -> torch.optim.Optimizer:
    names = {"every": "precondition_frequency", "max_dim": "max_precond_dim", "shampoo_beta": "shampoo_beta"}
    given = {names[k]: v for k, v in options.items() if k in names} | {"eps": options.get("eps", 1e-8)}
    betas = options.get("b1", 0.95), options.get("b2", 0.95)
    return importlib.import_module("soap").SOAP(p, betas=betas, weight_decay=0.0, **given)


def shampoo(p: list, options: Options, row: Row) -> torch.optim.Optimizer:
    program = importlib.import_module("distributed_shampoo")
    graft, eps = options.get("graft", "adam"), options.get("graft_eps", 1e-8)
    kinds = {
        "adam": lambda: program.AdamPreconditionerConfig(beta2=options.get("graft_b2", 0.999), epsilon=eps),
        "rmsprop": lambda: program.RMSpropPreconditionerConfig(beta2=options.get("graft_b2", 0.999), epsilon=eps),
        "adagrad": lambda: program.AdaGradPreconditionerConfig(epsilon=eps),
        "sgd": program.SGDPreconditionerConfig,
        "none": lambda: None,
    }
    decays = [options.get("b1", 0.9), options.get("b2", 0.999)]
    optimizer = program.DistributedShampoo(
        p,
        betas=(decays[0] or 0.0, decays[1] or 1.0),
        epsilon=options.get("eps", 1e-12),
        weight_decay=row.engine.get("weight_decay", 0.0),
        max_preconditioner_dim=options.get("block_size", 1024),
        precondition_frequency=options.get("every", 10),
        start_preconditioning_step=options.get("start", 10),
        grafting_config=kinds[graft](),
        distributed_config=program.SingleDeviceDistributedConfig(target_parameter_dimensionality=2),
        preconditioner_config=program.RootInvShampooPreconditionerConfig(
            factor_matrix_dtype=torch.float64, inv_factor_matrix_dtype=torch.float64
        ),
    )
    for lists in optimizer._per_group_state_lists:
        lists |= {name: torch.zeros(()) for name in ("lr_tensor", "lr_cpu_pinned")}
    return optimizer


def kron(p: list, options: Options, row: Row) -> torch.optim.Optimizer:
    program = importlib.import_module("kron_torch.kron")
    options = {k: v for k, v in options.items() if k != "balance_prob"}
    schedule = {"max_prob": 1.0, "min_prob": 0.03, "prob_decay": 0.001, "flat_start": 500.0}
    schedule = {k: options.pop(k, v) for k, v in schedule.items()}
    schedule["decay"] = schedule.pop("prob_decay")
    if not hasattr(program, "fit"):
        program.fit = program._update_precond
        program._update_precond = lambda Q, exprs, G, step, tiny: program.fit(Q, exprs, G.clone(), step, tiny)
    prob = program.precond_update_prob_schedule(**schedule)
    return program.Kron(p, preconditioner_update_probability=prob, precond_dtype=torch.float64, **options)


def splus(p: list, options: Options, row: Row) -> torch.optim.Optimizer:
    options = {"inverse_every" if k == "every" else k: v for k, v in options.items()}
    return importlib.import_module("splus").SPlus(p, weight_decay=0.0, **options)


MAKERS: dict[str, Callable] = {"soap": soap, "shampoo": shampoo, "psgd_kron": kron, "splus": splus}


def trajectory(row: Row, kind: str, scale: float) -> np.ndarray:
    """The saved parameters of one case, an optimizer for every leaf."""
    history = [{} for _ in range(inputs.STEPS)]
    for leaf, name in enumerate(sorted(row.leaves)):
        start = inputs.parameters(row.leaves)[name]
        p = torch.nn.Parameter(torch.tensor(np.atleast_1d(start)))
        optimizer = MAKERS[row.constructor]([p], dict(row.rule), row)
        rates = inputs.learning_rates(kind, row.learning_rate)
        for t, (g, rate) in enumerate(zip(inputs.gradients(scale, row.leaves), rates, strict=True)):
            optimizer.param_groups[0]["lr"] = rate
            p.grad = torch.tensor(np.atleast_1d(g[name]))
            seed = draws.seed_of(t + 1, leaf)
            torch.randn_like = lambda x, seed=seed: torch.tensor(draws.normals(tuple(x.shape), seed))
            if row.constructor == "psgd_kron":
                toss = 0.0 if draws.coin(seed) < row.rule.get("balance_prob", 0.01) else 1.0
                optimizer.rng.random = lambda toss=toss: toss
            optimizer.step()
            history[t][name] = p.detach().numpy().copy().reshape(start.shape)
    return inputs.saved(history)


def main() -> None:
    """Write the file next to this script."""
    soap_folder, shampoo_folder, kron_folder, splus_folder = map(Path, sys.argv[1:5])
    sys.path[:0] = map(str, (soap_folder, shampoo_folder, kron_folder, splus_folder / "torch"))
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    path, names = Path(__file__).with_name("preconditioned.npz"), sys.argv[5:]
    table = dict(np.load(path)) if names else {}
    for row in ROWS:
        if row.name in names or not names:
            cases = [[trajectory(row, kind, scale) for scale in inputs.SCALES] for kind in row.kinds]
            table[row.name] = np.array(cases)
    np.savez_compressed(path, **table)


if __name__ == "__main__":
    main()
