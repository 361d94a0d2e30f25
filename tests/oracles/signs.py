"""Float64 NumPy oracle of Lion: a step of the same size in every entry, of which the moment gives the sign alone.

Chen et al. 2023, arXiv:2302.06675, Algorithm 2. It adds the decay to the direction before the learning rate multiplies
both: decay_mode="decoupled".
"""

import numpy as np


class Lion:
    """d = sign(b1 m + (1 - b1) g) with the m of the step before; then m <- b2 m + (1 - b2) g. m starts at 0.

    sign(0) = 0: an entry whose gradient has always been zero does not move.
    """

    def __init__(self, b1: float = 0.9, b2: float = 0.99):
        self.b1, self.b2 = b1, b2
        self.m = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        d = np.sign(self.b1 * self.m + (1.0 - self.b1) * g)
        self.m = self.b2 * self.m + (1.0 - self.b2) * g
        return d
