"""The controller oracles against the authors' programs, optax, hand calculation and theorems, before the library is."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from golden import controller_rows as rows
from oracles import betting, distance, feedback, iterates, momentum_model
from oracles.controllers import Trace, base, norm

SAME = 1e-10  # relative to the largest entry: two float64 programs whose 200 closed-loop steps feed rounding back
STEPS = 60


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return rows.load()


def close(got: np.ndarray, want: np.ndarray, rtol: float = SAME) -> bool:
    return got.shape == want.shape and bool(np.max(np.abs(got - want)) <= rtol * np.max(np.abs(want)))


@pytest.mark.parametrize("row", rows.ROWS, ids=[row.name for row in rows.ROWS])
def test_oracle_equals_authors_program(row: rows.Row, golden):
    found = rows.compute(row)
    shared = [suffix for suffix in found if f"{row.name}.{suffix}" in golden]
    assert shared
    for suffix in shared:
        for got, want in zip(found[suffix], golden[f"{row.name}.{suffix}"], strict=True):
            assert close(np.asarray(got), want), f"{row.name}: {suffix} is {got}, the author's program has {want}"


class Peer(NamedTuple):
    name: str
    optimizer: Callable  # () -> the optax optimizer
    oracle: Callable  # (problem, start, steps) -> Trace or Iterates


def lars_trace(*arguments, **options) -> Trace:
    return Trace(iterates.lars(*arguments, **options)[0], np.empty(0), {})


def lamb_trace(*arguments, **options) -> Trace:
    return Trace(iterates.lamb(*arguments, **options)[0], np.empty(0), {})


def bound(oracle: Callable, **options) -> Callable:
    """The oracle with its options; `rule` is a factory because a rule keeps its moments."""

    def call(*arguments):
        made = {"rule": options["rule"]()} if "rule" in options else {}
        return oracle(*arguments, **(options | made))

    return call


def corrected(**options) -> Callable:
    return bound(distance.prodigy_adam, use_bias_correction=True, **options)


PEERS = (
    Peer("prodigy", lambda: optax.contrib.prodigy(), corrected()),
    Peer("prodigy_decay", lambda: optax.contrib.prodigy(weight_decay=0.1), corrected(weight_decay=0.1)),
    Peer(
        "prodigy_safeguard",
        lambda: optax.contrib.prodigy(
            optax.cosine_decay_schedule(1.0, STEPS), safeguard_warmup=True, estim_lr_coef=2.0
        ),
        corrected(lr=rows.cosine(STEPS), safeguard_warmup=True, d_coef=2.0),
    ),
    Peer(
        "dadapt",
        lambda: optax.contrib.dadapt_adamw(weight_decay=0.1),
        bound(distance.dadapt_adam, use_bias_correction=True, weight_decay=0.1, decouple=True),
    ),
    Peer("dog", lambda: optax.contrib.dog(0.7, ("heuristic", 1e-3)), bound(distance.dog, lr=0.7, reps_rel=1e-3)),
    Peer(
        "dog_over_adam",
        lambda: optax.chain(optax.scale_by_adam(), optax.contrib.dog()),
        bound(distance.dog, rule=lambda: base("adam")),
    ),
    Peer(
        "ldog",
        lambda: optax.scale_by_distance_over_gradients(1e-3, param_dtype=jnp.float64, global_scale=-1.0),
        bound(distance.dog, reps_rel=1e-3, per_leaf=True),
    ),
    Peer("dowg", lambda: optax.contrib.dowg(), bound(distance.dowg)),
    Peer("dowg_r0", lambda: optax.contrib.dowg(0.5, 1e-2, 1e-6), bound(distance.dowg, lr=0.5, r0_sq=1e-2, eps=1e-6)),
    Peer("cocob", lambda: optax.contrib.cocob(), bound(betting.cocob)),
    Peer(
        "mechanic",
        lambda: optax.contrib.mechanize(optax.sgd(1.0)),
        bound(betting.mechanic, clipped=True, s_init=1e-6, decay=0.01),
    ),
    Peer(
        "mechanic_adam",
        lambda: optax.contrib.mechanize(optax.adam(0.1), weight_decay=0.0, s_init=1e-2),
        bound(betting.mechanic, clipped=True, s_init=1e-2, decay=0.0, lr=0.1, rule=lambda: base("adam")),
    ),
    Peer("momo", lambda: optax.contrib.momo(0.3), bound(momentum_model.momo, lr=0.3)),
    Peer(
        "momo_bound",
        lambda: optax.contrib.momo(adapt_lower_bound=True),
        bound(momentum_model.momo, adapt_lower_bound=True),
    ),
    Peer("momo_adam", lambda: optax.contrib.momo_adam(0.3), bound(momentum_model.momo, lr=0.3, b2=0.999)),
    Peer(
        "sps_max",
        lambda: optax.polyak_sgd(0.3, f_min=0.01, variant="sps+"),
        bound(feedback.polyak, max_lr=0.3, f_min=0.01),
    ),
    Peer("schedule_free", lambda: optax.contrib.schedule_free_sgd(0.1), bound(iterates.schedule_free, lr=0.1)),
    Peer(
        "schedule_free_adamw",
        lambda: optax.contrib.schedule_free_adamw(0.05, weight_decay=0.1),
        bound(iterates.schedule_free, lr=0.05, weight_decay=0.1, rule=lambda: base("adam", b1=0.0)),
    ),
    Peer(
        "lars",
        lambda: optax.lars(optax.cosine_decay_schedule(1.0, STEPS), 0.01, trust_coefficient=0.02, eps=1e-3),
        bound(lars_trace, lr=rows.cosine(STEPS), weight_decay=0.01, coefficient=0.02, eps=1e-3, rate_inside=True),
    ),
    Peer("lamb", lambda: optax.lamb(0.03, weight_decay=0.01), bound(lamb_trace, lr=0.03, weight_decay=0.01)),
)


@pytest.mark.parametrize("peer", PEERS, ids=[peer.name for peer in PEERS])
def test_oracle_equals_optax(peer: Peer):
    with jax.enable_x64(True):
        optimizer = optax.with_extra_args_support(peer.optimizer())
        params = {name: jnp.asarray(value) for name, value in rows.START.items()}
        state, history = optimizer.init(params), []
        update = jax.jit(optimizer.update)
        for t in range(STEPS):
            loss, g = rows.problem(t, {name: np.asarray(value) for name, value in params.items()})
            updates, state = update(g, state, params, value=jnp.asarray(loss))
            params = optax.apply_updates(params, updates)
            history.append({name: np.asarray(value) for name, value in params.items()})
    want = peer.oracle(rows.problem, rows.START, STEPS).params
    for got, expected in zip(rows.saved(history), rows.saved(want), strict=True):
        assert close(got, expected)


def test_lookahead_equals_optax():
    with jax.enable_x64(True):
        optimizer = optax.lookahead(optax.sgd(0.02, 0.9), 5, 0.5)
        params = optax.LookaheadParams.init_synced({k: jnp.asarray(v) for k, v in rows.START.items()})
        state, fast, slow = optimizer.init(params), [], []
        for t in range(STEPS):
            _, g = rows.problem(t, {name: np.asarray(value) for name, value in params.fast.items()})
            updates, state = optimizer.update(g, state, params)
            params = optax.apply_updates(params, updates)
            fast.append({name: np.asarray(value) for name, value in params.fast.items()})
            slow.append({name: np.asarray(value) for name, value in params.slow.items()})
    want = iterates.lookahead(rows.problem, rows.START, STEPS, base("momentum"), 0.02)
    assert close(rows.saved(fast), rows.saved(want.params))
    assert close(rows.saved(slow), rows.saved(want.evaluated))


@pytest.mark.parametrize("options", [{}, {"window": 3, "patience": 2, "cooldown": 2}, {"factor": 0.5, "patience": 1}])
def test_plateau_equals_optax(options):
    names = {"window": "accumulation_size"}
    with jax.enable_x64(True):
        optimizer = optax.contrib.reduce_on_plateau(**{names.get(k, k): v for k, v in options.items()}, min_scale=1e-3)
        weight = jnp.ones(())
        update = jax.jit(optimizer.update)
        state, scales = optimizer.init(weight), []
        for loss in rows.LOSSES:
            updates, state = update(weight, state, value=loss)
            scales.append(float(updates))
    assert np.array_equal(scales, feedback.plateau_scale(list(rows.LOSSES), **options, min_scale=1e-3))


def test_a_nan_loss_does_not_stay_in_the_plateau():
    losses = [1.0, np.nan, 0.5, 0.4, 0.4, 0.4]
    assert list(feedback.plateau_scale(losses, patience=2)) == [1, 1, 1, 1, 1, 0.1]


def quadratic(t: int, x: dict) -> tuple[float, dict]:
    """x² / 2 on one scalar."""
    return float(x["x"] ** 2 / 2), {"x": x["x"]}


ONE = {"x": np.array(2.0)}


def test_threshold_by_hand():
    trace = feedback.threshold(quadratic, ONE, 3, low=0.5, high=1.0, tau=1.0)
    assert [float(x["x"]) for x in trace.params] == [1.0, 0.0, 0.0]  # |g| = 2 above, 1 not above, 0
    assert list(trace.rate) == [0.5, 1.0, 1.0]


def test_hypergradient_by_hand():
    trace = feedback.hypergradient(quadratic, ONE, 3, lr=0.5, mode="additive", hyper_lr=0.1)
    assert trace.rate == pytest.approx([0.5, 0.7, 0.7 + 0.1 * 1.0 * 0.3])  # g = 2, 1, 0.3
    trace = feedback.hypergradient(quadratic, ONE, 3, lr=1.5, hyper_lr=0.1, decrease=2.0)
    assert trace.rate == pytest.approx(1.5 * np.exp([0.0, -0.2, -0.4]))  # every step jumps over 0


def test_l4_by_hand():
    trace = feedback.l4(quadratic, ONE, 2, gradient_decay=0.0, rule=base())
    first = 0.15 * (2 - 0.9 * 1.5) / 4  # f = 2, L_min = 0.75 · 2, ‖g‖² = 4
    x = 2 * (1 - first)
    least = min(1.5 * 1.001, x**2 / 2)
    assert trace.rate == pytest.approx([first, 0.15 * (x**2 / 2 - 0.9 * least) / x**2])


def test_trust_ratio_edges():
    p, u = np.array([3.0, 4.0]), np.array([0.0, 0.5])
    assert iterates.trust_ratio(p, u) == 10.0
    assert iterates.trust_ratio(p, u, norm_bounds=(0.0, 2.0)) == 4.0
    assert iterates.trust_ratio(p, u, ratio_bounds=(0.0, 1.0)) == 1.0
    assert iterates.trust_ratio(0 * p, u) == iterates.trust_ratio(p, 0 * u) == 1.0


ESTIMATES = (  # method, the norm in which the distance is estimated, options under which the bound is a theorem
    (distance.prodigy_adam, np.inf, {}),
    (distance.prodigy_adam, np.inf, {"lr": rows.cosine(400), "use_bias_correction": True}),
    (distance.dadapt_sgd, 2, {"factor": 1.0}),
)


@pytest.mark.parametrize(("method", "order", "options"), ESTIMATES)
def test_estimate_grows_below_the_true_distance(method, order, options):
    """Convexity: Σ w_i ⟨g_i, x_0 − x_i⟩ ≤ ‖Σ w_i g_i‖ · ‖x_0 − x*‖ in dual norms, whatever the positive weights."""
    d = method(rows.full, rows.START, 400, **options).extra["d"]
    true = np.linalg.norm(rows.flatten(rows.START) - rows.flatten(rows.SOLUTION), order)
    assert np.all(np.diff(d) >= 0)
    assert 0.05 * true < d[-1] <= true


def test_methods_descend():
    """Every method with a closed loop ends nearer to the solution than it began, but those that start from 1e-8."""
    slow = {"mechanic", "dog", "prodigy_growth", "dadapt_growth", "prodigy_tiny"}
    start = norm({k: rows.START[k] - rows.SOLUTION[k] for k in rows.START})
    solution = rows.flatten(rows.SOLUTION)
    for row in rows.ROWS:
        if row.method != "plateau_scale" and row.name not in slow:
            end = rows.compute(row)["params"][-1]
            assert np.linalg.norm(end - solution) < start, row.name
