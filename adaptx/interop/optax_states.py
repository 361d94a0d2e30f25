"""optax states: found inside chains and wrappers, read, and filled in."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..base import State
from ..engine.optimizer import Optimizer
from ..engine.tree import Leaves, take_apart
from ..values import Scalar
from .optax_places import KNOWN, Place, factors, places, refuse_early_muon, refuse_other_equations
from .slots import Numbers, counts, fitting, put_in, refuse_other_shape, shapes, taken_out

INSIDE = {
    "MaskedState": "inner_state", "PartitionState": "inner_states", "MultiTransformState": "inner_states",
    "InjectHyperparamsState": "inner_state", "InjectStatefulHyperparamsState": "inner_state",
}  # fmt: skip
CLOCKS = ("ScaleByScheduleState", "InjectHyperparamsState", "InjectStatefulHyperparamsState")


class Match(NamedTuple):
    """What belongs to an optimizer in an optax state."""

    own: dict[str, PyTree]  # kind of state -> the state
    clocks: list[PyTree]  # what its schedules count
    factors: dict[str, Scalar]  # slot -> what optax's number is multiplied by; 1 where it is not here
    places: list[dict[str, Place]]  # slot -> where it lies, for every trained leaf

    @property
    def seen(self) -> PyTree:
        """The updates that its slots have seen; None where they do not count."""
        return next((x.count for x in self.own.values() if "count" in x._fields), None)


def from_optax(opt: Optimizer, optax_state: PyTree, params: PyTree, step: int | None = None) -> State:
    """The adaptx state that goes on where an optax state stands: sgd, momentum, adagrad, rmsprop, adam(w), lion, …

    The next step is optax's, to 1e-6 relative in f32, where both optimizers have the same hyperparameters:

        optax.sgd(lr, momentum)            momentum(lr, momentum); with dampening τ, optax's rate is (1 − τ)·lr
        optax.adagrad(lr, h₀, eps)         adagrad(lr, eps), eps inside the root
        optax.rmsprop(…)                   rmsprop(…, debias=bias_correction); nesterov=True has no counterpart
        optax.adam, nadam, adamw, lion     the same names (weight_decay of optax's adamw is 1e-4, here 1e-2)
        optax.amsgrad                      scale_by_amsgrad(bias_correction_mu=False, bias_correction_nu=False) alone
        optax.adafactor(lr, 128, …)        adafactor(lr, min_dim_size_to_factor=128, …) without momentum,
                                           decay_mode="independent"
        optax.contrib.muon(…)              muon(…, eps=1e-8, adamw=False), scale="rms" where consistent_rms=0.2

    The state may lie in chain, masked, partition and inject_hyperparams. Slots become f32 (f64 beside f64 parameters)
    and then what opt's storage makes of them; what rounding keeps is fresh. Not for use on MultiSteps, of which the
    inner state is to be passed between two of its steps.

    Args:
        opt: the adaptx optimizer that goes on; no controller, wrapper or route.
        optax_state: what optax's update returned last.
        params: the parameters at this point.
        step: updates taken, for schedules; None for what the optax state counts, or 0 where it counts nothing.

    Raises:
        TypeError: for an optimizer that is no plain one.
        ValueError: for another rule's state, other parameters, memory that the rule has no slot for, and where optax's
            rule is another equation.
    """
    leaves = take_apart(params)
    found = _matched("from_optax", opt, optax_state, leaves)
    refuse_early_muon("from_optax", opt.rule, found.seen)
    taken, t = counts("from_optax", opt, found.seen, found.clocks, step)
    slots: dict[str, list] = {name: [None] * len(leaves.trained) for name in opt.rule.slots()}
    for i, where in enumerate(found.places):
        expected = shapes(opt.rule, leaves.arrays[i])
        for name, (kind, field) in where.items():
            x = _spread("from_optax", found.own[kind], field, leaves)[leaves.trained[i]]
            refuse_other_shape("from_optax", f"{kind}.{field}", leaves.paths[i], x, expected[name])
            wide = jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
            slots[name][i] = wide * found.factors[name] if name in found.factors else wide
    return put_in(opt, leaves, Numbers(taken, t, slots))


def to_optax(opt: Optimizer, state: State, params: PyTree, optax_state: PyTree) -> PyTree:
    """An optax state with the numbers of an adaptx state filled in: the inverse of `from_optax`, see there.

    Slots are decoded and cast to the dtype that optax keeps; master copies and compensations, which optax has none of,
    stay behind.

    Args:
        opt: the adaptx optimizer that the state belongs to.
        state: its state.
        params: the parameters at this point.
        optax_state: a template, `tx.init(params)` of the optax transformation that goes on.

    Raises:
        TypeError: for an optimizer that is no plain one, or a state that is not adaptx's.
        ValueError: as `from_optax`, and for a state of another optimizer.
    """
    leaves = take_apart(params)
    found = _matched("to_optax", opt, optax_state, leaves)
    numbers = taken_out(opt, state, leaves)
    refuse_early_muon("to_optax", opt.rule, numbers.t)
    kinds = {id(part): kind for kind, part in found.own.items()}

    def fill(node: PyTree) -> PyTree:
        if id(node) not in kinds and _is_clock(node):
            return node._replace(count=jnp.asarray(numbers.step, node.count.dtype))
        return _filled(node, kinds[id(node)], found, numbers, leaves) if id(node) in kinds else node

    return _mapped(optax_state, fill)


def _filled(node: PyTree, kind: str, found: Match, numbers: Numbers, leaves: Leaves) -> PyTree:
    """One state of an optax chain with the numbers in the place of its own."""
    fields: dict[str, PyTree] = {}
    if "count" in node._fields:
        fields["count"] = jnp.array(numbers.t, node.count.dtype)
    for i, where in enumerate(found.places):
        for name, (owner, field) in where.items():
            if owner != kind:
                continue
            flat = fields.setdefault(field, _spread("to_optax", node, field, leaves))
            old, x = flat[leaves.trained[i]], numbers.slots[name][i]
            assert x is not None, "a slot that has a place at a leaf is there"
            refuse_other_shape("to_optax", f"{kind}.{field}", leaves.paths[i], old, x.shape)
            flat[leaves.trained[i]] = (x / found.factors.get(name, 1.0)).astype(old.dtype)
    trees = {field: leaves.treedef.unflatten(flat) for field, flat in fields.items() if field != "count"}
    return node._replace(**{**fields, **trees})


def _spread(who: str, node: PyTree, field: str, leaves: Leaves) -> list[PyTree]:
    """What a field of an optax state has at every leaf of the parameters, trained or not."""
    tree = getattr(node, field)
    try:
        return leaves.treedef.flatten_up_to(tree)
    except ValueError as error:
        raise ValueError(
            f"{who}: {type(node).__name__}.{field} has the tree {jax.tree.structure(tree)}, expected that of the "
            f"parameters, {leaves.treedef}; pass the parameters that the optax state was made for."
        ) from error


def _matched(who: str, opt: PyTree, optax_state: PyTree, leaves: Leaves) -> Match:
    """Where an optax state has what the optimizer's rule keeps."""
    rule = fitting(who, opt, "optax", KNOWN)
    refuse_other_equations(who, rule)
    where = [places(who, rule, path, np.shape(p)) for path, p in zip(leaves.paths, leaves.arrays, strict=True)]
    wanted = tuple(dict.fromkeys(kind for each in where for kind, _ in each.values()))
    nodes: list[PyTree] = []
    _mapped(optax_state, lambda node: nodes.append(node) or node)
    kinds = [type(node).__name__ for node in nodes]
    for kind in wanted:
        if kinds.count(kind) != 1:
            held = ", ".join(dict.fromkeys(kinds)) or type(optax_state).__name__
            raise ValueError(
                f"{who}: expected one {kind} in the optax state, for {opt!r}, found {kinds.count(kind)} in what holds "
                f"{held}; pass the state of the same optimizer with the same flags."
            )
    for kind, node in zip(kinds, nodes, strict=True):
        if kind not in (*wanted, *INSIDE, *CLOCKS) and _remembers(node):
            raise ValueError(
                f"{who}: the optax state holds {kind}, which {opt.rule.name} has no slot for, expected "
                f"{' and '.join(wanted) or 'counts'} alone; pass only the part that is the optimizer's (of "
                "MultiSteps its inner_opt_state)."
            )
    clocks = [node.count for kind, node in zip(kinds, nodes, strict=True) if kind not in wanted and _is_clock(node)]
    own = {kind: nodes[kinds.index(kind)] for kind in wanted}
    return Match(own, clocks, factors(who, opt, kinds) if wanted else {}, where)


def _is_clock(node: PyTree) -> bool:
    """Whether a state counts updates and keeps nothing of the gradients, as a schedule's and an empty group's do."""
    return type(node).__name__ in CLOCKS or ("count" in node._fields and not _remembers(node))


def _remembers(node: PyTree) -> bool:
    """Whether a state holds numbers that are no counts."""
    arrays = (x for x in jax.tree.leaves(node) if hasattr(x, "dtype"))
    return any(jnp.issubdtype(x.dtype, jnp.floating) for x in arrays)


def _mapped(state: PyTree, change: Callable[[PyTree], PyTree]) -> PyTree:
    """An optax state with every single transformation's state replaced, in the order of the chain."""
    if hasattr(state, "_fields"):
        inner = INSIDE.get(type(state).__name__)
        if inner is not None:
            state = state._replace(**{inner: _mapped(getattr(state, inner), change)})
        return change(state)
    if isinstance(state, Mapping):
        return type(state)((key, _mapped(part, change)) for key, part in state.items())  # pyright: ignore
    if isinstance(state, (tuple, list)):
        return type(state)(_mapped(part, change) for part in state)
    return state
