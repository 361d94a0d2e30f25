"""Networks that know something already: fine-tuning layer by layer, low-rank adapters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array

from ..engine.choices import compiled
from ..engine.freeze import freeze
from ..engine.optimizer import Optimizer
from ..engine.route import Route
from ..engine.transformation import Transformation
from ..optimizers import adamw
from .pieces import each, falling, merged, real, routed, warm_cosine


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
        if not found:
            raise ValueError(f"'{path}' is matched by none of layers; add a regex for it, input first.")
        several = ", ".join(repr(self.layers[i]) for i in found)
        raise ValueError(f"'{path}' is matched by several of layers: {several}; make them exclusive.")


def fine_tuning(
    total_steps: int,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.1,
    *,
    layers: Sequence[str],
    layer_decay: float = 0.9,
    **options: Any,
) -> Optimizer:
    """Fine-tuning: AdamW whose rate falls from layer to layer toward the input, which is to change least.

    Measured (held-out cross entropy, new digits): 0.96 times that of AdamW at its default rate, 0.93 times where
    the rates of both are tuned (`benchmarks/recipes.py`).

    Args:
        total_steps: of the training, ≥ 1: a warm-up over a tenth, then a line down to 0.
        learning_rate: > 0, the largest, of the last layer; 1e-4 or less for networks of 10⁸ parameters.
        weight_decay: ≥ 0, of matrices alone.
        layers: regexes of the layers' paths, from the input to the output: the i-th of n has the factor
            layer_decay^(n − 1 − i). Every leaf has to match just one of them: "block1/", as "block1" is in "block10".
        layer_decay: in (0, 1], 1 for one rate; the smaller, the less the layers near the input change.
        options: engine options and hyperparameters of `adaptx.adamw`.

    Clark et al., "ELECTRA", 2020, arXiv:2003.10555, appendix; the discriminative rates of Howard & Ruder, "Universal
    language model fine-tuning for text classification", 2018, arXiv:1801.06146.
    """
    if isinstance(layers, str) or not layers:
        raise TypeError(f"layers must be a sequence of path regexes, input first, got {layers!r}; pass a list of them.")
    decay = real("layer_decay", layer_decay, 0.0, 1.0, open_low=True)
    for pattern in layers:
        if not isinstance(pattern, str):
            raise TypeError(f"layers must be path regexes, got {pattern!r} among them; pass strings.")
        compiled("layers", pattern)
    if "lr_scale" in options:
        raise TypeError("fine_tuning sets lr_scale by layers= and layer_decay=; leave it out, or use adaptx.adamw.")
    given = merged(options, decay_mask="matrices", lr_scale=LayerFactor(tuple(layers), decay))
    return adamw(falling(total_steps, learning_rate, 0.1), weight_decay=weight_decay, **given)


def lora(
    total_steps: int,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.1,
    *,
    ratio: float = 4.0,
    a: str = "lora_a",
    b: str = "lora_b",
    head: str | None = None,
    **options: Any,
) -> Route:
    """Low-rank adapters W + B A: AdamW on A, at a larger rate on B, which starts at 0, and nothing on all else.

    Measured (held-out cross entropy, new digits): 1.01 times that of AdamW at its default rate, 1.01 times where
    the rates of both are tuned (`benchmarks/recipes.py`).

    Args:
        total_steps: of the training, ≥ 1: a cosine after a warm-up.
        learning_rate: > 0, the largest of A.
        weight_decay: ≥ 0, of what is trained.
        ratio: > 0, B's rate over A's: 1 for plain LoRA, 16 in the paper, whose layers are wide.
        a: regex of the paths of A, the factor that is drawn at random.
        b: regex of the paths of B, the factor that is zero at first.
        head: regex of what else is trained, at A's rate, such as a new last layer; None for nothing.
        options: engine options and hyperparameters of `adaptx.adamw`, for both.

    Hayou, Ghosh & Yu, "LoRA+: efficient low rank adaptation of large models", 2024, arXiv:2402.12354.
    """
    own = each(merged(options, weight_decay=weight_decay))
    factor = real("ratio", ratio, 0.0, open_low=True)
    groups: dict[str, Transformation] = {
        "a": adamw(warm_cosine(total_steps, learning_rate), **own),
        "b": adamw(warm_cosine(total_steps, factor * learning_rate), **own),
        "frozen": freeze(),
    }
    others = {} if head is None else {head: "a"}
    return routed(groups, {a: "a", b: "b"} | others, "frozen", options)
