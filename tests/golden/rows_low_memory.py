"""Rows of optimizers with small states, by their authors' programs, sm3 by optax; make_low_memory.py has their side.

Not in the table, because no flags make the two agree (largest distance in a parameter on these inputs, scale 1):

- GaLore and APOLLO decay the parameters after the step, p <- (p - lr d)(1 - lr wd): 1.3e-4 and 1.5e-4 at 0.1;
- GaLore adds eps to the root of the uncorrected second moment, the paper to that of the corrected one (1.4e-5 for 1e-6,
  0.012 at scale 1e-4): the rows have none. Its decompositions are in float32, and singular vectors have the signs they
  happen to come with (0.017): in float64 here, with the largest entry positive;
- APOLLO's 1e-8 beside the norms of projected gradients and of the step before, whatever their unit (2.7e-8; 2.5e-4 at
  scale 1e-4): taken out. alpha before the limiter (scale_front) or after it makes no difference;
- SGD-SaI of an array of one element, whose deviation is 0: a step of g^2 / eps (1.8e7);
- google's SM3 has 1e-30 under the root; optax.sm3 fails on scalars (an index out of range).
"""

from .row import Row

MATRICES = ("w", "tall", "square")
ALL = ("w", "b", "s", "tall", "wide", "square")
CHANGING = ("changing",)
MOST = ("w", "b", "tall", "wide")
SHAPED = ("w", "b", "s", "tall", "wide", "stack")
UNSEEN = 1e-37  # an eps that changes no bit here in float64
VECTORS = {"weight_decay": 0.1, "decay_mask": "matrices"}

LOW_MEMORY = (
    Row("low_memory", "came", "came"),
    Row("low_memory", "came_shapes", "came", {}, {"weight_decay": 0.1}, kinds=CHANGING, leaves=SHAPED),
    Row(
        "low_memory",
        "came_flags",
        "came",
        {"b1": 0.8, "b2": 0.9, "b3": 0.95, "clip_threshold": 0.5},
        leaves=("b", "tall", "stack"),
    ),
    Row("low_memory", "came_eps", "came", {"eps1": 1e-6, "eps2": 1e-3}, leaves=SHAPED),
    Row("low_memory", "adam_mini", "adam_mini", leaves=("w", "b", "s", "tall", "wide")),
    Row("low_memory", "adam_mini_decay", "adam_mini", {"b2": 0.9, "eps": 1e-3}, VECTORS, leaves=MOST),
    Row("low_memory", "adam_mini_whole", "adam_mini", {"axis": None}, leaves=SHAPED, note="as the authors' norms"),
    Row("low_memory", "adam_mini_heads", "adam_mini", {"size": 4}, leaves=("w", "tall"), note="two heads of four rows"),
    Row("low_memory", "galore", "galore", {"rank": 2, "gap": 7, "eps": UNSEEN}, leaves=ALL),
    Row(
        "low_memory",
        "galore_flags",
        "galore",
        {"b1": 0.8, "b2": 0.9, "rank": 1, "gap": 5, "scale": 1.0, "eps": UNSEEN},
        leaves=MATRICES,
    ),
    Row("low_memory", "apollo", "apollo", {"rank": 2, "gap": 7, "scale": 2.0}, leaves=ALL),
    Row(
        "low_memory", "apollo_tensor", "apollo", {"rank": 2, "gap": 7, "scaling": "tensor", "scale": None}, leaves=MOST
    ),
    Row("low_memory", "apollo_free", "apollo", {"b1": 0.8, "b2": 0.9, "rank": 1, "limit": None}, leaves=MATRICES),
    Row("low_memory", "apollo_mini", "apollo_mini", {"gap": 20}, leaves=MATRICES),
    Row("low_memory", "sgd_sai", "sgd_sai", leaves=MOST),
    Row("low_memory", "sgd_sai_flags", "sgd_sai", {"decay": 0.5, "eps": 1e-2}, {"weight_decay": 0.1}, leaves=MOST),
    Row("low_memory", "sm3", "sm3", {"eps": 1e-8}, leaves=(*MOST, "stack")),
    Row("low_memory", "sm3_plain", "sm3", {"b1": None, "eps": 1e-3}, {"weight_decay": 0.1}, leaves=MOST),
)
