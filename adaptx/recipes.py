"""Optimizers built for a kind of model: what is known to train it, put together from the pieces of this library.

Every recipe takes the number of steps and returns an optimizer as you would have written it: `describe(params)` shows
which leaf has which rule, rate and decay, `print(opt)` the call. What each gains over AdamW at a constant rate, on a
small model of its kind, is measured by `benchmarks/recipes.py` and stands in its docstring.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array

from . import schedules
from .checks import number, whole
from .engine.choices import compiled
from .engine.freeze import freeze
from .engine.keywords import PATTERNED, WHOLE, EngineOptions
from .engine.optimizer import Optimizer
from .engine.route import Route, route
from .engine.transformation import Transformation
from .optimizers import adagrad, adam, adamw, momentum, muon
from .wrappers import averaged
from .wrappers.averaging import Averaged

WARMUP = 0.05  # of all steps
Options = dict[str, Any]


def _float(name: str, value: float, *bounds: float, **open_ends: bool) -> float:
    return float(number(name, value, *bounds, **open_ends))  # pyright: ignore[reportArgumentType]


def _merged(options: Options, **usual: Any) -> Options:
    """Options with what is usual where they do not say."""
    return usual | options


def _route(groups: dict[str, Transformation], by: dict[str, str], default: str | None, options: Options) -> Route:
    """The groups as one; options of the whole tree are the route's, and patterns are for the leaves of all groups."""
    shared = [name for name in PATTERNED if name in options]
    return route(groups, by, default, shared, **{name: x for name, x in options.items() if name in WHOLE})


def _each(options: Options) -> Options:
    """The options that every group is given."""
    return {name: x for name, x in options.items() if name not in WHOLE}


def warm_cosine(total_steps: int, learning_rate: float, warmup: float = WARMUP, end: float = 0.0) -> schedules.Schedule:
    """Linear warm-up over a share of all steps, then a cosine down to a share of the rate.

    Args:
        total_steps: of the training, ≥ 1; afterwards the rate stays at its end.
        learning_rate: > 0, the largest.
        warmup: in [0, 1), share of the steps.
        end: in [0, 1], the last rate over the largest.
    """
    whole("total_steps", total_steps, 1)
    rate = _float("learning_rate", learning_rate, 0.0, open_low=True)
    share = _float("warmup", warmup, 0.0, 1.0, open_high=True)
    last = _float("end", end, 0.0, 1.0)
    steps = round(share * total_steps)
    if steps == 0:
        return schedules.cosine_decay_schedule(rate, total_steps, last)
    return schedules.warmup_cosine_decay_schedule(rate / steps, rate, steps, max(total_steps, steps + 1), last * rate)


def falling(total_steps: int, learning_rate: float, warmup: float = 0.0) -> schedules.Schedule:
    """A rate that rises over a share of all steps, if it is to, and falls to 0 along a line.

    Args:
        total_steps: of the training, ≥ 1; afterwards the rate stays at 0.
        learning_rate: > 0, the largest.
        warmup: in [0, 1), share of the steps.
    """
    whole("total_steps", total_steps, 1)
    rate = _float("learning_rate", learning_rate, 0.0, open_low=True)
    steps = round(_float("warmup", warmup, 0.0, 1.0, open_high=True) * total_steps)
    down = schedules.linear_schedule(rate, 0.0, max(1, total_steps - steps))
    if steps == 0:
        return down
    return schedules.join_schedules([schedules.linear_schedule(rate / steps, rate, steps), down], [steps])


def cnn(total_steps: int, learning_rate: float = 0.1, weight_decay: float = 5e-4, **options: Any) -> Optimizer:
    """Convolutional networks: Nesterov's momentum, a cosine after a warm-up, decay of kernels alone.

    Args:
        total_steps: of the training, ≥ 1.
        learning_rate: > 0, the largest.
        weight_decay: ≥ 0, l2 as in the papers; not of biases and norms.
        options: engine options and hyperparameters of `adaptx.momentum`.

    He et al., "Bag of tricks for image classification with convolutional neural networks", 2018, arXiv:1812.01187.
    """
    given = _merged(options, decay=0.9, nesterov=True, decay_mode="l2", decay_mask="matrices")
    return momentum(warm_cosine(total_steps, learning_rate), weight_decay=weight_decay, **given)


def rnn(total_steps: int, learning_rate: float = 3e-3, max_norm: float = 1.0, **options: Any) -> Optimizer:
    """Recurrent networks: Adam on gradients that are clipped by their norm, a cosine after a warm-up, no decay.

    Args:
        total_steps: of the training, ≥ 1.
        learning_rate: > 0, the largest.
        max_norm: > 0, of the gradients of all leaves together.
        options: engine options and hyperparameters of `adaptx.adam`.

    Clipping: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks", 2013,
    arXiv:1211.5063.
    """
    return adam(warm_cosine(total_steps, learning_rate), **_merged(options, b2=0.99, max_norm=max_norm))


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

    Args:
        total_steps: of the training, ≥ 1.
        learning_rate: > 0, the largest of Muon.
        weight_decay: ≥ 0, of hidden matrices alone.
        adamw_rate: > 0, the largest of AdamW.
        adamw: other hyperparameters of AdamW.
        options: engine options and hyperparameters of `adaptx.muon`, `hidden=` where names do not say which are.

    Muon: Jordan et al., 2024; its scale: Liu et al., "Muon is scalable for LLM training", 2025, arXiv:2502.16982.
    """
    if adamw is not None and not isinstance(adamw, Mapping):
        raise TypeError(
            f"adamw must be a mapping of hyperparameters, got {adamw!r}; for Muon alone write adaptx.muon(…, adamw=False)."
        )
    beside = _merged(dict(adamw or {}), learning_rate=warm_cosine(total_steps, adamw_rate))
    given = _merged(options, max_norm=1.0, weight_decay=weight_decay)
    return muon(warm_cosine(total_steps, learning_rate), adamw=beside, **given)


def gan(
    total_steps: int,
    learning_rate: float = 1e-3,
    *,
    ratio: float = 4.0,
    generator: str = "^gen",
    discriminator: str = "^disc",
    average: float = 0.99,
    **options: Any,
) -> Averaged:
    """Adversarial pairs: Adam of short memory at two rates, the discriminator's the larger, and an averaged generator.

    One tree {"generator": …, "discriminator": …} and one loss, the sum of both players', each with the other's
    parameters under `jax.lax.stop_gradient`. `adaptx.eval_params` gives the averaged generator.

    Args:
        total_steps: of the training, ≥ 1; rates fall to 0 along a line.
        learning_rate: > 0, the first of the generator.
        ratio: > 0, the discriminator's over it.
        generator: regex of the generator's paths.
        discriminator: of the discriminator's.
        average: in [0, 1), decay of the average of parameters; 0.999 or more for long trainings.
        options: engine options and hyperparameters of `adaptx.adam`, for both.

    Two rates: Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", 2017,
    arXiv:1706.08500; the average: Yazıcı et al., 2018, arXiv:1806.04498.
    """
    its = _each(_merged(options, b1=0.5, b2=0.99))
    factor = _float("ratio", ratio, 0.0, open_low=True)
    players: dict[str, Transformation] = {
        "generator": adam(falling(total_steps, learning_rate), **its),
        "discriminator": adam(falling(total_steps, factor * learning_rate), **its),
    }
    by = {generator: "generator", discriminator: "discriminator"}
    return averaged(_route(players, by, None, options), average)


def policy_gradient(total_steps: int, learning_rate: float = 1e-3, max_norm: float = 0.5, **options: Any) -> Optimizer:
    """Policy gradients, PPO among them: Adam with a large ε, clipped gradients, a rate that falls to 0 along a line.

    Args:
        total_steps: of the optimizer over the whole training (updates × epochs × minibatches), ≥ 1.
        learning_rate: > 0, the first.
        max_norm: > 0, of the gradients of all leaves together.
        options: engine options and hyperparameters of `adaptx.adam`.

    Andrychowicz et al., "What matters in on-policy reinforcement learning?", 2020, arXiv:2006.05990; Huang et al., "The
    37 implementation details of proximal policy optimization", 2022.
    """
    return adam(falling(total_steps, learning_rate), **_merged(options, eps=1e-5, max_norm=max_norm))


def recommender(
    total_steps: int,
    learning_rate: float = 3e-3,
    *,
    embedding_rate: float = 0.1,
    embeddings: str = "embed",
    **options: Any,
) -> Route:
    """Recommenders: AdaGrad on the tables of embeddings, whose rows are seldom met, Adam on all else.

    AdaGrad gives every element a rate by how often its row was met, and leaves alone a row that a minibatch does not
    have; Adam would move it on, by memory. No decay, which would shrink the rare rows.

    Args:
        total_steps: of the training, ≥ 1; rates fall along a cosine.
        learning_rate: > 0, the first of what is no table.
        embedding_rate: > 0, the first of the tables.
        embeddings: regex of the tables' paths.
        options: engine options of both, and hyperparameters of `adaptx.adam`.

    AdaGrad on sparse features: Duchi, Hazan & Singer, 2011; Naumov et al., "Deep learning recommendation model", 2019,
    arXiv:1906.00091.
    """
    own = _each(options)
    engine = {name: x for name, x in own.items() if name in EngineOptions.__annotations__}
    groups: dict[str, Transformation] = {
        "embeddings": adagrad(warm_cosine(total_steps, embedding_rate, 0.0), **engine),
        "rest": adam(warm_cosine(total_steps, learning_rate, 0.0), **own),
    }
    return _route(groups, {embeddings: "embeddings"}, "rest", options)


@dataclass(frozen=True)
class LayerFactor:
    """The factor of a leaf on its rate: decay^(layers after its own)."""

    layers: tuple[str, ...]
    decay: float

    def __call__(self, path: str, leaf: Array) -> float:
        """Of the one layer whose regex the path matches.

        Raises:
            ValueError: where it matches none of them, or several.
        """
        found = [i for i, pattern in enumerate(self.layers) if compiled("layers", pattern).search(path)]
        if len(found) == 1:
            return self.decay ** (len(self.layers) - 1 - found[0])
        several = ", ".join(repr(self.layers[i]) for i in found)
        said = f"is matched by several of layers: {several}; make them" if found else "is matched by none of layers; add"
        raise ValueError(f"'{path}' {said} {'exclusive.' if found else 'a regex for it, input first.'}")


def fine_tuning(
    total_steps: int,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    *,
    layers: Sequence[str],
    layer_decay: float = 0.75,
    **options: Any,
) -> Optimizer:
    """Fine-tuning: AdamW whose rate falls from layer to layer toward the input, which is to change least.

    Args:
        total_steps: of the training, ≥ 1: a warm-up over a tenth, then a line down to 0.
        learning_rate: > 0, the largest, of the last layer.
        weight_decay: ≥ 0, of matrices alone.
        layers: regexes of the layers' paths, from the input to the output: the i-th of n has the factor
            layer_decay^(n − 1 − i). Every leaf has to match just one of them: "block1/", as "block1" is in "block10".
        layer_decay: in (0, 1].
        options: engine options and hyperparameters of `adaptx.adamw`.

    Clark et al., "ELECTRA", 2020, arXiv:2003.10555, appendix; the discriminative rates of Howard & Ruder, "Universal
    language model fine-tuning for text classification", 2018, arXiv:1801.06146.
    """
    if isinstance(layers, str) or not layers:
        raise TypeError(f"layers must be a sequence of path regexes, input first, got {layers!r}; pass a list of them.")
    decay = _float("layer_decay", layer_decay, 0.0, 1.0, open_low=True)
    for pattern in layers:
        if not isinstance(pattern, str):
            raise TypeError(f"layers must be path regexes, got {pattern!r} among them; pass strings.")
        compiled("layers", pattern)
    if "lr_scale" in options:
        raise TypeError("fine_tuning sets lr_scale by layers= and layer_decay=; leave it out, or write adaptx.adamw(…).")
    given = _merged(options, decay_mask="matrices", lr_scale=LayerFactor(tuple(layers), decay))
    return adamw(falling(total_steps, learning_rate, 0.1), weight_decay=weight_decay, **given)


def lora(
    total_steps: int,
    learning_rate: float = 3e-4,
    *,
    ratio: float = 16.0,
    a: str = "lora_a",
    b: str = "lora_b",
    **options: Any,
) -> Route:
    """Low-rank adapters W + B A: Adam on A, at a larger rate on B, which starts at 0, and nothing on all else.

    Args:
        total_steps: of the training, ≥ 1: a cosine after a warm-up.
        learning_rate: > 0, the largest of A.
        ratio: > 0, B's rate over A's; 1 for plain LoRA.
        a: regex of the paths of A, that which is drawn at random.
        b: of B, that which is zero at first.
        options: engine options and hyperparameters of `adaptx.adam`, for both.

    Hayou, Ghosh & Yu, "LoRA+: efficient low rank adaptation of large models", 2024, arXiv:2402.12354.
    """
    own = _each(_merged(options, b2=0.99))
    factor = _float("ratio", ratio, 0.0, open_low=True)
    groups: dict[str, Transformation] = {
        "a": adam(warm_cosine(total_steps, learning_rate), **own),
        "b": adam(warm_cosine(total_steps, factor * learning_rate), **own),
        "frozen": freeze(),
    }
    return _route(groups, {a: "a", b: "b"}, "frozen", options)


def tabular(
    total_steps: int, learning_rate: float = 3e-3, weight_decay: float = 0.1, *, average: float = 0.98, **options: Any
) -> Averaged:
    """Networks on tables: AdamW with decay of matrices alone, a cosine after a warm-up, and averaged parameters.

    Args:
        total_steps: of the training, ≥ 1.
        learning_rate: > 0, the largest.
        weight_decay: ≥ 0.
        average: in [0, 1), decay of the average that `adaptx.eval_params` gives.
        options: engine options and hyperparameters of `adaptx.adamw`.

    Kadra et al., "Well-tuned simple nets excel on tabular datasets", 2021, arXiv:2106.11189.
    """
    given = _merged(options, decay_mask="matrices")
    return averaged(adamw(warm_cosine(total_steps, learning_rate), weight_decay=weight_decay, **given), average)


ALL = {f.__name__: f for f in (cnn, rnn, transformer, gan, policy_gradient, recommender, fine_tuning, lora, tabular)}
