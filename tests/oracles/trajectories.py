"""The registry of rules, and the trajectory of a tree of arrays under one of them."""

from collections.abc import Collection, Sequence

import numpy as np

from . import adam_family, adam_memories, classical, factored, matrices, signs

ORACLES = {
    "sgd": classical.Sgd,
    "momentum": classical.Momentum,
    "adagrad": classical.Adagrad,
    "rmsprop": classical.Rmsprop,
    "adam": classical.Adam,
    "adamw": classical.Adam,
    "nadam": adam_family.Nadam,
    "nadamw": adam_family.Nadam,
    "radam": adam_family.Radam,
    "adamax": adam_family.Adamax,
    "adadelta": adam_family.Adadelta,
    "adabelief": adam_family.Adabelief,
    "yogi": adam_family.Yogi,
    "adabound": adam_family.Adabound,
    "qhadam": adam_family.Qhadam,
    "kate": adam_family.Kate,
    "adan": adam_memories.Adan,
    "adopt": adam_memories.Adopt,
    "ademamix": adam_memories.Ademamix,
    "simplified_ademamix": adam_memories.SimplifiedAdemamix,
    "laprop": adam_memories.Laprop,
    "mars": adam_memories.Mars,
    "novograd": adam_memories.Novograd,
    "lion": signs.Lion,
    "signum": signs.Signum,
    "tiger": signs.Tiger,
    "rprop": signs.Rprop,
    "adafactor": factored.Adafactor,
    "came": factored.Came,
    "sm3": factored.Sm3,
    "muon": matrices.Muon,
    "normuon": matrices.Normuon,
    "scion": matrices.Scion,
    "dion": matrices.Dion,
}


def direction(rule, g: np.ndarray, p: np.ndarray) -> np.ndarray:
    """The direction of one step: step(g, p) of a rule that says `reads_parameter`, step(g) of any other."""
    return rule.step(g, p) if getattr(rule, "reads_parameter", False) else rule.step(g)


def _clipped(grads: dict[str, np.ndarray], max_norm: float | None) -> dict[str, np.ndarray]:
    """Gradients scaled so that their global norm is at most max_norm."""
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
    if max_norm is None or norm <= max_norm:
        return grads
    return {k: g * (max_norm / norm) for k, g in grads.items()}


def _moved(p: np.ndarray, d: np.ndarray, learning_rate: float, weight_decay: float, decay_mode: str) -> np.ndarray:
    """The parameter after one step along d; the weight decay is that of the parameter before the step."""
    if decay_mode == "decoupled":
        return p - learning_rate * (d + weight_decay * p)
    if decay_mode == "independent":
        return p - learning_rate * d - weight_decay * p
    if decay_mode == "l2":  # its decay has already entered the gradient
        return p - learning_rate * d
    raise ValueError(f"decay_mode: expected 'decoupled', 'l2' or 'independent', got {decay_mode!r}; pass one of them.")


def trajectory(
    name: str,
    hyper: dict,
    params: dict[str, np.ndarray],
    grads: list[dict[str, np.ndarray]],
    learning_rates: Sequence[float],
    *,
    weight_decay: float = 0.0,
    decay_mode: str = "decoupled",
    max_norm: float | None = None,
    decay_leaves: Collection[str] | None = None,
) -> list[dict[str, np.ndarray]]:
    """Parameters after each step of rule `name` on the given (open-loop) gradients, in float64.

    hyper: the rule's own hyperparameters. params: the leaves to train, of the shapes the rule takes (two axes or more
    for muon); gradients of other leaves are ignored, in max_norm too. weight_decay: 0 for every rule, so the 1e-2 that
    is adamw's default in the library must be passed. decay_mode: "decoupled" p <- p - lr (d + wd p); "l2" g <- g + wd p
    before the rule; "independent" p <- p - lr d - wd p. max_norm: global norm of the gradients, clipped before any
    decay. decay_leaves: names of the leaves that are decayed, None for all.
    Raises KeyError for an unknown rule, TypeError for an unknown hyperparameter.
    """
    params = {k: np.asarray(p, np.float64) for k, p in params.items()}
    rules = {k: ORACLES[name](**hyper) for k in params}
    decay = {k: weight_decay if decay_leaves is None or k in decay_leaves else 0.0 for k in params}
    history = []
    for tree, learning_rate in zip(grads, learning_rates, strict=True):
        tree = _clipped({k: np.asarray(tree[k], np.float64) for k in params}, max_norm)
        if decay_mode == "l2":
            tree = {k: g + decay[k] * params[k] for k, g in tree.items()}
        towards = {k: direction(rules[k], tree[k], p) for k, p in params.items()}
        params = {k: _moved(p, towards[k], learning_rate, decay[k], decay_mode) for k, p in params.items()}
        history.append(params)
    return history
