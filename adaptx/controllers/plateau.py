"""Reduce on plateau.

    every `window` steps, ℓ = the mean loss of the window:
    ℓ < best − rtol·|best| − atol:  best ← ℓ, bad ← 0;  otherwise bad ← bad + 1
    cooling:            bad ← 0, one window less to cool
    bad = patience:     scale ← max(factor·scale, min_scale), bad ← 0, cool for `cooldown` windows
    η = base·scale, not below min_lr by this rule

No paper; the form is optax's (torch's reduces one window later). Where a loss is noisy it seldom falls below its least
value so far: a window of one step sees a plateau everywhere, and without min_scale the rate would be 0 after 500 steps
of noise. It does not rise again.
"""

from typing import NamedTuple

import jax.numpy as jnp

from ..checks import checked, number, whole
from ..control import Controller
from ..values import Scalar, static, value_class


class Windows(NamedTuple):
    scale: Scalar  # the rate over base
    best: Scalar  # least mean loss of a window
    bad: Scalar  # windows without improvement
    cooling: Scalar  # windows left to cool
    total: Scalar  # Σ losses of this window
    seen: Scalar  # steps of this window


@value_class
class Plateau(Controller):
    """A rate that falls when the loss stalls. No marks; needs value=loss."""

    base: Scalar = 1e-3  # the rate to start from: a number ≥ 0 or a schedule
    factor: Scalar = 0.1  # in (0, 1)
    patience: int = static(default=10)  # windows without improvement, ≥ 1
    cooldown: int = static(default=0)  # windows, ≥ 0
    min_lr: Scalar = 0.0  # ≥ 0
    rtol: Scalar = 1e-4  # in [0, 1)
    atol: Scalar = 0.0  # ≥ 0, units of the loss
    window: int = static(default=10)  # steps a loss is averaged over, ≥ 1
    min_scale: Scalar = 1e-3  # in [0, 1], least share of base that it reduces to
    scope = "global"
    Scalars = Windows
    requires = frozenset({"value"})
    reports = ("scale",)

    def __post_init__(self):
        checked(self, base=number("base", self.base, 0.0))
        checked(self, factor=number("factor", self.factor, 0.0, 1.0, open_low=True, open_high=True))
        checked(self, min_lr=number("min_lr", self.min_lr, 0.0), atol=number("atol", self.atol, 0.0))
        checked(self, rtol=number("rtol", self.rtol, 0.0, 1.0, open_high=True))
        checked(self, min_scale=number("min_scale", self.min_scale, 0.0, 1.0))
        whole("patience", self.patience, 1)
        whole("cooldown", self.cooldown, 0)
        whole("window", self.window, 1)

    def start(self):
        return Windows(1.0, jnp.inf, 0.0, 0.0, 0.0, 0.0)

    def update(self, sums, c, k):
        total, seen = c.total + k.value, c.seen + 1
        full = seen >= self.window
        loss = total / seen
        improved = loss < (1 - self.rtol * jnp.sign(c.best)) * c.best - self.atol
        cooling = c.cooling > 0
        bad = jnp.where(improved | cooling, 0, c.bad + 1)
        reduce = ~cooling & (bad >= self.patience)
        judged = Windows(
            scale=jnp.where(reduce, jnp.maximum(self.factor * c.scale, self.min_scale), c.scale),
            best=jnp.where(improved, loss, c.best),
            bad=jnp.where(reduce, 0, bad),
            cooling=jnp.where(reduce, self.cooldown, jnp.maximum(c.cooling - 1, 0)),
            total=jnp.zeros_like(total),
            seen=jnp.zeros_like(seen),
        )
        within = c._replace(total=total, seen=seen)
        return Windows(*(jnp.where(full, new, old) for new, old in zip(judged, within, strict=True)))

    def rate(self, c, k):
        rate = self.base_rate(k)
        return jnp.maximum(rate * c.scale, jnp.minimum(self.min_lr, rate))
