"""The table of golden rows: one optimizer of the library with the flags that make a peer compute the same thing.

A row's trajectories are in <peer>.npz under its name, shape (kinds, scales, saved steps, entries), in the orders of
`Row.kinds`, `inputs.SCALES`, `inputs.SAVED_STEPS` and `inputs.flatten`. make_torch.py and make_optax.py hold the peer's
side of each row.

Not in the table, because no flags make the two agree (largest distance in a parameter on these inputs, scale 1):

- torch's momentum with dampening, unprimed: its first buffer is g (dampening 0.5: 0.014 after one step, 0.14 at most);
- optax's momentum RMSprop under a schedule: its learning rate is inside the buffer (0.45; equal while it is constant);
- optax's AMSGrad: maximum over the corrected second moment (0.071), or no correction at all;
- torch's Adafactor with its own eps (None): lower bounds of 2e-16 on sqrt(v_hat) and on mean(r), which is a mean of
  squares (2e-16 at scales 1 and 1e-4, 0.017 at 1e-8); with a rate above 1/sqrt(t), which it takes instead (4.8 at 0.3);
- optax.adafactor as it is: beta2 in float32 (1.7e-9), only axes of 128 and more factored by default (0.020); its
  momentum is behind the learning rate and the parameter's scale (1.5e-4 at a constant rate, 0.020 at a changing one,
  0.034 without the scale). It is made of parts here, and eps2 is a flag of one of them;
- optax.contrib.muon with nesterov: it corrects the bias of both terms, each by its own power of beta (0.0045, at 1e-8
  0.031). Without nesterov the correction is a factor, by which eps counts less, 1 - beta^t (5.2e-8, at 1e-8 0.040). Its
  scale is sqrt(max(1, columns/rows)) unless told that rows are the output (0.26). The rows avoid all three;
- torch.optim.Muon: the iteration always in bfloat16 (2.7e-4 after one step, 2.2e-3 at most, 9.8e-3 at scale 1e-8, where
  eps bounds the norm instead of adding to it). With that cast taken out of its code and eps at 1e-30 the distance is
  1.1e-15, for both scales, with and without nesterov and decay: the rest of it is the same rule;
- optax.adan: 1 - b2 in place of b2 in both sums (0.091); optax.rprop: the update of the step before (0.035);
- optax.yogi from any accumulator but 0: its first moment starts there too (1.6e-5 from its 1e-6);
- optax.adadelta without a learning rate: it goes up the gradient (0.060, twice the way down);
- optax.novograd with its own b2 of 0.25 (0.82); optax's scale_by_ademamix with its own alpha of 6 (4.8e-4);
- optax.contrib.acprop: the distance from the mean before the gradient, in place of that after (0.013);
- optax.contrib.madgrad: the square root of the step in float32 (1.0e-8), and eps added to a learning rate of 0 too;
- optax's centered RMSprop with bias correction: v - m^2 is 0 at step 1, so rounding is compared with eps (4e-5 with eps
  under the root at scale 1, where one step moves a parameter by 287; NaN with eps outside: optax has no clamp at 0).
"""

from .row import Row
from .rows_authors import AUTHORS
from .rows_engine import ENGINE
from .rows_low_memory import LOW_MEMORY
from .rows_matrices import AS_ROWS, MATRIX_ROWS
from .rows_preconditioned import ROWS as PRECONDITIONED

L2 = {"weight_decay": 0.1, "decay_mode": "l2"}
OUTSIDE = {"eps_in_sqrt": False}
PRIMED = "torch's first buffer is g, undampened: a step on a zero gradient at lr 0 beforehand starts it at 0, as ours"
RMS_TORCH = {"decay": 0.99, **OUTSIDE}

TORCH = (
    Row("torch", "sgd", "sgd", learning_rate=0.1),
    Row("torch", "sgd_l2", "sgd", engine=L2, learning_rate=0.1),
    Row("torch", "momentum", "momentum", {"decay": 0.9}),
    Row("torch", "momentum_l2", "momentum", {"decay": 0.9}, L2),
    Row("torch", "nesterov", "momentum", {"decay": 0.9, "nesterov": True}),
    Row("torch", "nesterov_l2", "momentum", {"decay": 0.8, "nesterov": True}, L2),
    Row("torch", "momentum_dampened", "momentum", {"decay": 0.9, "dampening": 0.5}, note=PRIMED),
    Row("torch", "momentum_averaged", "momentum", {"decay": 0.9, "dampening": 0.9}, note=PRIMED),
    Row("torch", "adagrad", "adagrad", {"eps": 1e-10, **OUTSIDE}),
    Row("torch", "adagrad_eps", "adagrad", {"eps": 1e-3, **OUTSIDE}),
    Row("torch", "adagrad_initial", "adagrad", {"eps": 1e-10, "initial_accumulator": 0.1, **OUTSIDE}),
    Row("torch", "adagrad_l2", "adagrad", {"eps": 1e-8, **OUTSIDE}, L2),
    Row("torch", "adagrad_lr_decay", "adagrad", {"eps": 1e-10, **OUTSIDE}, kinds=("reciprocal",), note="lr_decay=0.1"),
    Row("torch", "rmsprop", "rmsprop", {"eps": 1e-8, **RMS_TORCH}),
    Row("torch", "rmsprop_eps", "rmsprop", {"eps": 1e-3, **RMS_TORCH}),
    Row("torch", "rmsprop_centered", "rmsprop", {"centered": True, **RMS_TORCH}),
    Row("torch", "rmsprop_momentum", "rmsprop", {"momentum": 0.9, **RMS_TORCH}),
    Row("torch", "rmsprop_centered_momentum", "rmsprop", {"centered": True, "momentum": 0.9, "eps": 1e-6, **RMS_TORCH}),
    Row("torch", "rmsprop_l2", "rmsprop", RMS_TORCH, L2),
    Row("torch", "adam", "adam"),
    Row("torch", "adam_decays", "adam", {"b1": 0.8, "b2": 0.95}),
    Row("torch", "adam_eps", "adam", {"eps": 1e-2}),
    Row("torch", "adam_l2", "adam", {}, L2),
    Row("torch", "amsgrad", "adam", {"amsgrad": True}),
    Row("torch", "amsgrad_decays", "adam", {"amsgrad": True, "b2": 0.9}, note="b2 small: the maximum is held for long"),
    Row("torch", "adamw", "adamw", note="both default to a weight decay of 1e-2"),
    Row("torch", "adamw_decay", "adamw", {}, {"weight_decay": 0.1}),
    Row("torch", "adamw_amsgrad", "adamw", {"amsgrad": True, "b2": 0.9}, {"weight_decay": 0.1}),
)

OPTAX = (
    Row("optax", "sgd", "sgd", learning_rate=0.1),
    Row("optax", "sgd_decoupled", "sgd", {}, {"weight_decay": 0.1}, learning_rate=0.1),
    Row("optax", "momentum", "momentum", {"decay": 0.9}),
    Row("optax", "nesterov", "momentum", {"decay": 0.9, "nesterov": True}),
    Row("optax", "momentum_averaged", "momentum", {"decay": 0.9, "dampening": 0.9}, note="optax.ema without debias"),
    Row("optax", "momentum_dampened", "momentum", {"decay": 0.9, "dampening": 0.5}),
    Row("optax", "nesterov_dampened", "momentum", {"decay": 0.9, "dampening": 0.5, "nesterov": True}),
    Row("optax", "adagrad", "adagrad"),
    Row("optax", "adagrad_initial", "adagrad", {"eps": 1e-3, "initial_accumulator": 0.1}),
    Row("optax", "adagrad_zero_eps", "adagrad", {"eps": 0.0}, note="0/0 := 0 in both"),
    Row("optax", "rmsprop", "rmsprop"),
    Row("optax", "rmsprop_eps", "rmsprop", {"eps": 1e-3}),
    Row("optax", "rmsprop_outside", "rmsprop", {"eps": 1e-6, **OUTSIDE}),
    Row("optax", "rmsprop_centered", "rmsprop", {"centered": True}),
    Row("optax", "rmsprop_centered_outside", "rmsprop", {"centered": True, **OUTSIDE}),
    Row("optax", "rmsprop_debias", "rmsprop", {"debias": True}),
    Row("optax", "rmsprop_debias_outside", "rmsprop", {"debias": True, **OUTSIDE}),
    Row(
        "optax",
        "rmsprop_momentum",
        "rmsprop",
        {"momentum": 0.9},
        kinds=("constant",),
        note="optax has the learning rate inside the buffer: equal only while it is constant (1.27 apart otherwise)",
    ),
    Row("optax", "rmsprop_decoupled", "rmsprop", {}, {"weight_decay": 0.1}),
    Row("optax", "adam", "adam"),
    Row("optax", "adam_nesterov", "adam", {"nesterov": True}),
    Row("optax", "adam_eps", "adam", {"eps": 1e-2}),
    Row(
        "optax", "adam_uncorrected", "adam", {"debias": False, "eps": 1e-30}, note="the corrections moved into the rate"
    ),
    Row("optax", "adam_independent", "adam", {}, {"weight_decay": 2e-3, "decay_mode": "independent"}),
    Row("optax", "adamw", "adamw", {}, {"weight_decay": 1e-4}),
    Row("optax", "adamw_decay", "adamw", {}, {"weight_decay": 0.1}),
    Row("optax", "adamw_matrices", "adamw", {}, {"weight_decay": 0.1, "decay_mask": "matrices"}),
    Row("optax", "sgd_clipped", "sgd", {}, {"max_norm": 2.0}, learning_rate=0.1),
    Row("optax", "adam_clipped", "adam", {}, {"max_norm": 2.0}),
)

MATRICES = ("w", "tall", "wide", "square")
SHAPED = ("w", "b", "s", "tall", "wide", "square", "stack")
UNSEEN = 1e-37  # an eps that changes no bit here in float64, and is a normal number in float32 too
UNADDED = {"eps1": UNSEEN}  # torch adds nothing to the square of a gradient: its eps is a bound below sqrt(v_hat)
FLAGS = {"decay_rate": 0.5, "eps2": 0.4, "clip_threshold": 1.5}
CONSTANT = ("constant",)

TORCH_MORE = (
    Row("torch", "adafactor", "adafactor", UNADDED),
    Row("torch", "adafactor_shapes", "adafactor", UNADDED, leaves=SHAPED),
    Row("torch", "adafactor_flags", "adafactor", {**FLAGS, **UNADDED}),
    Row("torch", "adafactor_decay", "adafactor", UNADDED, {"weight_decay": 0.1}, leaves=SHAPED),
)

OPTAX_MORE = (
    Row("optax", "lion", "lion", learning_rate=1e-3),
    Row("optax", "lion_decays", "lion", {"b1": 0.8, "b2": 0.95}, learning_rate=1e-3),
    Row("optax", "lion_decay", "lion", {}, {"weight_decay": 0.1}, learning_rate=1e-3),
    Row("optax", "lion_matrices", "lion", {}, {"weight_decay": 0.1, "decay_mask": "matrices"}, learning_rate=1e-3),
    Row("optax", "adafactor", "adafactor"),
    Row("optax", "adafactor_shapes", "adafactor", leaves=SHAPED),
    Row("optax", "adafactor_flags", "adafactor", FLAGS),
    Row("optax", "adafactor_eps", "adafactor", {"eps1": 1e-4}, leaves=SHAPED, note="a zero row then shows in mean(r)"),
    Row("optax", "adafactor_least", "adafactor", {"min_dim_size_to_factor": 3}, leaves=SHAPED, note="wide keeps v"),
    Row("optax", "adafactor_unscaled", "adafactor", {"scale_parameter": False}),
    Row("optax", "adafactor_momentum", "adafactor", {"b1": 0.9}, leaves=SHAPED, note="the moment before the scale"),
    Row(
        "optax",
        "adafactor_momentum_last",
        "adafactor",
        {"b1": 0.9, "scale_parameter": False},
        kinds=CONSTANT,
        note="optax has the learning rate inside the moment",
    ),
    Row("optax", "adafactor_independent", "adafactor", {}, {"weight_decay": 2e-3, "decay_mode": "independent"}),
    Row("optax", "muon", "muon", AS_ROWS, leaves=MATRICES),
    Row("optax", "muon_plain", "muon", {**AS_ROWS, "nesterov": False, "eps": UNSEEN}, leaves=MATRICES),
    Row("optax", "muon_eps", "muon", {**AS_ROWS, "nesterov": False, "eps": 1e-2}, leaves=MATRICES),
    Row("optax", "muon_rms", "muon", {**AS_ROWS, "scale": "rms"}, leaves=MATRICES),
    Row(
        "optax",
        "muon_flags",
        "muon",
        {**AS_ROWS, "decay": 0.8, "steps": 3, "coefficients": (2.0, -1.5, 0.5)},
        leaves=MATRICES,
    ),
    Row("optax", "muon_decay", "muon", AS_ROWS, {"weight_decay": 0.1}, leaves=MATRICES),
)

# rho is the difference of two numbers near 2 / (1 - b2) = 2000, and then of that and 4; l2 decay feeds errors back
CANCELS = {"rtol": 1e-10, "own_rtol": 1e-10}
SHORT = {"b2": 0.9}  # rho passes the threshold early and stays small

TORCH_FAMILY = (
    Row("torch", "nadam", "nadam"),
    Row("torch", "nadam_decays", "nadam", {"b1": 0.8, "b2": 0.95, "momentum_decay": 0.5, "eps": 1e-3}),
    Row("torch", "nadam_l2", "nadam", {}, L2),
    Row("torch", "nadamw", "nadamw", {}, {"weight_decay": 0.1}),
    Row("torch", "radam", "radam", {"eps": UNSEEN}, note="torch adds eps before the correction of bias", **CANCELS),
    Row("torch", "radam_short", "radam", {"eps": UNSEEN, **SHORT}, **CANCELS),
    Row("torch", "radam_l2", "radam", {"eps": UNSEEN}, L2, **CANCELS),
    Row("torch", "radam_decay", "radam", {"eps": UNSEEN}, {"weight_decay": 0.1}, **CANCELS),
    Row("torch", "adamax", "adamax"),
    Row("torch", "adamax_decays", "adamax", {"b1": 0.8, "b2": 0.9, "eps": 1e-3}),
    Row("torch", "adamax_l2", "adamax", {}, L2),
    Row("torch", "adadelta", "adadelta", learning_rate=1.0),
    Row("torch", "adadelta_eps", "adadelta", {"decay": 0.8, "eps": 1e-2}, learning_rate=0.5),
    Row("torch", "adadelta_l2", "adadelta", {}, L2, learning_rate=1.0),
    Row("torch", "rprop", "rprop", kinds=CONSTANT, note="torch's rate is that of the first step alone"),
    Row(
        "torch",
        "rprop_bounded",
        "rprop",
        {"eta_minus": 0.3, "eta_plus": 1.5, "step_sizes": (0.2, 3.0)},
        kinds=CONSTANT,
        note="torch's step sizes are lengths, ours are in learning rates: 2e-3 and 3e-2 there",
    ),
)

OPTAX_FAMILY = (
    Row(
        "optax",
        "nadamw",
        "nadamw",
        {"momentum_decay": None, "b1": 0.8},
        {"weight_decay": 0.1},
        note="constant momentum",
    ),
    Row("optax", "radam", "radam", note="no rho here is 5 exactly, where optax already rectifies", **CANCELS),
    Row("optax", "radam_short", "radam", {"eps": 1e-3, **SHORT}, **CANCELS),
    Row("optax", "adamax", "adamax"),
    Row("optax", "adamax_decay", "adamax", {"b2": 0.9}, {"weight_decay": 0.1}),
    Row("optax", "adadelta", "adadelta", learning_rate=1.0),
    Row("optax", "adabelief", "adabelief"),
    Row("optax", "adabelief_eps", "adabelief", {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "eps_root": 1e-6}),
    Row("optax", "yogi", "yogi", {"initial_accumulator": 0.0}, note="optax starts both moments at that value"),
    Row("optax", "yogi_eps", "yogi", {"initial_accumulator": 0.0, "b2": 0.9, "eps": 1e-8}),
    Row("optax", "ademamix", "ademamix", {"alpha": 6.0}),
    Row("optax", "ademamix_decays", "ademamix", {"b1": 0.8, "b2": 0.95, "b3": 0.99, "alpha": 2.0, "eps": 1e-3}),
    Row("optax", "simplified_ademamix", "simplified_ademamix"),
    Row("optax", "simplified_ademamix_mixed", "simplified_ademamix", {"b1": 0.9, "alpha": 3.0, "eps": 1e-3}),
    Row("optax", "adopt", "adopt"),
    Row("optax", "adopt_plain", "adopt", {"clip": False, "b2": 0.95}),
    Row("optax", "novograd", "novograd", {"eps": 1e-6}),
    Row("optax", "novograd_decays", "novograd", {"b1": 0.8, "b2": 0.25}),
    Row("optax", "signum", "signum", learning_rate=1e-3, note="the sign of optax.ema"),
    Row("optax", "sign_sgd", "signum", {"decay": 0.0}, learning_rate=1e-3),
    Row("optax", "signum_decay", "signum", {"decay": 0.965}, {"weight_decay": 0.1}, learning_rate=1e-3),
)

# the tables of rows_<peer>.py: authors' programs, a file a family
PEERS: tuple[tuple[Row, ...], ...] = (ENGINE, LOW_MEMORY, AUTHORS, PRECONDITIONED, MATRIX_ROWS)
RECORDED = sum(PEERS, TORCH + TORCH_MORE + TORCH_FAMILY + OPTAX + OPTAX_MORE + OPTAX_FAMILY)  # what the files hold
ROWS = RECORDED  # what the library is held to
