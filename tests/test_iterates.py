"""Wrappers around optimizers: their iterates equal the authors', and eval_params reads them for every optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from golden.controller_rows import LONG, ROWS, SHORT, START, X, Y, load, saved
from oracles import iterates

GOLDEN = 1e-6  # f32 scalars (rates, weights) beside f64 parameters, over 100 closed-loop steps
FREE = [row for row in ROWS if row.method == "schedule_free"]
PROBLEM = {"x": X[:SHORT], "y": Y[:SHORT]}


def loss(p, x, y):
    return jnp.sum((x @ p["w"] + p["b"] - y) ** 2) / (2 * x.shape[0])


def loop(opt, start=START, steps=SHORT, dtype=jnp.float64):
    """(parameters after every step, parameters to evaluate after every step)."""
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), start)

    def body(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, *batch)
        params, state = opt.step(grads, state, params, value=value)
        return (params, state), (params, adaptx.eval_params(opt, state, params))

    batches = (jnp.asarray(X[:steps], dtype), jnp.asarray(Y[:steps], dtype))
    _, history = jax.jit(lambda p: jax.lax.scan(body, (p, opt.init(p)), batches))(params)
    return tuple([{k: np.asarray(v[t], np.float64) for k, v in h.items()} for t in range(steps)] for h in history)


def assert_same(found, expected, rtol=GOLDEN):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * np.abs(expected).max())


def warmup(lr, steps):
    return adaptx.schedules.linear_schedule(lr / steps, lr, steps - 1)


@pytest.mark.parametrize("row", FREE, ids=lambda row: row.name)
def test_schedule_free_equals_the_authors(row):
    o = dict(row.options)
    lr, steps = o["lr"], o.get("warmup_steps", 0)
    rate = warmup(lr, steps) if steps else lr
    decay = {"weight_decay": o.get("weight_decay", 0.0)}
    with jax.enable_x64(True):
        inner = adaptx.adam(rate, b1=0.0, **decay) if "rule" in o else adaptx.sgd(rate, **decay)
        opt = adaptx.schedule_free(inner, o.get("b1", 0.9), o.get("r", 0.0), o.get("weight_lr_power", 2.0))
        params, evaluated = loop(opt)
    golden = load()
    assert_same(saved(params), golden[f"{row.name}.params"])
    assert_same(saved(evaluated), golden[f"{row.name}.extra"])


def test_lookahead_equals_its_oracle():
    golden = load()
    with jax.enable_x64(True):
        params, evaluated = loop(adaptx.lookahead(adaptx.momentum(0.02), k=5, alpha=0.5))
    assert_same(saved(params), golden["lookahead.params"])
    assert_same(saved(evaluated), golden["lookahead.extra"])


@pytest.mark.parametrize(
    ("options", "oracle"),
    [
        ({"decay": 0.9}, lambda p: iterates.exponential_average(p, 0.9)),
        ({"decay": None, "power": 8.0}, lambda p: iterates.polynomial_average(p, 8.0)),
    ],
    ids=["exponential", "polynomial"],
)
def test_averaged_equals_its_oracle_and_leaves_training_alone(options, oracle):
    with jax.enable_x64(True):
        params, evaluated = loop(adaptx.averaged(adaptx.sgd(0.1), **options))
        plain, same = loop(adaptx.sgd(0.1))
    assert_same(saved(params), saved(plain), 1e-14)
    assert_same(saved(evaluated), saved(oracle(params)), 1e-12 if options["decay"] is None else GOLDEN)
    assert_same(saved(same), saved(plain), 0.0)


WRAPPED = {
    "schedule_free": lambda: adaptx.schedule_free(adaptx.adam(0.05, b1=0.0)),
    "lookahead": lambda: adaptx.lookahead(adaptx.adam(0.05)),
    "averaged": lambda: adaptx.averaged(adaptx.adam(0.05), 0.99),
    "polynomial": lambda: adaptx.averaged(adaptx.sgd(adaptx.controllers.dog()), None, 8.0),
    "nested": lambda: adaptx.averaged(adaptx.lookahead(adaptx.sgd(adaptx.controllers.polyak())), 0.9),
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
def test_state_is_stable_donatable_and_fits_optax(name, dtype):
    opt = WRAPPED[name]()
    params = {"w": jnp.ones((4, 3), dtype), "b": jnp.zeros(3, dtype), "n": None, "i": jnp.arange(2)}
    grads = {"w": jnp.full((4, 3), 0.1, dtype), "b": jnp.ones(3, dtype), "n": None, "i": None}
    state = opt.init(params)
    pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)
    step = jax.jit(lambda p, s: opt.step(grads, s, p, value=1.0), donate_argnums=(0, 1))
    described = jax.tree.map(jax.typeof, (params, state))
    updates, _ = opt.update(grads, state, params, value=1.0)
    added = optax.apply_updates(params, updates)
    params, state = step(params, state)
    assert jax.tree.map(jax.typeof, (params, state)) == described
    for key in ("w", "b"):
        close = 1e-6 if dtype == jnp.float32 else 2e-2  # the update is rounded before it is added, the step after
        np.testing.assert_allclose(np.float32(added[key]), np.float32(params[key]), rtol=close, atol=close)
    assert float(adaptx.read(state, "learning_rate")) > 0
    assert jax.tree.structure(adaptx.eval_params(opt, state, params)) == jax.tree.structure(params)


def test_schedule_free_moves_bf16_parameters_it_could_not_move_without_their_f32_twin():
    opt = adaptx.schedule_free(adaptx.sgd(1e-4))
    params = {"w": jnp.ones(4, jnp.bfloat16)}
    state = opt.init(params)
    step = jax.jit(opt.step)
    for _ in range(400):
        params, state = step({"w": jnp.full(4, 1.0, jnp.bfloat16)}, state, params)
    np.testing.assert_allclose(np.float32(state.iterates["z"]["w"]), 1 - 0.04, rtol=1e-4)
    assert float(params["w"][0]) < 0.99


def test_a_warmup_from_zero_stays_finite():
    opt = adaptx.schedule_free(adaptx.sgd(adaptx.schedules.linear_schedule(0.0, 0.1, 5)))
    params, evaluated = loop(opt, steps=10, dtype=jnp.float32)
    assert np.all(np.isfinite(saved(params)[:4]))
    assert np.all(np.isfinite(saved(evaluated)[:4]))


def test_training_step_takes_wrappers():
    opt = adaptx.schedule_free(adaptx.adam(0.05, b1=0.0))
    params = {k: jnp.asarray(v, jnp.float32) for k, v in START.items()}
    epoch = adaptx.train_epoch(loss, opt)
    batches = (jnp.asarray(X[:LONG], jnp.float32), jnp.asarray(Y[:LONG], jnp.float32))
    params, state, metrics = epoch(params, opt.init(params), *batches)
    assert metrics["loss"][-20:].mean() < 0.1 * metrics["loss"][:5].mean()
    assert float(loss(adaptx.eval_params(opt, state, params), batches[0][-1], batches[1][-1])) < metrics["loss"][0]


def test_eval_params_of_anything_else_is_the_identity():
    params = {"w": jnp.ones(3)}
    for opt in (adaptx.sgd(0.1), optax.sgd(0.1)):
        assert adaptx.eval_params(opt, opt.init(params), params) is params


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: adaptx.schedule_free("sgd"), ["schedule_free takes an optimizer", "optax transformation", "str"]),
        (lambda: adaptx.averaged(adaptx.sgd), ["averaged takes an optimizer", "sgd", "call it"]),
        (lambda: adaptx.schedule_free(adaptx.sgd(0.1), b=0.0), ["b must lie in (0, 1)", "0"]),
        (lambda: adaptx.lookahead(adaptx.sgd(0.1), k=0), ["k must be an integer", "1"]),
        (lambda: adaptx.averaged(adaptx.sgd(0.1), 0.9, 8.0), ["either decay or power"]),
        (lambda: adaptx.lamb(adaptx.controllers.dog()), ["lamb", "schedule", "adam"]),
    ],
)
def test_bad_input_is_refused(make, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert all(word in str(caught.value) for word in words)
