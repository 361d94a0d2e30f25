"""Example models for `adaptx plan`, as the shapes of their parameters; nothing is allocated.

Biases and scales are vectors, kernels have their inputs before their outputs, embeddings are (rows, width).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

Tree = dict[str, PyTree]


def _f32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _affine(inputs: int, outputs: int) -> Tree:
    return {"w": _f32(inputs, outputs), "b": _f32(outputs)}


def _norm(width: int) -> Tree:
    return {"scale": _f32(width), "b": _f32(width)}


def digits() -> Tree:
    """The perceptron of `adaptx race` on the digits: 64 inputs, 32 hidden units, 10 classes."""
    return {"hidden": _affine(64, 32), "output": _affine(32, 10)}


def resnet() -> Tree:
    """ResNet-50: He, Zhang, Ren & Sun, 2016, arXiv:1512.03385, Table 1, with 1,000 classes."""
    tree: Tree = {"stem": {"conv": _f32(7, 7, 3, 64), "norm": _norm(64)}}
    inputs = 64
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for k in range(depth):
            block = {
                "conv1": _f32(1, 1, inputs, width), "norm1": _norm(width),
                "conv2": _f32(3, 3, width, width), "norm2": _norm(width),
                "conv3": _f32(1, 1, width, 4 * width), "norm3": _norm(4 * width),
            }  # fmt: skip
            if k == 0:
                block |= {"shortcut": _f32(1, 1, inputs, 4 * width), "shortcut_norm": _norm(4 * width)}
            tree[f"stage{stage}_{k}"] = block
            inputs = 4 * width
    return tree | {"head": _affine(inputs, 1000)}


def gpt(layers: int, width: int, context: int = 1024, words: int = 50257) -> Tree:
    """GPT-2 and GPT-3: Radford et al., 2019; Brown et al., 2020, arXiv:2005.14165. The head shares the embedding."""
    block = {
        "norm1": _norm(width), "qkv": _affine(width, 3 * width), "project": _affine(width, width),
        "norm2": _norm(width), "up": _affine(width, 4 * width), "down": _affine(4 * width, width),
    }  # fmt: skip
    embeddings = {"tokens": _f32(words, width), "positions": _f32(context, width)}
    return embeddings | {f"block{k:02}": block for k in range(layers)} | {"norm": _norm(width)}


def llama(layers: int, width: int, hidden: int, words: int = 32000) -> Tree:
    """LLaMA: Touvron et al., 2023, arXiv:2302.13971: no biases, gated feed-forward, a head of its own."""
    block = {
        "norm1": _f32(width), "q": _f32(width, width), "k": _f32(width, width), "v": _f32(width, width),
        "o": _f32(width, width), "norm2": _f32(width), "gate": _f32(width, hidden), "up": _f32(width, hidden),
        "down": _f32(hidden, width),
    }  # fmt: skip
    ends = {"tokens": _f32(words, width), "norm": _f32(width), "head": _f32(width, words)}
    return ends | {f"block{k:02}": block for k in range(layers)}


EXAMPLES: dict[str, Callable[[], Tree]] = {
    "digits": digits,
    "resnet-50": resnet,
    "gpt2-small": lambda: gpt(12, 768),
    "gpt2-xl": lambda: gpt(48, 1600),
    "llama-7b": lambda: llama(32, 4096, 11008),
    "gpt3-175b": lambda: gpt(96, 12288, context=2048),
}
