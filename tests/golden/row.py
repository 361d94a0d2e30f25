"""What a golden row is."""

from dataclasses import dataclass, field

EXACT = 1e-12  # float64 against float64: rounding alone, over 50 steps


@dataclass(frozen=True)
class Row:
    """`getattr(adaptx, constructor)(learning_rate, **rule, **engine)` against `peer`."""

    peer: str  # "torch", "optax", or the name of a table of authors' programs
    name: str
    constructor: str
    rule: dict = field(default_factory=dict)  # hyperparameters of the rule
    engine: dict = field(default_factory=dict)  # weight_decay, decay_mode, decay_mask, max_norm
    learning_rate: float = 0.01
    kinds: tuple[str, ...] = ("constant", "changing")  # see inputs.learning_rates
    leaves: tuple[str, ...] = ("w", "b", "s")  # see inputs.LEAVES
    rtol: float = EXACT  # of adaptx, relative to the displacement; looser only for a stated reason
    own_rtol: float = EXACT  # of the oracle; looser only where the peer itself rounds more than float64 does
    note: str = ""
