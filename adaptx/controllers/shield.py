"""A shield around any controller: go back where training blew up.

    over blocks of `block` steps: μ, σ the mean and standard deviation of the loss
    first:    R ← max(R, f) with the loss f of the first step, and of the first step after a trip
    trip:     the loss (or a sum) is not finite, at any step; or, at a block's end, μ > R + max(tolerance · σ_R, |R|)
    tripped:  p ← the last good snapshot, slots ← as at init, s ← factor · s
    good:     at a block's end, snapshot ← p, (R, σ_R) ← (μ, σ)
    η = s · η of the inner controller

R is raised to the loss at the snapshot after a trip: without that a shield rolls back for ever where the snapshot lies
above the old R; forgetting R instead would take a block that blows up, but stays finite, for the new standard.
`step` restores parameters that are not finite, `update` cannot, for its caller adds to them.
No paper.
"""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from ..base import Controller
from ..values import Scalar, checked, number, static, value_class, whole


@value_class
class Shield(Controller):
    """A controller that rolls back. One mark (the snapshot) and the inner controller's; needs value=loss."""

    inner: Any  # a controller
    factor: Scalar = 0.2  # in (0, 1), on the rate at every trip
    tolerance: Scalar = 4.0  # > 0, standard deviations
    block: int = static(default=10)  # steps, ≥ 1
    guards = True

    def __post_init__(self):
        if not isinstance(self.inner, Controller):
            came = type(self.inner).__name__
            raise TypeError(f"shield takes a controller such as hypergradient(1e-3), got {came}; wrap one.")
        checked(self, factor=number("factor", self.factor, 0.0, 1.0, open_low=True, open_high=True))
        checked(self, tolerance=number("tolerance", self.tolerance, 0.0, open_low=True))
        whole("block", self.block, 1)

    scope = property(lambda self: self.inner.scope)  # pyright: ignore[reportAssignmentType]
    base = property(lambda self: self.inner.base)
    requires = property(lambda self: self.inner.requires | {"value"})  # pyright: ignore[reportAssignmentType]
    reports = property(lambda self: (*self.inner.reports, "rollbacks", "shield"))  # pyright: ignore[reportAssignmentType]
    exact = property(lambda self: self.inner.exact)  # pyright: ignore[reportAssignmentType]
    sees_direction = property(lambda self: self.inner.sees_direction)  # pyright: ignore[reportAssignmentType]
    corrects = property(lambda self: self.inner.corrects)  # pyright: ignore[reportAssignmentType]
    reference = property(lambda self: self.inner.reference)  # pyright: ignore[reportAssignmentType]

    def __mul__(self, factor):
        return replace(self, inner=self.inner * factor)

    __rmul__ = __mul__

    def start(self):
        own = {"shield": 1.0, "rollbacks": 0.0, "tripped": 0.0, "birth": 0.0, "seen": 0.0, "total": 0.0,
               "squares": 0.0, "mean": -jnp.inf, "spread": 0.0, "kept": 0.0, "fresh": 1.0}  # fmt: skip
        return {**{f"shield_{name}": value for name, value in own.items()}, **self.inner.start()}

    def inspect(self, p):
        return self.inner.inspect(p)

    def begin(self, sums, c):
        return {**c, **self.inner.begin(sums, c)}

    def marks(self, p):
        return {"shield_snapshot": p, **self.inner.marks(p)}

    def unit(self, c, k):
        return self.inner.unit(c, k)

    def feed(self, g, x, c, k):
        return self.inner.feed(g, x, c, k)

    def decay_weight(self, c, k):
        return self.inner.decay_weight(c, k)

    def measure(self, g, d, x, metric, marks, c, k):
        new, sums = self.inner.measure(g, d, x, metric, marks, c, k)
        return {**marks, **new}, {**sums, "shield_gradient": jnp.sum(jnp.abs(g))}

    def update(self, sums, c, k):
        inner = {name: value for name, value in c.items() if not name.startswith("shield_")}
        moved = self.inner.update(sums, inner, k)
        return {**{name: jnp.where(k.finite, moved[name], inner[name]) for name in inner}, **self._watch(c, k)}

    def _watch(self, c: dict, k) -> dict:
        """The shield's own scalars after this step's loss."""
        value = jnp.where(k.finite, k.value, 0.0)
        seen, total = c["shield_seen"] + 1, c["shield_total"] + value
        squares = c["shield_squares"] + value**2
        mean = total / seen
        spread = jnp.sqrt(jnp.maximum(squares / seen - mean**2, 0))
        full = seen >= self.block
        first = (c["shield_fresh"] > 0) & k.finite
        reference = jnp.where(first, jnp.maximum(c["shield_mean"], value), c["shield_mean"])
        allowed = jnp.maximum(self.tolerance * c["shield_spread"], jnp.abs(reference))
        tripped = ~k.finite | (full & (mean > reference + allowed))
        good, clear = full & ~tripped, full | tripped

        def fresh(x):
            return jnp.where(clear, jnp.zeros_like(x), x)

        new = {
            "shield": jnp.where(tripped, self.factor, 1.0) * c["shield_shield"],
            "rollbacks": c["shield_rollbacks"] + tripped,
            "tripped": tripped,
            "birth": jnp.where(tripped, k.t, c["shield_birth"]),
            "seen": fresh(seen),
            "total": fresh(total),
            "squares": fresh(squares),
            "mean": jnp.where(good, mean, reference),
            "spread": jnp.where(good, spread, c["shield_spread"]),
            "kept": good,
            "fresh": jnp.where(tripped, 1.0, jnp.where(first, 0.0, c["shield_fresh"])),
        }
        return {f"shield_{name}": value for name, value in new.items()}

    def rate(self, c, k):
        return c["shield_shield"] * self.inner.rate(c, k)

    def move(self, g, d, x, marks, c, k):
        u, left = self.inner.move(g, d, x, {n: m for n, m in marks.items() if n != "shield_snapshot"}, c, k)
        u = jnp.where(c["shield_tripped"] > 0, 0, c["shield_shield"] * u)
        return u, {**left, "shield_snapshot": jnp.where(c["shield_kept"] > 0, x, marks["shield_snapshot"])}

    def origin(self, x, marks, c):
        return jnp.where(c["shield_tripped"] > 0, marks["shield_snapshot"], x)

    def reset(self, c):
        return c["shield_tripped"] > 0

    def age(self, c, k):
        return self.inner.age(c, k) - c["shield_birth"]

    def report(self, c, k):
        own = {"rollbacks": c["shield_rollbacks"], "shield": c["shield_shield"]}
        return {**self.inner.report(c, k), **own}
