"""The tables every contract walks, and a function that runs one cell of the matrix by hand.

A rule or optimizer that enters a registry is held to every contract at once: by its default instance, and by the
variants listed here, if any. A failing cell such as `test_oracle.py::test_f32[adam-amsgrad-1e-08]` is run by hand with

    from cases import reproduce                                   # in a Python started in tests/
    out = reproduce("adam-amsgrad", scale=1e-8)                   # also: storage=, params=, grads=, steps=, x64=
    print(out["params"], out["oracle"], out["state"])
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import optimizers, rules
from adaptx.controllers.constant import Constant
from adaptx.engine import storage as storages
from adaptx.engine.leaf import arithmetic
from adaptx.engine.optimizer import build
from adaptx.engine.state import rows_of, treatment
from adaptx.engine.tree import take_apart
from given import given
from golden import inputs
from oracles import trajectory

DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}
PAIRS = [(p, g) for p in DTYPES for g in DTYPES]
STORAGES = list(storages.NAMES)
SCALES = inputs.SCALES  # of the gradients: far above every eps, about its root, about eps itself
DEFAULT_DECAY = {"adamw": 1e-2, "stableadamw": 1e-2, "nadamw": 1e-2, "tiger": 1e-2, "scion": 1.0}  # an oracle has none

VARIANTS: dict[str, dict[str, dict]] = {
    "momentum": {
        "nesterov": {"nesterov": True},
        "dampened": {"decay": 0.8, "dampening": 0.5},
        "averaged": {"dampening": 0.9},
        "nesterov_dampened": {"dampening": 0.3, "nesterov": True},
    },
    "adagrad": {"outside": {"eps_in_sqrt": False}, "initial": {"initial_accumulator": 0.1, "eps": 1e-3}},
    "rmsprop": {
        "outside": {"eps_in_sqrt": False, "eps": 1e-6},
        "centered": {"centered": True, "eps": 1e-6},
        "momentum": {"momentum": 0.9},
        "debias": {"debias": True, "decay": 0.99},
        # a large eps: at step 1 the corrected v − a² is 0, so with a small one rounding alone would be compared
        "all": {"centered": True, "momentum": 0.8, "debias": True, "eps": 0.5, "decay": 0.95},
    },
    "adam": {
        "amsgrad": {"amsgrad": True, "b2": 0.9},
        "nesterov": {"nesterov": True, "b1": 0.8},
        "raw": {"debias": False},
        "nesterov_raw": {"nesterov": True, "debias": False},
        "eps": {"eps": 1e-2, "b1": 0.0},
        "all": {"amsgrad": True, "nesterov": True, "b2": 0.95},
    },
    "adamw": {"amsgrad": {"amsgrad": True, "b2": 0.9}},
    "stableadamw": {"short": {"b1": 0.5, "b2": 0.8, "eps": 1e-3}},
    "nadam": {"fast": {"momentum_decay": 0.5, "b1": 0.7}},
    "radam": {"short": {"b2": 0.9, "eps": 1e-3}},
    "adadelta": {"unlike": {"eps": 1e-2, "eps_step": 1e-4}},
    "yogi": {"raw": {"debias": False, "initial_accumulator": 0.1}},
    "adabound": {"ams": {"amsbound": True, "gamma": 0.3, "b2": 0.9}},
    "qhadam": {"mixed": {"nu1": 0.4, "nu2": 0.6, "b2": 0.9}},
    "kate": {"eta": {"eta": 0.1, "eps": 1e-3}},
    "sm3": {"plain": {"b1": None, "eps": 1e-3}},
    "adopt": {"plain": {"clip": False, "b2": 0.95}},
    "simplified_ademamix": {"mixed": {"alpha": 3.0}},
    "madgrad": {"fast": {"momentum": 0.0, "eps": 1e-2}, "paper": {"eps_rate": 0.0, "momentum": 0.5}},
    "acprop": {"short": {"b2": 0.9, "eps": 1e-3, "eps_root": 1e-6}},
    "mars": {"much": {"gamma": 0.5, "b1": 0.8}},
    "rprop": {"bounded": {"step_sizes": (0.3, 2.0), "eta_plus": 1.5}},
    "adafactor": {
        "mean": {"b1": 0.9, "eps1": 1e-12},
        "unscaled": {"scale_parameter": False, "clip_threshold": 0.5, "decay_rate": 0.6},
        "least": {"min_dim_size_to_factor": 4},
    },
    # an eps that noise in small eigenvalues does not show beside, where roots are taken early
    "shampoo": {
        "sums": {"b1": None, "b2": None, "graft": "none", "start": 1, "every": 3, "eps": 0.3},
        "sgd": {"graft": "sgd", "b2": 0.9, "start": 4, "every": 2, "eps": 1e-4},
        "adagrad": {"graft": "adagrad", "block_size": 2, "start": 4, "every": 4, "eps": 1e-6},
        "rmsprop": {"graft": "rmsprop", "max_dim": 3, "start": 5, "graft_b2": 0.9, "graft_eps": 1e-3},
    },
    "soap": {
        "often": {"every": 2, "b1": 0.8, "b2": 0.9, "shampoo_beta": 0.7, "eps": 1e-3},
        "one_sided": {"one_sided": True, "every": 3},
        "short": {"max_dim": 3, "every": 4},
        "blocks": {"block_size": 2, "every": 5},
    },
    "psgd_kron": {
        "seldom": {"max_prob": 0.9, "min_prob": 0.2, "prob_decay": 0.1, "flat_start": 3.5, "clip_rms": 0.8},
        "gradient": {"momentum_into_precond_update": False, "balance_prob": 0.5, "precond_init_scale": 0.3, "b1": 0.8},
        "short": {"max_size_triangular": 3, "precond_lr": 0.3, "balance_prob": 1.0},
        "one_diag": {"memory_save_mode": "one_diag"},
        "smart": {"memory_save_mode": "smart_one_diag", "block_size": 2, "balance_prob": 0.3},
        "all_diag": {"memory_save_mode": "all_diag", "precond_init_scale": 2.0},
        "blocks": {"block_size": 2, "balance_prob": 0.3},
    },
    "splus": {
        "often": {"every": 3, "b1": 0.8, "b2": 0.9, "nonstandard_constant": 0.02},
        "short": {"max_dim": 3, "every": 5},
        "blocks": {"block_size": 2, "every": 4},
    },
    "adam_mini": {
        "column": {"axis": -1, "b2": 0.9},
        "whole": {"axis": None, "eps": 1e-3},
        "threes": {"axis": -1, "size": 3},
    },
    "galore": {"low": {"rank": 2, "gap": 7, "b2": 0.9}},
    "apollo": {
        "low": {"rank": 2, "gap": 7, "scale": 2.0},
        "tensor": {"rank": 2, "gap": 7, "scaling": "tensor", "scale": None, "b2": 0.9},
        "free": {"rank": 1, "limit": None, "b1": 0.8},
    },
    "apollo_mini": {"often": {"gap": 3, "limit": 1.5}},
    "sgd_sai": {"eps": {"eps": 1e-2, "decay": 0.5}},
    "sophia": {"wide": {"gamma": 2.0, "b2": 0.9}, "eps": {"gamma": 0.5, "eps": 0.1, "b1": 0.8}},
    "adahessian": {
        "power": {"hessian_power": 0.5, "average": "none", "b2": 0.9},
        "matrices": {"average": "matrices", "eps": 1e-2},
        "last": {"average": "matrices", "window": "last", "hessian_power": 0.0},
    },
    "muon": {
        "plain": {"nesterov": False, "view": "first"},
        "rms": {"scale": "rms", "decay": 0.8, "steps": 3, "output": "rows", "precision": "full"},
    },
    "normuon": {
        "plain": {"nesterov": False, "view": "first"},
        "rms": {"scale": "rms", "decay": 0.8, "b2": 0.9, "steps": 3, "output": "rows", "precision": "full"},
    },
    "scion": {
        "sign": {"norm": "sign", "radius": 3.0, "view": "first"},
        "column": {"norm": "column", "eps": 1e-3, "output": "rows"},
        "row": {"norm": "row", "decay": 0.5},
        "short": {"steps": 3, "precision": "full", "output": "rows"},
    },
    "dion": {
        "low": {"rank_fraction": 0.5, "view": "first"},
        "rows": {"rank_fraction": 0.7, "output": "rows", "eps": 1e-3, "decay": 0.8},
    },
}

# engine options that the oracles know, each tried on every optimizer in float64
ENGINES: dict[str, dict] = {
    "decoupled": {"weight_decay": 0.1},
    "l2": {"weight_decay": 0.1, "decay_mode": "l2"},
    "independent": {"weight_decay": 0.01, "decay_mode": "independent"},
    "matrices": {"weight_decay": 0.1, "decay_mask": "matrices"},
    "clipped": {"max_norm": 2.0},
    "clipped_l2": {"max_norm": 2.0, "weight_decay": 0.1, "decay_mode": "l2"},
    "guarded": {"skip_nonfinite": True},
    "observed": {"telemetry": True},
    "corrected": {"weight_decay": 0.1, "decay_mode": "corrected", "max_rate": 0.02},
    "masked": {"cautious": "mask"},
    "cautious": {"cautious": "mean", "weight_decay": 0.1},
    "cautious_l2": {"cautious": "count", "weight_decay": 0.1, "decay_mode": "l2"},
    "cautious_decay": {"cautious_decay": True, "weight_decay": 0.1},
    "cautious_twice": {"cautious": "count", "cautious_decay": True, "weight_decay": 0.01, "decay_mode": "independent"},
    "agc": {"agc": 0.5, "max_norm": 2.0},
    "leaf_clipped": {"max_leaf_norm": 0.5, "weight_decay": 0.1, "decay_mode": "l2"},
    "centralized": {"centralize": "last", "weight_decay": 0.1, "decay_mode": "l2"},
    "centralized_first": {"centralize": "first", "agc": 0.1},
    "stable": {"clip_update_rms": 0.7, "weight_decay": 0.1},
    "stable_corrected": {
        "clip_update_rms": 0.7, "cautious_decay": True, "weight_decay": 0.1, "decay_mode": "corrected", "max_rate": 0.02
    },
}  # fmt: skip
EXTRA = tuple(ENGINES)[-12:]  # around the rule, whatever it is


@dataclass(frozen=True, eq=False)
class Case:
    """One optimizer with the flags of a variant."""

    name: str
    constructor: str
    hyper: dict = field(default_factory=dict)

    @property
    def build(self) -> Callable[..., adaptx.Optimizer]:
        """build(learning_rate, **more) -> the optimizer; more overrides the variant."""
        make = plain(self.constructor) if self.constructor in optimizers.ALL else bare(self.constructor)
        every = {"storage_exclude": 0}  # the arrays of the tests are small, and are to be stored as asked all the same
        return lambda learning_rate=0.01, **more: given(
            make(learning_rate=learning_rate, **{**every, **self.hyper, **more})
        )

    def takes(self, name: str) -> bool:
        """Whether the constructor has this hyperparameter."""
        return name in inspect.signature(optimizers.ALL.get(self.constructor) or bare(self.constructor)).parameters

    @property
    def pointwise(self) -> bool:
        """Whether an entry of a leaf sees no other, neither through the rule nor through the engine."""
        opt = self.build()
        return opt.rule.pointwise and not (opt.options.extras and opt.options.extras.whole_leaf)

    @property
    def leaves(self) -> tuple[str, ...]:
        """The golden leaves that the rule takes."""
        return tuple(inputs.SHAPES) if self.build().rule.ranks is None else inputs.MATRICES

    def fit(self, tree: Any) -> Any:
        """A tree of a test, every array as the rule takes it: vectors as matrices of one row, if it takes no others."""
        ranks = self.build().rule.ranks

        def one(x):
            least = 0 if ranks is None or not hasattr(x, "shape") or x.dtype == jax.dtypes.float0 else min(ranks)
            shape = (1,) * (least - jnp.ndim(x)) + jnp.shape(x) if least > jnp.ndim(x) else None
            if shape is None or not jnp.issubdtype(x.dtype, jnp.floating):
                return x
            return (
                jax.ShapeDtypeStruct(shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else jnp.reshape(x, shape)
            )

        return jax.tree.map(one, tree)

    def params(self, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
        """The golden parameters that the rule takes."""
        return params(dtype, self.leaves)

    def grads(self, dtype: Any = jnp.float32, scale: float = 1.0, steps: int = inputs.STEPS) -> dict[str, jax.Array]:
        """Golden gradients of the first steps, stacked along axis 0."""
        return grads(dtype, scale, steps, self.leaves)

    def eps(self, value: float) -> dict:
        """The keyword that sets eps, nothing for a rule without one."""
        return {"eps": value} if self.takes("eps") else {}


def bare(name: str) -> Callable[..., adaptx.Optimizer]:
    """A constructor for a rule that has none yet."""
    return lambda learning_rate=0.01, **engine: build(name, rules.ALL[name](), learning_rate, engine)


def plain(name: str) -> Callable[..., adaptx.Optimizer]:
    """The constructor of a name; of one that gives the rest of the tree to AdamW, the rule by itself."""
    make = optimizers.ALL[name]
    return partial(make, adamw=False) if "adamw" in inspect.signature(make).parameters else make


# lars and lamb bring a controller, and are held to the contracts as such
OPEN = [name for name in optimizers.ALL if isinstance(plain(name)().controller, Constant)]
NAMES = list(dict.fromkeys([*rules.ALL, *OPEN]))
DEFAULTS = [Case(name, name) for name in NAMES]
CASES = DEFAULTS + [Case(f"{n}-{v}", n, hyper) for n, table in VARIANTS.items() for v, hyper in table.items()]


def kinds() -> list[Case]:
    """The first case of every set of slots of every rule: what memory, types and traces can tell apart."""
    found: dict[tuple, Case] = {}
    for c in CASES:
        rule = c.build().rule
        found.setdefault((rule.name, tuple(rule.slots())), c)
    return [*found.values(), case("adafactor-least")]  # whose small matrices are not factored


def by_turns(cases: list[Case], everywhere: tuple[str, ...]) -> list:
    """Every case in one storage, by turns, and those named in all of them."""
    return [
        pytest.param(c, s, id=f"{c.name}-{s}")
        for i, c in enumerate(cases)
        for s in (STORAGES if c.name in everywhere else [STORAGES[i % len(STORAGES)]])
    ]


def case(name: str) -> Case:
    """The case of a name such as "adam" or "adam-amsgrad"."""
    return next(c for c in CASES if c.name == name)


# what a property of the engine is tried on in the fast suite: no slot, one, two, one of its own shape, a whole matrix
CORE = ("sgd", "momentum", "adam", "adafactor", "muon")


LATER = (pytest.mark.slow, pytest.mark.catalogue)


def thinned(cells: list, fast: Callable[[Case], bool] = lambda c: c.constructor in CORE) -> list:
    """Cells, those of rules outside of the core marked slow: for what the engine does, whatever the equation."""
    out = []
    for cell in cells:
        values, name = (cell.values, cell.id) if hasattr(cell, "values") else ((cell,), cell.name)
        out.append(pytest.param(*values, id=name, marks=() if fast(values[0]) else LATER))
    return out


def one_each(cells: list) -> list:
    """Cells, the variants of rules outside of the core marked slow: for what depends on the rule."""
    return thinned(cells, lambda c: c.constructor in CORE or c.name == c.constructor)


KINDS = kinds()
# rules and storages meet in the slots: two, one of either sign, three, with a shape of their own
STORED = one_each(by_turns(KINDS, ("momentum", "adam", "adafactor")))
EQUATIONS = one_each(by_turns(CASES, ("adam",)))  # what depends on the equations: every flag
TURNS = thinned(by_turns(DEFAULTS, ("adam",)))  # what depends on neither rule nor storage but goes through both
THINNED = thinned(DEFAULTS)  # what depends on no rule


def params(dtype: Any = jnp.float32, leaves: tuple[str, ...] = tuple(inputs.SHAPES)) -> dict[str, jax.Array]:
    """The golden parameters, {w: (3, 4), b: (4,) zeros, s: ()}, in a dtype."""
    return {k: jnp.asarray(p, dtype) for k, p in inputs.parameters(leaves).items()}


def grads(
    dtype: Any = jnp.float32, scale: float = 1.0, steps: int = inputs.STEPS, leaves: tuple = tuple(inputs.SHAPES)
) -> dict[str, jax.Array]:
    """Golden gradients of the first steps, stacked along axis 0."""
    tables = inputs.gradients(scale, leaves)[:steps]
    return {k: jnp.stack([jnp.asarray(g[k], dtype) for g in tables]) for k in leaves}


def at(stacked: Any, t: int) -> Any:
    """Entry t of stacked trees."""
    return jax.tree.map(lambda x: x[t], stacked)


def run(opt: adaptx.Optimizer, start: Any, stacked: Any, *, fused: bool = True) -> tuple[Any, Any, Any]:
    """(last parameters, last state, stacked parameters or updates) of one scan over stacked gradients."""

    def body(carry, g):
        p, s = carry
        if fused:
            p, s = opt.step(g, s, p)
            return (p, s), p
        updates, s = opt.update(g, s, p)
        return (jax.tree.map(lambda x, u: (x + u).astype(x.dtype), p, updates), s), updates

    (last, state), history = jax.lax.scan(body, (start, opt.init(start)), stacked)
    return last, state, history


def oracle(c: Case, scale: float, rates: list[float], **engine: Any) -> np.ndarray:
    """Parameters after every step from the float64 oracle, (steps, entries)."""
    engine = {"weight_decay": DEFAULT_DECAY.get(c.constructor, 0.0), **engine}
    mask = engine.pop("decay_mask", None)
    for name in ("skip_nonfinite", "telemetry"):  # change no number on finite gradients
        engine.pop(name, None)
    table, start = inputs.gradients(scale, c.leaves)[: len(rates)], inputs.parameters(c.leaves)
    leaves = inputs.MATRICES if mask == "matrices" else None
    history = trajectory(c.constructor, c.hyper, start, table, rates, decay_leaves=leaves, **engine)
    return np.stack([inputs.flatten(p) for p in history])


def table(history: dict[str, jax.Array]) -> np.ndarray:
    """Stacked parameters as (steps, entries), in the oracle's order."""
    steps, order = len(next(iter(history.values()))), [k for k in inputs.LEAVES if k in history]
    return np.concatenate([np.asarray(history[k]).astype(np.float64).reshape(steps, -1) for k in order], axis=1)


def slots_of(opt: adaptx.Optimizer, state: adaptx.State, tree: Any) -> list[dict[str, jax.Array]]:
    """The slots of every trained leaf as the next step reads them, by name."""
    leaves = take_apart(tree)
    how = treatment(opt, leaves)
    rows = rows_of(opt, state, how, leaves.arrays)
    pairs = zip(how.shelves, rows.slots, leaves.arrays, strict=True)
    return [shelf.decode(stored, jnp.shape(p), arithmetic(p)) for shelf, stored, p in pairs]


def reproduce(
    name: str,
    *,
    storage: str = "f32",
    params: str = "f32",
    grads: str = "f32",
    scale: float = 1.0,
    steps: int = 10,
    learning_rate: float = 0.01,
    x64: bool = False,
    **engine: Any,
) -> dict[str, Any]:
    """One cell of the matrix: {opt, params, state, history, oracle} after `steps` steps of the golden gradients."""
    with jax.enable_x64(x64):
        c, kinds = case(name), {**DTYPES, "f64": jnp.float64}
        opt = c.build(learning_rate, storage=storage, **engine)
        start, stacked = c.params(kinds[params]), c.grads(kinds[grads], scale, steps)
        last, state, history = run(opt, start, stacked)
    want = oracle(c, scale, [learning_rate] * steps, **engine)
    return {"opt": opt, "params": last, "state": state, "history": table(history), "oracle": want}
