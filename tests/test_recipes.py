"""recipes: what describe says of them, that they train, what they refuse, and the numbers in their docstrings."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import recipes

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "recipes.json"
PARAMS = {
    "embed": jnp.full((6, 4), 0.1), "block0": {"w": jnp.full((4, 4), 0.2), "bias": jnp.zeros(4), "scale": jnp.ones(4)},
    "lora_a": jnp.full((4, 2), 0.3), "lora_b": jnp.zeros((2, 4)), "head": {"w": jnp.full((4, 3), 0.1)},
    "generator": {"w": jnp.full((2, 3), 0.5)}, "discriminator": {"w": jnp.full((3, 1), 0.5)},
}  # fmt: skip
MORE = {"fine_tuning": {"layers": ("embed", "block0", "head")}}


LARGEST = {
    "cnn": 0.1, "rnn": 5e-3, ("transformer", "muon"): 0.02, ("transformer", "adamw"): 3e-3, "policy_gradient": 3e-3,
    ("gan", "generator"): 1e-3, ("gan", "discriminator"): 2e-3, ("recommender", "embeddings"): 10.0,  # constant
    ("recommender", "rest"): 3e-3, "fine_tuning": 3e-3, ("lora", "a"): 2e-3, ("lora", "b"): 8e-3, "tabular": 3e-3,
}  # fmt: skip
SOME = {"gan": ("generator", "discriminator"), "fine_tuning": ("embed", "block0", "head")}


def params(name):
    return {key: PARAMS[key] for key in SOME.get(name, PARAMS)}


def made(name, steps=40, **options):
    return recipes.ALL[name](steps, **MORE.get(name, {}), **options)


def loss(p, x):
    return sum(jnp.sum((leaf - x) ** 2) for leaf in jax.tree.leaves(p))


@pytest.mark.parametrize("name", recipes.ALL)
def test_it_trains_and_says_what_it_does(name):
    opt, p = made(name), jax.tree.map(jnp.array, params(name))
    state, step, losses = opt.init(p), adaptx.train_step(loss, opt), []
    assert all(path in opt.describe(p) for path in params(name))
    for _ in range(40):
        p, state, out = step(p, state, 1.0)
        losses.append(float(out["loss"]))
    assert losses[-1] < 0.99 * losses[0]
    assert np.all(np.isfinite(losses))
    rates = {key: float(x) for key, x in adaptx.metrics(state).items() if key.endswith("learning_rate")}
    assert rates
    for key, rate in rates.items():  # all have fallen at the end, below a tenth of the smallest that a group began with
        assert 0 <= rate < 0.1 * LARGEST.get((name, key.split("/")[0]), LARGEST.get(name)), (key, rate)


def nbytes(tree):
    return sum(x.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", recipes.ALL)
@pytest.mark.parametrize("options", [{"skip_nonfinite": True, "max_norm": 0.5}, {"storage": "bf16"}], ids=str)
def test_engine_options_reach_it(name, options):
    options = {**options, "storage_exclude": 0} if "storage" in options else options  # the leaves are small
    opt = made(name, **options)
    p = params(name)
    g = jax.grad(loss)(p, 1.0)
    p, state = opt.step(g, opt.init(p), p)
    if "storage" in options:
        assert nbytes(state) < nbytes(made(name).init(p))
    if "skip_nonfinite" in options:
        bad, _ = opt.step(jax.tree.map(lambda x: x * jnp.nan, g), state, p)
        assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (bad, p)), strict=True))


def displaced(opt, start=PARAMS, steps=10):
    g, p, state = jax.grad(loss)(start, 1.0), start, opt.init(start)
    for _ in range(steps):
        p, state = opt.step(g, state, p)
    return jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), p, start)


def test_which_leaf_has_what():
    moved = displaced(made("lora", 10, weight_decay=0.0, ratio=16.0))
    np.testing.assert_allclose(moved["lora_b"] / moved["lora_a"], 16, rtol=1e-3)
    assert moved["head"]["w"] == moved["block0"]["w"] == 0
    moved = displaced(made("lora", 10, weight_decay=0.0, head="^head"))
    np.testing.assert_allclose(moved["head"]["w"], moved["lora_a"], rtol=1e-3)
    np.testing.assert_allclose(moved["lora_b"] / moved["lora_a"], 4, rtol=1e-3)
    moved = displaced(made("gan", 10), params("gan"))
    np.testing.assert_allclose(moved["discriminator"]["w"] / moved["generator"]["w"], 2, rtol=1e-3)
    tuned = made("fine_tuning", 10, layer_decay=0.5, weight_decay=0.0)
    moved = displaced(tuned, params("fine_tuning"))
    np.testing.assert_allclose(moved["head"]["w"] / moved["embed"], 4, rtol=1e-3)
    np.testing.assert_allclose(moved["head"]["w"] / moved["block0"]["w"], 2, rtol=1e-3)
    text = made("transformer").describe(PARAMS)
    assert "muon" in next(line for line in text.splitlines() if "block0/w" in line)
    assert "adamw" in next(line for line in text.splitlines() if "head/w" in line)
    text = made("cnn").describe(PARAMS)
    assert "bias" in text


def test_rows_that_were_not_met_stay():
    opt = made("recommender")
    g = {name: jax.tree.map(jnp.zeros_like, x) for name, x in PARAMS.items()}
    g["embed"] = g["embed"].at[1].set(1.0)
    p, state = PARAMS, opt.init(PARAMS)
    for _ in range(5):
        p, state = opt.step(g, state, p)
        g["embed"] = g["embed"].at[1].set(0.0)
    assert np.array_equal(p["embed"][2:], PARAMS["embed"][2:])
    first, _ = opt.step(g, state, p)
    assert np.array_equal(first["embed"], p["embed"])


def test_no_decay_on_biases_and_norms():
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    for name in ("cnn", "tabular"):
        opt, p = made(name, weight_decay=0.5), jax.tree.map(lambda x: x + 1.0, PARAMS)
        q, _ = opt.step(zero, opt.init(p), p)
        assert np.array_equal(q["block0"]["bias"], p["block0"]["bias"])
        assert np.array_equal(q["block0"]["scale"], p["block0"]["scale"])
        assert not np.array_equal(q["block0"]["w"], p["block0"]["w"])


def test_falling():
    f = recipes.falling(100, 0.5, 0.1)
    np.testing.assert_allclose([f(0), f(9), f(10), f(55), f(100), f(999)], [0.05, 0.455, 0.5, 0.25, 0, 0], rtol=1e-6)
    np.testing.assert_allclose([recipes.falling(4, 0.5)(t) for t in (0, 1, 4)], [0.5, 0.375, 0], rtol=1e-6)


def test_warm_cosine():
    f = recipes.warm_cosine(100, 0.5, 0.1, 0.2)
    np.testing.assert_allclose([f(0), f(10), f(100), f(1000)], [0.05, 0.5, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose([recipes.warm_cosine(1, 0.5)(0), recipes.warm_cosine(10, 0.5, 0.0)(0)], 0.5)


WRONG = {
    "steps": (lambda: recipes.cnn(0), ValueError, "total_steps must be an integer ≥ 1"),
    "a float": (lambda: recipes.rnn(1e3), ValueError, "pass a plain int"),
    "rate": (lambda: recipes.tabular(10, -1.0), ValueError, "learning_rate must lie in"),
    "ratio": (lambda: recipes.lora(10, ratio=0.0), ValueError, "ratio must lie in"),
    "layers": (lambda: recipes.fine_tuning(10, layers="block"), TypeError, "pass a list of them"),
    "no layers": (lambda: recipes.fine_tuning(10, layers=()), TypeError, "pass a list of them"),
    "regex": (lambda: recipes.fine_tuning(10, layers=("(",)), ValueError, "is not a regular expression"),
    "option": (lambda: recipes.cnn(10, momentum=0.9), TypeError, "momentum"),
    "no generator": (lambda: recipes.gan(10).init({"w": jnp.ones(2)}), ValueError, "matches none of the parameters"),
    "not a regex": (lambda: recipes.fine_tuning(10, layers=(1,)), TypeError, "pass strings"),
    "both": (lambda: recipes.fine_tuning(10, layers=["a"], lr_scale={"a": 1.0}), TypeError, "leave it out"),
    "none": (lambda: recipes.fine_tuning(10, layers=["a"]).describe({"a": jnp.ones(2), "b": jnp.ones(2)}), ValueError,
             "'b' is matched by none of layers"),
    "several": (lambda: recipes.fine_tuning(10, layers=["block1", "block10"]).describe({"block10": jnp.ones(2)}),
                ValueError, "'block10' is matched by several of layers: 'block1', 'block10'"),
    "adamw": (lambda: recipes.transformer(10, adamw=False), TypeError, "for Muon alone"),
    "adamw's rate": (lambda: recipes.transformer(10, adamw={"learning_rate": 1.0}), TypeError, "which adamw_rate= "),
    "gan's rate": (lambda: recipes.gan(10, 0.0), ValueError, "learning_rate must lie in"),
    "steps of a policy": (lambda: recipes.policy_gradient(0), ValueError, "total_steps must be an integer"),
    "layer decay": (lambda: recipes.fine_tuning(10, layers=["a"], layer_decay=2.0), ValueError, "layer_decay must lie"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused(name):
    call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("name", recipes.ALL)
def test_the_docstring_has_the_number_that_was_measured(name):
    row = next(row for row in json.loads(RESULTS.read_text("utf-8"))["rows"] if row["recipe"] == name)
    text = " ".join(recipes.ALL[name].__doc__.split())
    for how in ("default", "tuned"):
        assert f"{row[how]['ratio']:.2f}" in text, (how, row[how]["ratio"])
