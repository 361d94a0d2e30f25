"""The closed loop on which controllers are compared, and the table of what the golden file holds.

The problem is least squares on a fresh minibatch at every step,

    f_t(w, b) = ‖X_t w + b − Y_t‖² / (2 · BATCH),  Y_t = X_t w* + b* + NOISE · ε_t,

with columns of X_t of very different size. Its gradients depend on the parameters: an error of a controller feeds back.
`numpy.random.RandomState` because its stream is frozen. NumPy only.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from oracles import betting, distance, feedback, iterates, momentum_model
from oracles.controllers import Tree, base, with_l2

LONG, SHORT = 200, 100  # steps
SAVED = (1, 2, 3, 5, 10, 20, 50, 100, 200)  # steps after which the parameters are kept
SHAPES = {"b": (3,), "w": (6, 3)}
BATCH, NOISE = 8, 0.1
SCALES = np.array([1.0, 0.3, 2.0, 0.1, 1.0, 0.5])  # of the columns of X

_random = np.random.RandomState(20260)
X = _random.normal(size=(LONG, BATCH, 6)) * SCALES
SOLUTION = {"b": _random.normal(size=3), "w": _random.normal(size=(6, 3))}
Y = X @ SOLUTION["w"] + SOLUTION["b"] + NOISE * _random.normal(size=(LONG, BATCH, 3))
START = {"b": np.zeros(3), "w": 0.3 * _random.normal(size=(6, 3))}
LOSSES = np.round(2.0 * 0.97 ** np.arange(SHORT) + 0.3 * _random.uniform(size=SHORT), 6)  # open loop, for plateau


def problem(t: int, x: Tree) -> tuple[float, Tree]:
    """Loss and gradients of step t, counted from 0."""
    residual = X[t] @ x["w"] + x["b"] - Y[t]
    gradients = {"b": residual.sum(axis=0) / BATCH, "w": X[t].T @ residual / BATCH}
    return float(np.sum(residual**2) / (2 * BATCH)), gradients


def full(t: int, x: Tree) -> tuple[float, Tree]:
    """The same loss over the data of all steps, without their noise: convex, deterministic, minimum 0 at SOLUTION."""
    inputs = X.reshape(-1, 6)
    residual = inputs @ (x["w"] - SOLUTION["w"]) + (x["b"] - SOLUTION["b"])
    count = len(inputs)
    return float(np.sum(residual**2) / (2 * count)), {
        "b": residual.sum(axis=0) / count,
        "w": inputs.T @ residual / count,
    }


def tiny(t: int, x: Tree) -> tuple[float, Tree]:
    """The problem of step t with loss and gradients of size ε = 1e-8."""
    loss, g = problem(t, x)
    return 1e-8 * loss, {name: 1e-8 * leaf for name, leaf in g.items()}


def cosine(steps: int) -> Callable[[int], float]:
    """(1 + cos(π t / steps)) / 2 at step t counted from 0: positive at every step."""
    return lambda t: 0.5 * (1 + np.cos(np.pi * t / steps))


def flatten(x: Tree) -> np.ndarray:
    """All leaves as one vector, in the order of SHAPES."""
    return np.concatenate([x[name].ravel() for name in SHAPES])


def saved(params: list[Tree]) -> np.ndarray:
    """The kept steps of a history, shape (kept, entries)."""
    return np.stack([flatten(params[t - 1]) for t in SAVED if t <= len(params)])


class Row(NamedTuple):
    """One golden trajectory: `name.params`, `name.rate` and, where there is one, `name.extra` in the file.

    options go to the oracle of the same method, by its own argument names. `extra` is Prodigy's and D-Adaptation's d
    after the step, MoMo's lower bound; for schedule-free and averaged rows the parameters to evaluate, like params.
    """

    name: str
    method: str
    options: dict[str, Any]
    steps: int = SHORT
    source: str = "oracle"  # the package that made it, or "oracle": then it only guards the oracle against change
    loop: Callable = problem


PRODIGY, DADAPT, FREE = "prodigyopt 1.1.2", "dadaptation 3.2", "schedulefree 1.4.1"
DOG, MECHANIC, MOMO = "dog-optimizer 1.0.3", "mechanic-pytorch 0.0.1", "momo-opt 0.1.0"

ROWS = (
    Row("prodigy", "prodigy_adam", {}, LONG, PRODIGY),
    Row("prodigy_bias", "prodigy_adam", {"use_bias_correction": True}, LONG, PRODIGY),
    Row("prodigy_safeguard", "prodigy_adam", {"safeguard_warmup": True, "lr": "cosine"}, LONG, PRODIGY),
    Row("prodigy_cosine", "prodigy_adam", {"lr": "cosine"}, LONG, PRODIGY),
    Row("prodigy_decay", "prodigy_adam", {"weight_decay": 0.1}, LONG, PRODIGY),
    Row("prodigy_l2", "prodigy_adam", {"weight_decay": 0.1, "decouple": False}, LONG, PRODIGY),
    Row("prodigy_coef", "prodigy_adam", {"d_coef": 0.5, "b3": 0.99, "b1": 0.8, "b2": 0.99}, LONG, PRODIGY),
    Row("prodigy_growth", "prodigy_adam", {"growth_rate": 1.02}, LONG, PRODIGY),
    Row("prodigy_d0", "prodigy_adam", {"d0": 1e-3, "lr": 0.5}, LONG, PRODIGY),
    Row("prodigy_eps", "prodigy_adam", {"eps": 1e-2}, LONG, PRODIGY),
    Row("prodigy_tiny", "prodigy_adam", {}, LONG, PRODIGY, tiny),
    Row("dadapt", "dadapt_adam", {}, LONG, DADAPT),
    Row("dadapt_bias", "dadapt_adam", {"use_bias_correction": True}, LONG, DADAPT),
    Row("dadapt_decay", "dadapt_adam", {"weight_decay": 0.1, "decouple": True}, LONG, DADAPT),
    Row("dadapt_l2", "dadapt_adam", {"weight_decay": 0.1}, LONG, DADAPT),
    Row("dadapt_cosine", "dadapt_adam", {"lr": "cosine"}, LONG, DADAPT),
    Row("dadapt_growth", "dadapt_adam", {"growth_rate": 1.02, "d0": 1e-4}, LONG, DADAPT),
    Row("dadapt_eps", "dadapt_adam", {"eps": 1e-2}, LONG, DADAPT),
    Row("dadapt_sgd", "dadapt_sgd", {}, LONG, DADAPT),
    Row("dadapt_sgd_momentum", "dadapt_sgd", {"momentum": 0.9, "lr": "cosine"}, LONG, DADAPT),
    Row("dog", "dog", {}, SHORT, DOG),
    Row("dog_reps", "dog", {"reps_rel": 1e-3, "lr": 0.7}, SHORT, DOG),
    Row("dog_l2", "dog", {"reps_rel": 1e-3, "l2": 0.1}, SHORT, DOG),
    Row("ldog", "dog", {"per_leaf": True, "reps_rel": 1e-3}, SHORT, DOG),
    Row("dog_averaged", "dog_averaged", {"reps_rel": 1e-3}, SHORT, DOG),
    Row("dowg", "dowg", {}),
    Row("dog_adam", "dog", {"rule": "adam", "reps_rel": 1e-3}),
    Row("mechanic", "mechanic", {}, SHORT, MECHANIC),
    Row("mechanic_s_init", "mechanic", {"s_init": 1e-3, "decay": 0.1, "lr": 0.1}, SHORT, MECHANIC),
    Row("mechanic_adam", "mechanic", {"rule": "adam", "lr": "cosine"}, SHORT, MECHANIC),
    Row("mechanic_clipped", "mechanic", {"clipped": True, "s_init": 1e-6}),
    Row("cocob", "cocob", {}),
    Row("momo", "momo", {}, SHORT, MOMO),
    Row("momo_capped", "momo", {"lr": 0.1, "lower_bound": 0.01}, SHORT, MOMO),
    Row("momo_bias", "momo", {"bias_correction": True, "lr": "cosine"}, SHORT, MOMO),
    Row("momo_decay", "momo", {"weight_decay": 0.1}, SHORT, MOMO),
    Row("momo_bound", "momo", {"adapt_lower_bound": True}, SHORT, MOMO),
    Row("momo_adam", "momo", {"b2": 0.999, "lr": 1e-2}, SHORT, MOMO),
    Row("momo_adam_large", "momo", {"b2": 0.999, "lr": 1.0, "eps": 1e-3}, SHORT, MOMO),
    Row("momo_adam_decay", "momo", {"b2": 0.999, "lr": 0.3, "weight_decay": 0.1}, SHORT, MOMO),
    Row("momo_adam_decoupled", "momo", {"b2": 0.999, "lr": 0.3, "weight_decay": 0.1, "proximal": False}, SHORT, MOMO),
    Row("momo_adam_bound", "momo", {"b2": 0.999, "lr": 0.3, "adapt_lower_bound": True}, SHORT, MOMO),
    Row("schedule_free_sgd", "schedule_free", {"lr": 0.1}, SHORT, FREE),
    Row("schedule_free_sgd_warmup", "schedule_free", {"lr": 0.1, "warmup_steps": 20, "r": 1.0}, SHORT, FREE),
    Row("schedule_free_sgd_decay", "schedule_free", {"lr": 0.1, "b1": 0.95, "weight_decay": 0.1}, SHORT, FREE),
    Row("schedule_free_adamw", "schedule_free", {"rule": "adam_b2", "lr": 0.05}, SHORT, FREE),
    Row(
        "schedule_free_adamw_warmup", "schedule_free", {"rule": "adam_b2", "lr": 0.05, "warmup_steps": 20}, SHORT, FREE
    ),
    Row(
        "schedule_free_adamw_all",
        "schedule_free",
        {
            "rule": "adam_b2",
            "lr": 0.05,
            "warmup_steps": 7,
            "weight_decay": 0.1,
            "r": 0.5,
            "b1": 0.8,
            "weight_lr_power": 1.0,
        },
        SHORT,
        FREE,
    ),
    Row(
        "plateau_torch",
        "plateau_scale",
        {"factor": 0.5, "patience": 2, "cooldown": 3, "strict": True},
        SHORT,
        "torch 2.13.0",
    ),
    Row(
        "plateau_floor",
        "plateau_scale",
        {"patience": 1, "min_scale": 0.02, "rtol": 1e-2, "strict": True},
        SHORT,
        "torch 2.13.0",
    ),
    Row("threshold_global", "threshold", {"low": 0.02, "high": 0.2, "tau": 1.0}),
    Row("threshold_leaf", "threshold", {"low": 0.02, "high": 0.2, "tau": 1.0, "scope": "leaf"}),
    Row("threshold_element", "threshold", {"low": 0.02, "high": 0.2, "tau": 0.3, "scope": "element"}),
    Row("hyper_additive", "hypergradient", {"mode": "additive", "lr": 1e-3, "hyper_lr": 1e-3}),
    Row("hyper_additive_adam", "hypergradient", {"mode": "additive", "lr": 1e-3, "hyper_lr": 1e-4, "rule": "adam"}),
    Row("hyper", "hypergradient", {"lr": 1e-3, "hyper_lr": 0.1, "decrease": 2.0, "low": 1e-6, "high": 0.3}),
    Row("hyper_leaf_adam", "hypergradient", {"lr": 1e-3, "hyper_lr": 0.1, "rule": "adam", "per_leaf": True}),
    Row("sps", "polyak", {"f_min": 0.01}),
    Row("sps_max", "polyak", {"c": 0.5, "max_lr": 0.3}),
    Row("sps_smooth", "polyak", {"c": 0.5, "max_lr": 0.1, "smooth": 2.0**0.02, "eps": 1e-8}),
    Row("sps_adam", "polyak", {"rule": "adam", "max_lr": 0.3}),
    Row("l4_adam", "l4", {}),
    Row("l4_sgd", "l4", {"rule": "sgd", "gradient_decay": 0.0}),
    Row("lars", "lars", {"lr": 10.0, "weight_decay": 0.01}),
    Row("lars_clip", "lars", {"lr": 0.1, "coefficient": 0.02, "clip": True, "weight_decay": 0.01}),
    Row("lars_inside", "lars", {"lr": "cosine", "coefficient": 0.02, "rate_inside": True}),
    Row("lamb", "lamb", {"lr": 0.03, "weight_decay": 0.01}),
    Row("lamb_norm_bounds", "lamb", {"lr": 0.03, "norm_bounds": (0.5, 2.0)}),
    Row("lamb_ratio_bounds", "lamb", {"lr": 0.03, "ratio_bounds": (0.0, 0.1)}),
    Row("lookahead", "lookahead", {"rule": "momentum", "lr": 0.02, "period": 5, "alpha": 0.5}),
)

RULES = {  # the base rules that rows name: oracle and hyperparameters
    "sgd": ("sgd", {}),
    "momentum": ("momentum", {}),
    "adam": ("adam", {}),
    "adam_b2": ("adam", {"b1": 0.0}),
}
MODULES = (distance, betting, momentum_model, feedback, iterates)


def load() -> dict[str, np.ndarray]:
    """The golden file."""
    with np.load(Path(__file__).with_name("controllers.npz")) as file:
        return {name: file[name] for name in file.files}


def compute(row: Row) -> dict[str, np.ndarray]:
    """The arrays of a row from the oracles, by the suffix they have in the file."""
    options = dict(row.options)
    if "rule" in options:
        name, hyper = RULES[options["rule"]]
        options["rule"] = base(name, **hyper)
    if options.get("lr") == "cosine":
        options["lr"] = cosine(row.steps)
    loop = with_l2(row.loop, options.pop("l2", 0.0))
    if row.method == "plateau_scale":
        return {"rate": feedback.plateau_scale(list(LOSSES), **options)}
    method = "dog" if row.method == "dog_averaged" else row.method
    run = next(getattr(module, method) for module in MODULES if hasattr(module, method))
    result = run(loop, START, row.steps, **options)
    if isinstance(result, iterates.Iterates):
        return {"params": saved(result.params), "rate": result.rate, "extra": saved(result.evaluated)}
    if method in ("lars", "lamb"):
        return {"params": saved(result[0]), "rate": np.array([list(ratios.values()) for ratios in result[1]])}
    arrays = {"params": saved(result.params)}
    if np.all(np.isfinite(result.rate)):
        arrays["rate"] = result.rate
    if row.method == "dog_averaged":
        arrays["extra"] = saved(iterates.polynomial_average(result.params))
    for extra in result.extra.values():
        arrays["extra"] = extra
    return arrays
