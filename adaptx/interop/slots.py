"""A state as plain numbers: two counts, and every slot in full precision, leaf by leaf.

What any library's state is carried over through, so that storage and layout are nobody's concern but this file's:

    taken_out    adaptx state → numbers      decoded, unpacked, copied
    put_in       numbers → adaptx state      packed, encoded as a step encodes them (bf16 and int8 round at random)
"""

from collections.abc import Collection
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..base import Rule, State
from ..controllers.constant import Constant, Direction
from ..engine.decoded import decoded, with_slots
from ..engine.leaf import arithmetic
from ..engine.optimizer import Optimizer
from ..engine.shelves import own_shape
from ..engine.state import fresh_state, refuse_what_is_no_state
from ..engine.tree import Leaves, concrete
from ..values import Scalar, is_concrete, schedule_names

Column = list[Array | None]  # what a slot is at every trained leaf, in the order of the tree; None where it has none


class Numbers(NamedTuple):
    """An optimizer's memory, as its rule defines it."""

    step: Scalar  # int32, updates taken: what schedules see next
    t: Scalar  # int32, updates the slots have seen: what corrections of bias count
    slots: dict[str, Column]


def taken_out(opt: Optimizer, state: State, leaves: Leaves) -> Numbers:
    """The numbers of a state; no buffer is shared.

    Raises:
        TypeError: if state is not an adaptx state.
        ValueError: if it was made for another optimizer or other parameters.
    """
    refuse_what_is_no_state(state)
    rows = decoded(opt, state, leaves)
    columns = {name: [row.slots[name] for row in rows] for name in opt.rule.slots()}
    slots = {name: [x if x is None else jnp.array(x) for x in column] for name, column in columns.items()}
    return Numbers(state.step, state.step - state.born, slots)


def put_in(opt: Optimizer, leaves: Leaves, numbers: Numbers) -> State:
    """The state that stands for the numbers; no buffer is shared. What rounding keeps is fresh.

    Raises:
        ValueError: for settings of the optimizer that do not fit the leaves.
    """
    step, fresh = jnp.array(numbers.step, jnp.int32), fresh_state(opt, leaves)
    fresh = fresh._replace(step=step, born=jnp.asarray(step - numbers.t, jnp.int32))
    kinds = [arithmetic(concrete(p)) for p in leaves.arrays]
    rows = [
        {
            name: column[i] if column[i] is None else jnp.asarray(column[i], kind)
            for name, column in numbers.slots.items()
        }
        for i, kind in enumerate(kinds)
    ]
    return with_slots(opt, leaves, fresh, rows)


def shapes(rule: Rule, p: PyTree) -> dict[str, tuple[int, ...]]:
    """The shape of every slot that a leaf has."""
    like = jax.ShapeDtypeStruct(np.shape(p), arithmetic(concrete(p)))
    found = {name: own_shape(rule, name, like) if slot.own else like.shape for name, slot in rule.slots().items()}
    return {name: shape for name, shape in found.items() if shape is not None}


def fitting(who: str, opt: object, library: str, known: Collection[type[Rule]]) -> Rule:
    """The rule of an optimizer whose state a library has too.

    Raises:
        TypeError: for what is no plain optimizer, or one with a controller.
        ValueError: for a rule that the library does not have.
    """
    if not isinstance(opt, Optimizer):
        raise TypeError(
            f"{who} takes an adaptx optimizer of one rule, such as adaptx.adam(1e-3), got {type(opt).__name__}; carry "
            "what a wrapper or a route holds over on its own, each with its part of the state."
        )
    if not isinstance(opt.controller, (Constant, Direction)):
        raise TypeError(
            f"{who}: the learning rate of {opt.name} is the controller {opt.controller.name}, expected a number or a "
            f"schedule, because {library} has no state for a controller; start anew with opt.init(params)."
        )
    if type(opt.rule) not in known:
        names = ", ".join(sorted(rule.__name__.lower() for rule in known))
        raise ValueError(
            f"{who}: {library} has no state that is {opt.rule.name}'s, expected one of {names}; start anew with "
            "opt.init(params)."
        )
    return opt.rule


def counts(who: str, opt: Optimizer, own: Scalar, clocks: list[Scalar], step: int | None) -> tuple[Array, Array]:
    """(updates taken, updates the slots have seen) from what a foreign state counts.

    Args:
        who: the function that was called.
        opt: the optimizer that goes on.
        own: what the rule's part of the foreign state counts, None where it does not.
        clocks: what schedules of the foreign state count.
        step: what the caller says.

    Raises:
        ValueError: where nobody counts and schedules need to know, where schedules disagree, or where slots have seen
            more updates than were taken.
    """
    known = sorted({int(x) for x in clocks if is_concrete(x)})
    if step is None and len(known) > 1:
        raise ValueError(
            f"{who}: the schedules of the foreign state count {known} steps, expected one number; pass step=, the "
            "number of updates taken."
        )
    found = next((x for x in (step, *clocks, own) if x is not None), None)
    if found is None and schedule_names(opt):
        raise ValueError(
            f"{who}: {', '.join(schedule_names(opt))} is a schedule, but the foreign state counts no steps; pass "
            "step=, the number of updates taken."
        )
    taken = 0 if found is None else found
    t = taken if own is None else own
    if is_concrete(taken) and is_concrete(t) and int(taken) < int(t):
        raise ValueError(
            f"{who}: step is {int(taken)}, but the slots have seen {int(t)} updates; expected at least as many, pass "
            "step= as the number of updates taken."
        )
    return jnp.asarray(taken, jnp.int32), jnp.asarray(t, jnp.int32)


def refuse_other_shape(who: str, what: str, path: str, came: object, expected: tuple[int, ...]) -> None:
    """Raise ValueError where a slot of a leaf does not have the shape it must have."""
    shape = getattr(came, "shape", None)
    if shape != expected:
        raise ValueError(
            f"{who}: {what} of parameter '{path}' has the shape {shape}, expected {expected}; pass the "
            "parameters the foreign optimizer trained, in its order, and an optimizer with the same settings."
        )
