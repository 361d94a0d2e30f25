"""Which optimizer each leaf has: several optimizers in one, and none for frozen leaves.

Clipping, guards and telemetry are one decision over the whole tree, and so is the step: rates, decay, storage and
controllers are each group's own.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..values import Scalar, static, value_class
from .choices import Patterns, by_leaf
from .cost import LeafCost
from .freeze import Freeze
from .groups import Call, Group, advance, refuse_unknown_extra
from .keywords import PATTERNED, WHOLE
from .optimizer import Optimizer
from .options import Options, options
from .routed import Routed, destinations, refuse_other_state
from .state import fresh_state
from .transformation import Transformation, batched
from .tree import Frozen, Leaves, gradients, no_update, shortened, take_apart


class Member(NamedTuple):
    """An optimizer of a route with its leaves."""

    names: tuple[str, ...]  # of its group, and of the groups around that in a route of routes
    opt: Optimizer
    leaves: Leaves


@value_class
class Route(Transformation):
    """Several optimizers in one: see `adaptx.route`."""

    groups: dict[str, Transformation]
    options: Options  # of the whole tree
    by: Callable[[str, Array], str] | Frozen | tuple[tuple[str, str], ...] = static(default=())
    default: str | None = static(default=None)
    shared_patterns: tuple[str, ...] = static(default=())  # options whose patterns are for the leaves of all groups
    asked: str = static(default="by")  # which option messages about the patterns of by name

    @property
    def requires(self) -> frozenset[str]:
        """Names of the extra arguments that update and step must be given."""
        return frozenset().union(*(group.requires for group in self.groups.values()))

    @property
    def axis_name(self) -> tuple[str, ...]:
        """The mesh axes along which parameters are split inside shard_map."""
        return self.options.axis_name

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What is measured of the whole tree at every step."""
        return self.options.metric_names

    def labels(self, leaves: Leaves) -> list[str]:
        """The group of every trained leaf.

        Raises:
            ValueError: for a leaf without a group, or a group that is none.
        """
        if isinstance(self.by, tuple):
            patterns = Patterns(tuple(name for _, name in self.by), tuple(pattern for pattern, _ in self.by))
            found = by_leaf(self.asked, patterns, leaves, None)
        elif isinstance(self.by, Frozen):
            found = by_leaf("by", self.by.tree, leaves, None)
        else:
            found = [self.by(path, p) for path, p in zip(leaves.paths, leaves.arrays, strict=True)]
        labels: list[PyTree] = [self.default if name is None else name for name in found]
        for path, name in zip(leaves.paths, labels, strict=True):
            if not isinstance(name, str) or name not in self.groups:
                came = "has no group" if name is None else f"is sent to {name!r}"
                raise ValueError(
                    f"route: parameter '{path}' {came}, expected one of {', '.join(map(repr, self.groups))}; name its "
                    "group in by=, or give the rest one with default=."
                )
        return labels

    def split(self, leaves: Leaves) -> Iterator[tuple[str, Transformation, Leaves]]:
        """(name, group, its leaves) of every group."""
        labels = self.labels(leaves)
        for name, group in self.groups.items():
            yield name, group, leaves.only([label == name for label in labels], self.shared_patterns)

    def members(self, leaves: Leaves, around: tuple[str, ...] = ()) -> list[Member]:
        """Every optimizer with its leaves, those of routes inside too."""
        out = []
        for name, group, some in self.split(leaves):
            if isinstance(group, Route):
                out += group.members(some, (*around, name))
            elif isinstance(group, Optimizer):
                out.append(Member((*around, name), group, some))
        return out

    def init(self, params: PyTree) -> Routed:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Fresh state for params (arrays, tracers or ShapeDtypeStructs); shares no buffer with them."""
        members = self.members(take_apart(params))
        zero = {name: jnp.zeros((), jnp.float32) for name in self.metric_names}
        axes = self.options.axis_name
        states = {member.names: fresh_state(member.opt, member.leaves, axes) for member in members}
        return self.assembled(states, (), jnp.zeros((), jnp.int32), zero)

    def assembled(
        self, states: Mapping[tuple[str, ...], PyTree], around: tuple[str, ...], step: Array, metrics: dict[str, Array]
    ) -> Routed:
        """The state of the route from those of its optimizers."""
        groups: dict[str, PyTree] = {}
        for name, group in self.groups.items():
            here = (*around, name)
            if isinstance(group, Route):
                groups[name] = group.assembled(states, here, jnp.array(step), {})
            elif isinstance(group, Optimizer):
                groups[name] = states[here]
        return Routed(step, groups, metrics)

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, grads: PyTree, state: Routed, params: PyTree | None = None, **extra: PyTree
    ) -> tuple[PyTree, Routed]:
        """optax's contract: (updates in the parameter's dtype, new state); add the updates to the parameters."""
        if params is None:
            raise ValueError(
                "update(grads, state) was called without params, by whose paths a route sends them; call "
                "update(grads, state, params)."
            )
        leaves = take_apart(params)
        outs, state = self._advanced(grads, state, leaves, extra, fused=False)
        return leaves.join(outs, no_update), state

    def step(self, grads: PyTree, state: Routed, params: PyTree, **extra: PyTree) -> tuple[PyTree, Routed]:
        """(new parameters, new state): update and apply in one pass, rounded once to the parameter's dtype."""
        refuse_unknown_extra(self.requires, extra)
        leaves = take_apart(params)
        outs, state = self._advanced(grads, state, leaves, extra, fused=True)
        return leaves.join(outs, lambda leaf: leaf), state

    def _advanced(self, grads: PyTree, state: Routed, leaves: Leaves, extra: dict[str, PyTree], *, fused: bool):
        refuse_other_state(state)
        found = dict(zip(leaves.trained, gradients(grads, leaves), strict=True))
        members = self.members(leaves)
        groups = [
            Group(m.opt, self.state_of(state, m.names), m.leaves, [found[i] for i in m.leaves.trained]) for m in members
        ]
        outs, states, common = advance(groups, self.options, Call(state.step, state.metrics, extra, fused))
        moved = {
            i: x for m, some in zip(members, outs, strict=True) for i, x in zip(m.leaves.trained, some, strict=True)
        }
        still = {i: p if fused else jnp.zeros_like(p) for i, p in zip(leaves.trained, leaves.arrays, strict=True)}
        after = {member.names: one for member, one in zip(members, states, strict=True)}
        every = [moved.get(i, still[i]) for i in leaves.trained]
        return every, self.assembled(after, (), common.step, common.metrics)

    def state_of(self, state: PyTree, names: tuple[str, ...]) -> PyTree:
        """The state of an optimizer inside.

        Raises:
            TypeError: where state is none of a route.
            ValueError: where it is one of other groups.
        """
        for name in names:
            refuse_other_state(state)
            if name not in state.groups:
                raise ValueError(
                    f"state has the groups {', '.join(map(repr, state.groups)) or 'none'}, but this route trains "
                    f"{name!r}; make the state with its init(params), or carry it over with adaptx.convert."
                )
            state = state.groups[name]
        return state

    def scaled(self, factor: Scalar) -> "Route":
        """The same with every displacement multiplied by a factor, independent weight decay aside."""
        return dataclasses.replace(self, groups={name: group.scaled(factor) for name, group in self.groups.items()})

    def rebased(self, state: Routed, leaves: Leaves, fine: list[Array]) -> Routed:
        """The state for parameters that were moved from outside."""
        where, members = dict(zip(leaves.trained, fine, strict=True)), self.members(leaves)
        parts = [(m, [where[i] for i in m.leaves.trained]) for m in members]
        states = {m.names: m.opt.rebased(self.state_of(state, m.names), m.leaves, some) for m, some in parts}
        return self.assembled(states, (), state.step, state.metrics)

    def reset(self, state: Routed, params: PyTree) -> Routed:
        """The state at params with fresh slots; step number and controllers go on."""
        members = self.members(take_apart(params))
        states = {m.names: m.opt.reset_on(self.state_of(state, m.names), m.leaves) for m in members}
        return self.assembled(states, (), state.step, state.metrics)

    def costs(self, leaves: Leaves) -> list[LeafCost]:
        """What every trained leaf costs, in the order of the tree, with the name of its group."""
        out = {}
        for name, group, some in self.split(leaves):
            for i, row in zip(some.trained, group.costs(some), strict=True):
                out[i] = dataclasses.replace(row, group=f"{name}/{row.group}" if row.group else name)
        return [out[i] for i in leaves.trained]

    def scalar_bytes(self, leaves: Leaves) -> int:
        """Bytes of the state that no leaf has."""
        return 4 + 4 * len(self.metric_names) + sum(group.scalar_bytes(some) for _, group, some in self.split(leaves))

    def replace(self, **changes: PyTree) -> "Route":
        """The same route with other groups, under their names, another by or default, or other options of the tree."""
        groups = {name: changes.pop(name, group) for name, group in self.groups.items()}
        by = dict(self.by) if isinstance(self.by, tuple) else self.by.tree if isinstance(self.by, Frozen) else self.by
        whole = {name: value for name, value in self.options.given().items() if name in WHOLE}
        kept = {"by": by, "default": self.default, "shared_patterns": self.shared_patterns}
        made = route(groups, **{**kept, **whole, **changes})
        return made if "by" in changes else dataclasses.replace(made, asked=self.asked)

    def __repr__(self) -> str:
        by = dict(self.by) if isinstance(self.by, tuple) else self.by
        rest = [f"by={by!r}", *([f"default={self.default!r}"] if self.default else [])]
        rest += [f"shared_patterns={self.shared_patterns!r}"] if self.shared_patterns else []
        rest += self.options.changed()
        return f"route({self.groups!r}, {', '.join(rest)})"


def route(
    groups: Mapping[str, Transformation],
    by: Mapping[str, str] | Callable[[str, Array], str] | PyTree,
    default: str | None = None,
    shared_patterns: Sequence[str] = (),
    **whole: PyTree,
) -> Route:
    """Several optimizers in one: which of them each leaf has.

    `adaptx.route({"hidden": lion(1e-4), "rest": adamw(3e-4)}, by={"kernel$": "hidden"}, default="rest", max_norm=1.0)`

    Args:
        groups: name -> an adaptx optimizer, another route, or `adaptx.freeze()`.
        by: the group of every leaf: a tree like the parameters with a name at every leaf, {path regex: name} (the first
            match counts), or a function of (path, leaf).
        default: the group of leaves that by leaves out; None to refuse them.
        shared_patterns: options that several groups were given alike, among decay_mask, lr_scale and storage_exclude:
            a path pattern in them has to match some leaf of the whole tree, else one of the group's own leaves.
        **whole: max_norm, skip_nonfinite, telemetry and axis_name, which decide over the whole tree (`EngineOptions`).

    Metrics are named by group, 'hidden/learning_rate'; those of the whole tree are not. `describe(params)` shows every
    leaf's group.

    Raises:
        TypeError, ValueError: for a group that is no optimizer, or has an option of the whole tree.
    """
    if not isinstance(groups, Mapping) or not groups:
        raise TypeError(f"route takes {{name: optimizer}}, got {groups!r}; name every group.")
    for name, group in groups.items():
        _check_group(name, group)
    if default is not None and default not in groups:
        raise ValueError(
            f"route: default={default!r} is none of the groups {shortened(list(groups))}; name one of them."
        )
    first = next(iter(groups))
    for name in whole:
        if name not in WHOLE:
            raise TypeError(
                f"route has no option {name!r}; its options are {', '.join(WHOLE)}, others are those of its groups "
                f"{', '.join(map(repr, groups))}: opt.replace({first}=opt.groups[{first!r}].replace({name}=…))."
            )
    whole_tree, sent = options("route()", whole), destinations(by, tuple(groups))
    return batched(Route(dict(groups), whole_tree, sent, default, _options_with_patterns(shared_patterns)))


def _options_with_patterns(names: Sequence[str]) -> tuple[str, ...]:
    """The names, in the order in which the options are listed."""
    given = names if isinstance(names, (list, tuple, set, frozenset)) else None
    if given is None or any(name not in PATTERNED for name in given):
        raise ValueError(
            f"route: shared_patterns must be names of options that take patterns, {', '.join(PATTERNED)}, got "
            f"{names!r}; write shared_patterns=['lr_scale']."
        )
    return tuple(name for name in PATTERNED if name in given)


def _check_group(name: object, group: object) -> None:
    where = f"route: group {name!r}"
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(f"{where}: expected a name without '/', which metrics are named by; rename it.")
    if isinstance(group, type) or callable(group):
        raise TypeError(f"{where} is {getattr(group, '__name__', group)!r}, which was not called; call it.")
    if not isinstance(group, (Optimizer, Route, Freeze)):
        wrapped = isinstance(group, Transformation)
        remedy = (
            "put the wrapper around the whole route" if wrapped else "use optax.partition for optax transformations"
        )
        raise TypeError(
            f"{where} must be an adaptx optimizer, a route or freeze(), got {type(group).__name__}; {remedy}."
        )
    if isinstance(group, (Optimizer, Route)):
        given, plain = group.options.given(), options("", {}).given()
        for option in WHOLE:
            if given[option] is not plain[option] and given[option] != plain[option]:
                raise ValueError(
                    f"{where} has {option}={given[option]!r}, which decides over the whole tree; give it to route."
                )
