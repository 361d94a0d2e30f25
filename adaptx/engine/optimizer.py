"""The optimizer: rule × learning rate × storage × layout, an optax transformation that is a pytree of its numbers."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree

from ..base import Rule, State, fields_of
from ..control import Controller
from ..controllers.constant import Constant, Direction
from ..values import Scalar, Scheduled, is_scheduled
from . import cost
from .agreed import agreed
from .decoded import with_kept
from .groups import Call, Group, advance, refuse_unknown_extra, refuse_without_params
from .keywords import EngineOptions, flat, refuse_unknown
from .options import Options, options
from .rates import Rate, as_rate, open_rate
from .state import fresh_kept, fresh_slots, fresh_state, refuse_what_is_no_state, treatment
from .transformation import Transformation, batched
from .tree import Leaves, concrete, gradients, no_update, take_apart

STRUCTURE = {"static": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Optimizer(Transformation):
    """An adaptx optimizer.

    Leaves of the pytree are the numeric hyperparameters: the rule's, the learning rate or its controller's,
    weight_decay, max_norm and other options, the factors of lr_scale; flags, names, masks and schedules are structure.
    """

    rule: Rule
    learning_rate: Rate | None  # None: the bare direction, not scaled nor negated
    options: Options
    name: str = dataclasses.field(default="", metadata=STRUCTURE)  # of the constructor
    of_rule: tuple[str, ...] = dataclasses.field(default=(), metadata=STRUCTURE)  # its arguments that are the rule's
    of_controller: tuple[str, ...] = dataclasses.field(default=(), metadata=STRUCTURE)  # and the controller's
    fixed: tuple[tuple[str, object], ...] = dataclasses.field(default=(), metadata=STRUCTURE)  # and others, as given
    usual: tuple[tuple[str, PyTree], ...] = dataclasses.field(default=(), metadata=STRUCTURE)  # its engine defaults

    @cached_property
    def controller(self) -> Controller:
        """The controller of the learning rate; of a number or a schedule the one that measures nothing."""
        rate = self.learning_rate
        return rate if isinstance(rate, Controller) else Direction() if rate is None else Constant(rate)

    @property
    def requires(self) -> frozenset[str]:
        """Names of the extra arguments that update and step must be given."""
        return self.controller.requires | self.rule.requires

    @property
    def rounding(self) -> str:
        """The rounding policy; a controller that needs exact parameters keeps masters where none was asked for."""
        wanted = self.options.rounding
        return "master" if self.controller.exact and wanted in ("nearest", "stochastic") else wanted

    @property
    def axis_name(self) -> tuple[str, ...]:
        """The mesh axes along which parameters are split inside shard_map."""
        return self.options.axis_name

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What is measured at every step."""
        return (*self.shown(self), *self.controller.metric_names, *self.options.metric_names)

    def shown(self, now: "Optimizer") -> dict[str, Scalar]:
        """The hyperparameters that are schedules, by name, with the values of the optimizer at this step."""
        out: dict[str, Scalar] = {}
        if not self.scheduled:
            return out
        parts = ((self.rule, now.rule, ""), (self.options, now.options, ""))
        for mine, current, prefix in (*parts, (self.controller, now.controller, f"{self.controller.name}.")):
            leaves = (jax.tree.leaves(x, is_leaf=is_scheduled) for x in (mine, current))
            for x, value in zip(*leaves, strict=True):
                if isinstance(x, Scheduled) and x.name != "learning_rate":  # which is shown whatever it is
                    out[prefix + x.name] = x.shown(value)
        return out

    @cached_property
    def scheduled(self) -> bool:
        """Whether any hyperparameter is a schedule."""
        parts = (self.rule, self.options, self.learning_rate)
        return any(map(is_scheduled, jax.tree.leaves(parts, is_leaf=is_scheduled)))

    @property
    def made_by(self) -> dict[str, None]:
        """What a state of this optimizer belongs to: its rule and, where that keeps something, its controller."""
        c = self.controller
        return {self.rule.name: None, **({c.name: None} if fields_of(c.Marks) or fields_of(c.Scalars) else {})}

    def init(self, params: PyTree) -> State:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Fresh state for params (arrays, tracers or ShapeDtypeStructs); shares no buffer with them."""
        return fresh_state(self, take_apart(params))

    def update(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, grads: PyTree, state: State, params: PyTree | None = None, **extra: PyTree
    ) -> tuple[PyTree, State]:
        """optax's contract: (updates in the parameter's dtype, new state); add the updates to the parameters."""
        if params is None:
            refuse_without_params(self)
        leaves = take_apart(grads if params is None else params)
        outs, state = self._advanced(grads, state, leaves, extra, fused=False)
        return leaves.join(outs, no_update), state

    def step(self, grads: PyTree, state: State, params: PyTree, **extra: PyTree) -> tuple[PyTree, State]:
        """(new parameters, new state): update and apply in one pass, rounded once to the parameter's dtype.

        Where you jit it yourself, donate parameters and state in the order of the results, as `train_step` does:
        `jax.jit(lambda p, s, g: opt.step(g, s, p), donate_argnums=(0, 1))`. jax gives donated buffers of one shape to
        the results in order; donated the other way round, every slot and parameter is copied.
        """
        refuse_unknown_extra(self.requires, extra)
        leaves = take_apart(params)
        outs, state = self._advanced(grads, state, leaves, extra, fused=True)
        return leaves.join(outs, lambda leaf: leaf), state

    def _advanced(self, grads: PyTree, state: State, leaves: Leaves, extra: dict[str, PyTree], *, fused: bool):
        refuse_what_is_no_state(state)
        group = Group(self, state, leaves, gradients(grads, leaves))
        outs, states, _ = advance([group], self.options, Call(state.step, state.metrics, extra, fused))
        return outs[0], states[0]

    def over(self, values: ArrayLike) -> Array:
        """The updates for a sequence of gradients along axis 0, one after another from a fresh state, as one array.

        Needs no parameters, so it serves for bare directions: `adaptx.ema(0.9).over(losses)`.
        """
        values = jnp.asarray(values, jnp.result_type(float, jnp.asarray(values).dtype))
        if values.ndim == 0:
            raise ValueError(f"over() takes a sequence along axis 0, got the scalar {values}; pass a list or an array.")

        def one(state: State, value: Array) -> tuple[State, Array]:
            out, state = self.update(value, state)
            return state, out

        return jax.lax.scan(one, self.init(jnp.zeros_like(values, shape=values.shape[1:])), values)[1]

    def replace(self, **changes: PyTree) -> "Optimizer":
        """The same optimizer with other hyperparameters or engine options, under the names of its constructor.

        Where only numbers change, a function that takes the optimizer as an argument is not compiled again.

        Raises:
            TypeError: for a name it does not have.
            TypeError, ValueError: for a value of the wrong kind or range.
        """
        rule, rate, given = self.rule, self.learning_rate, self.options.given()
        refuse_unknown(f"{self.name}.replace()", {k: None for k in changes if k not in self.arguments}, self.arguments)
        if "learning_rate" in changes:
            new = (open_rate if self.of_controller else as_rate)(self.name, changes["learning_rate"])
            rate = dataclasses.replace(rate, base=new) if self.of_controller else new  # pyright: ignore
        its = {name: changes[name] for name in self.of_controller if name in changes}
        rate = dataclasses.replace(rate, **its) if its else rate  # pyright: ignore
        its = {name: changes[name] for name in self.of_rule if name in changes}
        rule = dataclasses.replace(rule, **its) if its else rule  # pyright: ignore
        engine = {name: x for name, x in changes.items() if name in EngineOptions.__annotations__}
        made = options(f"{self.name}()", {**given, **engine}) if engine else self.options
        return batched(agreed(dataclasses.replace(self, rule=rule, learning_rate=rate, options=made)))

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of its hyperparameters, engine options aside."""
        first = () if self.learning_rate is None else ("learning_rate",)
        return (*first, *self.of_controller, *self.of_rule)

    def scaled(self, factor: Scalar) -> "Optimizer":
        """The same with every displacement multiplied by a factor, independent weight decay aside."""
        before = self.options.factor
        made = dataclasses.replace(self.options, factor=factor if before is None else before * factor)
        return dataclasses.replace(self, options=made)

    def rebased(self, state: State, leaves: Leaves, fine: list[Array]) -> State:
        """The state for parameters that were moved from outside: what rounding keeps of them begins there."""
        return with_kept(self, treatment(self, leaves), state, fine)

    def reset(self, state: State, params: PyTree) -> State:
        """The state at params with fresh slots, bias corrections beginning anew; step number and controller go on."""
        refuse_what_is_no_state(state)
        return self.reset_on(state, take_apart(params))

    def reset_on(self, state: State, leaves: Leaves) -> State:
        """`reset` on some leaves of a tree."""
        how = treatment(self, leaves)
        arrays = how.layout.gather([concrete(x) for x in leaves.arrays])
        kept, slots = fresh_kept(self, how, arrays), fresh_slots(self, how, arrays)
        return state._replace(slots=slots, kept=kept, born=jnp.array(state.step))

    def costs(self, leaves: Leaves) -> list[cost.LeafCost]:
        """What every trained leaf costs, in the order of the tree."""
        return cost.leaf_costs(self, leaves)

    def scalar_bytes(self, leaves: Leaves) -> int:
        """Bytes of the state that no leaf has."""
        return cost.scalar_bytes(self, leaves)

    def __repr__(self) -> str:
        rate = self.controller.base if self.of_controller else self.learning_rate
        first = [] if rate is None else [f"learning_rate={rate!r}"]
        rest = [f"{name}={getattr(self.rule, name)!r}" for name in self.of_rule]
        rest += [f"{name}={getattr(self.controller, name)!r}" for name in self.of_controller]
        rest += [f"{name}={value!r}" for name, value in self.fixed]
        return f"{self.name or self.rule.name}({', '.join(first + rest + self.options.changed(dict(self.usual)))})"


def build(
    name: str,
    rule: Rule,
    learning_rate: Rate,
    given: Mapping[str, PyTree],
    of_rule: tuple[str, ...] | None = None,
    of_controller: tuple[str, ...] = (),
    *,
    bare: bool = False,
    fixed: Mapping[str, object] | None = None,
    usual: Mapping[str, PyTree] | None = None,
) -> Optimizer:
    """An optimizer from its parts.

    Where hyperparameters are arrays of one shape, the optimizer is a batch: every number is given that shape, so that
    `jax.vmap(train)(opt)` runs one training per element.

    Args:
        name: of its constructor.
        rule: the rule.
        learning_rate: a number, a schedule or a controller.
        given: the engine options.
        of_rule: the constructor's arguments that are the rule's; None for all that the rule has.
        of_controller: those that are the controller's.
        bare: no learning rate at all, the direction as it is.
        fixed: arguments of the constructor that are neither's, as they were given.
        usual: engine options that it has unless told otherwise.

    Raises:
        TypeError, ValueError: for a hyperparameter of the wrong kind or range; the message names it.
    """
    every = tuple(field.name for field in dataclasses.fields(rule))  # pyright: ignore[reportArgumentType]
    of_rule = every if of_rule is None else of_rule
    fixed, usual, given = fixed or {}, usual or {}, flat(given)
    refuse_unknown(f"{name}()", given, (*(() if bare else ("learning_rate",)), *of_controller, *of_rule))
    rate = None if bare else as_rate(name, learning_rate)
    made = options(f"{name}()", {**usual, **given})
    beside = tuple(fixed.items()), tuple(usual.items())
    return batched(agreed(Optimizer(rule, rate, made, name, of_rule, of_controller, *beside)))
