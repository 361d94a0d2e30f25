"""Adam-mini with the blocks of every leaf chosen by its name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Unpack

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .. import checks
from ..engine.keywords import PATTERNED, WHOLE, EngineOptions, flat
from ..engine.rates import Rate
from ..engine.route import Route, route
from ..values import Scalar
from .adam_family import adam
from .low_memory import adam_mini

# the words of the authors' program, in its order
HEADS = ("k_proj", "q_proj", "wq", "wk", "query", "key")
VALUES = ("v_proj", "wv", "value")
OUTPUTS = (
    "embed", "embd", "wte", "lm_head", "output", "final_layer", "o_proj", "wo", "attn.proj", "feed_forward", "linear",
    "mlp", *VALUES,
)  # fmt: skip


def adam_mini_by_name(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    head_size: int | None = None,
    by: Callable[[str, Array], str] | Mapping[str, str] | PyTree | None = None,
    **engine: Unpack[EngineOptions],
) -> Route:
    """Adam-mini on a transformer: the blocks of every leaf by its name, as the authors' program has them.

    Biases have Adam ("element"); queries and keys a block a head ("head", or "head_column" where outputs are the last
    axis); values, what attention puts out, MLPs, embeddings and the last layer a block for every output or token
    ("row", or "column"); the rest one block ("whole"). Outputs are the last axis of a leaf named kernel, as in flax,
    and the first of any other. A kernel of three axes (model, heads, head size) has a block a head ("head_axis").

    Args:
        learning_rate: ≥ 0, a schedule, a controller (which sees every kind of block by itself), or an array for a
            batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        head_size: ≥ 1, the model's width over its heads; None where no leaf is sent to "head" or "head_column".
        by: in place of the names, the block of every leaf: a function of (path, leaf), {path regex: block} (the rest
            one block), or a tree, as in `route`.
        **engine: see `EngineOptions`.

    When to use it: language models, at half of Adam's memory for moments.

    Zhang et al., 2024, arXiv:2406.16793.
    """
    given = flat(engine)
    whole = {name: given.pop(name) for name in WHOLE if name in given}
    blocks: dict[str, tuple[int | None, int]] = {"row": (0, 1), "column": (-1, 1), "head_axis": (-2, 1)}
    blocks["whole"] = (None, 1)
    if head_size is not None:
        head_size = checks.whole("head_size", head_size, 1)
        blocks |= {"head": (0, head_size), "head_column": (-1, head_size)}
    elif isinstance(by, Mapping) and {"head", "head_column"} & {str(block) for block in by.values()}:
        raise ValueError("adam_mini_by_name: by= sends leaves to blocks of heads, got head_size=None; give their size.")
    groups = {name: adam_mini(learning_rate, b1, b2, eps, *block, **given) for name, block in blocks.items()}
    groups["element"] = adam(learning_rate, b1, b2, eps, **given)
    return route(groups, Names(head_size) if by is None else by, "whole", PATTERNED, **whole)


@dataclass(frozen=True)
class Names:
    """The block of a leaf in `adam_mini_by_name`, by the words in its path."""

    head_size: int | None

    def __call__(self, path: str, p: Array) -> str:
        """The name of its group; ValueError where heads do not fit."""
        name = path.lower().replace("/", ".")
        if "bias" in name:
            return "element"
        heads, outputs = (any(word in name for word in words) for words in (HEADS, OUTPUTS))
        axes, kernel = jnp.ndim(p), name.endswith("kernel")
        if axes < 2 or not (heads or outputs):
            return "whole"
        if kernel and axes == 3 and (heads or any(word in name for word in VALUES)):
            return "head_axis"
        if not heads:
            return "column" if kernel else "row"
        axis = -1 if kernel else 0
        if self.head_size is None or jnp.shape(p)[axis] % self.head_size:
            raise ValueError(
                f"adam_mini_by_name: parameter '{path}' of shape {jnp.shape(p)} has heads along axis {axis}, got "
                f"head_size={self.head_size}; give the model's width over its heads, or choose this block in by=."
            )
        return "head_column" if kernel else "head"
