"""Layer-wise trust ratios: LARS before the rule, LAMB after it.

    q = coefficient · φ(‖p‖) / (‖u‖ + ε),  1 where either norm is 0,  at most max_ratio           per leaf
    before=True     u = g + λp with decay_mode="l2"; the rule sees q·g; η = base                   LARS
    before=False    u = d, weight decay included; η = base · q                                      LAMB

φ clips the norm to `norm_bounds` (LAMB, Algorithm 2). max_ratio bounds q itself (LAMBC). With before=True it makes
q ← min(q/base, max_ratio), so that the rate is min(q, max_ratio·base): LARC's clipping, at max_ratio 1.
You, Gitman & Ginsburg, "Large batch training of convolutional networks", 2017, arXiv:1708.03888; You et al., "Large
batch optimization for deep learning", 2020, arXiv:1904.00962; Fong et al., "Improving layer-wise adaptive rate methods
using trust ratio clipping", 2020, arXiv:2011.13584.
Departs from the papers in: LARS divides by ‖g + λp‖ + ε, as in optax, the paper by ‖g‖ + λ‖p‖; the rate is outside
LARS's momentum buffer (equal while the rate is constant).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from ..checks import checked, flag, number, several
from ..control import Controller
from ..numerics import root
from ..values import Scalar, static, value_class


class Ratio(NamedTuple):
    ratio: Scalar  # q


class Squares(NamedTuple):
    xx: Array  # ‖p‖²
    uu: Array  # ‖u‖²


@value_class
class TrustRatio(Controller):
    """A rate per leaf in proportion to the leaf's norm. No marks."""

    base: Scalar = 1e-3  # a number ≥ 0 or a schedule
    coefficient: Scalar = 1.0  # > 0
    eps: Scalar = 0.0  # ≥ 0, units of ‖u‖
    norm_bounds: tuple[Scalar, Scalar] | None = None  # (low, high) of φ, 0 ≤ low ≤ high
    max_ratio: Scalar | None = None  # > 0
    before: bool = static(default=False)
    scope = "leaf"
    Scalars, Sums = Ratio, Squares
    reports = ("trust_ratio",)
    theory = ("momentum", "adam")
    reference = "arXiv:1904.00962"

    def __post_init__(self):
        checked(self, base=number("base", self.base, 0.0), eps=number("eps", self.eps, 0.0))
        checked(self, coefficient=number("coefficient", self.coefficient, 0.0, open_low=True))
        flag("before", self.before)
        if self.max_ratio is not None:
            checked(self, max_ratio=number("max_ratio", self.max_ratio, 0.0, open_low=True))
        if self.norm_bounds is not None:
            low, high = several("norm_bounds", self.norm_bounds, 2, low=0.0)
            if isinstance(low, float) and isinstance(high, float) and low > high:
                raise ValueError(
                    f"norm_bounds must be (low, high) with low ≤ high, got ({low:g}, {high:g}); swap them."
                )
            checked(self, norm_bounds=(low, high))

    def start(self):
        return Ratio(1.0)

    def feed(self, g, x, c, k):
        return self._ratio(jnp.sum(x * x), jnp.sum(g * g), k) * g if self.before else g

    def measure(self, leaf, c, k):
        u = leaf.g if self.before else leaf.d
        return leaf.marks, Squares(jnp.sum(leaf.x * leaf.x), jnp.sum(u * u))

    def update(self, sums, c, k):
        return Ratio(self._ratio(sums.xx, sums.uu, k))

    def rate(self, c, k):
        return self.base_rate(k) * c.ratio

    def move(self, leaf, c, k):
        return -(self.base_rate(k) if self.before else self.rate(c, k)) * leaf.d, leaf.marks

    def report(self, c, k):
        return {"trust_ratio": c.ratio}

    def _ratio(self, xx, uu, k):
        there = (xx > 0) & (uu > 0)
        norm = root(xx) if self.norm_bounds is None else jnp.clip(root(xx), *self.norm_bounds)
        q = self.coefficient * norm / jnp.where(there, root(uu) + self.eps, 1)
        if self.max_ratio is not None:
            base = jnp.asarray(self.base_rate(k), q.dtype)
            q = jnp.minimum(q / jnp.where(base > 0, base, 1) if self.before else q, self.max_ratio)
        return jnp.where(there, q, 1)
