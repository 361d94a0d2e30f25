"""Networks that are trained from the start: convolutional, recurrent, transformers, on tables, recommenders."""

from collections.abc import Mapping
from typing import Any

from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer
from ..engine.route import Route
from ..engine.transformation import Transformation
from ..optimizers import adagrad, adam, adamw, momentum, muon
from ..wrappers import averaged
from ..wrappers.averaging import Averaged
from .pieces import each, merged, real, routed, warm_cosine


def cnn(total_steps: int, learning_rate: float = 0.1, weight_decay: float = 5e-4, **options: Any) -> Optimizer:
    """Convolutional networks: Nesterov's momentum, a cosine after a warm-up, decay of kernels alone.

    Measured (held-out cross entropy, digits): 0.46 times that of AdamW at its default rate, 0.99 times where the
    rates of both are tuned (`benchmarks/recipes.py`).

    Args:
        total_steps: of the training, ≥ 1.
        learning_rate: > 0, the largest.
        weight_decay: ≥ 0, l2 as in the papers; not of biases and norms.
        options: engine options and hyperparameters of `adaptx.momentum`.

    He et al., "Bag of tricks for image classification with convolutional neural networks", 2018, arXiv:1812.01187.
    """
    given = merged(options, decay=0.9, nesterov=True, decay_mode="l2", decay_mask="matrices")
    return momentum(warm_cosine(total_steps, learning_rate), weight_decay=weight_decay, **given)


def rnn(total_steps: int, learning_rate: float = 5e-3, max_norm: float = 1.0, **options: Any) -> Optimizer:
    """Recurrent networks: Adam on gradients that are clipped by their norm, a cosine after a warm-up, no decay.

    Measured (held-out cross entropy, characters): 0.87 times that of AdamW at its default rate, 1.02 times where
    the rates of both are tuned (`benchmarks/recipes.py`).

    Args:
        total_steps: of the training, ≥ 1.
        learning_rate: > 0, the largest.
        max_norm: > 0, of the gradients of all leaves together.
        options: engine options and hyperparameters of `adaptx.adam`.

    Clipping: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks", 2013,
    arXiv:1211.5063.
    """
    return adam(warm_cosine(total_steps, learning_rate), **merged(options, b2=0.99, max_norm=max_norm))


def transformer(
    total_steps: int,
    learning_rate: float = 0.02,
    weight_decay: float = 0.1,
    *,
    adamw_rate: float = 3e-3,
    adamw: Mapping[str, Any] | None = None,
    **options: Any,
) -> Transformation:
    """Transformers: Muon on hidden matrices, AdamW on embeddings, heads, biases and norms, a cosine after a warm-up.

    Measured (held-out cross entropy, characters): 0.86 times that of AdamW at its default rate, 0.90 times where
    the rates of both are tuned (`benchmarks/recipes.py`).

    Args:
        total_steps: of the training, ≥ 1.
        learning_rate: > 0, the largest of Muon.
        weight_decay: ≥ 0, of hidden matrices alone.
        adamw_rate: > 0, the largest of AdamW.
        adamw: other hyperparameters of AdamW, in place of those that `adaptx.muon` gives it.
        options: engine options and hyperparameters of `adaptx.muon`, `hidden=` where names do not say which are.

    Muon: Jordan et al., 2024; its scale: Liu et al., "Muon is scalable for LLM training", 2025, arXiv:2502.16982.
    """
    if adamw is not None and not isinstance(adamw, Mapping):
        raise TypeError(
            f"adamw must be a mapping of hyperparameters, got {adamw!r}; for Muon alone write "
            "adaptx.muon(…, adamw=False)."
        )
    if "learning_rate" in (adamw or {}):
        raise TypeError("transformer: adamw holds learning_rate, which adamw_rate= sets; pass it there.")
    beside = merged(dict(adamw or {}), learning_rate=warm_cosine(total_steps, adamw_rate))
    given = merged(options, max_norm=1.0, weight_decay=weight_decay)
    return muon(warm_cosine(total_steps, learning_rate), adamw=beside, **given)


def recommender(
    total_steps: int,
    learning_rate: float = 3e-3,
    *,
    embedding_rate: float = 0.2,
    embeddings: str = "embed",
    **options: Any,
) -> Route:
    """Recommenders: AdaGrad on the tables of embeddings, whose rows are seldom met, Adam on all else.

    AdaGrad gives every element a rate by how often its row was met, and leaves alone a row that a minibatch does not
    have; Adam would move it on, by memory. Its rate is constant, as AdaGrad's own sums make it fall row by row. No
    weight decay, which would shrink the rare rows.

    Measured (cross entropy of new clicks): 0.88 times that of AdamW at its default rate, 0.99 times where the rates
    of both are tuned (`benchmarks/recipes.py`).

    Args:
        total_steps: of the training, ≥ 1: Adam's rate falls to 0 along a cosine over them.
        learning_rate: > 0, the first of Adam.
        embedding_rate: > 0, the constant one of AdaGrad.
        embeddings: regex of the tables' paths.
        options: engine options of both, and hyperparameters of `adaptx.adam`.

    AdaGrad on sparse features: Duchi, Hazan & Singer, 2011; Naumov et al., "Deep learning recommendation model", 2019,
    arXiv:1906.00091.
    """
    own = each(options)
    rate = real("embedding_rate", embedding_rate, 0.0, open_low=True)
    engine = {name: x for name, x in own.items() if name in EngineOptions.__annotations__}
    groups: dict[str, Transformation] = {
        "embeddings": adagrad(rate, **engine),
        "rest": adam(warm_cosine(total_steps, learning_rate, 0.0), **own),
    }
    return routed(groups, {embeddings: "embeddings"}, "rest", options)


def tabular(
    total_steps: int, learning_rate: float = 3e-3, weight_decay: float = 0.1, *, average: float = 0.98, **options: Any
) -> Averaged:
    """Networks on tables: AdamW with decay of matrices alone, a cosine after a warm-up, and averaged parameters.

    Measured (held-out squared error over the variance, diabetes): 0.96 times that of AdamW at its default rate,
    0.97 times where the rates of both are tuned (`benchmarks/recipes.py`).

    Args:
        total_steps: of the training, ≥ 1.
        learning_rate: > 0, the largest.
        weight_decay: ≥ 0.
        average: in [0, 1), decay of the average that `adaptx.eval_params` gives.
        options: engine options and hyperparameters of `adaptx.adamw`.

    Kadra et al., "Well-tuned simple nets excel on tabular datasets", 2021, arXiv:2106.11189.
    """
    given = merged(options, decay_mask="matrices")
    return averaged(adamw(warm_cosine(total_steps, learning_rate), weight_decay=weight_decay, **given), average)
