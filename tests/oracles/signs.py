"""Float64 NumPy oracles of rules that read signs alone.

Chen et al. 2023, arXiv:2302.06675, Algorithm 2 (lion; it adds the decay to the direction before the learning rate
multiplies both: decay_mode="decoupled"); Bernstein et al. 2018, arXiv:1802.04434, Algorithm 2 (signum); Riedmiller &
Braun 1993, as torch has it (rprop).
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


class Signum:
    """m <- decay m + (1 - decay) g; d = sign(m)."""

    def __init__(self, decay: float = 0.9):
        self.decay, self.m = decay, 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.m = self.decay * self.m + (1.0 - self.decay) * g
        return np.sign(self.m)


class Tiger(Signum):
    """Signum with another default."""

    def __init__(self, decay: float = 0.965):
        super().__init__(decay)


class Rprop:
    """Every entry's length grows by eta_plus where two gradients agree, shrinks by eta_minus where they differ.

    There the gradient then counts as 0: no step, and no comparison at the next. Lengths start at 1 and stay within
    step_sizes. d = length sign(g).
    """

    def __init__(self, eta_minus: float = 0.5, eta_plus: float = 1.2, step_sizes: tuple[float, float] = (1e-4, 5e3)):
        self.eta_minus, self.eta_plus, self.step_sizes = eta_minus, eta_plus, step_sizes
        self.length, self.before = 1.0, 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        product = np.sign(g) * np.sign(self.before)
        factor = np.select([product > 0, product < 0], [self.eta_plus, self.eta_minus], 1.0)
        self.length = np.clip(self.length * factor, *self.step_sizes)
        self.before = np.where(product < 0, 0.0, g)
        return self.length * np.sign(self.before)
