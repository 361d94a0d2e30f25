"""States of one optimizer carried over to another: other storage, layout, rounding, learning rate, groups, wrappers."""

import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from .base import Control, Record, State
from .control import Controller
from .conversion_checks import refuse_other_forms, refuse_other_meanings
from .engine.decoded import Row, decoded, with_kept, with_slots
from .engine.freeze import Freeze
from .engine.optimizer import Optimizer
from .engine.route import Member, Route
from .engine.routed import Routed
from .engine.state import fresh_state, refuse_what_is_no_state, treatment, whose
from .engine.transformation import Transformation
from .engine.tree import Leaves, as_arrays, take_apart
from .values import is_traced
from .wrappers.foreign import Foreign
from .wrappers.wrapper import Wrapper, wrapped_in

Said = list[str]  # what was made up, and what was left behind


class Before(NamedTuple):
    """Where a new optimizer's leaves come from."""

    members: list[Member]
    states: list[State]
    rows: dict[int, tuple[int, Row]]  # place in the tree -> (which member, what lies there)
    step: Array


def convert(state: PyTree, old: Transformation, new: Transformation, params: PyTree) -> PyTree:
    """The state of `old` as one of `new`, so that training goes on where it was.

    Carried over: the number of steps, slots to any other storage and layout, what rounding keeps of narrow parameters,
    a controller's scalars and marks where it stays on the same leaves, the iterates of a wrapper, metrics. What the new
    optimizer keeps and the old one did not is made up as `init` makes it, at these parameters; a warning says what, and
    what was left behind. Between routes, leaves are followed by their place in the tree: a leaf that is thawed starts
    fresh in a group of its own, and the other groups do not notice.

    A controller that changes what the slots see (prodigy, dadapt), or corrects averages of its own (l4, momo), makes
    slots fresh when it comes or goes: their bias corrections count steps anew.

    Args:
        state: what `old` gave last.
        old: the optimizer it belongs to.
        new: the optimizer to go on with.
        params: the parameters as they are now.

    Raises:
        TypeError: where state, old or new are none of adaptx's.
        ValueError: where state is not old's; where a group has leaves whose slots are of different ages; where a slot
            of the same rule has another shape, or stands for something else, as a sum for a mean; where one would be
            new and its bias corrected for steps it did not see.

    Warns:
        UserWarning: where something is made up or left behind.
    """
    said: Said = []
    out = _converted(state, old, new, params, said)
    if said:
        warnings.warn(f"convert: {'; '.join(dict.fromkeys(said))}.", stacklevel=2)
    return out


def _converted(state: PyTree, old: PyTree, new: PyTree, params: PyTree, said: Said) -> PyTree:
    for opt in (old, new):
        if isinstance(opt, type) or not isinstance(opt, Transformation):
            raise TypeError(
                f"convert takes (state, old, new, params) with two adaptx optimizers, got {type(opt).__name__}; for "
                "optax's states there is adaptx.from_optax."
            )
    if isinstance(old, Wrapper):
        old.rows(state, take_apart(params))  # refuses what is not its state
        if isinstance(new, Wrapper) and new.kind == old.kind:
            mine = jax.tree.map(jnp.array, state._replace(inner=None))
            return mine._replace(inner=_converted(state.inner, old.inner, new.inner, old.within(params), said))
        if not wrapped_in(new, old.kind):
            said.append(f"left behind the iterates of {old.kind}")
            return _converted(state.inner, old.inner, new, params, said)
    if isinstance(new, Wrapper):
        said.append(f"made up the iterates of {new.kind}, which begin at these parameters")
        inner, inside = _converted(state, old, new.inner, params, said), take_apart(new.within(params))
        return new.around(new.inner.rebased(inner, inside, as_arrays(inside.arrays)), params)
    if isinstance(old, Foreign) or isinstance(new, Foreign):
        if old == new:
            return state
        raise TypeError("convert carries over states of adaptx's own optimizers, got an optax transformation; init it.")
    return _trees(state, old, new, take_apart(params), said)


def _trees(state: PyTree, old: Transformation, new: Transformation, leaves: Leaves, said: Said) -> PyTree:
    """The same for optimizers and routes."""
    members, rows = _members(old, leaves), {}
    states = [_state_of(old, state, member) for member in members]
    for n, (member, its) in enumerate(zip(members, states, strict=True)):
        for i, row in zip(member.leaves.trained, decoded(member.opt, its, member.leaves), strict=True):
            rows[i] = n, row
    frozen = isinstance(old, Freeze)
    before = Before(members, states, rows, jnp.zeros((), jnp.int32) if frozen else state.step)
    made = {member.names: _made(member, before, said) for member in _members(new, leaves)}
    if isinstance(new, Route):
        known = {} if frozen else state.metrics
        shown = {name: jnp.array(known.get(name, 0.0), jnp.float32) for name in new.metric_names}
        return new.assembled(made, (), jnp.array(before.step), shown)
    return made[()] if isinstance(new, Optimizer) else ()


def _members(opt: Transformation, leaves: Leaves) -> list[Member]:
    if isinstance(opt, Route):
        return opt.members(leaves)
    return [Member((), opt, leaves)] if isinstance(opt, Optimizer) else []


def _state_of(opt: Transformation, state: PyTree, member: Member) -> State:
    if isinstance(opt, Route):
        return opt.state_of(state, member.names)
    if isinstance(state, Routed):
        raise TypeError("state must be the one of the optimizer `old`, got that of a route; pass that route as `old`.")
    refuse_what_is_no_state(state)
    if set(state.made_by) != set(opt.made_by):  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError(
            f"convert: state is {whose(state)}, but old is {opt!r}; pass as old the optimizer the state belongs to."
        )
    return state


def _made(member: Member, before: Before, said: Said) -> State:
    """The state of a new optimizer from what its leaves bring."""
    opt, leaves = member.opt, member.leaves
    where = f" of group '{'/'.join(member.names)}'" if member.names else ""
    rows = [before.rows.get(i) for i in leaves.trained]
    sources = {None if row is None else row[0] for row in rows}
    source = next(iter(sources)) if len(sources) == 1 else None
    state, stays = fresh_state(opt, leaves), False
    if source is not None:
        old = before.members[source]
        stays = _same_controller(old, member)
        state = _after(state, before.states[source], old, member) if stays else state
        state = state._replace(metrics=_metrics(state.metrics, before.states[source].metrics))
        _say_rate(old.opt, before.states[source], stays, said)
    if not stays and (state.control.scalars or state.control.marks):
        said.append(f"made up what {opt.controller.name}{where} keeps, which begins at these parameters")
    fine = [p if row is None else row[1].x for row, p in zip(rows, as_arrays(leaves.arrays), strict=True)]
    state = with_kept(opt, treatment(opt, leaves), state._replace(step=jnp.array(before.step)), fine)
    keeps = [row is not None and _same_slots(before.members[row[0]].opt, opt, stays) for row in rows]
    if not any(keeps):
        if opt.rule.slots():
            said.append(f"made up the slots{where}, fresh")
        return state._replace(born=jnp.array(before.step))
    born = _age(member, before, rows, keeps, where)
    if not all(keeps):  # then those that are kept are fresh too
        said.append(f"made up the slots{where}, fresh")
        return state._replace(born=born)
    _say_slots(opt, rows, where, said)
    for row in rows:
        refuse_other_meanings(before.members[row[0]].opt.rule, opt.rule, row[1].slots)  # pyright: ignore
    slots = [row[1].slots for row in rows]  # pyright: ignore[reportOptionalSubscript]
    refuse_other_forms(opt, leaves, slots)
    return with_slots(opt, leaves, state._replace(born=born), slots)


def _same_controller(old: Member, new: Member) -> bool:
    """Whether the controller goes on: by name and scope, on the same leaves."""
    a, b = old.opt.controller, new.opt.controller
    return a.name == b.name and a.scope == b.scope and old.leaves.trained == new.leaves.trained


def _same_slots(old: Optimizer, new: Optimizer, stays: bool) -> bool:
    """Whether slots and their age mean the same under the new rule and controller."""
    return old.rule.name == new.rule.name and (stays or (_plain(old) and _plain(new)))


def _plain(opt: Optimizer) -> bool:
    """Whether the controller lets slots see the gradients as they are, and counts no steps with them."""
    c, base = type(opt.controller), Controller
    fed = c.unit is base.unit and c.weight is base.weight and c.feed is base.feed
    return fed and not opt.controller.corrects and not opt.controller.debiased()


def _after(state: State, old: State, was: Member, member: Member) -> State:
    """A fresh state with the controller's scalars as they were, its marks in the new layout."""
    before, layout = (treatment(m.opt, m.leaves).layout for m in (was, member))
    pairs = old.control.marks.items()
    marks = {name: layout.shelve(layout.gather(before.scatter(before.column(tree)))) for name, tree in pairs}
    return state._replace(control=Control({name: jnp.array(x) for name, x in old.control.scalars.items()}, marks))


def _metrics(fresh: dict[str, Array], old: dict[str, Array]) -> dict[str, Array]:
    return {name: jnp.array(old.get(name, x)) for name, x in fresh.items()}


def _age(member: Member, before: Before, rows: list[Record], keeps: list[bool], where: str) -> Array:
    """The step at which the slots of all leaves were fresh.

    Raises:
        ValueError: where they are of different ages.
    """
    if all(keeps) and len({row[0] for row in rows}) == 1:
        return jnp.array(before.states[rows[0][0]].born)
    ages = [int(before.states[row[0]].born if kept else before.step) for row, kept in zip(rows, keeps, strict=True)]
    if len(set(ages)) > 1:
        raise ValueError(
            f"convert: the slots{where or ' of this optimizer'} would have different ages: parameter "
            f"'{member.leaves.paths[ages.index(max(ages))]}' is new there, and one bias correction counts the steps of "
            "all; give such leaves a group of their own with adaptx.route."
        )
    return jnp.array(ages[0], jnp.int32)


def _say_rate(old: Optimizer, state: State, stays: bool, said: Said) -> None:
    if not stays and state.control.scalars and "learning_rate" in state.metrics:
        rate = state.metrics["learning_rate"]
        shown = rate if is_traced(rate) else f"{float(rate):.4g}"
        said.append(f"left behind what {old.controller.name} kept, whose last rate was {shown}")


def _say_slots(opt: Optimizer, rows: list[Record], where: str, said: Said) -> None:
    came, mine = next(row[1].slots for row in rows if row is not None), opt.rule.slots()
    if new := [name for name in mine if name not in came]:
        said.append(f"made up the slots {', '.join(map(repr, new))}{where}, fresh")
    if gone := [name for name in came if name not in mine]:
        said.append(f"left behind the slots {', '.join(map(repr, gone))}{where}")
