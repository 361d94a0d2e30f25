"""The registry of rules, and the trajectory of a tree of arrays under one of them."""

from collections.abc import Collection, Sequence

import numpy as np

from . import (
    adam_family,
    adam_memories,
    blocks,
    classical,
    curvature,
    dual,
    extras,
    factored,
    kronecker,
    low_rank,
    matrices,
    preconditioned,
    signs,
)

ORACLES = {
    "sgd": classical.Sgd,
    "momentum": classical.Momentum,
    "adagrad": classical.Adagrad,
    "rmsprop": classical.Rmsprop,
    "adam": classical.Adam,
    "adamw": classical.Adam,
    "stableadamw": extras.Stableadamw,
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
    "acprop": adam_family.Acprop,
    "madgrad": dual.Madgrad,
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
    "adam_mini": blocks.AdamMini,
    "galore": low_rank.Galore,
    "apollo": low_rank.Apollo,
    "apollo_mini": low_rank.ApolloMini,
    "sgd_sai": blocks.SgdSai,
    "muon": matrices.Muon,
    "shampoo": preconditioned.Shampoo,
    "soap": preconditioned.Soap,
    "psgd_kron": kronecker.PsgdKron,
    "splus": preconditioned.Splus,
    "sophia": curvature.Sophia,
    "adahessian": curvature.Adahessian,
    "normuon": matrices.Normuon,
    "scion": matrices.Scion,
    "dion": matrices.Dion,
}


def direction(
    rule, g: np.ndarray, p: np.ndarray, learning_rate: float = 1.0, hessian: np.ndarray | None = None
) -> np.ndarray:
    """The direction of one step: step(g), of a rule that says so with what it reads besides, in this order."""
    given = {"reads_parameter": p, "reads_rate": learning_rate, "reads_hessian": hessian}
    return rule.step(g, *[value for name, value in given.items() if getattr(rule, name, False)])


def hessian_of(g: np.ndarray) -> np.ndarray:
    """What tests take for the Hessian's diagonal where the gradient is g: not negative, as large, 0 where it is 0."""
    return 1.5 * np.abs(g) + g


def _clipped(grads: dict[str, np.ndarray], max_norm: float | None) -> dict[str, np.ndarray]:
    """Gradients scaled so that their global norm is at most max_norm."""
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
    if max_norm is None or norm <= max_norm:
        return grads
    return {k: g * (max_norm / norm) for k, g in grads.items()}


def _seen(g: np.ndarray, p: np.ndarray, weight_decay: float, decay_mode: str, options: dict) -> np.ndarray:
    """The clipped gradient as the rule is to see it."""
    if "agc" in options:
        g = extras.agc(g, p, options["agc"])
    if "max_leaf_norm" in options:
        g = extras.leaf_clipped(g, options["max_leaf_norm"])
    if decay_mode == "l2":
        g = g + weight_decay * p
    return extras.centralized(g, options["centralize"]) if "centralize" in options else g


def _moved(
    p: np.ndarray, d: np.ndarray, learning_rate: float, weight_decay: float, decay_mode: str, options: dict, rule
) -> np.ndarray:
    """The parameter after one step along d; the weight decay is that of the parameter before the step."""
    decay = weight_decay * (extras.shrinking(d, p) if options.get("cautious_decay") else p)
    most = options.get("clip_update_rms", getattr(rule, "clip_update_rms", None))
    rate = learning_rate if most is None else learning_rate / extras.surprised(rule.surprise, most)
    if decay_mode == "decoupled":
        return p - rate * (d + decay)
    if decay_mode == "independent":
        return p - rate * d - decay
    if decay_mode == "corrected":
        return p - rate * d - rate * learning_rate / options["max_rate"] * decay
    if decay_mode == "l2":  # its decay has already entered the gradient
        return p - rate * d
    raise ValueError(f"decay_mode: expected one of the engine's, got {decay_mode!r}; pass one of them.")


OPTIONS = {
    "agc", "max_leaf_norm", "centralize", "cautious", "cautious_decay", "clip_update_rms", "max_rate"
}  # fmt: skip


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
    **options: float | str | bool,
) -> list[dict[str, np.ndarray]]:
    """Parameters after each step of rule `name` on the given (open-loop) gradients, in float64.

    hyper: the rule's own hyperparameters. params: the leaves to train, of the shapes the rule takes (two axes or more
    for muon); gradients of other leaves are ignored, in max_norm too. weight_decay: 0 for every rule, so the 1e-2 that
    is adamw's default in the library must be passed. decay_mode: "decoupled" p <- p - lr (d + wd p); "l2" g <- g + wd p
    before the rule; "independent" p <- p - lr d - wd p; "corrected" p <- p - lr d - (lr^2/max_rate) wd p. max_norm:
    global norm of the gradients, clipped before any decay. decay_leaves: the leaves that are decayed, None for all.
    options: those of OPTIONS, as the engine has them. Rules that read the Hessian's diagonal are given `hessian_of` the
    gradients as they come.
    Raises KeyError for an unknown rule, TypeError for an unknown hyperparameter or option.
    """
    if options.keys() - OPTIONS:
        raise TypeError(f"options: expected some of {sorted(OPTIONS)}, got {sorted(options)}; pass none but these.")
    params = {k: np.asarray(p, np.float64) for k, p in params.items()}
    draws = getattr(ORACLES[name], "draws", False)  # random numbers, others at every leaf: leaves are counted by name
    rules = {k: ORACLES[name](**hyper, **({"leaf": i} if draws else {})) for i, k in enumerate(sorted(params))}
    decay = {k: weight_decay if decay_leaves is None or k in decay_leaves else 0.0 for k in params}
    history = []
    for tree, learning_rate in zip(grads, learning_rates, strict=True):
        tree = {k: np.asarray(tree[k], np.float64) for k in params}
        diagonal = {k: hessian_of(g) for k, g in tree.items()}
        tree = _clipped(tree, max_norm)
        tree = {k: _seen(g, params[k], decay[k], decay_mode, options) for k, g in tree.items()}
        towards = {k: direction(rules[k], tree[k], p, learning_rate, diagonal[k]) for k, p in params.items()}
        if "cautious" in options:
            towards = {k: extras.cautious(d, tree[k], options["cautious"]) for k, d in towards.items()}
        params = {
            k: _moved(p, towards[k], learning_rate, decay[k], decay_mode, options, rules[k]) for k, p in params.items()
        }
        history.append(params)
    return history
