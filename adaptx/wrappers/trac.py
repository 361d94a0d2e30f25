"""TRAC: how far to follow an optimizer away from where it started, by betting."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..engine.leaf import arithmetic
from ..engine.norms import refuse_local, summed_rows
from ..engine.transformation import Transformation
from ..engine.tree import Leaves, as_arrays, gradients, take_apart
from ..numerics import divide
from ..values import Scalar, value_class
from .foreign import took_step
from .inside import refuse_gathering
from .wrapper import Iterates, Row, Wrapper, chosen, fine_tree

START = 1e-8  # σ before the first step, as in the authors' program
SPACING, TERMS = 0.2, 31  # of the sum for Dawson's integral: exact to e^(−61) and e^(−38)
SERIES = 20  # terms of the power series of erfi up to 1: the next is 1e-20


@value_class
class Trac(Wrapper):
    """TRAC: the path of the optimizer inside, scaled by what bets on it have won.

        h = ⟨g, Δ⟩                                            Δ the path so far, 0 at first; over all parameters
        for each β:  v ← β² v + h²,  σ ← β σ − h              σ = 1e-8 at first
                     s = s_init · erfi(σ / (√2 √v + ε)) / erfi(1/√2)
        S = max(Σ s, 0)
        Δ ← Δ + u                                             u the update of the optimizer inside, from x = x₀ + S Δ
        x ← x₀ + S Δ

    Muppidi, Zhang & Yang, "Fast TRAC: a parameter-free optimizer for lifelong reinforcement learning", 2024,
    arXiv:2405.16642, Algorithms 1 and 2.
    x₀ and Δ are kept, in f32: recovered from an f32 parameter, as in the authors' program, a path that is scaled by
    1e-8 would be lost. The optimizer inside works on x as finely as it is known. Scalars are f64 beside f64 parameters.
    Departs from the paper in: Δ is multiplied by S / (Σs + ε) first, by which the authors' program shortens it where it
    recovers it; √v is carried in place of v, which may be out of range; erfi stops before it is.
    """

    inner: Transformation
    s_init: Scalar = 1e-8  # > 0
    eps: Scalar = 1e-8  # > 0, units of g·p, and of s
    betas: tuple[Scalar, ...] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)  # each in [0, 1)
    family = "trac"
    shows = ("s",)
    wide = True

    @property
    def kind(self) -> str:
        """What its state belongs to: σ and v lie there for so many β."""
        usual = len(self.betas) == len(type(self).betas)
        return self.family if usual else f"{self.family}_of_{len(self.betas)}"

    def start(self) -> dict[str, Scalar]:
        """σ and √v by β, and Σ s."""
        one = np.ones(len(self.betas))
        return {"sigma": START * one, "root": 0 * one, "s": 0.0}

    def fresh(self, p: Array, narrow: bool) -> dict[str, Array | None]:
        """x₀ and Δ."""
        return {"start": p, "path": jnp.where(p == p, jnp.zeros_like(p), jnp.zeros_like(p))}

    def within(self, params: PyTree) -> PyTree:
        """The parameters as the optimizer inside sees them."""
        return fine_tree(params)

    def init(self, params: PyTree) -> Iterates:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Fresh state for params; shares no buffer with them."""
        state = super().init(params)
        refuse_gathering(self.family, state.inner)
        return state

    def step(self, grads: PyTree, state: Iterates, params: PyTree, **extra: PyTree) -> tuple[PyTree, Iterates]:
        """(new parameters, new state)."""
        leaves, axes = take_apart(params), self.axis_name
        rows, ps = self.rows(state, leaves), as_arrays(leaves.arrays)
        refuse_local(axes, ps, "trac's sum")
        gs, xs = as_arrays(gradients(grads, leaves)), _places(rows, ps, state.scalars["s"])
        updates, inner = self.inner.update(grads, state.inner, leaves.join(xs, lambda leaf: leaf), **extra)
        moves, counted = as_arrays(leaves.column(updates)), took_step(state.inner, inner)
        after = _scaled(self.numbers(state), axes, rows, ps, gs, moves, state.scalars)
        outs, rows, scalars = chosen(counted, after, (ps, rows, state.scalars))
        return leaves.join(outs, lambda leaf: leaf), self.after(inner, rows, scalars, leaves)

    def rebased(self, state: Iterates, leaves: Leaves, fine: list[Array]) -> Iterates:
        """The state for parameters that were moved from outside to `fine`: the path is what leads there."""
        far = jnp.maximum(state.scalars["s"], 0)
        pairs = zip(fine, self.rows(state, leaves), strict=True)
        rows = [{**row, "path": divide(x - row["start"], far.astype(x.dtype))} for x, row in pairs]
        inside = take_apart(leaves.join(fine, lambda leaf: leaf))
        return self.after(self.inner.rebased(state.inner, inside, fine), rows, state.scalars, leaves)

    def reset(self, state: Iterates, params: PyTree) -> Iterates:
        """The state with everything learned from gradients as `init` makes it, x₀ too, and all else as it is."""
        fresh = super().reset(state, params)
        leaves, scalars = take_apart(params), {**fresh.scalars, "t": state.scalars["t"]}
        return self.after(fresh.inner, self.rows(fresh, leaves), scalars, leaves)


@jax.jit
def _places(rows: list[Row], ps: list[Array], s: Array) -> list[Array]:
    """Where the parameters are, as finely as it is known."""

    def one(row: Row, p: Array) -> Array:
        far = jnp.maximum(s, 0).astype(arithmetic(p))
        return p if p.dtype == arithmetic(p) else row["start"] + far * row["path"]

    return [one(row, p) for row, p in zip(rows, ps, strict=True)]


@partial(jax.jit, static_argnums=1)
def _scaled(
    trac: Trac,
    axis_name: tuple[str, ...],
    rows: list[Row],
    ps: list[Array],
    gs: list[Array | None],
    moves: list[Array],
    c: Row,
) -> tuple[list[Array], list[Row], Row]:
    """(the parameters, what lies beside them, the scalars) after the step of the optimizer inside."""
    kind = c["s"].dtype
    short = divide(jnp.maximum(c["s"], 0), c["s"] + trac.eps)
    paths = [short.astype(row["path"].dtype) * row["path"] for row in rows]
    pairs = zip(paths, gs, strict=True)
    dots = [jnp.zeros((), kind) if g is None else jnp.sum(x * g.astype(x.dtype)).astype(kind) for x, g in pairs]
    after = _bets(trac, sum(summed_rows(axis_name, dots, ps), jnp.zeros((), kind)), c)
    before, far = jnp.maximum(c["s"], 0), jnp.maximum(after["s"], 0)

    def one(row: Row, p: Array, g: Array | None, path: Array, u: Array) -> tuple[Array, Row]:
        dtype = path.dtype
        if g is None:  # stays where it is, under the new scale
            return p, {**row, "path": divide(before.astype(dtype) * row["path"], far.astype(dtype))}
        path = path + u.astype(dtype)
        return (row["start"] + far.astype(dtype) * path).astype(p.dtype), {**row, "path": path}

    out = [one(*x) for x in zip(rows, ps, gs, paths, moves, strict=True)]
    return [p for p, _ in out], [row for _, row in out], {**c, **after, "t": c["t"] + 1}


def _bets(trac: Trac, h: Array, c: Row) -> Row:
    """The scalars after a bet with outcome −h."""
    kind = h.dtype
    most = jnp.finfo(kind).max * 2.0**-20
    h = jnp.clip(h, -most, most)  # finite gradients leave finite numbers
    betas = jnp.stack([jnp.asarray(b, kind) for b in trac.betas])
    root, sigma = jnp.hypot(betas * c["root"], h), betas * c["sigma"] - h
    won = erfi(sigma / (jnp.asarray(2**0.5, kind) * root + trac.eps))
    each = trac.s_init / erfi(jnp.asarray(0.5**0.5, kind)) * won
    return {"sigma": sigma, "root": root, "s": jnp.sum(each).astype(kind)}


def erfi(x: Array) -> Array:
    """The imaginary error function (2/√π) ∫₀ˣ exp(y²) dy, to rounding; beyond its range the last value in it.

    Up to 1 by its power series. From there exp(x²) times Dawson's integral, of which Rybicki's sum is exact: Press et
    al., "Numerical recipes", section 6.10.
    """
    size = jnp.minimum(jnp.abs(x), 0.98 * math.log(float(jnp.finfo(x.dtype).max)) ** 0.5)
    near, far = jnp.minimum(size, 1), jnp.maximum(size, 1)
    series = jnp.zeros_like(x)
    for k in reversed(range(SERIES)):
        series = series * near**2 + 1 / (math.factorial(k) * (2 * k + 1))
    nearest = 2 * jnp.round(far / (2 * SPACING))
    n = jnp.arange(-TERMS, TERMS + 1, 2, dtype=x.dtype)
    rest = (far - nearest * SPACING)[..., None]
    dawson = jnp.sum(jnp.exp(-((rest - n * SPACING) ** 2)) / (n + nearest[..., None]), -1) / math.pi**0.5
    value = 2 / math.pi**0.5 * jnp.where(size < 1, near * series, jnp.exp(far**2) * dawson)
    return jnp.sign(x) * value
