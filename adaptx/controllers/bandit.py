"""A discounted bandit over relative changes of the rate.

    every `period` steps, of which the loss was ℓ̄ on average and ℓ̄₋ in the period before, arm a having been pulled:
    δ = log ℓ̄₋ − log ℓ̄,  R = clip((δ − δ̄) / scale, ±1): better or worse than the usual drop δ̄, a running mean;
    scale is the running root mean square of δ − δ̄
    S ← γ S for every arm,  S_a ← S_a + R / max(p_a, 1/K)
    p = (1 − ε) softmax(κ S) + ε / K;  draw an arm;  η ← clip(η · arms[a], min_lr, max_lr)

The draw is a hash of (seed, period number): resumable, and the same under any sharding. Losses must exceed `floor`.
The idea of rates as arms rewarded by the drop of the loss: Henry et al., "LRRL", 2024, arXiv:2410.12598; weights as in
Exp3 with discounts (Auer, Cesa-Bianchi, Freund & Schapire, 2002). The relative arms and the defaults are ours.
"""

from typing import Any

import jax
import jax.numpy as jnp

from ..base import Controller
from ..numerics import counter_uniform
from ..values import Scalar, checked, number, open_loop, static, value_class, whole


@value_class
class Bandit(Controller):
    """A rate that a bandit raises and lowers. No marks; needs value=loss."""

    base: Any = 1e-3  # the rate to start from: a number ≥ 0 or a schedule, whose multiple is learned
    arms: tuple[Scalar, ...] = (0.7, 1.0, 1.4)  # > 0, at least two
    discount: Scalar = 0.9  # γ in [0, 1)
    sharpness: Scalar = 1.0  # κ > 0
    explore: Scalar = 0.1  # ε in (0, 1]
    min_factor: Scalar = 1e-6  # > 0, least η / base
    max_factor: Scalar = 1e6  # ≥ min_factor
    floor: Scalar = 0.0  # below every loss
    period: int = static(default=10)  # steps, ≥ 1
    seed: int = static(default=0)
    scope = "global"
    requires = frozenset({"value"})
    reports = ("factor",)
    reference = "arXiv:2410.12598"

    def __post_init__(self):
        arms = tuple(number("arms", x, 0.0, open_low=True) for x in self.arms)
        if len(arms) < 2:
            raise ValueError(f"bandit needs at least two arms, got {len(arms)}; pass factors such as (0.7, 1.0, 1.4).")
        checked(self, base=open_loop("base", self.base), arms=arms, floor=number("floor", self.floor))
        checked(self, discount=number("discount", self.discount, 0.0, 1.0, open_high=True))
        checked(self, sharpness=number("sharpness", self.sharpness, 0.0, open_low=True))
        checked(self, explore=number("explore", self.explore, 0.0, 1.0, open_low=True))
        checked(self, min_factor=number("min_factor", self.min_factor, 0.0, open_low=True))
        checked(self, max_factor=number("max_factor", self.max_factor, 0.0, open_low=True))
        if isinstance(self.min_factor, float) and self.min_factor > self.max_factor:
            raise ValueError(f"bandit needs min_factor ≤ max_factor, got {self.min_factor:g}; swap them.")
        whole("period", self.period, 1), whole("seed", self.seed, 0)

    def start(self):
        zeros = jnp.zeros(len(self.arms))
        return {"factor": 1.0, "scores": zeros, "arm": -1.0, "chance": 1.0, "total": 0.0, "seen": 0.0,
                "before": jnp.inf, "usual": 0.0, "power": 0.0, "periods": 0.0}  # fmt: skip

    def update(self, sums, c, k):
        total, seen = c["total"] + k.value, c["seen"] + 1
        judged = self._pull(c, total / seen)
        kept = {**c, "total": total, "seen": seen}
        return {name: jnp.where(seen >= self.period, judged[name], kept[name]) for name in c}

    def _pull(self, c: dict, loss: jax.Array) -> dict:
        """The scalars after a period of this mean loss."""
        count = len(self.arms)
        tiny = jnp.finfo(loss.dtype).tiny
        drop = jnp.log(jnp.maximum(c["before"] - self.floor, tiny)) - jnp.log(jnp.maximum(loss - self.floor, tiny))
        known = (c["arm"] >= 0) & jnp.isfinite(c["before"])
        drop = jnp.where(known, drop, 0.0)
        surprise = drop - c["usual"]
        usual = jnp.where(known, c["usual"] + 0.1 * surprise, c["usual"])
        power = jnp.where(known, 0.9 * c["power"] + 0.1 * surprise**2, c["power"])
        reward = jnp.clip(surprise / jnp.maximum(jnp.sqrt(power), tiny), -1, 1)
        pulled = (jnp.arange(count) == c["arm"]) * reward / jnp.maximum(c["chance"], 1 / count)
        scores = self.discount * c["scores"] + jnp.where(known, pulled, 0.0)

        chances = (1 - self.explore) * jax.nn.softmax(self.sharpness * scores) + self.explore / count
        dice = counter_uniform(self.seed, c["periods"])
        arm = jnp.minimum(jnp.sum(jnp.cumsum(chances) <= dice), count - 1)
        arms = jnp.stack([jnp.asarray(x, loss.dtype) for x in self.arms])
        factor = jnp.clip(c["factor"] * arms[arm], self.min_factor, self.max_factor)
        return {"factor": factor, "scores": scores, "arm": arm.astype(loss.dtype), "chance": chances[arm],
                "total": jnp.zeros_like(loss), "seen": jnp.zeros_like(loss), "before": loss, "usual": usual, "power": power,
                "periods": c["periods"] + 1}  # fmt: skip

    def rate(self, c, k):
        return self.base_rate(k) * c["factor"]
