"""Golden rows of the authors' own programs, with the flags that make both compute the same.

make_authors.py says which program of which commit a row is of. Rules that require the Hessian's diagonal are given
`oracles.hessian_of` the gradients on both sides.

Where a program departs from the paper, or has a default of its own, the rows avoid it (largest distance in a parameter
on these inputs, scale 1, learning rate 0.01 and weight decay 0.1 unless said otherwise):

- MADGRAD decays into the gradient, as its rows do; its decouple_decay=True draws p back to where it would be without
  decay (0.034, ours decays as AdamW does). At a learning rate of 0 its p still goes on towards z, ours stands still;
- ACProp and AdaBelief rectify by default, as RAdam does (0.11 and 0.12); the papers do not;
- Sophia-G adds 1e-15 to gamma h in place of the paper's maximum with eps (1.8e-15, at scale 1e-8 1.8e-7);
- AdaHessian for images leaves matrices as they are, its other program averages their rows: `average` has both;
- MARS trains arrays with one axis or none by AdamW with (0.9, 0.95) unless told optimize_1d (0.013 at 3e-3);
- ADOPT does not decay at its first step (9.3e-4); its l2 decay is as ours;
- Adan divides by 1 + lr wd after the step unless told no_prox (1.0e-4);
- AdaBoundW and LaProp decay independently of the learning rate: AdaBoundW by what p was before the step, which is
  decay_mode="independent" (2.2e-16 at 1e-3), LaProp by what it is after (1.5e-4 at 1e-3);
- LaProp has the learning rate in its mean (8.7e-3 at a changing one); its rows are at a constant one;
- NovoGrad has the weight decay in its moment (0.44); its default b2 is 0, the paper's 0.98;
- Tiger multiplies the rate by RMS(p), of embeddings row by row, so that what starts at 0 stays there (0.05 at 1e-3),
  and halves it, without decay, for leaves named like a bias: that is its row.

There is no program of the authors of Yogi.
"""

from .row import Row

L2 = {"weight_decay": 0.1, "decay_mode": "l2"}
DECAY = {"weight_decay": 0.1}
UNSEEN = 1e-30  # an eps that changes no bit here
CONSTANT = ("constant",)
KERNELS = ("w", "b", "s", "kernel")
PARTS = ("w", "b", "s", "stack", "kernel")
HALVED = "of leaves named like a bias the program takes half the rate and no decay; of others, RMS(p) times the rate"

AUTHORS = (
    Row("authors", "madgrad", "madgrad"),
    Row("authors", "madgrad_plain", "madgrad", {"momentum": 0.0, "eps": 1e-3}),
    Row("authors", "madgrad_l2", "madgrad", {"momentum": 0.5, "eps": 0.0}, L2),
    Row("authors", "acprop", "acprop"),
    Row("authors", "acprop_short", "acprop", {"b1": 0.8, "b2": 0.9, "eps": 1e-6, "eps_root": 1e-6}),
    Row("authors", "acprop_decay", "acprop", {}, DECAY),
    Row("authors", "sophia", "sophia", {"gamma": 2.0, "b2": 0.9, "eps": UNSEEN}, note="1e-15 of the program left out"),
    Row("authors", "sophia_decay", "sophia", {"b1": 0.965, "gamma": 0.04, "eps": UNSEEN}, DECAY),
    Row("authors", "adahessian", "adahessian", {"window": "last"}, leaves=KERNELS),
    Row(
        "authors",
        "adahessian_power",
        "adahessian",
        {"b1": 0.8, "b2": 0.9, "eps": 1e-6, "hessian_power": 0.5, "window": "last"},
        DECAY,
        leaves=KERNELS,
    ),
    Row("authors", "adahessian_parts", "adahessian", {"average": "matrices", "window": "last"}, leaves=PARTS),
    Row("authors", "mars", "mars"),
    Row("authors", "mars_much", "mars", {"b1": 0.8, "b2": 0.9, "gamma": 0.5, "eps": 1e-4}, DECAY),
    Row("authors", "adopt", "adopt"),
    Row("authors", "adopt_plain", "adopt", {"clip": False, "b1": 0.8, "b2": 0.95}),
    Row("authors", "adopt_l2", "adopt", {"eps": 1e-3}, L2),
    Row("authors", "adan", "adan"),
    Row("authors", "adan_decay", "adan", {"b1": 0.9, "b2": 0.7, "b3": 0.95, "eps": 1e-4}, DECAY, note="no_prox"),
    Row("authors", "adabound", "adabound", {"base_lr": 0.01}),
    Row("authors", "adabound_bounded", "adabound", {"base_lr": 0.01, "final_lr": 0.02, "gamma": 0.3}),
    Row("authors", "amsbound_l2", "adabound", {"base_lr": 0.01, "amsbound": True, "b2": 0.9, "gamma": 0.1}, L2),
    Row("authors", "qhadam", "qhadam"),
    Row("authors", "qhadam_mixed", "qhadam", {"b1": 0.9, "b2": 0.95, "nu1": 0.4, "nu2": 0.6, "eps": 1e-4}, L2),
    Row("authors", "qhadam_decay", "qhadam", {"nu1": 0.8}, DECAY),
    Row("authors", "tiger", "tiger", {}, {"weight_decay": 0.0}, learning_rate=1e-3, note=HALVED),
    Row("authors", "laprop", "laprop", kinds=CONSTANT, note="the program has the learning rate in its mean"),
    Row("authors", "laprop_eps", "laprop", {"b1": 0.8, "b2": 0.9, "eps": 1e-4}, kinds=CONSTANT),
    Row("authors", "kate", "kate", learning_rate=1e-3),
    Row("authors", "kate_eta", "kate", {"eta": 0.9, "eps": 1e-3}, L2, learning_rate=1e-3),
    Row("authors", "adabelief", "adabelief"),
    Row("authors", "adabelief_decay", "adabelief", {"b1": 0.8, "eps": 1e-6, "eps_root": 1e-6}, DECAY),
    Row("authors", "novograd", "novograd", {"b2": 0.0}, note="the program's default"),
    Row("authors", "novograd_decays", "novograd", {"b1": 0.8, "b2": 0.25, "eps": 1e-4}),
    Row("authors", "ademamix", "ademamix", {"alpha": 2.0}),
    Row("authors", "ademamix_decay", "ademamix", {"b1": 0.8, "b2": 0.95, "b3": 0.99, "eps": 1e-4}, DECAY),
)
