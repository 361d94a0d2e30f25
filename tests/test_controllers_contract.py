"""What every controller owes over every rule: stable types, fresh buffers, one trace, one result however it is run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import controllers, rules
from cases import CORE, LATER, case, plain
from controllers_cases import PAIRS, closed_loop, data, over
from given import given
from golden import controller_rows as rows
from probes import Traced, assert_close, assert_identical, avals, pointers

ORDER = 2e-6  # relative to an entry: a few f32 roundings, for programs that differ in how XLA fuses them
SHOWN = 5e-7  # relative: metrics are f32, and a rate is read off a difference of parameters
MEASURE_NOTHING = ("plateau", "bandit")  # they see the loss alone, so a gradient cannot reach their scalars

# every default runs over the rule with most to it; over the others, in slow tests
RUN = [pytest.param(c, r, id=f"{c}-{r}", marks=() if r == "adam" else pytest.mark.slow) for c, r in PAIRS]
# every controller over adam and over two others, by turns; those that change what the rule is fed, over every rule,
# of which the core of the catalogue is fast
OTHERS = [rule for rule in rules.ALL if rule != "adam"]
FEEDING = ("prodigy", "mechanic")
TYPED = [
    pytest.param(c, r, id=f"{c}-{r}", marks=() if r == "adam" or (r in CORE and c in FEEDING) else LATER)
    for i, c in enumerate(controllers.ALL)
    for r in rules.ALL
    if r == "adam" or c in FEEDING or r in (OTHERS[i % len(OTHERS)], OTHERS[(i + 3) % len(OTHERS)])
]


def mixed() -> tuple[dict, dict]:
    """(parameters, gradients) in every pair of f32 and bf16, and leaves that are not trained."""
    kinds = {"ff": ("f4", "f4"), "fb": ("f4", "bf16"), "bf": ("bf16", "f4"), "bb": ("bf16", "bf16")}
    kinds = {name: [jnp.bfloat16 if k == "bf16" else jnp.float32 for k in pair] for name, pair in kinds.items()}
    p = {name: jnp.linspace(-1, 2, 6, dtype=pair[0]).reshape(2, 3) for name, pair in kinds.items()}
    g = {name: jnp.linspace(0.5, -1, 6, dtype=pair[1]).reshape(2, 3) for name, pair in kinds.items()}
    return {**p, "none": None, "count": jnp.arange(3), "idle": jnp.ones(2)}, {
        **g,
        "none": None,
        "count": None,
        "idle": None,
    }


def narrow() -> tuple[dict, dict]:
    """bf16 alone."""
    p, g = mixed()
    return {"w": p["bb"]}, {"w": g["bb"]}


@pytest.mark.parametrize(("controller", "rule"), TYPED)
def test_types_are_stable_in_a_scan(controller: str, rule: str):
    """In every pair of f32 and bf16, and in bf16 alone."""
    for trees in (mixed, narrow) if rule == "adam" else (mixed,):
        types_are_stable_in_a_scan(controller, rule, *map(case(rule).fit, trees()))


def types_are_stable_in_a_scan(controller: str, rule: str, params: dict, grads: dict) -> None:
    opt = over(rule, controllers.ALL[controller](0.01))

    def body(carry, value):
        p, s = opt.step(grads, carry[1], carry[0], value=value)
        return (p, s), s.metrics

    def train(p):
        state = opt.init(p)
        carry, metrics = jax.lax.scan(body, (p, state), jnp.ones(2))
        updates, after = opt.update(grads, carry[1], carry[0], value=jnp.asarray(1.0, jnp.bfloat16))
        return state, carry, after, updates, metrics

    state, (p, last), after, updates, metrics = jax.eval_shape(train, params)
    assert avals(last) == avals(state) == avals(after)
    assert avals(p) == avals(params) == avals(updates)
    assert set(last.metrics) == {"learning_rate", *opt.controller.reports}
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves((last.control, last.metrics)))
    assert all(m.shape == (2,) for m in metrics.values())


@pytest.mark.parametrize(("controller", "rule"), RUN)
def test_one_program_donated_for_every_rate_and_as_eager(controller: str, rule: str):
    params, grads = map(case(rule).fit, mixed())
    step = Traced(lambda opt, g, s, p, value: opt.step(g, s, p, value=value))
    donated = jax.jit(step, donate_argnums=(2, 3))
    opts = [over(rule, controllers.ALL[controller](rate)) for rate in (0.01, 0.02)]
    for init in (opts[0].init, jax.jit(opts[0].init)):
        addresses = pointers((params, init(params)))
        assert len(set(addresses.values())) == len(addresses)
    for opt in opts:
        p, s = jax.tree.map(jnp.array, params), opt.init(params)
        q, eager = params, opt.init(params)
        for t in range(3):
            p, s = donated(opt, grads, s, p, 1.0 / (t + 1))
            if opt is opts[0]:
                q, eager = opt.step(grads, eager, q, value=1.0 / (t + 1))
                assert_close((p, s), (q, eager), ORDER, 1e-9)
    assert step.count == 1
    assert all(np.all(np.isfinite(np.asarray(x, np.float32))) for x in jax.tree.leaves((p, s.metrics)))
    assert_identical((p["idle"], p["count"]), (params["idle"], params["count"]))
    assert p["none"] is None

    control = jax.tree.map(np.asarray, s.control)
    nan = jax.tree.map(lambda g: jnp.full_like(g, jnp.nan), grads)
    poison = {"loss": (grads, jnp.nan), "gradient": (nan, 0.2)}
    for what, (g, value) in poison.items():
        _, after = donated(opt, g, jax.tree.map(jnp.array, s), jax.tree.map(jnp.array, p), value)
        assert not any(np.any(np.isnan(x)) for x in jax.tree.leaves(after.control)), what
        reaches = "value" in opt.requires if what == "loss" else controller not in MEASURE_NOTHING
        if reaches and controller != "shield":
            assert_identical(jax.tree.map(np.asarray, after.control), control)
    assert step.count == 1


@pytest.mark.parametrize(("controller", "rule"), RUN)
def test_a_batch_of_rates_equals_single_runs(controller: str, rule: str):
    batch = data(8, dtype=jnp.float32)
    start = case(rule).fit({name: jnp.asarray(value, jnp.float32) for name, value in rows.START.items()})
    rates = np.array([0.01, 0.03], np.float32)

    def train(opt):
        state = opt.init(start)

        def body(carry, xy):
            residual = xy[0] @ carry[0]["w"] + carry[0]["b"] - xy[1]
            g = {"w": xy[0].T @ residual / 8, "b": jnp.mean(residual, 0).reshape(start["b"].shape)}
            p, s = opt.step(g, carry[1], carry[0], value=jnp.sum(residual**2) / 16)
            return (p, s), s.metrics["learning_rate"]

        (p, _), used = jax.lax.scan(body, (start, state), batch)
        return p, used

    def make(rate):
        uses_it = jax.tree.leaves(controllers.ALL[controller](0.5)) != jax.tree.leaves(
            controllers.ALL[controller](0.25)
        )
        build = plain(rule)
        return given(build(controllers.ALL[controller](rate) if uses_it else controllers.ALL[controller](0.01) * rate))

    many = jax.jit(jax.vmap(train))(make(jnp.asarray(rates)))
    single = jax.jit(train)
    for i, rate in enumerate(rates):
        one = single(make(jnp.asarray(rate)))
        # closed loops amplify a rounding up to a hundredfold
        assert_close(jax.tree.map(lambda x, i=i: x[i] if x.shape[0] == 2 else x, many), one, 1e-4, 1e-6)


@pytest.mark.parametrize("controller", controllers.ALL)
def test_the_rate_read_is_the_rate_used(controller: str, x64):
    """Under SGD x moves by minus the rate times the gradient; Mechanic also pulls toward x₀."""
    opt = adaptx.sgd(controllers.ALL[controller](0.01))
    run = closed_loop(opt, 8)
    x = {name: np.asarray(value) for name, value in rows.START.items()}
    for t, flat in enumerate(run.params):
        after = {"b": flat[:3], "w": flat[3:].reshape(6, 3)}
        _, g = rows.problem(t, x)
        u = {name: after[name] - x[name] for name in x}
        if controller == "mechanic":
            total = [run.scalars["scale"][t], run.scalars["s"][t].sum()]  # Σs before and after
            back = 1 - total[1] / (total[0] + 1e-8)
            u = {name: u[name] - back * (rows.START[name] - x[name]) for name in u}
        if controller == "cocob":
            used = sum(np.abs(v).sum() for v in u.values()) / sum(np.abs(v).sum() for v in g.values())
        else:
            used = np.mean([-np.vdot(u[name], g[name]) / np.vdot(g[name], g[name]) for name in u])
        assert run.rate[t] == pytest.approx(used, rel=SHOWN), t
        x = after
    assert np.all(run.rate >= 0)
    assert np.any(run.rate > 0)


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("controller", ["mechanic", "prodigy", "dog", "ldog", "dadapt", "cocob"])
def test_bf16_parameters_arrive(controller: str, rule: str):
    """½(p − 1)² from 3 in 2000 steps, where updates of 1e-6 are far below half an ulp."""
    opt = over(rule, controllers.ALL[controller](1.0 if rule == "sgd" else 0.01))

    @jax.jit
    def train(p):
        def body(carry, _):
            p, s = carry
            p, s = opt.step(p - 1, s, p, value=0.5 * jnp.sum((p - 1).astype(jnp.float32) ** 2))
            return (p, s), p

        return jax.lax.scan(body, (p, opt.init(p)), length=2000)[1]

    history = np.abs(np.asarray(train(jnp.full((), 3.0, jnp.bfloat16)), np.float32) - 1)
    assert history.min() < 0.02


def test_nothing_to_train_leaves_everything():
    p = {"w": jnp.ones(3)}
    for name, make in controllers.ALL.items():
        opt = adaptx.adam(make(0.01))
        state = opt.init(p)
        q, after = opt.step({"w": None}, state, p, value=1.0)
        assert_identical((q, after._replace(step=state.step, metrics=state.metrics)), (p, state))
        empty = opt.init({})
        assert opt.step({}, empty, {}, value=1.0)[0] == {}, name


@pytest.mark.parametrize("controller", ["prodigy", "dadapt", "dog", "dowg", "polyak", "l4", "momo", "hypergradient"])
def test_scopes_agree_on_one_leaf(controller: str):
    def train(opt):
        def body(carry, x):
            p, s = carry
            p, s = opt.step({"w": x * (p["w"] - 1)}, s, p, value=jnp.sum(x * (p["w"] - 1) ** 2) / 2)
            return (p, s), s.metrics

        p = {"w": jnp.linspace(0.0, 3.0, 4)}
        return jax.lax.scan(body, (p, opt.init(p)), 1 + jnp.arange(20.0)[:, None] % 3 * jnp.ones(4))[1]

    make = getattr(controllers, controller)
    one, per_leaf = jax.jit(lambda: [train(adaptx.adam(make(scope=scope))) for scope in ("global", "leaf")])()
    assert_close(one, per_leaf, 1e-4)  # closed loops amplify a rounding up to a hundredfold
