"""The table of what wrappers.npz holds: the closed loop of controller_rows.py, by the authors' own programs.

Rows are `controller_rows.Row`. Not in the table, because no flags make the two agree:

- TRAC's program as it is: its erfi, whose coefficients lack the leading zero of Weideman's method, is 1.05 % too small
  near 0, 0.9 % at 0.5 and 0.2 % too large at 2 (relative distance of the parameters on its rows 1e-4 to 3e-3). Rows are
  by the program with scipy.special.erfi in that place;
- optax.contrib.sam in its transparent form, which takes two calls for a step (opaque, `test_sam.py` runs it);
- Grokfast's window that amplifies before it is full (warmup=False), and its sum in place of the mean, which is λ w.
"""

from pathlib import Path

import numpy as np

from oracles import around
from oracles.controllers import base

from .controller_rows import LONG, SHORT, START, Row, cosine, saved, tiny

SAM, ASAM = "davda54/sam 3c3afdb", "SamsungLabs/ASAM f156a68"
GROKFAST, TRAC = "ironjr/grokfast 93b2248", "ComputationalRobotics/TRAC 320a100"

ROWS = (
    Row("sam", "sam", {"lr": 0.1}, SHORT, SAM),
    Row("sam_adam", "sam", {"rule": "adam", "lr": 0.02, "rho": 0.5}, SHORT, SAM),
    Row("sam_momentum", "sam", {"rule": "momentum", "lr": "cosine", "rho": 0.2}, SHORT, SAM),
    Row("sam_tiny", "sam", {"rule": "adam", "lr": 0.02}, SHORT, SAM, tiny),
    Row("sam_adaptive", "sam", {"lr": 0.1, "rho": 0.5, "adaptive": ("b", "w"), "eta": 0.0}, SHORT, SAM),
    Row("asam", "sam", {"lr": 0.1, "rho": 0.5, "adaptive": ("w",)}, SHORT, ASAM),
    Row("asam_adam", "sam", {"rule": "adam", "lr": 0.02, "rho": 1.0, "adaptive": ("w",), "eta": 0.1}, SHORT, ASAM),
    Row("asam_none", "sam", {"lr": 0.1, "rho": 0.5}, SHORT, ASAM),
    Row("grokfast", "grokfast", {"lr": 0.05}, SHORT, GROKFAST),
    Row("grokfast_adam", "grokfast", {"rule": "adam", "lr": 0.02, "alpha": 0.9, "lamb": 5.0}, SHORT, GROKFAST),
    Row("grokfast_tiny", "grokfast", {"rule": "adam", "lr": "cosine", "alpha": 0.8}, SHORT, GROKFAST, tiny),
    Row("grokfast_window", "grokfast", {"lr": 0.02, "alpha": None, "window": 10, "lamb": 5.0}, SHORT, GROKFAST),
    Row(
        "grokfast_window_adam",
        "grokfast",
        {"rule": "adam", "lr": 0.02, "alpha": None, "window": 3},
        SHORT,
        GROKFAST,
    ),
    Row("trac", "trac", {"lr": 0.1}, LONG, TRAC),
    Row("trac_adam", "trac", {"rule": "adam", "lr": 0.01}, LONG, TRAC),
    Row("trac_large", "trac", {"rule": "adam", "lr": 0.01, "s_init": 1e-2}, LONG, TRAC),
    Row("trac_cosine", "trac", {"rule": "adam", "lr": "cosine", "s_init": 1e-3}, LONG, TRAC),
    Row("trac_decay", "trac", {"rule": "adam", "lr": 0.01, "s_init": 1e-2, "weight_decay": 0.1}, LONG, TRAC),
    Row(
        "trac_betas",
        "trac",
        {"rule": "adam", "lr": 0.01, "s_init": 1e-2, "betas": (0.9, 0.99), "eps": 1e-3},
        20,
        TRAC,
    ),
    Row("trac_tiny", "trac", {"rule": "adam", "lr": 0.01, "s_init": 1e-2}, LONG, TRAC, tiny),
)

EXACT = 1e-12  # of oracles, relative to the largest entry
LOOSER = {
    "sam_tiny": 2e-6,  # the program adds 1e-12 to a norm of 1e-8 and more
    "sam_adaptive": 1e-10,  # the same
    "trac": 1e-9,  # the program recovers the path from parameters that it moved by 1e-8 of it
    "trac_adam": 1e-7,
    "trac_betas": 1e-8,  # S turns negative and the path begins anew, from parameters that hardly moved
}

RULES = {"sgd": ("sgd", {}), "momentum": ("momentum", {}), "adam": ("adam", {})}


def load() -> dict[str, np.ndarray]:
    """The golden file."""
    with np.load(Path(__file__).with_name("wrappers.npz")) as file:
        return {name: file[name] for name in file.files}


def compute(row: Row) -> dict[str, np.ndarray]:
    """The arrays of a row from the oracles, by the suffix they have in the file."""
    options = dict(row.options)
    if "rule" in options:
        name, hyper = RULES[options["rule"]]
        options["rule"] = base(name, **hyper)
    if options.get("lr") == "cosine":
        options["lr"] = cosine(row.steps)
    trace = getattr(around, row.method)(row.loop, START, row.steps, **options)
    arrays = {"params": saved(trace.params)}
    return {**arrays, "extra": trace.extra["s"]} if "s" in trace.extra else arrays
