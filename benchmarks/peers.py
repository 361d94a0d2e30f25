"""The catalogue in the step-time benchmark: which peer every optimizer has, in optax, optax.contrib and torch.

`same` rows take the same step to rounding, seen in tests/test_peers.py; the others do the same work by other
conventions (tests/golden/rows.py says which). What optax lacks and costs more than Adam's family stands beside optax's
adamw; what optax lacks and costs as much (qhadam, laprop, …) has no row.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

import jax
import optax
import optax.contrib
from rivals import RATE, Row, torch

import adaptx

HIDDEN = re.compile(r"^h\d+\..*\.w$")  # the matrices inside of GPT-2; norms there are vectors
EVERY = 10  # steps from one refresh of a factor to the next


def is_hidden(path: str, leaf: Any) -> bool:
    """Whether a leaf of the GPT-2 tree is a matrix inside the network; what optax masks has no axes."""
    return getattr(leaf, "ndim", 0) == 2 and HIDDEN.search(path) is not None


def for_matrices(make: Callable[..., Any], **options: Any) -> Any:
    """An optimizer of matrices for those inside, and adamw without decay for the rest."""
    rest = {"learning_rate": RATE, "weight_decay": 0.0}
    made = make(RATE, **options)
    if not isinstance(made, adaptx.Optimizer):  # it routes by itself
        return make(RATE, hidden=is_hidden, adamw=rest, **options)
    groups = {"hidden": made, "rest": adaptx.adamw(**rest)}
    return adaptx.route(groups, by=lambda path, leaf: "hidden" if is_hidden(path, leaf) else "rest")


def optax_dimensions(params: Any) -> Any:
    """optax.contrib's way to say which leaves are matrices."""
    return {name: optax.contrib.MuonDimensionNumbers() if is_hidden(name, x) else None for name, x in params.items()}


def optax_muon() -> Any:
    """optax.contrib.muon with adam for the rest."""
    return optax.contrib.muon(RATE, adam_learning_rate=RATE, muon_weight_dimension_numbers=optax_dimensions)


class Several:
    """torch optimizers that step together."""

    def __init__(self, *optimizers: Any):
        self.optimizers = optimizers
        self.state = {key: value for one in optimizers for key, value in one.state.items()}

    def step(self) -> None:
        """One step of each."""
        for one in self.optimizers:
            one.step()
        self.state = {key: value for one in self.optimizers for key, value in one.state.items()}


def torch_muon(p: dict[str, Any]) -> Several:
    """torch.optim.Muon, which takes matrices alone, and AdamW."""
    hidden = [x for name, x in p.items() if is_hidden(name, x)]
    rest = [x for name, x in p.items() if not is_hidden(name, x)]
    muon = torch.optim.Muon(hidden, RATE, weight_decay=0.0)
    return Several(muon, torch.optim.AdamW(rest, RATE, weight_decay=0.0, fused=True))


def from_zero(**flags: float) -> Any:
    """optax.yogi, whose alias has no flag for where the moments start."""
    scaling = optax.scale_by_yogi(initial_accumulator_value=0.0, **flags)
    return optax.chain(scaling, optax.scale_by_learning_rate(RATE))


def optax_signum() -> Any:
    """The sign of a mean."""
    return optax.chain(optax.ema(0.9, debias=False), optax.scale_by_sign(), optax.scale_by_learning_rate(RATE))


def in_torch(name: str, **options: Any) -> Callable[[dict[str, Any]], Any] | None:
    """torch.optim.<name> at the common rate."""
    return None if torch is None else lambda p: getattr(torch.optim, name)(p.values(), **{"lr": RATE, **options})


def beside_adamw(name: str) -> Callable[[], Row]:
    """A method that neither has; its refreshes are spread over the steps between them."""

    def row() -> Row:
        make = getattr(adaptx, name)
        often = {"every": EVERY} if "every" in inspect.signature(make).parameters else {}
        theirs = optax.adamw(RATE, weight_decay=0.0)
        return Row(make(RATE, **often), theirs, beside="adamw", same=False, period=EVERY, costly=True)

    return row


FOREACH = {"foreach": True}  # where torch has no fused form
# name -> its row, made when asked for; optimizers that this version lacks have none
MAKERS: dict[str, Callable[[], Row]] = {
    "adagrad": lambda: Row(
        adaptx.adagrad(RATE, eps=1e-8), optax.adagrad(RATE, initial_accumulator_value=0.0, eps=1e-8),
        in_torch("Adagrad", fused=True),
    ),
    "nadam": lambda: Row(
        adaptx.nadam(RATE, momentum_decay=None), optax.nadam(RATE), in_torch("NAdam", **FOREACH)
    ),
    "radam": lambda: Row(adaptx.radam(RATE), optax.radam(RATE), in_torch("RAdam", **FOREACH)),
    "adamax": lambda: Row(adaptx.adamax(RATE), optax.adamax(RATE), in_torch("Adamax", **FOREACH)),
    "adadelta": lambda: Row(adaptx.adadelta(RATE), optax.adadelta(RATE), in_torch("Adadelta", **FOREACH)),
    "adabelief": lambda: Row(adaptx.adabelief(RATE), optax.adabelief(RATE)),
    "yogi": lambda: Row(adaptx.yogi(RATE, initial_accumulator=0.0), from_zero()),
    "adan": lambda: Row(adaptx.adan(RATE), optax.adan(RATE), same=False),
    "adopt": lambda: Row(adaptx.adopt(RATE), optax.contrib.adopt(RATE)),
    "ademamix": lambda: Row(adaptx.ademamix(RATE), optax.contrib.ademamix(RATE)),
    "simplified_ademamix": lambda: Row(adaptx.simplified_ademamix(RATE), optax.contrib.simplified_ademamix(RATE)),
    "novograd": lambda: Row(adaptx.novograd(RATE, eps=1e-6), optax.novograd(RATE, b1=0.95, b2=0.98)),
    "lion": lambda: Row(adaptx.lion(RATE), optax.lion(RATE, weight_decay=0.0)),
    "signum": lambda: Row(adaptx.signum(RATE), optax_signum()),
    "rprop": lambda: Row(adaptx.rprop(RATE), optax.rprop(RATE), in_torch("Rprop", **FOREACH), same=False),
    "adafactor": lambda: Row(
        adaptx.adafactor(RATE, min_dim_size_to_factor=128), optax.adafactor(RATE), in_torch("Adafactor", **FOREACH)
    ),
    "sm3": lambda: Row(adaptx.sm3(RATE), optax.sm3(RATE), same=False),
    "lars": lambda: Row(adaptx.lars(RATE), optax.lars(RATE)),
    "lamb": lambda: Row(adaptx.lamb(RATE), optax.lamb(RATE)),
    "muon": lambda: Row(
        for_matrices(adaptx.muon), optax_muon(), None if torch is None else torch_muon, same=False, costly=True
    ),
    "madgrad": lambda: Row(adaptx.madgrad(RATE), optax.contrib.madgrad(RATE), same=False),
    "acprop": lambda: Row(adaptx.acprop(RATE), optax.contrib.acprop(RATE), same=False),
    "galore": lambda: Row(adaptx.galore(RATE), optax.contrib.galore(RATE), same=False, costly=True),
    **{name: beside_adamw(name) for name in ("shampoo", "soap", "psgd_kron", "splus")},
}  # fmt: skip
NAMES = tuple(name for name in MAKERS if hasattr(adaptx, name))


def default_rows() -> list[str]:
    """Those measured where none is named: on a CPU without the costly ones."""
    here = jax.default_backend()
    return [name for name in NAMES if here != "cpu" or not MAKERS[name]().costly]
