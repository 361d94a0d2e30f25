"""Write controllers.npz: what the authors' own programs do on the rows of controller_rows.py.

Run in an environment with torch==2.13.0, numpy, prodigyopt==1.1.2, dadaptation==3.2, schedulefree==1.4.1,
dog-optimizer==1.0.3, mechanic-pytorch==0.0.1 and momo-opt==0.1.0, from the folder tests:

    python -m golden.make_controllers

Needed only to make the file anew, never by the tests. Everything is float64 on the CPU. Rows whose source is "oracle"
belong to methods of which there is no installable author's program (SPS, L4, hypergradients, DoWG, COCOB, LARS, LAMB,
Lookahead, the clipped form of Mechanic); they are written by the oracles and show only that these have not changed.
"""

from collections.abc import Callable
from pathlib import Path

import dadaptation
import dog
import momo
import numpy as np
import prodigyopt
import schedulefree
import torch
from mechanic_pytorch import mechanize

from . import controller_rows as rows

Options = dict
BASES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


def betas(options: Options) -> Options:
    """b1, b2, b3 of a row as torch optimizers name them."""
    named = {}
    if "b1" in options or "b2" in options:
        named["betas"] = (options.pop("b1", 0.9), options.pop("b2", 0.999))
    if "b3" in options:
        named["beta3"] = options.pop("b3")
    return {**named, **options}


def prodigy(params: list, options: Options) -> tuple:
    optimizer = prodigyopt.Prodigy(params, **betas(options))
    return optimizer, lambda group: group["d"]


def dadapt(params: list, options: Options) -> tuple:
    return dadaptation.DAdaptAdam(params, **betas(options)), lambda group: group["d"]


def dadapt_sgd(params: list, options: Options) -> tuple:
    return dadaptation.DAdaptSGD(params, **options), lambda group: group["d"]


def distance_over_gradients(params: list, options: Options) -> tuple:
    kind = dog.LDoG if options.pop("per_leaf", False) else dog.DoG
    decay = options.pop("l2", 0.0)
    return kind(params, weight_decay=decay, **options), None


def mechanic(params: list, options: Options) -> tuple:
    rate, kind = options.pop("lr", 1.0), BASES[options.pop("rule", "sgd")]
    options["s_decay"] = options.pop("decay", 0.01)
    return mechanize(kind, **options)(params, lr=rate), None


def model(params: list, options: Options) -> tuple:
    options["lb"] = options.pop("lower_bound", 0.0)
    options["use_fstar"] = options.pop("adapt_lower_bound", False)
    if "b2" not in options:
        options["beta"] = options.pop("b1", 0.9)
        return momo.Momo(params, **options), None
    options["divide"] = options.pop("proximal", True)
    return momo.MomoAdam(params, **betas(options)), None


def free(params: list, options: Options) -> tuple:
    if options.pop("rule", "sgd") == "sgd":
        return schedulefree.SGDScheduleFree(params, momentum=options.pop("b1", 0.9), **options), None
    return schedulefree.AdamWScheduleFree(params, betas=(options.pop("b1", 0.9), 0.999), **options), None


MAKERS: dict[str, Callable[[list, Options], tuple]] = {
    "prodigy_adam": prodigy,
    "dadapt_adam": dadapt,
    "dadapt_sgd": dadapt_sgd,
    "dog": distance_over_gradients,
    "dog_averaged": distance_over_gradients,
    "mechanic": mechanic,
    "momo": model,
    "schedule_free": free,
}


class Weights(torch.nn.Module):
    """The parameters as a module, which the averager of DoG wants."""

    def __init__(self):
        super().__init__()
        for name, value in rows.START.items():
            setattr(self, name, torch.nn.Parameter(torch.tensor(value)))


def tree(weights: torch.nn.Module) -> rows.Tree:
    return {name: getattr(weights, name).detach().numpy().copy() for name in rows.SHAPES}


def rate_used(row: rows.Row, optimizer: torch.optim.Optimizer) -> float | list | None:
    """The rate of the last step, where the program keeps it."""
    group = optimizer.param_groups[0]
    if row.method in ("dog", "dog_averaged"):
        etas = [float(eta) for eta in group["eta"]]
        return etas if row.options.get("per_leaf") else etas[0]
    if row.method == "mechanic":
        return max(float(optimizer.state["_mechanic"]["s"].sum()), 0.0)
    return group["scheduled_lr"] if row.method == "schedule_free" else None


def trajectory(row: rows.Row) -> dict[str, np.ndarray]:
    """One row by its author's program."""
    options, schedule = dict(row.options), None
    if options.get("lr") == "cosine":
        schedule, options["lr"] = rows.cosine(row.steps), 1.0
    weights = Weights()
    optimizer, estimate = MAKERS[row.method](list(weights.parameters()), options)
    averager = dog.PolynomialDecayAverager(weights) if row.method == "dog_averaged" else None
    if row.method == "schedule_free":
        optimizer.train()
    params, rates, extra, evaluated = [], [], [], []
    for t in range(row.steps):
        loss, gradients = row.loop(t, tree(weights))
        for name in rows.SHAPES:
            getattr(weights, name).grad = torch.tensor(gradients[name])
        for group in optimizer.param_groups:
            group["lr"] = schedule(t) if schedule else group["lr"]
        optimizer.step(loss=torch.tensor(loss)) if row.method == "momo" else optimizer.step()
        params.append(tree(weights))
        rates.append(rate_used(row, optimizer))
        if estimate:
            extra.append(estimate(optimizer.param_groups[0]))
        if row.method == "momo":
            extra.append(optimizer.lb)
        if averager:
            averager.step()
            evaluated.append(tree(averager.averaged_model))
        if row.method == "schedule_free":
            optimizer.eval()
            evaluated.append(tree(weights))
            optimizer.train()
    arrays = {"params": rows.saved(params)}
    if rates[0] is not None:
        arrays["rate"] = np.array(rates)
    if extra or evaluated:
        arrays["extra"] = np.array(extra) if extra else rows.saved(evaluated)
    return arrays


def plateau(row: rows.Row) -> dict[str, np.ndarray]:
    """The rate of torch's scheduler after each loss, from a rate of 1."""
    options = {name: value for name, value in row.options.items() if name != "strict"}
    options["threshold"] = options.pop("rtol", 1e-4)
    options["min_lr"] = options.pop("min_scale", 0.0)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
    rates = []
    for loss in rows.LOSSES:
        scheduler.step(float(loss))
        rates.append(optimizer.param_groups[0]["lr"])
    return {"rate": np.array(rates)}


def main() -> None:
    torch.set_default_dtype(torch.float64)  # several of the programs keep scalars in the default type
    arrays = {}
    for row in rows.ROWS:
        if row.source == "oracle":
            found = rows.compute(row)
        else:
            found = plateau(row) if row.method == "plateau_scale" else trajectory(row)
        arrays |= {f"{row.name}.{suffix}": array for suffix, array in found.items()}
    np.savez_compressed(Path(__file__).with_name("controllers.npz"), **arrays)


if __name__ == "__main__":
    main()
