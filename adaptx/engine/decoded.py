"""What lies at every leaf of a state, decoded, and states made of such rows: how states travel between storages."""

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..base import State
from . import rounding
from .codecs import blocked
from .leaf import arithmetic
from .state import Treatment, rows_of, treatment
from .storage import Shelf, Slots, Stored, salt
from .tree import Leaves, as_arrays

if TYPE_CHECKING:
    from .optimizer import Optimizer


class Row(NamedTuple):
    """What lies at one leaf, in the arithmetic dtype."""

    slots: dict[str, Array | None]  # None where this leaf has none
    x: Array  # the parameter, as finely as the state knows it


def decoded(opt: "Optimizer", state: State, leaves: Leaves) -> list[Row]:
    """What lies at every trained leaf of an optimizer's state.

    Raises:
        ValueError: where the state is not this optimizer's.
    """
    how = treatment(opt, leaves)
    ps = how.layout.gather(as_arrays(leaves.arrays))
    rows = rows_of(opt, state, how, ps)
    triples = zip(how.shelves, rows.slots, ps, strict=True)
    slots = [where.decode(stored, p.shape, arithmetic(p)) for where, stored, p in triples]
    names = opt.rule.slots()
    columns = {name: how.layout.scatter([row.get(name) for row in slots]) for name in names}
    fine = [rounding.opened(opt.rounding, p, kept, arithmetic(p)) for p, kept in zip(ps, rows.kept, strict=True)]
    return [Row({name: columns[name][i] for name in names}, x) for i, x in enumerate(how.layout.scatter(fine))]


def with_slots(opt: "Optimizer", leaves: Leaves, state: State, rows: list[dict[str, Array | None]]) -> State:
    """A state with copies of these slots in place of its own; those that a row does not name stay."""
    how = treatment(opt, leaves)
    ps = how.layout.gather(as_arrays(leaves.arrays))
    stored, numbers = rows_of(opt, state, how, ps).slots, how.layout.pick(leaves.trained)
    everywhere = [name for name in opt.rule.slots() if all(name in row for row in rows)]
    came = {name: how.layout.gather([row[name] for row in rows]) for name in everywhere}
    stored = [
        _encoded(shelf, old, {name: x[i] for name, x in came.items() if x[i] is not None}, p, salt(state.step, n))
        for i, (shelf, old, p, n) in enumerate(zip(how.shelves, stored, ps, numbers, strict=True))
    ]
    return state._replace(slots={name: how.layout.shelve([row[name] for row in stored]) for name in how.entries})


def with_kept(opt: "Optimizer", how: Treatment, state: State, fine: list[Array]) -> State:
    """A state that keeps of narrow parameters what rounding needs, where they are known as finely as `fine`."""
    if how.kept is None:
        return state
    ps = how.layout.gather(as_arrays(how.layout.arrays))
    kept = [_kept(opt.rounding, p, x) for p, x in zip(ps, how.layout.gather(fine), strict=True)]
    return state._replace(kept={how.kept: how.layout.shelve(kept)})


def _kept(policy: str, p: Array, x: Array) -> Array | None:
    if not rounding.is_narrow(p.dtype):
        return None
    return jnp.array(x, jnp.float32) if policy == "master" else (x - p.astype(x.dtype)).astype(p.dtype)


@partial(jax.jit, static_argnums=0)
def _encoded(where: Shelf, old: Stored, slots: Slots, p: Array, dice: Array) -> Stored:
    """Slots as a shelf stores them."""

    def given(held: Slots, seen: PyTree) -> Slots:
        del seen
        return {**held, **{name: blocked(x) if where.blocked else jnp.array(x) for name, x in slots.items()}}

    clock = jnp.ones((), jnp.int32), dice
    return where.advance(old, [p.astype(arithmetic(p))], given, None, clock) if where.groups else old
