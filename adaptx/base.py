"""The nouns of adaptx: what a rule is, what it sees, what it declares. No mathematics.

A rule is written on one array. It declares its slots as a NamedTuple whose annotations look like types and act as
storage declarations: `Signed` takes both signs, `Unsigned` is never negative, and from that alone the storage decides
how a slot lies in memory. A rule never multiplies by the learning rate, never casts, never sees a tree.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, get_args

from jaxtyping import Array, PyTree

from .values import Scalar, Times, open_loop, rate_at, static, value_class

Signed = Annotated[Array, "takes both signs"]
Unsigned = Annotated[Array, "never negative"]


class Clock(NamedTuple):
    """What a rule may know of time and rate, as scalars of the arithmetic dtype."""

    t: Scalar  # 1-based number of this step
    lr: Scalar  # the learning rate this step uses; 1 where only a direction is asked for


class State(NamedTuple):
    """The state of an adaptx optimizer, every entry under a stable name."""

    step: Array  # int32, updates taken so far, saturating
    slots: dict[str, PyTree]  # name -> tree like the parameters, None at leaves that are not trained
    control: PyTree  # the controller's state, () for open-loop rates
    metrics: dict[str, Array]  # name -> f32 scalar, as the last update left it


class Rule(ABC):
    """Base of all rules: an adaptive step on one array.

    A subclass is a `value_class` that names its slots in `Slots`, its source in `reference`, and writes two functions:
    `advance(g, s, p, k)`, how the slots move, and `direction(g, s, old, p, k)`, the d of p ← p − lr·d read off the new
    slots s (and, for a few rules, the old ones). g, s, p are arrays of one shape in f32 or f64; k is the Clock.
    """

    Slots: ClassVar[type]  # NamedTuple of Signed and Unsigned
    pointwise: ClassVar[bool] = True  # commutes with concatenation: element i sees nothing but element i
    degree: ClassVar[int] = 0  # scaling every gradient by c scales d by c**degree (ε aside): 1 SGD, 0 the Adam family
    reads_params: ClassVar[bool] = False  # whether advance or direction looks at p
    reference: ClassVar[str] = ""  # arXiv number or citation

    def unused(self) -> tuple[str, ...]:
        """Slots that the present flags leave out; they are None in `s` and take no memory."""
        return ()

    def slot_kinds(self) -> Mapping[str, bool]:
        """Name -> whether the slot takes both signs, in order, of the slots in use."""
        hints = self.Slots.__annotations__
        used = [name for name in self.Slots._fields if name not in self.unused()]
        return {name: Signed in (hints[name], *get_args(hints[name])) for name in used}

    def initial(self, name: str) -> Scalar:
        """The value every element of a fresh slot has."""
        del name
        return 0.0

    def foreseeable(self, whole: bool) -> bool:
        """Whether `bound` holds; whole says that every slot in use has a bound to start from, not only some."""
        del whole
        return False

    def bound(self, g, s, k) -> Any:
        """Bounds of |slots| after gradients of magnitude at most g, from bounds s before.

        advance itself where larger |g| and |slots| never give smaller |slots|; it then must not look at p.
        """
        return self.advance(g, s, None, k)

    def rescaled(self, unit: Scalar) -> "Rule":
        """The rule for gradients given in another unit: constants that carry the unit of g (ε) are scaled along."""
        del unit
        return self

    def precondition(self, x, s):
        """x in the metric the slots s stand for: x/(√v + ε) in the Adam family, x itself where there is none."""
        del s
        return x

    def correction(self, k: Clock) -> Scalar:
        """The factor by which bias correction lengthens the step at time k; 1 where the rule has none."""
        del k
        return 1.0

    @abstractmethod
    def advance(self, g, s, p, k) -> Any:
        """The slots after seeing gradient g."""

    @abstractmethod
    def direction(self, g, s, old, p, k) -> Any:
        """The direction d of p ← p − lr·d."""


@value_class
class Tick:
    """What a controller may know besides its measurements."""

    step: Array  # int32, 0-based number of this step
    t: Scalar  # the same, 1-based and floating
    value: Any  # the loss where the controller requires it, else None
    correction: Scalar  # the rule's bias-correction factor
    finite: Any = None  # whether this step's sums and loss are finite; None while measuring
    degree: int = static(default=0)  # the rule's degree


class Controller(ABC):
    """Base of all controllers: a learning rate computed from what training shows.

    A subclass is a `value_class` with the fields `base` and `scope` and hyperparameters of its own. A controller looks
    at one array at a time, at sums over all arrays (which the engine forms, so that it never sees a mesh), and at the
    loss. Its state is scalars (f32, or f64 beside f64 parameters; with scope="leaf" vectors with one entry per trained
    leaf) and marks, arrays like the parameters. One step runs

        feed       what the rule sees instead of g: signed and unsigned slots may be fed differently
        measure    one array -> new marks, sums
        update     sums -> new scalars
        move       one array -> the displacement u of p ← p + u, and the marks to keep

    Arrays handed over are in the arithmetic dtype; d includes decoupled weight decay and lr_scale. c holds the scalars
    (one leaf's entries with scope="leaf"), k the Tick; `base_rate(k)` is the open-loop factor at this step.
    A step whose sums or loss are not finite leaves scalars and marks as they were.
    """

    base: Any  # every controller's rate is multiplied by this open-loop rate
    scope: str  # "global": one rate, "leaf": one per leaf
    requires: ClassVar[frozenset[str]] = frozenset()  # extra arguments of update that must be given
    reports: ClassVar[tuple[str, ...]] = ()  # names in metrics besides learning_rate
    exact: ClassVar[bool] = False  # needs parameters finer than bf16: the engine keeps an f32 master of narrow ones
    sees_direction: ClassVar[bool] = True  # whether measure reads d; False lets d wait for the updated scalars
    guards: ClassVar[bool] = False  # whether it handles non-finite measurements itself
    corrects: ClassVar[bool] = False  # whether its rate has k.correction, in place of a degree-0 rule's own correction
    reference: ClassVar[str] = ""

    @abstractmethod
    def start(self) -> dict[str, Scalar]:
        """Fresh scalars by name."""

    def marks(self, p: Array) -> dict[str, Array]:
        """Fresh marks of one array, by name; must not be p itself."""
        del p
        return {}

    def begin(self, sums: dict[str, Array], c: dict[str, Array]) -> dict[str, Array]:
        """The scalars after `inspect`'s sums over the initial parameters."""
        del sums
        return c

    def inspect(self, p: Array) -> dict[str, Array]:
        """Sums over one array of initial parameters, for `begin`."""
        del p
        return {}

    def unit(self, c: dict[str, Array], k: Tick) -> Scalar | None:
        """The unit the rule's gradients are fed in, where not 1; its ε is scaled along."""
        del c, k
        return None

    def feed(self, g: Array, x: Array, c: dict[str, Array], k: Tick) -> tuple[Array, Array]:
        """(what signed slots and the direction see, what unsigned slots see) instead of g."""
        del x, c, k
        return g, g

    def measure(self, g: Array, d: Any, x: Array, metric: Callable[[Array], Array], marks: dict, c: dict, k: Tick):
        """(new marks, sums) of one array; metric(y) is the rule's precondition with the slots before this step."""
        del g, d, x, metric, c, k
        return marks, {}

    @abstractmethod
    def update(self, sums: dict[str, Array], c: dict[str, Array], k: Tick) -> dict[str, Array]:
        """The scalars after this step's sums."""

    @abstractmethod
    def rate(self, c: dict[str, Array], k: Tick) -> Array:
        """The learning rate this step uses, after update."""

    def move(self, g: Array, d: Array, x: Array, marks: dict, c: dict, k: Tick):
        """(displacement u of p ← p + u, marks to keep)."""
        del g, x
        return -self.rate(c, k) * d, marks

    def origin(self, x: Array, marks: dict, c: dict) -> Array:
        """The point that move's displacement starts from: x, or where to go back to."""
        del marks, c
        return x

    def decay_weight(self, c: dict[str, Array], k: Tick) -> Scalar:
        """The factor of decoupled decay inside d: d ← d + weight·λp; the rate where feed has put it into d already."""
        del c, k
        return 1.0

    def base_rate(self, k: Tick) -> Scalar:
        """The open-loop factor at this step."""
        return rate_at(self.base, k.step)

    def reset(self, c: dict[str, Array]) -> Array | None:
        """A scalar bool: whether the slots are to start afresh after this step; None for never."""
        del c

    def age(self, c: dict[str, Array], k: Tick) -> Array:
        """The number of this step counted from the last reset, 1-based: the rule's t."""
        del c
        return k.t

    def report(self, c: dict[str, Array], k: Tick) -> dict[str, Array]:
        """The values of `reports`."""
        del k
        return {name: c[name] for name in self.reports}

    def __mul__(self, factor: Any) -> "Controller":
        if isinstance(factor, Controller):
            raise TypeError(
                f"factor must be a number or a schedule, got the controller {type(factor).__name__}; a product has one "
                "controller."
            )
        return dataclasses.replace(self, base=Times(self.base, open_loop("factor", factor)))  # pyright: ignore

    __rmul__ = __mul__
