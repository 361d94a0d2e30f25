"""Write matrices.npz: what the authors' own programs do on the rows of rows_matrices.py.

Run in an environment with torch==2.13.0 and numpy, from the folder tests, with TORCHDYNAMO_DISABLE=1 and the checkouts
of four repositories:

    python -m golden.make_matrices KellerJordan/Muon zichongli5/NorMuon LIONS-EPFL/scion microsoft/dion

(857d1ad, d45c9a4, f58a393 and 0a059a4). Needed only to make the file anew, never by the tests. Everything is float64
on the CPU: where the programs cast to bfloat16 or float32, the cast is made to do nothing. Dion's first Q is ours.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from oracles.matrices import first_columns

from . import inputs
from .row import Row
from .rows_matrices import MATRIX_ROWS

Step = Callable[[dict[str, np.ndarray], float], dict[str, np.ndarray]]


def widen() -> None:
    """Make casts to narrower floating types do nothing."""
    plain, narrow = torch.Tensor.to, (torch.bfloat16, torch.float32)

    def to(self, *args, **options):
        if any(x in narrow for x in (*args, *options.values()) if isinstance(x, torch.dtype)):
            return self
        return plain(self, *args, **options)

    torch.Tensor.to = to
    torch.Tensor.bfloat16 = lambda self: self
    torch.set_default_dtype(torch.float64)


def module(path: Path, name: str) -> ModuleType:
    """A file of a checkout as a module; inside the package of its folder where that has one."""
    if (path.parent / "__init__.py").exists():
        package = ModuleType(path.parent.name)
        package.__path__ = [str(path.parent)]
        sys.modules[path.parent.name] = package
        name = f"{path.parent.name}.{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


class Programs:
    """The authors' modules."""

    def __init__(self, muon: str, normuon: str, scion: str, dion: str):
        self.muon = module(Path(muon, "muon.py"), "keller_muon")
        self.normuon = module(Path(normuon, "normuon.py"), "li_normuon")
        self.scion = module(Path(scion, "scion.py"), "lions_scion")
        self.dion = module(Path(dion, "dion", "dion_simple.py"), "dion_simple")


def like_muon(update: Callable, row: Row, buffers: int) -> Callable[[torch.Tensor, float], None]:
    """A step of Muon's or NorMuon's update function with the lines of its optimizer around it."""
    hyper, decay, state = dict(row.rule), row.engine.get("weight_decay", 0.0), {}
    options = {"beta": hyper.get("decay", 0.95), "nesterov": hyper.get("nesterov", True)}
    options |= {"ns_steps": hyper.get("steps", 5)} | ({"beta2": hyper.get("b2", 0.95)} if buffers == 2 else {})

    def step(p: torch.Tensor, rate: float) -> None:
        if p not in state:
            state[p] = [torch.zeros_like(p), torch.zeros_like(p[..., 0:1])][:buffers]
        d = update(p.grad, *state[p], **options)
        p.mul_(1 - rate * decay)
        p.add_(d.reshape(p.shape), alpha=-rate)

    return step


NORMS = {"spectral": "Spectral", "sign": "Sign", "column": "ColNorm", "row": "RowNorm"}


def scion(programs: Programs, row: Row, params: dict[str, torch.Tensor]) -> torch.optim.Optimizer:
    hyper = dict(row.rule)
    norm, options = NORMS[hyper.get("norm", "spectral")], {}
    if row.leaves == ("b",):
        norm = "BiasRMS"
    if hyper.get("output") == "columns":
        options["transpose"] = True
    free = row.engine.get("weight_decay") == 0.0
    momentum, scale = 1.0 - hyper.get("decay", 0.9), hyper.get("radius", 50.0)
    return programs.scion.Scion(
        list(params.values()), row.learning_rate, momentum, norm, options, scale, unconstrained=free
    )


def dion(programs: Programs, row: Row, params: dict[str, torch.Tensor]) -> torch.optim.Optimizer:
    hyper = dict(row.rule)
    groups = [{"params": [p]} for p in params.values()]
    decay = row.engine.get("weight_decay", 0.0)
    optimizer = programs.dion.Dion(
        groups, row.learning_rate, hyper.get("decay", 0.95), weight_decay=decay, epsilon=hyper.get("eps", 1e-8)
    )
    for p in params.values():
        rank = int(np.ceil(hyper.get("rank_fraction", 1.0) * min(p.shape)))
        state = optimizer.state[p]
        state["momentum"], state["Q"] = torch.zeros_like(p), torch.tensor(first_columns(p.shape[1], rank))
    return optimizer


def stepper(programs: Programs, row: Row, params: dict[str, torch.Tensor]) -> Step:
    """One step of a row's program."""
    if row.constructor in ("muon", "normuon"):
        update = programs.muon.muon_update if row.constructor == "muon" else programs.normuon.normuon_update
        one = like_muon(update, row, 1 if row.constructor == "muon" else 2)
    else:
        optimizer = (scion if row.constructor == "scion" else dion)(programs, row, params)
        one = None

    def step(grads: dict[str, np.ndarray], rate: float) -> dict[str, np.ndarray]:
        for k, p in params.items():
            p.grad = torch.tensor(grads[k], dtype=torch.float64)
        with torch.no_grad():
            if one is None:
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.step()
            else:
                for p in params.values():
                    one(p, rate)
        return {k: p.detach().numpy().copy() for k, p in params.items()}

    return step


def trajectory(programs: Programs, row: Row, kind: str, scale: float) -> np.ndarray:
    """The saved parameters of one case, shape (saved steps, entries)."""
    start = inputs.parameters(row.leaves)
    params = {k: torch.tensor(p, dtype=torch.float64, requires_grad=True) for k, p in start.items()}
    step, rates = stepper(programs, row, params), inputs.learning_rates(kind, row.learning_rate)
    return inputs.saved([step(g, rate) for g, rate in zip(inputs.gradients(scale, row.leaves), rates, strict=True)])


def main() -> None:
    """Write the file next to this script."""
    widen()
    programs = Programs(*sys.argv[1:])
    table = {
        row.name: np.array([[trajectory(programs, row, kind, scale) for scale in inputs.SCALES] for kind in row.kinds])
        for row in MATRIX_ROWS
    }
    np.savez_compressed(Path(__file__).with_name("matrices.npz"), **table)


if __name__ == "__main__":
    main()
