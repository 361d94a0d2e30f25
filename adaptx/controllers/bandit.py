"""A discounted bandit over relative changes of the rate.

    every `period` steps, of which the loss was ℓ̄ on average and ℓ̄₋ in the period before, arm a having been pulled:
    δ = log ℓ̄₋ − log ℓ̄,  R = clip((δ − δ̄) / scale, ±2): better or worse than the usual drop δ̄, a running mean;
    scale is the running root mean square of δ − δ̄
    S ← γ S, N ← γ N for every arm,  S_a ← S_a + R, N_a ← N_a + 1,  Q = S / (N + 1): its recent reward, shrunk to 0
    p = (1 − ε) softmax(κ Q + θ log arms) + ε / K;  draw an arm;  η ← clip(η · arms[a], base · (min_factor, max_factor))

Losses of a small rate differ by noise alone, so optimism θ > 0 lets a rate rise until losses say otherwise; a rate that
is too large says so loudly. The draw is a hash of (seed, period number): resumable, and the same under any sharding.
Losses must exceed `floor`. Measured over 100 periods from rates of 1e-4 to 1: a bad rate is much improved in both
directions, a good one suffers somewhat, and a network that a first rate of 1 has killed stays dead: use `shield`.
The idea of rates as arms rewarded by the drop of the loss: Donâncio et al., "LRRL", 2024, arXiv:2410.12598; discounting
as in Garivier & Moulines, "On upper-confidence bound policies for non-stationary bandit problems", 2008,
arXiv:0805.3415.
The relative arms, the reward and the defaults are ours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..bits import counter_uniform
from ..checks import checked, number, several, whole
from ..control import Controller
from ..values import Scalar, static, value_class


class Memory(NamedTuple):
    factor: Scalar  # η over base
    rewards: Scalar  # by arm: S
    pulls: Scalar  # by arm: N
    arm: Scalar  # the one last pulled, −1 for none
    total: Scalar  # Σ losses of this period
    seen: Scalar  # steps of this period
    before: Scalar  # mean loss of the period before
    usual: Scalar  # δ̄
    power: Scalar  # running mean square of δ − δ̄
    periods: Scalar  # so far


@value_class
class Bandit(Controller):
    """A rate that a bandit raises and lowers. No marks; needs value=loss."""

    base: Scalar = 1e-3  # the rate to start from: a number ≥ 0 or a schedule, whose multiple is learned
    arms: tuple[Scalar, ...] = (0.7, 1.0, 1.4)  # > 0, at least two
    discount: Scalar = 0.8  # γ in [0, 1)
    sharpness: Scalar = 6.0  # κ > 0
    explore: Scalar = 0.2  # ε in (0, 1]
    optimism: Scalar = 0.75  # θ ≥ 0
    min_factor: Scalar = 1e-6  # > 0, least η / base
    max_factor: Scalar = 1e6  # ≥ min_factor
    floor: Scalar = 0.0  # below every loss
    period: int = static(default=20)  # steps, ≥ 1
    seed: int = static(default=0)  # ≥ 0, of the draws
    scope = "global"
    Scalars = Memory
    requires = frozenset({"value"})
    reports = ("factor",)
    reference = "arXiv:2410.12598"

    def __post_init__(self):
        arms = several("arms", self.arms, low=0.0, open_low=True)
        if len(arms) < 2:
            raise ValueError(f"bandit needs at least two arms, got {len(arms)}; pass factors such as (0.7, 1.0, 1.4).")
        checked(self, base=number("base", self.base, 0.0), arms=arms, floor=number("floor", self.floor))
        checked(self, discount=number("discount", self.discount, 0.0, 1.0, open_high=True))
        checked(self, sharpness=number("sharpness", self.sharpness, 0.0, open_low=True))
        checked(self, optimism=number("optimism", self.optimism, 0.0))
        checked(self, explore=number("explore", self.explore, 0.0, 1.0, open_low=True))
        checked(self, min_factor=number("min_factor", self.min_factor, 0.0, open_low=True))
        checked(self, max_factor=number("max_factor", self.max_factor, 0.0, open_low=True))
        if isinstance(self.min_factor, float) and self.min_factor > self.max_factor:
            raise ValueError(f"bandit needs min_factor ≤ max_factor, got {self.min_factor:g}; swap them.")
        whole("period", self.period, 1)
        whole("seed", self.seed, 0)

    def start(self):
        zeros = jnp.zeros(len(self.arms))
        return Memory(1.0, zeros, zeros, -1.0, 0.0, 0.0, jnp.inf, 0.0, 0.0, 0.0)

    def update(self, sums, c, k):
        total, seen = c.total + k.value, c.seen + 1
        judged, within = self._pull(c, total / seen), c._replace(total=total, seen=seen)
        return Memory(*(jnp.where(seen >= self.period, new, old) for new, old in zip(judged, within, strict=True)))

    def _pull(self, c: Memory, loss: Array) -> Memory:
        """The scalars after a period of this mean loss."""
        tiny = jnp.finfo(loss.dtype).tiny
        drop = jnp.log(jnp.maximum(c.before - self.floor, tiny)) - jnp.log(jnp.maximum(loss - self.floor, tiny))
        known = (c.arm >= 0) & jnp.isfinite(c.before)
        surprise = jnp.where(known, drop, c.usual) - c.usual
        square = jnp.where(c.power > 0, 0.9 * c.power + 0.1 * surprise**2, surprise**2)
        power = jnp.where(known, square, c.power)
        reward = jnp.clip(surprise / jnp.maximum(jnp.sqrt(power), tiny), -2, 2)
        pulled = known & (jnp.arange(len(self.arms)) == c.arm)
        rewards = self.discount * c.rewards + pulled * reward
        pulls = self.discount * c.pulls + pulled

        arms = jnp.stack([jnp.asarray(x, loss.dtype) for x in self.arms])
        liking = jax.nn.softmax(self.sharpness * rewards / (pulls + 1) + self.optimism * jnp.log(arms))
        chances = (1 - self.explore) * liking + self.explore / len(self.arms)
        dice = counter_uniform(self.seed, c.periods)
        arm = jnp.minimum(jnp.sum(jnp.cumsum(chances) <= dice), len(self.arms) - 1)
        factor = jnp.clip(c.factor * arms[arm], self.min_factor, self.max_factor)
        zero, usual = jnp.zeros_like(loss), c.usual + 0.1 * surprise
        return Memory(factor, rewards, pulls, arm.astype(loss.dtype), zero, zero, loss, usual, power, c.periods + 1)

    def rate(self, c, k):
        return self.base_rate(k) * c.factor
