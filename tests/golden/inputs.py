"""The inputs of every golden trajectory: parameters, open-loop gradients and learning rates, from a seed. NumPy only.

Made of uniform numbers, products and sums alone, so that every platform computes the same bits (logarithms and powers,
and with them normal random numbers, differ in the last bit between C libraries).
"""

from collections.abc import Collection

import numpy as np

SEED = 20
STEPS = 50
SAVED_STEPS = (1, 2, 3, 6, 7, 10, 25, 50)  # 1-based: the first ones decide bias corrections, 50 the accumulated state
SCALES = (1.0, 1e-4, 1e-8)  # of the gradients: far above eps, about its root, about eps itself
SHAPES = {"w": (3, 4), "b": (4,), "s": ()}  # of the leaves that most rows have
MORE_SHAPES = {"tall": (8, 3), "wide": (2, 7), "square": (5, 5), "stack": (2, 4, 3)}  # for rules that see the shape
KERNEL_SHAPES = {"kernel": (2, 3, 2, 3)}  # for rules that see windows: inputs, outputs and a window, or the reverse
LEAVES = {**SHAPES, **MORE_SHAPES, **KERNEL_SHAPES}
ALWAYS_ZERO = {"w": (1, 2), "b": (3,), "tall": (4,)}  # an entry in each of two leaves, and a row, without a gradient
MATRICES = ("w", "tall", "wide", "square")  # two axes: what decay_mask="matrices" decays and muon takes

# Large, then a hundredth of that, then between: AMSGrad's maximum holds, a clipping threshold of 2 is crossed.
AMPLITUDES = (3.0,) * 10 + (0.03125,) * 15 + (1.0,) * 25


def parameters(leaves: Collection[str] = tuple(SHAPES)) -> dict[str, np.ndarray]:
    """Initial parameters: b 0 (its displacement is then known to full accuracy), s 0.5, others uniform in [-1, 1)."""
    random = np.random.RandomState(SEED)  # legacy: the one generator whose stream NumPy promises never to change
    start = {"w": random.uniform(-1.0, 1.0, SHAPES["w"]), "b": np.zeros(SHAPES["b"]), "s": np.array(0.5)}
    random = np.random.RandomState(SEED + 2)
    start |= {k: random.uniform(-1.0, 1.0, shape) for k, shape in MORE_SHAPES.items()}
    random = np.random.RandomState(SEED + 4)
    start |= {k: random.uniform(-1.0, 1.0, shape) for k, shape in KERNEL_SHAPES.items()}
    return {k: start[k] for k in leaves}


def gradients(scale: float, leaves: Collection[str] = tuple(SHAPES)) -> list[dict[str, np.ndarray]]:
    """Gradients of the STEPS steps: uniform in scale * amplitude * [-1, 1)."""
    groups = {SEED + 1: SHAPES, SEED + 3: MORE_SHAPES, SEED + 5: KERNEL_SHAPES}
    streams = [(np.random.RandomState(seed), shapes) for seed, shapes in groups.items()]
    steps = []
    for amplitude in AMPLITUDES:
        tree = {}
        for random, shapes in streams:
            for k, shape in shapes.items():
                tree[k] = np.asarray(random.uniform(-1.0, 1.0, shape)) * (amplitude * scale)
        for k, index in ALWAYS_ZERO.items():
            tree[k][index] = 0.0
        steps.append({k: tree[k] for k in leaves})
    return steps


def learning_rates(kind: str, base: float) -> list[float]:
    """Learning rate of each step: "constant"; "changing", falling a little every step and by a half every ten;
    "reciprocal", base / (1 + t/10). Raises ValueError for another kind.
    """
    if kind == "constant":
        return [base] * STEPS
    if kind == "changing":
        return [base * (1.0 - 0.01 * t) * 0.5 ** (t // 10) for t in range(STEPS)]
    if kind == "reciprocal":
        return [base / (1.0 + t * 0.1) for t in range(STEPS)]
    raise ValueError(f"kind: expected 'constant', 'changing' or 'reciprocal', got {kind!r}; pass one of the three.")


def flatten(tree: dict[str, np.ndarray]) -> np.ndarray:
    """The entries of a tree in the order of LEAVES (w, b, s, then the others), as stored in the .npz files."""
    return np.concatenate([np.asarray(tree[k], np.float64).ravel() for k in LEAVES if k in tree])


def saved(history: list[dict[str, np.ndarray]]) -> np.ndarray:
    """The flattened parameters after each of SAVED_STEPS, shape (8, entries): 17 entries for w, b and s."""
    return np.stack([flatten(history[t - 1]) for t in SAVED_STEPS])
