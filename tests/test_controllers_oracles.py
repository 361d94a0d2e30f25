"""Every controller, through adaptx, against the authors' programs and float64 oracles on one closed loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import controllers as c
from adaptx import rules
from adaptx.engine.optimizer import build
from controllers_cases import closed_loop, deviation, kept
from golden import controller_rows as rows
from oracles import betting, distance, feedback, momentum_model
from oracles.controllers import base

# relative to the largest entry, after up to 200 steps of a closed loop that amplifies roundings of 1e-16 up to 100-fold
SAME = 1e-10
SHOWN = 2e-7  # relative: metrics are f32


def cosine(steps: int) -> Callable:
    return lambda t: 0.5 * (1 + jnp.cos(jnp.pi * t / steps))


def raw(rate: Any, **options: Any) -> adaptx.Optimizer:
    """Adam without bias correction, the rule of Prodigy's and D-Adaptation's programs."""
    return adaptx.adam(rate, debias=False, **options)


def mean(rate: Any) -> adaptx.Optimizer:
    """A bias-corrected average of the gradients, MoMo's rule."""
    return build("average", rules.Average(0.9), rate, {})


# name of the golden row -> the optimizer
GOLDEN: dict[str, Callable[[], adaptx.Optimizer]] = {
    "prodigy": lambda: raw(c.prodigy()),
    "prodigy_bias": lambda: adaptx.adam(c.prodigy()),
    "prodigy_safeguard": lambda: raw(c.prodigy(safeguard_warmup=True) * cosine(200)),
    "prodigy_cosine": lambda: raw(c.prodigy() * cosine(200)),
    "prodigy_decay": lambda: raw(c.prodigy(), weight_decay=0.1),
    "prodigy_l2": lambda: raw(c.prodigy(), weight_decay=0.1, decay_mode="l2"),
    "prodigy_coef": lambda: raw(c.prodigy(d_coef=0.5, b3=0.99), b1=0.8, b2=0.99),
    "prodigy_growth": lambda: raw(c.prodigy(growth_rate=1.02)),
    "prodigy_d0": lambda: raw(c.prodigy(0.5, d0=1e-3)),
    "prodigy_eps": lambda: raw(c.prodigy(), eps=1e-2),
    "prodigy_tiny": lambda: raw(c.prodigy()),
    "dadapt": lambda: raw(c.dadapt()),
    "dadapt_bias": lambda: adaptx.adam(c.dadapt()),
    "dadapt_decay": lambda: raw(c.dadapt(), weight_decay=0.1),
    "dadapt_l2": lambda: raw(c.dadapt(), weight_decay=0.1, decay_mode="l2"),
    "dadapt_cosine": lambda: raw(c.product(cosine(200), c.dadapt())),
    "dadapt_growth": lambda: raw(c.dadapt(growth_rate=1.02, d0=1e-4)),
    "dadapt_eps": lambda: raw(c.dadapt(), eps=1e-2),
    "dadapt_sgd": lambda: adaptx.sgd(c.dadapt(factor=2.0)),
    "dadapt_sgd_momentum": lambda: adaptx.momentum(c.dadapt(factor=2.0) * cosine(200), dampening=0.9),
    "dog": lambda: adaptx.sgd(c.dog()),
    "dog_reps": lambda: adaptx.sgd(c.dog(0.7, reps_rel=1e-3)),
    "dog_l2": lambda: adaptx.sgd(c.dog(reps_rel=1e-3), weight_decay=0.1, decay_mode="l2"),
    "dog_adam": lambda: adaptx.adam(c.dog(reps_rel=1e-3)),
    "ldog": lambda: adaptx.sgd(c.ldog(reps_rel=1e-3)),
    "dowg": lambda: adaptx.sgd(c.dowg()),
    "mechanic_clipped": lambda: adaptx.sgd(c.mechanic()),
    "cocob": lambda: adaptx.sgd(c.cocob()),
    "momo_bias": lambda: mean(c.momo(cosine(100))),
    "momo_adam": lambda: adaptx.adam(c.momo(1e-2)),
    "momo_adam_large": lambda: adaptx.adam(c.momo(1.0), eps=1e-3),
    "threshold_global": lambda: adaptx.sgd(c.threshold(0.02, 0.2, 1.0)),
    "threshold_leaf": lambda: adaptx.sgd(c.threshold(0.02, 0.2, 1.0, scope="leaf")),
    "threshold_element": lambda: adaptx.sgd(c.threshold(0.02, 0.2, 0.3, scope="element")),
    "hyper_additive": lambda: adaptx.sgd(c.hypergradient(1e-3, "additive", 1e-3)),
    "hyper_additive_adam": lambda: adaptx.adam(c.hypergradient(1e-3, "additive", 1e-4)),
    "hyper": lambda: adaptx.sgd(c.hypergradient(1e-3, decrease=2.0, min_lr=1e-6, max_lr=0.3)),
    "hyper_leaf_adam": lambda: adaptx.adam(c.hypergradient(1e-3, scope="leaf")),
    "sps": lambda: adaptx.sgd(c.polyak(jnp.inf, 0.01)),
    "sps_max": lambda: adaptx.sgd(c.polyak(0.3, c=0.5)),
    "sps_smooth": lambda: adaptx.sgd(c.polyak(0.1, c=0.5, smooth=2.0**0.02, eps=1e-8)),
    "sps_adam": lambda: adaptx.adam(c.polyak(0.3)),
    "l4_adam": lambda: adaptx.adam(c.l4(), eps=1e-4),
    "l4_sgd": lambda: adaptx.sgd(c.l4(gradient_decay=0.0)),
    "lars": lambda: adaptx.lars(10.0, weight_decay=0.01),
    "lars_clip": lambda: adaptx.lars(0.1, coefficient=0.02, max_ratio=1.0, weight_decay=0.01),
    "lamb": lambda: adaptx.lamb(0.03, weight_decay=0.01),
    "lamb_norm_bounds": lambda: adaptx.lamb(0.03, norm_bounds=(0.5, 2.0)),
    "lamb_ratio_bounds": lambda: adaptx.lamb(0.03, max_ratio=0.1),
}
STEP = np.arange(1, 101)
# what rows and oracles call rate, in units of the rate of adaptx: MoMo's τ is for moments that are not bias-corrected,
# LARS, LAMB and Mechanic have the factor on the base rate alone
UNITS = {"momo": 1 - 0.9**STEP, "lars": 10.0, "lars_clip": 0.1, "lamb": 0.03, "mechanic_adam": 0.1}


def unit(name: str) -> Any:
    return UNITS.get(name, UNITS.get(name.split("_")[0], 1.0))


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return rows.load()


@pytest.mark.parametrize("name", GOLDEN)
def test_library_equals_authors_program(name: str, golden, x64):
    row = next(row for row in rows.ROWS if row.name == name)
    run = closed_loop(GOLDEN[name](), row.steps, scale=1e-8 if row.loop is rows.tiny else 1.0)
    assert deviation(kept(run.params), golden[f"{name}.params"]) <= SAME
    if f"{name}.rate" in golden:
        want = golden[f"{name}.rate"]
        assert deviation(run.rate, (want.mean(axis=1) if want.ndim == 2 else want) * unit(name)) <= SHOWN
    if row.method.startswith(("prodigy", "dadapt")):
        assert deviation(run.scalars["d"], golden[f"{name}.extra"]) <= SAME


class Case(NamedTuple):
    name: str
    optimizer: Callable[[], adaptx.Optimizer]
    oracle: Callable[..., Any]
    options: dict
    rule: str = "sgd"


ORACLES = (
    Case("dadapt_lower_bound", lambda: adaptx.sgd(c.dadapt()), distance.dadapt_sgd, {"factor": 1.0}, ""),
    Case("dog_momentum", lambda: adaptx.momentum(c.dog()), distance.dog, {}, "momentum"),
    Case("ldog_adam", lambda: adaptx.adam(c.ldog(0.5)), distance.dog, {"per_leaf": True, "lr": 0.5}, "adam"),
    Case("dowg_adam", lambda: adaptx.adam(c.dowg(0.1, 1e-6)), distance.dowg, {"lr": 0.1, "eps": 1e-6}, "adam"),
    Case(
        "mechanic_adam",
        lambda: adaptx.adam(c.mechanic(0.1, s_init=1e-2, decay=0.0)),
        betting.mechanic,
        {"clipped": True, "s_init": 1e-2, "decay": 0.0, "lr": 0.1},
        "adam",
    ),
    Case("cocob_alpha", lambda: adaptx.sgd(c.cocob(alpha=3.0)), betting.cocob, {"alpha": 3.0}, ""),
    Case(
        "momo_bound",
        lambda: mean(c.momo(0.1, f_min=0.01)),
        momentum_model.momo,
        {"lr": 0.1, "lower_bound": 0.01, "bias_correction": True},
        "",
    ),
    Case(
        "plateau",
        lambda: adaptx.sgd(c.plateau(0.2, 0.5, 2, 1, window=3, rtol=0.1)),
        feedback.plateau,
        {"lr": 0.2, "factor": 0.5, "patience": 2, "cooldown": 1, "window": 3, "rtol": 0.1},
    ),
    Case(
        "plateau_cosine",
        lambda: adaptx.adam(c.plateau(cosine(100), 0.3, 1, min_lr=0.0, atol=0.01, window=1, min_scale=0.02)),
        feedback.plateau,
        {"lr": rows.cosine(100), "factor": 0.3, "patience": 1, "atol": 0.01, "min_scale": 0.02},
        "adam",
    ),
    Case(
        "hyper_leaf_additive",
        lambda: adaptx.momentum(c.hypergradient(1e-3, "additive", 1e-4, scope="leaf", max_lr=0.01)),
        feedback.hypergradient,
        {"lr": 1e-3, "mode": "additive", "hyper_lr": 1e-4, "per_leaf": True, "high": 0.01},
        "momentum",
    ),
    Case(
        "hyper_floor",
        lambda: adaptx.momentum(c.hypergradient(1e-2, hyper_lr=1.0, decrease=30.0, min_scale=0.3)),
        feedback.hypergradient,
        {"lr": 1e-2, "hyper_lr": 1.0, "decrease": 30.0, "min_scale": 0.3},
        "momentum",
    ),
    Case(
        "threshold_momentum",
        lambda: adaptx.momentum(c.threshold(1e-3, 1e-2, 2.0)),
        feedback.threshold,
        {"low": 1e-3, "high": 1e-2, "tau": 2.0},
        "momentum",
    ),
    Case("polyak_momentum", lambda: adaptx.momentum(c.polyak(0.05)), feedback.polyak, {"max_lr": 0.05}, "momentum"),
)


@pytest.mark.parametrize("case", ORACLES, ids=[case.name for case in ORACLES])
def test_library_equals_oracle(case: Case, x64):
    options = case.options | ({"rule": base(case.rule)} if case.rule else {})
    run, trace = closed_loop(case.optimizer(), 100), case.oracle(rows.problem, rows.START, 100, **options)
    assert deviation(kept(run.params), rows.saved(trace.params)) <= SAME
    if np.all(np.isfinite(trace.rate)):
        want = trace.rate.mean(axis=1) if trace.rate.ndim == 2 else trace.rate
        assert deviation(run.rate, want * unit(case.name)) <= SHOWN


@pytest.mark.parametrize("options", [{"patience": 2}, {"factor": 0.5, "patience": 1, "cooldown": 2, "window": 3}])
def test_plateau_equals_optax(options: dict, x64):
    """On losses that are given, not fed back: optax compares in f32."""
    names = {"window": "accumulation_size"}
    peer = optax.contrib.reduce_on_plateau(**{names.get(k, k): v for k, v in options.items()}, min_scale=1e-2)
    ours = adaptx.sgd(c.plateau(1.0, **{"window": 1, **options}, min_scale=1e-2))
    weight, one = jnp.zeros(()), jnp.ones(())

    def body(carry, loss):
        scale, peer_state = peer.update(one, carry[0], value=loss)
        update, state = ours.update(one, carry[1], weight, value=loss)
        return (peer_state, state), (scale, -update)

    _, (want, got) = jax.lax.scan(body, (peer.init(weight), ours.init(weight)), jnp.asarray(rows.LOSSES))
    np.testing.assert_allclose(got, want, rtol=SHOWN)
    assert float(want[-1]) < 1


def test_plateau_floor_is_on_the_rate(x64):
    run = closed_loop(adaptx.sgd(c.plateau(cosine(100), 0.1, 1, min_lr=0.02)), 100)
    schedule = np.array([rows.cosine(100)(t) for t in range(100)])
    assert np.all(run.rate >= np.minimum(schedule, 0.02) * (1 - SHOWN))
    assert np.min(run.rate / schedule) < 0.05


@pytest.mark.parametrize(
    ("make", "order"),
    [
        (lambda: raw(c.prodigy()), np.inf),
        (lambda: adaptx.adam(c.prodigy() * cosine(400)), np.inf),
        (lambda: adaptx.rmsprop(c.prodigy()), np.inf),
        (lambda: adaptx.sgd(c.prodigy()), np.inf),
        (lambda: adaptx.sgd(c.dadapt()), 2),
    ],
    ids=["prodigy", "prodigy_cosine", "prodigy_rmsprop", "prodigy_sgd", "dadapt_sgd"],
)
def test_estimate_grows_below_the_true_distance(make: Callable, order: float, x64):
    """On a convex deterministic problem Σ w ⟨g, x₀ − x⟩ ≤ ‖Σ w g‖ ‖x₀ − x*‖ in dual norms, for any weights w ≥ 0."""
    run = closed_loop(make(), 400, full=True)
    true = np.linalg.norm(rows.flatten(rows.START) - rows.flatten(rows.SOLUTION), order)
    d = run.scalars["d"]
    assert np.all(np.diff(d) >= 0)
    assert 0.05 * true < d[-1] <= true


def test_a_negative_loss_can_stall_too():
    """Improvement is measured in |best|: with (1 − rtol)·best every loss would be one, however the sign."""
    opt, x = adaptx.sgd(c.plateau(1.0, 0.1, 2, window=1, rtol=0.1)), jnp.zeros(2)
    state = opt.init(x)
    for _ in range(4):
        x, state = opt.step(jnp.ones(2), state, x, value=-100.0)
    assert float(adaptx.read(state, "learning_rate")) < 0.2
