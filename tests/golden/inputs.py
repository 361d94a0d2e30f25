"""The inputs of every golden trajectory: parameters, open-loop gradients and learning rates, from a seed. NumPy only.

Made of uniform numbers, products and sums alone, so that every platform computes the same bits (logarithms and powers,
and with them normal random numbers, differ in the last bit between C libraries).
"""

import numpy as np

SEED = 20
STEPS = 50
SAVED_STEPS = (1, 2, 3, 6, 7, 10, 25, 50)  # 1-based: the first ones decide bias corrections, 50 the accumulated state
SCALES = (1.0, 1e-4, 1e-8)  # of the gradients: far above eps, about its root, about eps itself
SHAPES = {"w": (3, 4), "b": (4,), "s": ()}
ALWAYS_ZERO = {"w": (1, 2), "b": (3,)}  # one entry in each of two leaves never receives a gradient
MATRICES = ("w",)  # the leaves that decay_mask="matrices" decays

# Large, then a hundredth of that, then between: AMSGrad's maximum holds, a clipping threshold of 2 is crossed.
AMPLITUDES = (3.0,) * 10 + (0.03125,) * 15 + (1.0,) * 25


def parameters() -> dict[str, np.ndarray]:
    """Initial parameters: w uniform in [-1, 1), b zero (its displacement is then known to full accuracy), s 0.5."""
    random = np.random.RandomState(SEED)  # legacy: the one generator whose stream NumPy promises never to change
    return {"w": random.uniform(-1.0, 1.0, SHAPES["w"]), "b": np.zeros(SHAPES["b"]), "s": np.array(0.5)}


def gradients(scale: float) -> list[dict[str, np.ndarray]]:
    """Gradients of the STEPS steps: uniform in scale * amplitude * [-1, 1)."""
    random = np.random.RandomState(SEED + 1)
    steps = []
    for amplitude in AMPLITUDES:
        tree = {k: np.asarray(random.uniform(-1.0, 1.0, shape)) * (amplitude * scale) for k, shape in SHAPES.items()}
        for k, index in ALWAYS_ZERO.items():
            tree[k][index] = 0.0
        steps.append(tree)
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
    """The entries of a tree in the order w, b, s, as stored in the .npz files."""
    return np.concatenate([np.asarray(tree[k], np.float64).ravel() for k in SHAPES])


def saved(history: list[dict[str, np.ndarray]]) -> np.ndarray:
    """The flattened parameters after each of SAVED_STEPS, shape (8, 17)."""
    return np.stack([flatten(history[t - 1]) for t in SAVED_STEPS])
