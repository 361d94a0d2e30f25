"""Wrappers around any optimizer, with one protocol: what lies beside the parameters, and what is done after a step.

The parameters the caller holds are those to take gradients at; `eval_params(opt, state, params)` gives those to
evaluate or save. Iterates are kept in f32 (f64 beside f64 parameters).
"""

import dataclasses
from collections.abc import Hashable
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree
from jaxtyping import Array, DTypeLike, PyTree

from ..engine.cost import LeafCost
from ..engine.groups import COMMON, refuse_batch
from ..engine.leaf import arithmetic, scalar_dtype
from ..engine.rounding import is_narrow
from ..engine.state import AGAIN, column, whose
from ..engine.transformation import Transformation
from ..engine.tree import Leaves, as_arrays, concrete, no_update, nothing, take_apart
from ..sharded import tied
from ..values import Scalar, Scheduled, at_step, is_scheduled
from .foreign import Foreign, took_step

Row = dict[str, Array]  # what lies at one leaf, by name; or the scalars


class Iterates(NamedTuple):
    """The state of a wrapper."""

    inner: PyTree  # the state of the optimizer inside
    iterates: dict[str, ArrayTree]  # name -> tree like the parameters, None at leaves that are not trained
    scalars: dict[str, Array]
    metrics: dict[str, Array]  # name -> f32 scalar
    made_by: dict[str, None]  # the wrapper it belongs to, as a key: no text may be a leaf under jit


class Wrapper(Transformation):
    """Base of the wrappers: what they share is how state is made and how a step enters the optimizer inside.

    A wrapper says what lies at a leaf (`fresh`), its scalars (`start`, `advance`), and what is done to every leaf after
    the step of the optimizer inside (`follow`). A step that the optimizer inside skipped changes nothing here either.
    """

    inner: Transformation
    family: ClassVar[str] = ""  # the name of its constructor
    shows: ClassVar[tuple[str, ...]] = ()  # scalars that are metrics
    wide: ClassVar[bool] = False  # whether scalars are f64 beside f64 parameters

    @property
    def kind(self) -> str:
        """What its state belongs to; another name where the same iterates mean something else."""
        return self.family or type(self).__name__.lower()

    @property
    def label(self) -> str:
        """What its numbers are named by in metrics."""
        return self.kind

    @property
    def requires(self) -> frozenset[str]:
        """Names of the extra arguments that update and step must be given."""
        return self.inner.requires

    @property
    def axis_name(self) -> tuple[str, ...]:
        """The mesh axes along which parameters are split inside shard_map."""
        return self.inner.axis_name

    def fresh(self, p: Array, narrow: bool) -> dict[str, Array | None]:
        """What lies at a leaf at the start; p is a copy, in f32 where the parameter is narrow."""
        raise TypeError(f"{type(self).__name__} does not say what lies at a leaf.")

    def start(self) -> dict[str, Scalar]:
        """The scalars at the start, besides the number of steps `t`."""
        return {}

    def advance(self, c: Row) -> Row:
        """The scalars after a step, which c["t"] counts already."""
        return c

    def follow(self, row: Row, p: Array, new: Array, c: Row) -> tuple[Row, Array]:
        """(what lies at a leaf, the parameter the caller is to hold) after the step from p to new; c the scalars."""
        del p, c
        return row, new

    def within(self, params: PyTree) -> PyTree:
        """The parameters as the optimizer inside sees them."""
        return params

    def init(self, params: PyTree) -> Iterates:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Fresh state for params; shares no buffer with them."""
        return self.around(self.inner.init(self.within(params)), params)

    def around(self, inner: PyTree, params: PyTree) -> Iterates:
        """A fresh state around the state of the optimizer inside."""
        leaves, rows = take_apart(params), []
        for p in map(concrete, leaves.arrays):
            fresh = self.fresh(copied(p), is_narrow(p.dtype))
            rows.append({name: None if x is None else tied(x, p) for name, x in fresh.items()})
        dtype = self.scalar_dtype(leaves)
        scalars = {name: jnp.asarray(x, dtype) for name, x in self.start().items()}
        state = self.after(inner, rows, {"t": jnp.zeros((), jnp.int32), **scalars}, leaves)
        if leaves.all:
            return jax.tree.map(jnp.array, state._replace(inner=None))._replace(inner=inner)
        # without leaves this is optax looking for what is like the parameters: not what lies at some leaves only
        sparse = [name for name, x in self.fresh(jnp.zeros(()), False).items() if x is None]
        return state._replace(iterates=state.iterates | {name: jnp.zeros(()) for name in sparse})

    def step(self, grads: PyTree, state: Iterates, params: PyTree, **extra: PyTree) -> tuple[PyTree, Iterates]:
        """(new parameters, new state)."""
        leaves = take_apart(params)
        rows = self.rows(state, leaves)
        new, inner = self.inner.step(grads, state.inner, params, **extra)
        return self.followed(state, inner, rows, (leaves, arrays_of(new)))

    def followed(
        self, state: Iterates, inner: PyTree, rows: list[Row], moved: tuple[Leaves, list[Array]]
    ) -> tuple[PyTree, Iterates]:
        """(parameters, state) after the optimizer inside went from leaves to arrays."""
        leaves, news = moved
        counted = took_step(state.inner, inner)
        rows, outs, scalars = _follow(
            self.numbers(state), rows, as_arrays(leaves.arrays), as_arrays(news), state.scalars, counted
        )
        params = leaves.join(outs, lambda leaf: leaf)
        return params, self.after(self.settled(inner, rows, scalars, params), rows, scalars, leaves)

    def settled(self, inner: PyTree, rows: list[Row], c: Row, params: PyTree) -> PyTree:
        """The state of the optimizer inside where `follow` moved its parameters."""
        del rows, c, params
        return inner

    def rebased(self, state: Iterates, leaves: Leaves, fine: list[Array]) -> Iterates:
        """The state for parameters that were moved from outside to `fine`."""
        return state._replace(inner=self.inner.rebased(state.inner, leaves, fine))

    def after(self, inner: PyTree, rows: list[Row], scalars: Row, leaves: Leaves) -> Iterates:
        """The state from its parts."""
        names = self.fresh(jnp.zeros(()), False)
        iterates = {name: leaves.join([row[name] for row in rows], nothing) for name in names}
        shown = {name: scalars[name].astype(jnp.float32) for name in self.shows}
        return Iterates(inner, iterates, scalars, {**shown, **self.scheduled(scalars["t"])}, {self.kind: None})

    def scheduled(self, t: Array) -> dict[str, Array]:
        """Its own numbers that are schedules, by name, as the last of t steps had them."""
        mine = [x for x in jax.tree.leaves(self.alone(), is_leaf=is_scheduled) if isinstance(x, Scheduled)]
        step = jnp.maximum(t - 1, 0) if mine else t
        return {f"{self.label}.{x.name}": jnp.asarray(x.shown(x.at(step)), jnp.float32) for x in mine}

    def alone(self) -> "Wrapper":
        """The wrapper without the optimizer inside."""
        return dataclasses.replace(self, inner=None)  # pyright: ignore[reportArgumentType]

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, grads: PyTree, state: Iterates, params: PyTree | None = None, **extra: PyTree
    ) -> tuple[PyTree, Iterates]:
        """optax's contract: (updates in the parameter's dtype, new state); add the updates to the parameters."""
        if params is None:
            raise ValueError(
                f"update(grads, state) was called without params, which {self.kind} moves; call update(grads, state, "
                "params)."
            )
        moved, after = self.moved(grads, state, params, self._taken(extra))
        leaves, pairs = take_apart(params), zip(as_arrays(arrays_of(moved)), as_arrays(arrays_of(params)), strict=True)
        return leaves.join([difference(new, old) for new, old in pairs], no_update), after

    def _taken(self, extra: dict[str, PyTree]) -> dict[str, PyTree]:
        """The arguments that `step` takes: as optax has it, update is given those of others too."""
        if takes_any(self):
            return extra
        return {name: x for name, x in extra.items() if name in self.requires | COMMON}

    def moved(
        self, grads: PyTree, state: Iterates, params: PyTree, extra: dict[str, PyTree]
    ) -> tuple[PyTree, Iterates]:
        """The step that `update` takes."""
        return self.step(grads, state, params, **extra)

    def rows(self, state: Iterates, leaves: Leaves) -> list[Row]:
        """What lies at every trained leaf.

        Raises:
            TypeError: where state is none of a wrapper.
            ValueError: where it belongs to another wrapper, or to other parameters.
        """
        if not isinstance(state, Iterates):
            raise TypeError(
                f"state must be what {self.kind}(…).init(params) returned, got {whose(state)}; pass the state "
                "this optimizer gave last."
            )
        if set(state.made_by) != {self.kind}:
            raise ValueError(f"state belongs to {', '.join(state.made_by)}, but this wrapper is {self.kind}; {AGAIN}")
        columns = {name: column(f"'{name}'", tree, leaves) for name, tree in state.iterates.items()}
        return [{name: x[i] for name, x in columns.items()} for i in range(len(leaves.trained))]

    def numbers(self, state: Iterates) -> "Wrapper":
        """The wrapper's own numbers at this step, without the optimizer inside."""
        alone = self.alone()
        refuse_batch(alone)
        return at_step(alone, state.scalars["t"])

    def scaled(self, factor: Scalar) -> "Wrapper":
        """The same with every displacement of the optimizer inside multiplied by a factor."""
        return dataclasses.replace(self, inner=self.inner.scaled(factor))  # pyright: ignore[reportArgumentType]

    def reset(self, state: Iterates, params: PyTree) -> Iterates:
        """The state with everything learned from gradients as `init` makes it, and all else as it is."""
        return self.around(self.inner.reset(state.inner, self.within(params)), params)

    def costs(self, leaves: Leaves) -> list[LeafCost]:
        """What every trained leaf costs, iterates included."""
        kinds: dict[Hashable, dict[str, PyTree]] = {}
        for p in leaves.arrays:
            kind, shape = jnp.result_type(p), jax.ShapeDtypeStruct(np.shape(p), arithmetic(p))
            if (np.shape(p), kind) not in kinds:
                kinds[np.shape(p), kind] = jax.eval_shape(partial(self.fresh, narrow=is_narrow(kind)), shape)
        rows = zip(self.inner.costs(leaves), leaves.arrays, strict=True)
        return [
            dataclasses.replace(row, arrays={**row.arrays, **kinds[np.shape(p), jnp.result_type(p)]}) for row, p in rows
        ]

    def scalar_bytes(self, leaves: Leaves) -> int:
        """Bytes of the state that no leaf has."""
        single = 1 + len(self.shows) + len(self.scheduled(jnp.zeros((), jnp.int32)))
        own = sum(map(np.size, self.start().values())) * np.dtype(self.scalar_dtype(leaves)).itemsize
        return self.inner.scalar_bytes(leaves) + 4 * single + own

    def scalar_dtype(self, leaves: Leaves) -> DTypeLike:
        """The dtype of its scalars, but for the number of steps."""
        return scalar_dtype(leaves.arrays) if self.wide else jnp.float32


@jax.jit
def _follow(
    wrapper: Wrapper, rows: list[Row], olds: list[Array], news: list[Array], before: Row, counted: Array | None
) -> tuple[list[Row], list[Array], Row]:
    """Every leaf after a step, or as it was where the step did not count."""
    scalars = wrapper.advance({**before, "t": before["t"] + 1})

    def one(row: Row, old: Array, new: Array) -> tuple[Row, Array]:
        dtype = arithmetic(old)
        c = {name: x.astype(dtype) for name, x in scalars.items()}
        row_after, out = wrapper.follow(row, old.astype(dtype), new.astype(dtype), c)
        return chosen(counted, row_after, row), chosen(counted, out.astype(old.dtype), new)

    pairs = [one(*x) for x in zip(rows, olds, news, strict=True)]
    scalars = {name: x.astype(before[name].dtype) for name, x in scalars.items()}
    return [row for row, _ in pairs], [out for _, out in pairs], chosen(counted, scalars, before)


def takes_any(opt: PyTree) -> bool:
    """Whether an optimizer inside of wrappers is another library's: what it may be given is not known."""
    return takes_any(opt.inner) if isinstance(opt, Wrapper) else isinstance(opt, Foreign)


def wrapped_in(opt: object, kind: str) -> bool:
    """Whether a wrapper of this kind is somewhere around the optimizer."""
    return isinstance(opt, Wrapper) and (opt.kind == kind or wrapped_in(opt.inner, kind))


def chosen(counted: Array | None, new: PyTree, old: PyTree) -> PyTree:
    """What is new where a step counted, else what was."""
    return new if counted is None else jax.tree.map(partial(jnp.where, counted), new, old)


def difference(new: Array, old: Array) -> Array:
    """new − old in the dtype of old, never so large that adding it would overflow."""
    dtype = arithmetic(old)
    most = jnp.finfo(old.dtype).max.astype(dtype)
    return jnp.clip(new.astype(dtype) - old.astype(dtype), -most, most).astype(old.dtype)


def arrays_of(params: PyTree) -> list[PyTree]:
    """The trained leaves of a tree."""
    return take_apart(params, any_trained=False).arrays


def fine_tree(params: PyTree) -> PyTree:
    """The parameters in the arithmetic dtype."""
    leaves = take_apart(params)
    if not leaves.arrays:
        return params
    return leaves.join([concrete(p).astype(arithmetic(p)) for p in leaves.arrays], lambda leaf: leaf)


def copied(p: Array) -> Array:
    """An array in the arithmetic dtype that is not p's buffer."""
    return jnp.array(p, arithmetic(p), copy=True)
