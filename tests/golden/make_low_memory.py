"""Write low_memory.npz: trajectories by the authors' programs for the rows of rows_low_memory.py.

Run in an environment with torch==2.13.0, optax==0.2.8 and numpy, from the folder tests, with the checkouts of
zyushun/Adam-mini, jiaweizzhao/GaLore, zhuhanqing/APOLLO, AnonymousAlethiometer/SGD_SaI and yangluo7/CAME:

    python -m golden.make_low_memory ADAM_MINI GALORE APOLLO SGD_SAI CAME

Needed only to make the file anew, never by the tests. Everything is float64 on the CPU; what of a program had to be
taken out for that, or replaced, is said beside it.
"""

import sys
import types
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from oracles.draws import normals, seed_of

from . import inputs
from .row import Row
from .rows_low_memory import LOW_MEMORY

TINY = 1e-150  # no root of a second moment on these inputs is smaller
Params = dict[str, torch.Tensor]


def program(path: Path, package: str, changes: dict[str, str]) -> types.ModuleType:
    """A file of a program as a module, with some of its words changed, past the rest of its package."""
    text = path.read_text("utf-8")
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"{path.name} has no {old!r} to be replaced; it is another version.")
        text = text.replace(old, new)
    module = types.ModuleType(f"{package}.{path.stem}")
    module.__package__ = package
    sys.modules[module.__name__] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def stub(name: str, **names: object) -> None:
    """A module that holds some names only, in place of one that is not installed or not needed."""
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(names)


def load(folders: list[Path]) -> dict[str, types.ModuleType]:
    """The programs.

    GaLore's projector casts all that is not torch.float, so that its decompositions are made in float32.
    """
    mini, galore, apollo, sai, came = folders
    stub("transformers")
    stub("transformers.utils")
    stub("transformers.utils.versions", require_version=lambda _: None)
    for package in ("galore_torch", "apollo_torch"):
        stub(package)
        sys.modules[package].__path__ = []
    stub("galore_torch.galore_projector_tensor", GaLoreProjectorTensor=None)
    program(galore / "galore_torch/galore_projector.py", "galore_torch", {"torch.float:": "torch.float64:"})
    program(apollo / "apollo_torch/svd_projector.py", "apollo_torch", {})
    random = program(apollo / "apollo_torch/random_projector.py", "apollo_torch", {})
    random.stable_randn, random.next_seed = drawn, lambda seed: seed + 1
    return {
        "adam_mini": program(mini / "adam_mini/adam_mini.py", "adam_mini", {}),
        "galore": program(galore / "galore_torch/adamw.py", "galore_torch", {}),
        "apollo": program(apollo / "apollo_torch/apollo.py", "apollo_torch", {"+ 1e-8": "+ 1e-300"}),
        "sgd_sai": program(sai / "sgd_sai/sgd_sai.py", "sgd_sai", {}),
        "came": program(came / "came_pytorch/CAME.py", "came_pytorch", {}),
    }


def drawn(shape: tuple[int, int], seed: int, **_: object) -> torch.Tensor:
    """The library's normal numbers, for a seed of 1000 times the leaf and the turn; a wide matrix's lie transposed."""
    leaf, turn = divmod(seed, 1000)
    short_first = shape if shape[0] >= shape[1] else shape[::-1]
    numbers = torch.tensor(normals(short_first, seed_of(turn, leaf)))
    return numbers if short_first == shape else numbers.T


def signed_svd(matrix: torch.Tensor, full_matrices: bool) -> tuple[torch.Tensor, ...]:
    """torch's decomposition, the largest entry of every vector that a projector takes positive."""
    assert not full_matrices
    assert matrix.dtype == torch.float64, "the projector has cast"
    u, s, vh = SVD(matrix, full_matrices=False)
    largest = lambda x, dim: torch.sign(torch.take_along_dim(x, x.abs().argmax(dim, keepdim=True), dim))  # noqa: E731
    return u * largest(u, 0), s, vh * largest(vh, 1)


SVD = torch.linalg.svd


def betas(rule: dict) -> tuple[float, float]:
    """b1 and b2."""
    return rule.get("b1", 0.9), rule.get("b2", 0.999)


def grouped(params: Params, rank: int, options: Callable[[str], dict]) -> list[dict]:
    """Parameter groups: a projected one for every matrix whose shorter axis is longer than the rank, and the rest."""
    low = [k for k, p in params.items() if p.ndim >= 2 and min(p.shape) > rank]
    rest = [p for k, p in params.items() if k not in low]
    groups = [{"params": [params[k]], "rank": rank, "proj_type": "std", **options(k)} for k in low]
    return groups + ([{"params": rest}] if rest else [])


def adam_mini(module: types.ModuleType, row: Row, params: Params) -> torch.optim.Optimizer:
    block = "q_proj" if "size" in row.rule else "norm" if "axis" in row.rule else "mlp"
    names = {k: f"{block}.{k}" if p.ndim >= 2 or block == "norm" else f"bias.{k}" for k, p in params.items()}
    return module.Adam_mini(
        [(names[k], p) for k, p in params.items()],
        row.learning_rate,
        betas(row.rule),
        row.rule.get("eps", 1e-8),
        row.engine.get("weight_decay", 0.0),
        dim=6,  # 36 / 3 elements in a head: four rows of three, three of four
        n_heads=3,
        verbose=False,
    )


def galore(module: types.ModuleType, row: Row, params: Params) -> torch.optim.Optimizer:
    options = {"update_proj_gap": row.rule["gap"], "scale": row.rule.get("scale", 0.25)}
    groups = grouped(params, row.rule["rank"], lambda _: options)
    return module.AdamW(groups, row.learning_rate, betas(row.rule), TINY, no_deprecation_warning=True)


def apollo(module: types.ModuleType, row: Row, params: Params) -> torch.optim.Optimizer:
    mini = row.constructor == "apollo_mini"
    rank = 1 if mini else row.rule["rank"]

    def options(k: str) -> dict:
        scale = row.rule.get("scale", 128.0**0.5 if mini else 1.0)
        return {
            "proj": "random",
            "scale_type": "tensor" if mini else row.rule.get("scaling", "channel"),
            "scale": min(params[k].shape) / rank if scale is None else scale**2,
            "update_proj_gap": row.rule.get("gap", 200),
        }

    groups, free = grouped(params, rank, options), row.rule.get("limit", 1.01) is None
    optimizer = module.AdamW(groups, row.learning_rate, betas(row.rule), disable_nl=free)
    for leaf, k in enumerate(sorted(params)):
        optimizer.state[params[k]]["seed"] = 1000 * leaf + 1
    return optimizer


def sgd_sai(module: types.ModuleType, row: Row, params: Params) -> torch.optim.Optimizer:
    eps, decay = row.rule.get("eps", 1e-8), row.engine.get("weight_decay", 0.0)
    return module.SGD_sai(params.values(), row.learning_rate, row.rule.get("decay", 0.9), eps, decay)


def came(module: types.ModuleType, row: Row, params: Params) -> torch.optim.Optimizer:
    return module.CAME(
        params.values(),
        row.learning_rate,
        (row.rule.get("eps1", 1e-30), row.rule.get("eps2", 1e-16)),
        row.rule.get("clip_threshold", 1.0),
        (*betas(row.rule), row.rule.get("b3", 0.9999)),
        row.engine.get("weight_decay", 0.0),
    )


MAKERS = {"adam_mini": adam_mini, "galore": galore, "apollo": apollo, "sgd_sai": sgd_sai, "came": came}


def trajectory(modules: dict[str, types.ModuleType], row: Row, kind: str, scale: float) -> np.ndarray:
    """The saved parameters of one case, shape (saved steps, entries)."""
    rates, table = inputs.learning_rates(kind, row.learning_rate), inputs.gradients(scale, row.leaves)
    if row.constructor == "sm3":
        return by_optax(row, rates, table)
    params = {k: torch.tensor(p, requires_grad=True) for k, p in inputs.parameters(row.leaves).items()}
    method = row.constructor.removesuffix("_mini") if row.constructor == "apollo_mini" else row.constructor
    optimizer, history = MAKERS[method](modules[method], row, params), []
    for grads, rate in zip(table, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for k, p in params.items():
            p.grad = torch.tensor(grads[k])
        with torch.no_grad():
            optimizer.step()
        history.append({k: p.detach().numpy().copy() for k, p in params.items()})
    return inputs.saved(history)


def by_optax(row: Row, rates: list[float], table: list[dict]) -> np.ndarray:
    """The same by optax.sm3's transformation."""
    scaling = optax.scale_by_sm3(row.rule.get("b1", 0.9) or 0.0, 1.0, row.rule["eps"])
    chain = optax.chain(scaling, optax.add_decayed_weights(row.engine.get("weight_decay", 0.0)))
    params = {k: jnp.asarray(p) for k, p in inputs.parameters(row.leaves).items()}
    state, history = chain.init(params), []
    for grads, rate in zip(table, rates, strict=True):
        updates, state = chain.update({k: jnp.asarray(g) for k, g in grads.items()}, state, params)
        params = {k: p - rate * updates[k] for k, p in params.items()}
        history.append({k: np.asarray(p) for k, p in params.items()})
    return inputs.saved(history)


def main(folders: list[Path]) -> None:
    """Write the file next to this script."""
    torch.set_default_dtype(torch.float64)
    torch.linalg.svd = signed_svd
    modules = load(folders)
    with jax.enable_x64(True):
        table = {
            row.name: np.array(
                [[trajectory(modules, row, kind, scale) for scale in inputs.SCALES] for kind in row.kinds]
            )
            for row in LOW_MEMORY
        }
    np.savez_compressed(Path(__file__).with_name("low_memory.npz"), **table)


if __name__ == "__main__":
    main([Path(folder) for folder in sys.argv[1:]])
