"""Golden rows of SOAP, Shampoo, PSGD Kron and SPlus, written by make_preconditioned.py with their authors' programs.

The programs, with their casts to float32 taken out: nikhilvyas/SOAP, facebookresearch/optimizers,
evanatyourservice/kron_torch, kvfrans/splus (torch). Every leaf but the vectors is a matrix of full rank, or short of it
by one: what an eigenbasis is in a null space of two dimensions and more is up to the library that computes it, so that
`tall` and `wide` can be in no row of SOAP and SPlus.

What no flags make agree (largest distance in a parameter on these inputs, scale 1):

- the casts: SOAP computes its bases in float32 whatever its parameters are (3.9e-7);
- the weight decay of SOAP: none at the first step, and of the parameter after the step (1.1e-3 with 0.1);
- the weight decay of SPlus, which the shape scales as it does the step (0.40 with 0.1);
- matrices of one row or column in Shampoo: vectors there, whose root is the second; here as any matrix;
- PSGD Kron as it is: its fit adds V's noise to the mean gradient in place, so that the step has it too (4.8e-5); and
  its draws, which are replaced by those of the oracle (other ones: 0.068).
"""

from .row import Row

LEAVES = ("w", "b", "s", "square")
DRAWS = "the program's draws are the oracle's"
# the program adds 1e-16 to the length of x, which is as small as 2e-7 where gradients of 1e-8 are far below √ε
ADDED = {"rtol": 1e-9, "own_rtol": 1e-9}

ROWS = (
    Row("preconditioned", "soap", "soap", leaves=LEAVES),
    Row(
        "preconditioned",
        "soap_often",
        "soap",
        {"every": 2, "b1": 0.8, "b2": 0.9, "shampoo_beta": 0.7, "eps": 1e-3},
        leaves=LEAVES,
    ),
    Row("preconditioned", "soap_short", "soap", {"max_dim": 3, "every": 4}, leaves=LEAVES),
    Row("preconditioned", "shampoo", "shampoo", {"eps": 1e-8}, leaves=LEAVES, **ADDED),
    Row(
        "preconditioned",
        "shampoo_sums",
        "shampoo",
        {"b1": None, "b2": None, "graft": "none", "start": 3, "every": 3, "eps": 0.3},
        leaves=LEAVES,
    ),
    Row(
        "preconditioned",
        "shampoo_sgd",
        "shampoo",
        {"graft": "sgd", "b2": 0.9, "start": 4, "every": 2, "eps": 1e-4},
        leaves=LEAVES,
        **ADDED,
    ),
    Row(
        "preconditioned",
        "shampoo_blocks",
        "shampoo",
        {"graft": "adagrad", "block_size": 2, "start": 4, "every": 4, "eps": 1e-6, "graft_eps": 1e-10},
        leaves=LEAVES,
        note="no block here is a vector but those of b and s",
        **ADDED,
    ),
    Row(
        "preconditioned",
        "shampoo_rmsprop",
        "shampoo",
        {"graft": "rmsprop", "start": 5, "every": 5, "graft_b2": 0.9, "graft_eps": 1e-3, "eps": 1e-6},
        {"weight_decay": 0.1},
        leaves=LEAVES,
        **ADDED,
    ),
    Row("preconditioned", "psgd_kron", "psgd_kron", {"balance_prob": 0.0}, leaves=LEAVES, note=DRAWS),
    Row(
        "preconditioned",
        "psgd_kron_gradient",
        "psgd_kron",
        {"momentum_into_precond_update": False, "balance_prob": 0.0, "precond_init_scale": 0.3, "b1": 0.8},
        leaves=LEAVES,
        note=DRAWS,
    ),
    Row(
        "preconditioned",
        "psgd_kron_seldom",
        "psgd_kron",
        {"max_prob": 0.9, "min_prob": 0.2, "prob_decay": 0.1, "flat_start": 5.0, "balance_prob": 1.0},
        leaves=LEAVES,
        note=DRAWS,
    ),
    Row("preconditioned", "psgd_kron_short", "psgd_kron", {"max_size_triangular": 3}, leaves=LEAVES, note=DRAWS),
    Row("preconditioned", "psgd_kron_one", "psgd_kron", {"memory_save_mode": "one_diag"}, leaves=LEAVES, note=DRAWS),
    Row(
        "preconditioned",
        "psgd_kron_smart",
        "psgd_kron",
        {"memory_save_mode": "smart_one_diag"},
        leaves=("w", "square", "tall"),
        note=DRAWS,
    ),
    Row("preconditioned", "psgd_kron_all", "psgd_kron", {"memory_save_mode": "all_diag"}, leaves=LEAVES, note=DRAWS),
    Row("preconditioned", "splus", "splus", learning_rate=0.1, leaves=LEAVES),
    Row(
        "preconditioned",
        "splus_often",
        "splus",
        {"every": 3, "b1": 0.8, "b2": 0.9, "nonstandard_constant": 0.02},
        learning_rate=0.1,
        leaves=LEAVES,
    ),
)
