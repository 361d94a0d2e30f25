"""How a trajectory is compared with a golden one. NumPy only."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from . import inputs
from .row import Row

ROUNDING = 1e-14  # relative to a parameter: the 50 sums p - lr d, half an ulp (1.1e-16) each, rounded up
# constructors whose directions mix the entries of a matrix
MIXING = ("muon", "normuon", "scion", "dion", "galore", "shampoo", "soap", "splus", "psgd_kron")
DECAYING = ("adamw", "stableadamw", "scion")  # unless told otherwise
SMALLEST = 1e-30  # tolerance of an entry that starts at 0 and never moves: any motion exceeds it


def load(peer: str) -> dict[str, np.ndarray]:
    """The trajectories of a peer by row name, each of shape (kinds, scales, saved steps, entries)."""
    with np.load(Path(__file__).with_name(f"{peer}.npz")) as file:
        return {name: file[name] for name in file.files}


def excess(got: np.ndarray, want: np.ndarray, rtol: float, leaves: Collection[str] = tuple(inputs.SHAPES)) -> float:
    """Largest error in units of its tolerance: up to 1 is agreement, NaN if anything is. Shape (saved steps, entries).

    The tolerance is relative to how far an entry has moved so far, not to its value: at a gradient scale of 1e-8 a
    parameter of order 1 moves by 1e-9, and 1e-12 of its value would let a wrong rule through.
    """
    start = inputs.flatten(inputs.parameters(leaves))
    reach = np.maximum.accumulate(np.abs(want - start), axis=0)
    tolerance = rtol * reach + ROUNDING * np.maximum(np.abs(want), np.abs(start))
    error = np.abs(got - want)
    return float(np.max(error / np.maximum(tolerance, SMALLEST)))


def still(row: Row) -> np.ndarray:
    """Which entries must keep their first value to the last bit: those without a gradient, unless they decay.

    Muon makes the rows of a matrix orthogonal, GaLore mixes them, and centred gradients have a mean of 0 along each:
    all move an entry without a gradient, but not a row without one.
    """
    mask = {k: np.zeros(inputs.LEAVES[k], bool) for k in row.leaves}
    decays = row.engine.get("weight_decay", 0.01 if row.constructor in DECAYING else 0.0) != 0.0
    matrices_only = row.engine.get("decay_mask") == "matrices"
    for k in mask.keys() & inputs.ALWAYS_ZERO.keys():
        index = inputs.ALWAYS_ZERO[k]
        mixes = row.constructor in MIXING or "centralize" in row.engine
        alone = not mixes or len(index) < mask[k].ndim or mask[k].ndim < 2
        mask[k][index] = alone and (not decays or (matrices_only and k not in inputs.MATRICES))
    return inputs.flatten(mask).astype(bool)
