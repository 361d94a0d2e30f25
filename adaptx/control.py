"""The nouns of a learning rate that training moves: what a controller is, what it sees and declares. No mathematics.

A controller is written on one array at a time, like a rule, and declares its scalars, marks and sums as NamedTuples.
What a state keeps of it is `base.Control`.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from typing import ClassVar, NamedTuple

from jaxtyping import Array

from .base import Nothing, Record, fields_of
from .checks import number
from .numerics import scaled
from .values import Scalar, Times, static, value_class


class Leaf(NamedTuple):
    """One array as a controller sees it, in the arithmetic dtype."""

    g: Array  # the gradient, clipped, with l2 decay
    d: Array  # the rule's direction with decoupled decay; not there while measuring unless `sees_direction`
    x: Array  # the parameter, as finely as it is known
    marks: Record  # the controller's, a `Marks`
    scale: Scalar  # the factor that the engine will put on the displacement; 1 for none
    metric: Callable[[Array], Array]  # the rule's precondition, with the slots before this step


@value_class
class Tick:
    """What a controller may know besides its measurements."""

    step: Array  # int32, 0-based number of this step
    t: Scalar  # 1-based and floating, counted since the slots were fresh
    value: Scalar  # the loss where the controller requires it, else None
    correction: Scalar  # the rule's bias-correction factor
    finite: Scalar = None  # whether this step's sums and loss are finite; None while measuring
    degree: int | Fraction = static(default=0)  # the rule's degree
    debias: ClassVar[bool] = True  # so that `numerics.debias` takes a Tick as it takes a Clock


class Controller(ABC):
    """Base of all controllers: a learning rate computed from what training shows.

    A subclass is a `value_class` with the fields `base` and `scope` and hyperparameters of its own. A controller looks
    at one array at a time, at sums over all arrays (which the engine forms, so that it never sees a mesh), and at the
    loss. It declares its scalars, its marks (arrays like the parameters) and its sums as NamedTuples. One step runs

        feed       what the rule sees instead of g
        measure    one array -> new marks, sums; left out where `Sums` is empty
        update     sums -> new scalars
        move       one array -> the displacement u of p ← p + u, and the marks to keep

    c holds the scalars (one leaf's entries with scope="leaf"), k the Tick; `base_rate(k)` is the open-loop factor at
    this step. A step whose sums or loss are not finite leaves scalars and marks as they were.
    """

    base: Scalar  # every controller's rate is multiplied by this open-loop rate
    scope: str  # "global": one rate, "leaf": one per leaf
    Scalars: ClassVar[type] = Nothing
    Marks: ClassVar[type] = Nothing
    Sums: ClassVar[type] = Nothing
    requires: ClassVar[frozenset[str]] = frozenset()  # extra arguments of update that must be given
    reports: ClassVar[tuple[str, ...]] = ()  # names in metrics besides learning_rate
    exact: ClassVar[bool] = False  # needs parameters finer than bf16: the engine keeps an f32 master of narrow ones
    sees_direction: ClassVar[bool] = True  # whether measure reads d; False lets d wait for the updated scalars
    theory: ClassVar[tuple[str, ...] | None] = None  # rules it is derived for; None where that is any rule
    corrects: ClassVar[bool] = False  # whether its rate has k.correction, in place of a degree-0 rule's own correction
    reference: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """What it is called in states and messages; another name where the same scalars mean something else."""
        return type(self).__name__.lower()

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What it shows of every step: its rate and its `reports`."""
        return ("learning_rate", *self.reports)

    @property
    def measured(self) -> bool:
        """Whether it looks at arrays at all; where it does not, a step is one call for every array."""
        return bool(fields_of(self.Sums))

    def debiased(self) -> dict[str, int]:
        """The decays by whose 1 − bᵗ it divides, and up to how many steps ahead of t."""
        return {}

    def start(self) -> Record:
        """Fresh scalars."""
        return self.Scalars()

    def marks(self, p: Array) -> Record:
        """Fresh marks of one array; must not be p itself."""
        del p
        return self.Marks()

    def inspect(self, p: Array) -> Record:
        """Sums over one array of initial parameters, for `begin`."""
        del p
        return Nothing()

    def begin(self, sums: Record, c: Record) -> Record:
        """The scalars after `inspect`'s sums over the initial parameters."""
        del sums
        return c

    def unit(self, c: Record, k: Tick) -> Scalar | None:
        """The unit the rule's gradients are fed in, where not 1; its ε is scaled along."""
        del c, k
        return None

    def feed(self, g: Array, x: Array, c: Record, k: Tick) -> Array:
        """What the rule sees instead of g."""
        del x, c, k
        return g

    def weight(self, c: Record, k: Tick) -> Scalar | None:
        """The weight of this step's gradient in the slots that are weighed, and in d; None for 1."""
        del c, k
        return None

    def measure(self, leaf: Leaf, c: Record, k: Tick) -> tuple[Record, Record]:
        """(new marks, sums) of one array."""
        del c, k
        return leaf.marks, self.Sums()

    def update(self, sums: Record, c: Record, k: Tick) -> Record:
        """The scalars after this step's sums."""
        del sums, k
        return c

    @abstractmethod
    def rate(self, c: Record, k: Tick) -> Scalar:
        """The learning rate this step uses, after update."""

    def move(self, leaf: Leaf, c: Record, k: Tick) -> tuple[Array, Record]:
        """(displacement u of p ← p + u, marks to keep)."""
        return scaled(-self.rate(c, k), leaf.d), leaf.marks

    def base_rate(self, k: Tick) -> Scalar:
        """The open-loop factor at this step."""
        del k
        return self.base  # the engine has put this step's number in place of a schedule

    def report(self, c: Record, k: Tick) -> dict[str, Array]:
        """The values of `reports`."""
        del k
        return {name: getattr(c, name) for name in self.reports}

    def __mul__(self, factor: object) -> "Controller":
        if isinstance(factor, Controller):
            raise TypeError(
                f"factor must be a number or a schedule, got the controller {type(factor).__name__}; a product has one "
                "controller."
            )
        return dataclasses.replace(self, base=Times(self.base, number("factor", factor, 0.0)))  # pyright: ignore

    __rmul__ = __mul__
