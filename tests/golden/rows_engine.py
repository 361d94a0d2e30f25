"""Golden rows of the engine's options around a rule, against their authors' programs where these can be run.

    stableadamw           optimi 0.3.3 (commit 17a3d54): the paper has no program of its own
    cautious              C-Optim (2c0517c), the authors': c_muon.py's Adam and c_lion.py, not c_adamw.py, whose form
                          for the CPU masks with the mean times itself in place of the gradient, and so not at all
    centralize            Gradient-Centralization (ed2a608), the authors', in torch's layout (units on the first axis),
                          with gc_loc=True: their Adam can also centre the direction
    agc, max_leaf_norm    optax 0.2.8, whose agc is its authors' file from NFNets with more shapes
    centralize_optax      optax 0.2.8, which has torch's layout too, for which flax's kernels are not made

No program of the authors is known for cautious decay and for AdamC's decay; the noise is compared as numbers, in
tests/test_extras.py.
"""

from .row import Row

SHAPED = ("w", "b", "s", "tall", "wide", "square", "stack")
PEER = "engine"

ENGINE = (
    Row(PEER, "stableadamw", "stableadamw"),
    Row(PEER, "stableadamw_decay", "stableadamw", {"b1": 0.8, "b2": 0.9}, {"weight_decay": 0.3}),
    Row(PEER, "stableadamw_eps", "stableadamw", {"b2": 0.8, "eps": 0.1}),
    Row(PEER, "cautious_adam", "adam", {"b2": 0.95}, {"cautious": "mean"}),
    Row(PEER, "cautious_adam_decay", "adam", {"b1": 0.95}, {"cautious": "mean", "weight_decay": 0.1}),
    Row(PEER, "cautious_lion", "lion", {}, {"cautious": "count"}, learning_rate=1e-3, leaves=SHAPED),
    Row(PEER, "cautious_lion_decay", "lion", {"b1": 0.8}, {"cautious": "count", "weight_decay": 0.1}),
    Row(PEER, "centralize", "adam", {}, {"centralize": "first"}, leaves=SHAPED),
    Row(PEER, "centralize_l2", "adam", {}, {"centralize": "first", "weight_decay": 0.1, "decay_mode": "l2"}),
    Row(PEER, "agc", "sgd", {}, {"agc": 0.5}, learning_rate=0.1, leaves=SHAPED),
    Row(PEER, "agc_adam", "adam", {}, {"agc": 0.01}, leaves=SHAPED),
    Row(PEER, "max_leaf_norm", "sgd", {}, {"max_leaf_norm": 0.5}, learning_rate=0.1),
    Row(PEER, "max_leaf_norm_adam", "adam", {}, {"max_leaf_norm": 0.5}),
    Row(PEER, "centralize_optax", "momentum", {}, {"centralize": "first"}),
)
