"""The nouns of adaptx: what a rule is, what it sees and declares, what a state is. No mathematics.

A rule is written on one array. It declares its slots as a NamedTuple whose annotations look like types and act as
storage declarations: `Signed` takes both signs, `Unsigned` is never negative, and from that alone the storage decides
how a slot lies in memory ("int8" appears in no rule). A rule never multiplies by the learning rate, never casts, never
sees a tree. Controllers are in `control.py`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any, ClassVar, NamedTuple, get_args

import numpy as np
from chex import ArrayTree
from jaxtyping import Array

from .fields import check
from .values import Decay, Scalar, is_scheduled, is_traced

Record = Any  # a NamedTuple that a rule or a controller declares: its slots, scalars, marks or sums


class Slot(NamedTuple):
    """What a rule declares of a slot."""

    signed: bool  # takes both signs
    weighed: bool = False  # linear in the gradients: where a controller weighs them, it carries the weight
    own: bool = False  # has a shape of its own, that of what `initial` gives, instead of the parameter's
    exact: bool = False  # never stored narrow: what is inverted or decomposed, or rotated by such, forgives no rounding


Signed = Annotated[Array, Slot(True)]
Unsigned = Annotated[Array, Slot(False)]
Weighed = Annotated[Array, Slot(True, weighed=True)]
ExactWeighed = Annotated[Array, Slot(True, weighed=True, exact=True)]
SignedOwn = Annotated[Array, Slot(True, own=True)]
WeighedOwn = Annotated[Array, Slot(True, weighed=True, own=True)]
UnsignedOwn = Annotated[Array, Slot(False, own=True)]
ExactOwn = Annotated[Array, Slot(True, own=True, exact=True)]


class Nothing(NamedTuple):
    """No slots, no scalars, no marks, no sums."""


class Clock(NamedTuple):
    """What a rule may know besides its array, as scalars of the arithmetic dtype."""

    t: Scalar  # 1-based number of this step since the slots were fresh
    debias: bool = True  # whether corrections of bias are the rule's: False where the controller's rate has them
    extra: Mapping[str, Array | None] = {}  # the arguments that the rule requires, this array's part
    rate: Scalar = 1.0  # the open-loop learning rate of this step, for a rule whose sums are weighed by it
    seed: Array | None = None  # uint32, another at every leaf and after every `holds` steps; None unless it `draws`


class Control(NamedTuple):
    """A controller's part of a state."""

    scalars: dict[str, Array]  # name -> f32 (f64 beside f64 parameters), a vector over the leaves with scope="leaf"
    marks: dict[str, ArrayTree]  # name -> tree like the parameters


class State(NamedTuple):
    """The state of an adaptx optimizer, every entry under a stable name."""

    step: Array  # int32, updates taken so far, saturating
    born: Array  # int32, the step at which the slots were fresh: 0, unless they were reset since
    slots: dict[str, ArrayTree]  # what is stored of the slots: name -> tree like the parameters
    kept: dict[str, ArrayTree]  # what rounding keeps of narrow parameters: name -> tree, None at wide ones
    control: Control
    metrics: dict[str, Array]  # name -> f32 scalar, as the last update left it; no part of what the state is
    made_by: dict[str, None]  # the rule and the controller it belongs to: keys, because no text may be a leaf under jit


class Rule(ABC):
    """Base of all rules: an adaptive step on one array.

    A subclass is a `value_class` that names its slots in `Slots`, its source in `reference`, and writes two functions:
    `advance(g, s, p, k)`, how the slots move, and `direction(g, s, old, p, k)`, the d of p ← p − lr·d read off the new
    slots s (and, for a few rules, the old ones). g, p and slots without a shape of their own are arrays of one shape in
    f32 or f64; k is the Clock.
    """

    Slots: ClassVar[type] = Nothing  # NamedTuple of Signed, Unsigned, Weighed, these with Own, ExactWeighed, ExactOwn
    pointwise: ClassVar[bool] = True  # commutes with concatenation: element i sees nothing but element i
    degree: ClassVar[int | Fraction] = 0  # scaling all gradients by c scales d by c**degree (ε aside): 1 SGD, 0 Adam
    reads_params: ClassVar[bool] = False  # whether advance or direction looks at p
    requires: ClassVar[frozenset[str]] = frozenset()  # arguments, trees like p, linear in the loss: Hessian diagonals
    batches: ClassVar[bool] = False  # leaves of one kind are stacked and see it in one call, by vmap: matrix products
    draws: ClassVar[bool] = False  # random numbers, from k.seed
    gathers: ClassVar[bool] = False  # sees whole matrices: arrays sharded explicitly are gathered for it
    momenta: ClassVar[tuple[str, ...] | None] = None  # no momentum where these are 0 or None; None: it always has it
    ranks: ClassVar[tuple[int, ...] | None] = None  # numbers of axes it accepts; None for any
    reference: ClassVar[str] = ""  # arXiv number or citation

    def __post_init__(self) -> None:
        check(self)

    @property
    def name(self) -> str:
        """What it is called in states and messages: PsgdKron is psgd_kron."""
        return re.sub("(?<=[a-z])(?=[A-Z])", "_", type(self).__name__).lower()

    @property
    def has_momentum(self) -> bool:
        """Whether its direction remembers gradients: is not 0 after one, at a gradient of 0.

        A number that is traced is taken to be 0, as nobody can look at it; a schedule is not.
        """
        return self.momenta is None or not all(_is_zero(getattr(self, name)) for name in self.momenta)

    def unused(self) -> tuple[str, ...]:
        """Slots that the present flags leave out; they are None in `s` and take no memory."""
        return ()

    def declared(self) -> dict[str, Slot]:
        """What is declared of every slot, in order."""
        return {name: _declared(self.Slots.__annotations__[name]) for name in fields_of(self.Slots)}

    def slots(self) -> dict[str, Slot]:
        """What is declared of the slots in use, in order."""
        unused = self.unused()
        return {name: slot for name, slot in self.declared().items() if name not in unused}

    def initial(self, name: str, p: Array) -> Scalar | Array | None:
        """The first value of a slot of parameter p: of every element, or an array where the slot has its own shape.

        A slot with its own shape may be None, which it then stays: this parameter has none.
        """
        del name, p
        return 0.0

    def expects(self, shape: tuple[int, ...]) -> str | None:
        """What it expects instead of an array of this shape, in words; None where it takes it."""
        if self.ranks is None or len(shape) in self.ranks:
            return None
        return f"arrays with {counts_in_words(self.ranks)} axes"

    def means(self) -> dict[str, str]:
        """What slots stand for where a setting decides it, by slot, in words: "a sum of squares".

        `convert` carries no slot over to settings under which it stands for something else.
        """
        return {}

    def aged(self) -> tuple[str, ...]:
        """Slots that other settings do without, and whose bias is corrected by the number of steps."""
        return ()

    def debiased(self) -> dict[str, int]:
        """The decays by whose 1 − bᵗ it divides, and up to how many steps ahead of t."""
        return {}

    def holds(self) -> int:
        """For how many steps k.seed stays the same, where the rule draws."""
        return 1

    def foreseeable(self, whole: bool) -> bool:
        """Whether `bound` holds; whole says that every slot in use has a bound to start from, not only some."""
        del whole
        return False

    def bound(self, g, s, k) -> Record:
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

    def surprise(self, g, s, k):
        """g over the size that the slots s let expect of it at time k: what `clip_update_rms` takes the RMS of."""
        del k
        return self.precondition(g, s)

    def correction(self, k: Clock) -> Scalar:
        """The factor by which bias correction lengthens the step at time k; 1 where the rule has none."""
        del k
        return 1.0

    @abstractmethod
    def advance(self, g, s, p, k) -> Record:
        """The slots after seeing gradient g."""

    @abstractmethod
    def direction(self, g, s, old, p, k) -> Array:
        """The direction d of p ← p − lr·d."""


def _is_zero(x: Scalar) -> bool:
    rate = x.complement if isinstance(x, Decay) else x
    zero = 1.0 if isinstance(x, Decay) else 0.0
    return x is None or is_traced(rate) or (not is_scheduled(rate) and bool(np.all(np.asarray(rate) == zero)))


@lru_cache
def _declared(hint: object) -> Slot:
    """The declaration in an annotation such as `Signed` or `Signed | None`."""
    for part in (hint, *(x for inner in get_args(hint) for x in (inner, *get_args(inner)))):
        if isinstance(part, Slot):
            return part
    kinds = "Signed, Unsigned, Weighed, one of these with Own, ExactWeighed or ExactOwn"
    raise TypeError(f"a slot must be annotated {kinds}, got {hint}.")


def fields_of(record: type) -> tuple[str, ...]:
    """The names of a NamedTuple's fields."""
    return record._fields  # pyright: ignore[reportAttributeAccessIssue]


def counts_in_words(counts: tuple[int, ...]) -> str:
    """Numbers that follow one another, as "2 or 3" or "2 to 5"."""
    return f"{counts[0]} to {counts[-1]}" if len(counts) > 2 else " or ".join(map(str, counts))
