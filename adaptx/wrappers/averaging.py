"""Averages of the iterates: an average to evaluate at, and slow weights that lead the fast ones."""

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..engine.transformation import Transformation
from ..engine.tree import as_arrays, take_apart
from ..numerics import one_minus_power
from ..values import Decay, Scalar, static, value_class
from .wrapper import Iterates, Row, Wrapper, chosen


@value_class
class Averaged(Wrapper):
    """Averages of the parameters over the steps, to evaluate at; one, or several by name.

        a ← a + w (p − a)                                              a = p before the first step
        decay       w = (1 − b) / (1 − bᵗ)                             exponential, its bias corrected
        power γ     w = (1 + γ) / (t + γ)                              polynomial: the later steps count more

    A horizon of h steps is a decay of b = 1 − 1/h: while t < h it is about the mean of all steps, then of the last h.
    A polynomial average looks back over a part of training, 1 / (1 + γ), however long that is.
    Polyak & Juditsky, 1992, doi:10.1137/0330046; polynomial: Shamir & Zhang, 2013, arXiv:1212.1824.
    Departs from the papers in: the exponential average, which neither has; the parameters before the first step have
    no weight in any.
    """

    inner: Transformation
    decay: Decay | dict[str, Decay] | None = None
    power: Scalar | dict[str, Scalar] | None = None
    family = "averaged"

    @property
    def kind(self) -> str:
        """What its state belongs to."""
        decays, powers = (sorted(x) if isinstance(x, dict) else [] for x in (self.decay, self.power))
        if decays or powers:
            return f"averaged({', '.join([*decays, *(f'polynomial {name}' for name in powers)])})"
        return "averaged" if self.decay is not None else "averaged_polynomial"

    @property
    def label(self) -> str:
        """What its numbers are named by in metrics."""
        return self.kind.partition("(")[0]

    def means(self) -> dict[str, tuple[Decay | None, Scalar]]:
        """Every average by the name it is kept under: its decay, or None and its power."""
        if isinstance(self.decay, Decay) or not isinstance(self.decay or self.power, dict):
            return {"average": (self.decay, self.power)}  # pyright: ignore[reportReturnType]
        decays, powers = self.decay or {}, self.power or {}
        several = {name: (decay, None) for name, decay in decays.items()}  # pyright: ignore[reportAttributeAccessIssue]
        several |= {name: (None, power) for name, power in powers.items()}
        return {f"average.{name}": mean for name, mean in sorted(several.items())}

    def fresh(self, p: Array, narrow: bool) -> dict[str, Array | None]:
        """The averages."""
        return {name: jnp.array(p) for name in self.means()}

    def follow(self, row: Row, p: Array, new: Array, c: Row) -> tuple[Row, Array]:
        """The averages take in the new parameters; training itself is unchanged."""
        return {name: row[name] + _weight(*mean, p, c) * (new - row[name]) for name, mean in self.means().items()}, new

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, grads: PyTree, state: Iterates, params: PyTree | None = None, **extra: PyTree
    ) -> tuple[PyTree, Iterates]:
        """optax's contract: the updates of the optimizer inside, as they are."""
        if params is None:
            return super().update(grads, state, params, **extra)
        leaves = take_apart(params)
        rows, ps = self.rows(state, leaves), as_arrays(leaves.arrays)
        updates, inner = self.inner.update(grads, state.inner, params, **extra)
        moves = zip(ps, as_arrays(leaves.column(updates)), strict=True)
        _, after = self.followed(state, inner, rows, (leaves, [(p + u).astype(p.dtype) for p, u in moves]))
        return updates, after


def _weight(decay: Decay | None, power: Scalar, p: Array, c: Row) -> Array:
    """Of the parameters of step t in an average."""
    if decay is None:
        return (1 + power) / (c["t"] + power)
    b = Decay(jnp.asarray(decay.complement, p.dtype))
    return b.complement / one_minus_power(b, c["t"])


@value_class
class Lookahead(Wrapper):
    """Slow weights that step toward the fast ones.

        every k steps:  s ← s + α (p − s),  p ← s                        evaluated at s

    Zhang, Lucas, Hinton & Ba, "Lookahead optimizer: k steps forward, 1 step back", 2019, arXiv:1907.08610, Algorithm 1.
    Departs from the paper in: nothing; of what it leaves open, the inner optimizer's slots are kept across the
    synchronization.
    """

    inner: Transformation
    alpha: Scalar = 0.5
    k: int = static(default=5)
    family = "lookahead"

    def fresh(self, p: Array, narrow: bool) -> dict[str, Array | None]:
        """The slow weights."""
        return {"slow": p}

    def start(self) -> dict[str, float]:
        """Steps since the last synchronization."""
        return {"since": 0.0}

    def advance(self, c: Row) -> Row:
        """One step more, none after a synchronization."""
        return {**c, "since": (c["since"] + 1) % self.k}

    def follow(self, row: Row, p: Array, new: Array, c: Row) -> tuple[Row, Array]:
        """Slow weights move, and the fast ones with them, at every k-th step."""
        now = c["since"] == 0
        slow = jnp.where(now, row["slow"] + self.alpha * (new - row["slow"]), row["slow"])
        return {"slow": slow}, jnp.where(now, slow, new)

    def settled(self, inner: PyTree, rows: list[Row], c: Row, params: PyTree) -> PyTree:
        """What rounding keeps of fast weights begins anew where they were moved to the slow ones."""
        slow = [row["slow"] for row in rows]
        return chosen(c["since"] == 0, self.inner.rebased(inner, take_apart(params), slow), inner)
