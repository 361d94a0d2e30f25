"""The shield: go back where training blew up."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..engine.groups import scalar_loss
from ..engine.norms import global_norm, refuse_local
from ..engine.transformation import Transformation
from ..engine.tree import as_arrays, gradients, take_apart
from ..values import Scalar, static, value_class
from .foreign import took_step
from .wrapper import Iterates, Row, Wrapper, arrays_of, chosen


@value_class
class Shield(Wrapper):
    """Training that goes back to where it was good; needs value=loss.

    Over blocks of `block` steps, μ and σ the mean and standard deviation of the loss:

        first:    R ← max(R, f) with the loss f of the first step, and of the first step after a trip
        trip:     the loss, a gradient or a new parameter is not finite, at any step;
                  or, at a block's end, μ > R + max(tolerance · σ_R, |R|)
        tripped:  p ← the last good snapshot, slots ← as at init, s ← factor · s
        good:     at a block's end, snapshot ← p, (R, σ_R) ← (μ, σ)

    Every displacement of the optimizer inside, independent weight decay aside, is multiplied by s. R is raised to the
    loss at the snapshot after a trip: without that a shield goes back for ever where the snapshot lies above the old R;
    forgetting R instead would take a block that blows up, but stays finite, for the new standard. The step number, and
    with it a schedule, goes on, as do a controller's scalars and marks; of a foreign optax transformation all state
    starts afresh.
    No paper.
    """

    inner: Transformation
    factor: Scalar = 0.2  # in (0, 1), on the rate at every trip
    tolerance: Scalar = 4.0  # > 0, standard deviations
    block: int = static(default=10)  # steps, ≥ 1
    family = "shield"
    shows = ("rollbacks", "shield")

    @property
    def requires(self) -> frozenset[str]:
        """Names of the extra arguments that update and step must be given."""
        return self.inner.requires | {"value"}

    def fresh(self, p: Array, narrow: bool) -> dict[str, Array | None]:
        """The snapshot."""
        return {"snapshot": p}

    def start(self) -> dict[str, float]:
        """s, trips, this block's sums, (R, σ_R), and whether R waits for a first loss."""
        sums = {"seen": 0.0, "total": 0.0, "squares": 0.0}
        return {"shield": 1.0, "rollbacks": 0.0, **sums, "mean": -float("inf"), "spread": 0.0, "fresh": 1.0}

    def moved(
        self, grads: PyTree, state: Iterates, params: PyTree, extra: dict[str, PyTree]
    ) -> tuple[PyTree, Iterates]:
        """The step that `update` takes: callers that cannot pass the loss are protected from what is not finite."""
        blind = extra.get("value") is None and "value" not in self.inner.requires
        return self._watched(grads, state, params, jnp.zeros(()) if blind else loss_of(extra), extra)

    def step(self, grads: PyTree, state: Iterates, params: PyTree, **extra: PyTree) -> tuple[PyTree, Iterates]:
        """(new parameters, new state)."""
        return self._watched(grads, state, params, loss_of(extra), extra)

    def _watched(
        self, grads: PyTree, state: Iterates, params: PyTree, value: Array, extra: dict[str, PyTree]
    ) -> tuple[PyTree, Iterates]:
        leaves, axes = take_apart(params), self.axis_name
        rows, olds = self.rows(state, leaves), as_arrays(leaves.arrays)
        inner = self.inner.scaled(state.scalars["shield"])
        new, after = inner.step(grads, state.inner, params, **extra)
        found = [g for g in as_arrays(gradients(grads, leaves)) if g is not None]
        news, snapshots = as_arrays(arrays_of(new)), [row["snapshot"] for row in rows]
        refuse_local(axes, news, "the shield's norms")
        finite = jnp.isfinite(value) & jnp.isfinite(global_norm(found, axes)) & jnp.isfinite(global_norm(news, axes))
        counted = took_step(state.inner, after)
        scalars, tripped, good = _watch(self.numbers(state), state.scalars, value, finite)
        back = [x.astype(p.dtype) for x, p in zip(snapshots, olds, strict=True)]
        if counted is not None:
            # the optimizer inside is left as it is: it counts what it skips, or gathers gradients for its next step
            tripped, good, scalars = tripped & counted, good & counted, chosen(counted, scalars, state.scalars)
        outs = chosen(tripped, back, news)
        after = chosen(tripped, self.inner.reset(after, leaves.join(back, lambda leaf: leaf)), after)
        kept = chosen(good, [p.astype(x.dtype) for p, x in zip(olds, snapshots, strict=True)], snapshots)
        state = self.after(after, [{"snapshot": x} for x in kept], scalars, leaves)
        return leaves.join(outs, lambda leaf: leaf), state


def loss_of(extra: dict[str, PyTree]) -> Array:
    """The loss; ValueError where it is missing or no scalar."""
    if extra.get("value") is None:
        came = ", ".join(sorted(extra.keys() - {"value"})) or "none"
        raise ValueError(f"shield needs the scalar loss, got {came}; pass value=loss to update or step.")
    return jnp.asarray(scalar_loss(extra["value"]), jnp.float32)


@jax.jit
def _watch(shield: Shield, c: Row, loss: Array, finite: Array) -> tuple[Row, Array, Array]:
    """(the scalars after this step's loss, whether it tripped, whether a block ended well)."""
    value = jnp.where(finite, loss, 0.0)
    seen, total, squares = c["seen"] + 1, c["total"] + value, c["squares"] + value**2
    mean = total / seen
    spread = jnp.sqrt(jnp.maximum(squares / seen - mean**2, 0))
    full = seen >= shield.block
    first = (c["fresh"] > 0) & finite
    reference = jnp.where(first, jnp.maximum(c["mean"], value), c["mean"])
    allowed = jnp.maximum(shield.tolerance * c["spread"], jnp.abs(reference))
    tripped = ~finite | (full & (mean > reference + allowed))
    good, clear = full & ~tripped, full | tripped
    zero = partial(jnp.where, clear, 0.0)
    after = {
        "t": c["t"] + 1,
        "shield": jnp.where(tripped, shield.factor, 1.0) * c["shield"],
        "rollbacks": c["rollbacks"] + tripped,
        "seen": zero(seen),
        "total": zero(total),
        "squares": zero(squares),
        "mean": jnp.where(good, mean, reference),
        "spread": jnp.where(good, spread, c["spread"]),
        "fresh": jnp.where(tripped, 1.0, jnp.where(first, 0.0, c["fresh"])),
    }
    return {name: x.astype(c[name].dtype) for name, x in after.items()}, tripped, good
