"""Parameter trees to step over: one large leaf, the GPT-2-small tree, many small leaves of five shapes."""

import jax
import jax.numpy as jnp

Tree = dict[str, jax.ShapeDtypeStruct]

SMALL_SHAPES = ((64, 64), (64,), (16, 64), (8, 8), (128,))


def leaf(*shape: int) -> jax.ShapeDtypeStruct:
    """An f32 leaf of a shape."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def large(elements: int) -> Tree:
    """One leaf of `elements` elements."""
    return {"w": leaf(elements)}


def gpt2(scale: float = 1.0) -> Tree:
    """GPT-2 small: 148 leaves, 124 M parameters at scale 1; widths, vocabulary and context shrink with scale.

    Radford et al., "Language models are unsupervised multitask learners", 2019.
    """
    width, vocabulary, context = (max(8, round(n * scale)) for n in (768, 50257, 1024))
    tree = {"wte": leaf(vocabulary, width), "wpe": leaf(context, width)}
    linear = {"attn.c_attn": (1, 3), "attn.c_proj": (1, 1), "mlp.c_fc": (1, 4), "mlp.c_proj": (4, 1)}
    for i in range(12):
        for name in ("ln_1", "ln_2"):
            tree |= {f"h{i}.{name}.w": leaf(width), f"h{i}.{name}.b": leaf(width)}
        for name, (rows, columns) in linear.items():
            tree |= {f"h{i}.{name}.w": leaf(rows * width, columns * width), f"h{i}.{name}.b": leaf(columns * width)}
    return tree | {"ln_f.w": leaf(width), "ln_f.b": leaf(width)}


def small(leaves: int = 1600) -> Tree:
    """`leaves` small leaves of five shapes in turn."""
    return {f"l{i}": leaf(*SMALL_SHAPES[i % len(SMALL_SHAPES)]) for i in range(leaves)}


def elements(tree: Tree) -> int:
    """How many elements a tree has."""
    return sum(x.size for x in jax.tree.leaves(tree))


def filled(tree: Tree, key: jax.Array, scale: float) -> dict[str, jax.Array]:
    """A tree of normal numbers times scale."""
    keys = dict(zip(tree, jax.random.split(key, len(tree)), strict=True))
    return {name: scale * jax.random.normal(keys[name], x.shape, x.dtype) for name, x in tree.items()}
