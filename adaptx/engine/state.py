"""States: made fresh, taken apart for a step and put together after it, refused where they are another optimizer's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree
from jaxtyping import Array, PyTree

from ..base import Control, Record, State, fields_of
from ..control import Controller
from ..sharded import tied
from ..values import at_step
from . import rounding
from .leaf import arithmetic, scalar_dtype
from .norms import bound, summed, summed_rows
from .packing import packed
from .shelves import shelf
from .storage import Shelf, stored_type
from .tree import Leaves, concrete, paths, shortened

if TYPE_CHECKING:
    from .optimizer import Optimizer

AGAIN = "make the state with this optimizer's init(params), or carry it over with adaptx.convert."


@dataclass(frozen=True)
class Treatment:
    """What an optimizer does to each of its arrays, and under which names their state lies."""

    layout: Leaves
    shelves: tuple[Shelf, ...]
    decayed: tuple[bool, ...]
    entries: tuple[str, ...]  # of the slots
    sparse: tuple[str, ...]  # entries that lie at some leaves only
    kept: str | None  # what rounding keeps


def treatment(opt: "Optimizer", leaves: Leaves) -> Treatment:
    """How the leaves are laid out, stored and decayed.

    Raises:
        ValueError: for an array that the rule does not take, and for settings that do not fit the leaves.
    """
    options, rule = opt.options, opt.rule
    for i, p in enumerate(leaves.arrays):
        expected = rule.expects(np.shape(p))
        if expected is not None:
            raise ValueError(
                f"{rule.name} takes {expected}, but parameter '{leaves.paths[i]}' has shape {np.shape(p)}; give that "
                "leaf another optimizer with adaptx.route."
            )
    least, setting, own = options.least_narrow, options.storage, any(slot.own for slot in rule.slots().values())
    excluded, decayed = options.excluded(leaves), options.decayed(leaves)
    kinds = [(_abstract(p) if own else None, e) for p, e in zip(leaves.arrays, excluded, strict=True)]
    made = {kind: shelf(setting, rule, *kind, least) for kind in dict.fromkeys(kinds)}
    shelves = [made[kind] for kind in kinds]
    layout = leaves
    if options.layout == "packed":
        layout = packed(leaves, rule, opt.controller, list(zip(excluded, decayed, strict=True)))
    some = shelves[0] if shelves else shelf(setting, rule, None, True, least)
    kept = rounding.KEPT.get(opt.rounding)
    return Treatment(layout, tuple(layout.pick(shelves)), tuple(layout.pick(decayed)), some.entries, some.sparse, kept)


def _abstract(p: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(p), arithmetic(p))


def fresh_state(opt: "Optimizer", leaves: Leaves, axis_name: tuple[str, ...] = ()) -> State:
    """The state before the first step; axis_name is that of a route around the optimizer."""
    how = treatment(opt, leaves)
    arrays = how.layout.gather([concrete(x) for x in leaves.arrays])
    step = jnp.zeros((), jnp.int32)
    return State(
        step=step,
        born=jnp.array(step),
        slots=fresh_slots(opt, how, arrays),
        kept=fresh_kept(opt, how, arrays),
        control=_fresh_control(opt.controller, how, arrays, bound(axis_name or opt.options.axis_name)),
        metrics={name: jnp.zeros((), jnp.float32) for name in opt.metric_names},
        made_by=opt.made_by,
    )


def fresh_slots(opt: "Optimizer", how: Treatment, arrays: list[Array]) -> dict[str, ArrayTree]:
    """The slots as they are before they saw a gradient."""
    rule = at_step(opt.rule, jnp.zeros((), jnp.int32))
    rows = []
    for where, p in zip(how.shelves, arrays, strict=True):
        fine = p.astype(arithmetic(p))
        rows.append(where.init(lambda name, p=fine: rule.initial(name, p), fine, fine.dtype))
    slots = {name: how.layout.shelve([row[name] for row in rows]) for name in how.entries}
    # without leaves this is optax looking for what is like the parameters: not what lies at some leaves only
    return slots if how.layout.all else slots | {name: jnp.zeros(()) for name in how.sparse}


def fresh_kept(opt: "Optimizer", how: Treatment, arrays: list[Array]) -> dict[str, ArrayTree]:
    """What rounding keeps of parameters that were never moved."""
    if how.kept is None:
        return {}
    if not how.layout.all and opt.options.rounding != opt.rounding:
        return {how.kept: jnp.zeros(())}  # as above: a master the controller asks for lies at narrow leaves only
    narrow = [rounding.is_narrow(p.dtype) for p in arrays]
    fresh = [rounding.fresh_kept(opt.rounding, p) if n else None for n, p in zip(narrow, arrays, strict=True)]
    return {how.kept: how.layout.shelve(fresh)}


def _fresh_control(controller: Controller, how: Treatment, arrays: list[Array], axes: tuple[str, ...]) -> Control:
    names, scalars = fields_of(controller.Marks), fields_of(controller.Scalars)
    if not names and not scalars:
        return Control({}, {})
    controller, dtype = at_step(controller, jnp.zeros((), jnp.int32)), scalar_dtype(arrays)
    fine = [p.astype(arithmetic(p)) for p in arrays]
    shape = (len(arrays),) if controller.scope == "leaf" else ()
    c = jax.tree.map(lambda x: jnp.broadcast_to(jnp.asarray(x, dtype), shape + jnp.shape(x)), controller.start())
    if fine:
        rows = summed_rows(axes, [controller.inspect(x) for x in fine], arrays)
        c = controller.begin(summed(controller, rows, dtype), c)
    rows = [[tied(jnp.array(mark), x) for mark in controller.marks(x)] for x in fine]
    marks = {name: how.layout.shelve([row[i] for row in rows]) for i, name in enumerate(names)}
    return Control({name: jnp.array(x, dtype) for name, x in zip(scalars, c, strict=True)}, marks)


class Rows(NamedTuple):
    """A state taken apart: what lies at each array."""

    slots: list[dict[str, Array | None]]
    kept: list[Array | None]
    marks: list[Record]  # the controller's `Marks`
    scalars: Record  # the controller's `Scalars`


def rows_of(opt: "Optimizer", state: State, how: Treatment, ps: list[Array]) -> Rows:
    """The state's rows, one per array.

    Raises:
        TypeError: if state is not an adaptx state.
        ValueError: if it was made for another optimizer or other parameters.
    """
    refuse_foreign(opt, state, how)
    layout, controller = how.layout, opt.controller
    if not ps:
        return Rows([], [], [], controller.Scalars(**state.control.scalars))
    columns = {name: column(f"slot '{name}'", state.slots[name], layout) for name in how.entries}
    slots = [{name: columns[name][i] for name in how.entries} for i in range(len(ps))]
    _refuse_other_types(opt, how, slots, ps)
    kept: list[PyTree] = [None] * len(ps)
    if how.kept:
        kept = column(f"'{how.kept}'", state.kept[how.kept], layout)
    marks = [column(f"mark '{name}'", state.control.marks[name], layout) for name in fields_of(controller.Marks)]
    rows = [controller.Marks(*(mark[i] for mark in marks)) for i in range(len(ps))]
    return Rows(slots, kept, rows, controller.Scalars(**state.control.scalars))


def refuse_what_is_no_state(state: object) -> None:
    """Raise TypeError for anything but an adaptx state."""
    if not isinstance(state, State):
        raise TypeError(
            f"state must be the State that opt.init(params) returned, got {whose(state)}; pass the state this "
            "optimizer gave last."
        )


def whose(state: object) -> str:
    """What a state is, in words."""
    if hasattr(state, "groups"):
        return "that of a route"
    made_by = getattr(state, "made_by", None)
    return f"that of {' and '.join(sorted(made_by))}" if made_by else type(state).__name__


def refuse_foreign(opt: "Optimizer", state: State, how: Treatment) -> None:
    """Raise ValueError for a state of another rule, controller, storage or rounding."""
    if set(state.made_by) != set(opt.made_by):
        # a dict that went through jax.jit comes back sorted
        came, mine = (" and ".join(sorted(x)) or "nothing" for x in (state.made_by, opt.made_by))
        raise ValueError(f"state belongs to {came}, but this optimizer is {mine}; {AGAIN}")
    pairs = (
        ("slots", set(state.slots), set(how.entries)),
        ("arrays kept by rounding", set(state.kept), {how.kept} if how.kept else set()),
        ("controller's scalars", set(state.control.scalars), set(fields_of(opt.controller.Scalars))),
    )
    for what, came, mine in pairs:
        if came != mine:
            raise ValueError(f"state has the {what} {sorted(came)}, this optimizer keeps {sorted(mine)}; {AGAIN}")
    prefix = (len(how.layout.names),) if opt.controller.scope == "leaf" else ()
    for name, first in zip(fields_of(opt.controller.Scalars), opt.controller.start(), strict=True):
        shape, expected = np.shape(state.control.scalars[name]), prefix + np.shape(first)
        if shape != expected:
            raise ValueError(
                f"the scalar {name!r} of the state has shape {shape}, expected {expected} for {opt.controller.name} "
                f"with scope={opt.controller.scope!r} on {len(how.layout.names)} leaves; {AGAIN}"
            )


def _refuse_other_types(opt: "Optimizer", how: Treatment, slots: list[dict], ps: list[Array]) -> None:
    """Raise ValueError where slots do not lie as this storage keeps them for these parameters."""
    for i, (row, p, where) in enumerate(zip(slots, ps, how.shelves, strict=True)):
        expected = stored_type(where, np.shape(p), arithmetic(p))
        for name, x in row.items():
            came = None if x is None else (np.shape(x), np.dtype(x.dtype))
            if came != expected[name]:
                raise ValueError(
                    f"slot '{name}' of parameter '{how.layout.names[i]}' is {_words(came)}, expected "
                    f"{_words(expected[name])} for this parameter and storage {opt.options.given()['storage']!r}; "
                    f"{AGAIN}"
                )


def _words(kind: tuple | None) -> str:
    return "nothing" if kind is None else f"{kind[1]} of shape {kind[0]}"


def column(what: str, tree: ArrayTree, layout: Leaves) -> list[PyTree]:
    """What a tree of the state has at every array; ValueError where it is not like the parameters."""
    try:
        return layout.column(tree)
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{what} of the state has the tree {shortened(paths(tree))}, expected {layout.shelved}; {AGAIN}"
        ) from error
