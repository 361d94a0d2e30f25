"""Write wrappers.npz: what the authors' own programs do on the rows of wrapper_rows.py.

Run in an environment with torch==2.13.0, numpy and scipy, from the folder tests, with checkouts of davda54/sam
(3c3afdb), SamsungLabs/ASAM (f156a68), ironjr/grokfast (93b2248) and ComputationalRobotics/TRAC (320a100), of the last
the folder package/src/trac_optimizer:

    python -m golden.make_wrappers SAM ASAM GROKFAST TRAC

Needed only to make the file anew, never by the tests. Everything is float64 on the CPU.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import scipy.special
import torch

from . import wrapper_rows as rows
from .controller_rows import START, Row, cosine, saved

Options = dict
Step = Callable[[Callable[[], None]], None]  # the gradients are there; called with what takes them anew
NAMES = {"b": "bias", "w": "weight"}  # ASAM knows weights by their name
BASES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "momentum": torch.optim.SGD}
USUAL = {"momentum": {"momentum": 0.9}}


class Weights(torch.nn.Module):
    """The parameters as a module."""

    def __init__(self):
        super().__init__()
        for name, value in START.items():
            setattr(self, NAMES[name], torch.nn.Parameter(torch.tensor(value)))

    def tree(self) -> dict[str, np.ndarray]:
        """The parameters."""
        return {name: getattr(self, NAMES[name]).detach().numpy().copy() for name in START}

    def take(self, gradients: dict[str, np.ndarray]) -> None:
        """Gradients as backward leaves them."""
        for name in START:
            getattr(self, NAMES[name]).grad = torch.tensor(gradients[name])


def program(path: str, name: str) -> ModuleType:
    """An author's file as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(path) / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def base(options: Options) -> tuple[type, Options]:
    """A torch optimizer and its arguments."""
    name = options.pop("rule", "sgd")
    lr = options.pop("lr", 0.1)
    return BASES[name], {"lr": 1.0 if lr == "cosine" else lr, **USUAL.get(name, {})}


def sam(module: ModuleType, weights: Weights, options: Options) -> tuple[torch.optim.Optimizer, Step]:
    kind, arguments = base(options)
    adaptive = bool(options.get("adaptive"))
    made = module.SAM(weights.parameters(), kind, rho=options.get("rho", 0.05), adaptive=adaptive, **arguments)

    def step(again: Callable[[], None]) -> None:
        made.first_step()
        again()
        made.second_step()

    return made.base_optimizer, step


def asam(module: ModuleType, weights: Weights, options: Options) -> tuple[torch.optim.Optimizer, Step]:
    kind, arguments = base(options)
    inner, adaptive = kind(weights.parameters(), **arguments), options.pop("adaptive", ())
    made = (module.ASAM if adaptive else module.SAM)(inner, weights, **options)

    def step(again: Callable[[], None]) -> None:
        made.ascent_step()
        again()
        made.descent_step()

    return inner, step


def grokfast(module: ModuleType, weights: Weights, options: Options) -> tuple[torch.optim.Optimizer, Step]:
    kind, arguments = base(options)
    inner, kept = kind(weights.parameters(), **arguments), []
    window, alpha = options.pop("window", None), options.pop("alpha", 0.98)

    def step(again: Callable[[], None]) -> None:
        before = kept.pop() if kept else None
        lamb = options.get("lamb", 2.0)
        if window is None:
            kept.append(module.gradfilter_ema(weights, grads=before, alpha=alpha, lamb=lamb))
        else:
            kept.append(module.gradfilter_ma(weights, grads=before, window_size=window, lamb=lamb))
        inner.step()

    return inner, step


def trac(module: ModuleType, weights: Weights, options: Options) -> tuple[torch.optim.Optimizer, Step]:
    decay = options.pop("weight_decay", 0.0)
    module.erfi = lambda x: torch.from_numpy(np.asarray(scipy.special.erfi(x.numpy())))  # see wrapper_rows.py
    kind, arguments = base(options)
    if decay:
        kind, arguments = torch.optim.AdamW, {**arguments, "weight_decay": decay}
    options["s_prev"] = options.pop("s_init", 1e-8)
    made = module.start_trac(log_file=os.devnull, Base=kind, **options)(weights.parameters(), **arguments)
    return made, lambda again: made.step()


def trajectory(row: Row, make: Callable, module: ModuleType) -> dict[str, np.ndarray]:
    """One row by its author's program."""
    weights, params, totals = Weights(), [], []
    optimizer, step = make(module, weights, dict(row.options))
    schedule = cosine(row.steps) if row.options.get("lr") == "cosine" else None
    for t in range(row.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule(t) if schedule else group["lr"]
        weights.take(row.loop(t, weights.tree())[1])
        step(lambda t=t: weights.take(row.loop(t, weights.tree())[1]))
        params.append(weights.tree())
        if row.method == "trac":
            totals.append(float(optimizer.state["_trac"]["s"].sum()))
    arrays = {"params": saved(params)}
    return {**arrays, "extra": np.array(totals)} if totals else arrays


def main() -> None:
    torch.set_default_dtype(torch.float64)  # before TRAC's program is read, which makes its constants then
    made = {
        source: (make, program(path, name))
        for (source, make, name), path in zip(
            ((rows.SAM, sam, "sam"), (rows.ASAM, asam, "asam"), (rows.GROKFAST, grokfast, "grokfast"),
             (rows.TRAC, trac, "trac")), sys.argv[1:], strict=True)
    }  # fmt: skip
    arrays = {}
    for row in rows.ROWS:
        found = trajectory(row, *made[row.source])
        arrays |= {f"{row.name}.{suffix}": array for suffix, array in found.items()}
    np.savez_compressed(Path(__file__).with_name("wrappers.npz"), **arrays)


if __name__ == "__main__":
    main()
