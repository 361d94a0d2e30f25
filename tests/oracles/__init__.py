"""Float64 NumPy oracles of the update rules, written from their papers.

Nothing here imports adaptx or JAX: an error in the library cannot be repeated by the thing it is checked against.
"""

from .classical import bias_correction, ema
from .trajectories import ORACLES, direction, hessian_of, trajectory

__all__ = ["ORACLES", "bias_correction", "direction", "ema", "hessian_of", "trajectory"]
