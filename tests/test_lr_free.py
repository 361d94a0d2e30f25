"""benchmarks/lr_free.py: its problems, its methods and the arithmetic of its tables; a small run of the whole."""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))  # benchmarks are scripts: their folder is what they import from

import lr_free  # noqa: E402
import lr_free_methods as methods  # noqa: E402
import lr_free_problems as cases  # noqa: E402
import lr_free_tables as tables  # noqa: E402

RATES = (1e-2, 1e-1, 1.0, 1e1)
SOLVED = 1e-6  # relative, of L-BFGS in float64 on data rounded to float32


@pytest.mark.parametrize(("ratios", "width"), [
    ([1, 2, 3, 2.9], 3), ([9, 2, 3, 3.1], 1), ([9, 2, 9, 2], 0), ([9, 9, 9, 9], 0), ([1, 1, np.inf, 1], 1),
    ([np.nan, 1, 1, 1], 2), ([9, 1, 1, 1], 2), ([1, 9, 1, 1], 1),
])  # fmt: skip
def test_decades_are_the_widest_range_of_neighbors(ratios, width):
    assert tables.decades(np.array(ratios, float), RATES) == pytest.approx(width)


def known(**finals):
    """An outcome of eight equal problems, f₀ = 3 and f* = 1, from final losses by knob, two seeds."""
    losses = {name: np.tile(np.array(values, float)[None, :, None], (8, 1, 2)) for name, values in finals.items()}
    return tables.Outcome(RATES, losses, np.full((8, 2), 3.0), np.ones(8))


def test_the_tables_of_known_losses():
    outcome = known(**{
        "sgd": [2.0, 1.2, 1.4, np.inf, 2.0], "sgd × hypergradient": [1.4, 1.4, 1.4, np.inf, 1.4], "sgd × cocob": [1.1],
        "adam": [2.5, 2.0, 1.5, 2.0, 1.5], "adam × cosine": [2.0, 1.6, 1.25, 1.5, 2.0],
        "adam × prodigy × cosine": [1.5, 1.5, 1.5, 1.5, 1.375],
    })  # fmt: skip
    rows = {row["method"]: row for row in tables.robustness(outcome)}
    assert rows["sgd"]["gap"][0.1] == pytest.approx(0.1)
    assert rows["sgd"]["worst_gap"] == np.inf
    assert rows["sgd"]["decades_least"] == pytest.approx(1)  # 0.2 is twice the best 0.1
    assert rows["sgd × hypergradient"]["decades_median"] == pytest.approx(2)
    assert rows["sgd × hypergradient"]["gap_at_default"] == pytest.approx(0.2)
    assert rows["sgd × cocob"]["decades_least"] == pytest.approx(3)
    assert rows["sgd × cocob"]["worst_ratio"] == pytest.approx(0.5)
    tuned = {row["method"]: row for row in tables.against_tuned(outcome)}
    assert tuned["adam × cosine, tuned"]["mean"]["all"] == pytest.approx(1)
    assert tuned["adam × cosine at 0.001"]["worst"]["linear"] == pytest.approx(1.6)
    assert tuned["adam, tuned"]["mean"]["mlp"] == pytest.approx(1.2)
    assert tuned["adam × prodigy × cosine"]["mean"]["linear"] == pytest.approx(1.1)
    met = {target["what"]: target["met"] for target in tables.targets(outcome)}
    assert len(met) == 6
    assert sum(met.values()) == 4  # prodigy's; a hypergradient cannot have six of three decades


def test_f_star_is_what_a_solver_found_or_a_perceptron_reached():
    found = tables.least_seen({"a": np.full((8, 2, 2), 0.5), "b": np.full((8, 1, 2), np.inf)}, np.full(8, 0.7))
    np.testing.assert_array_equal(found, [0.7] * 4 + [0.5] * 4)


def test_every_method_is_named_once_and_measured_by_one_that_is_there():
    names = [method.name for method in methods.METHODS]
    assert len(names) == len(set(names))
    assert {method.base for method in methods.METHODS} <= set(names)
    assert set(methods.QUICK) <= set(names)
    assert tables.REFERENCE in names
    assert {method.shuffled for method in methods.METHODS if method.base.endswith("shuffled")} == {True}


@pytest.mark.parametrize("method", methods.METHODS, ids=lambda method: method.name)
def test_every_method_is_traced_by_its_knob(method):
    params = {"w": jnp.ones((3, 2)), "b": jnp.ones(2)}

    def first(rate):
        opt = method.build(rate, methods.cosine(10))
        return opt.step(params, opt.init(params), params, value=1.0)[0]

    shapes = jax.eval_shape(jax.vmap(first), jnp.asarray(methods.knobs(method, RATES)))
    assert shapes["w"].shape == (1 if not method.knob else 4 + (method.default is not None), 3, 2)


@pytest.mark.parametrize("model", cases.MODELS)
def test_padding_takes_no_part(model):
    for index, name in enumerate(cases.NAMES):
        problem = jax.tree.map(lambda x, i=index: jnp.asarray(x[i]), cases.problems())
        params = cases.init(model, jax.random.key(0), problem)
        grads = jax.grad(cases.batch_loss)(params, problem, jnp.arange(32))
        features, outputs = int(problem.features), np.asarray(problem.active)
        assert features == cases.load(name).features
        first, last = ("w", "w") if model == "linear" else ("w1", "w2")
        for tree in (params, grads):
            assert not np.any(np.asarray(tree[first])[features:])
            assert not np.any(np.asarray(tree[last])[:, ~outputs])
        assert np.any(np.asarray(grads[first])[:features])


def test_the_linear_optima_are_those_of_a_solver():
    found = cases.least_losses("linear", 300)
    diabetes = cases.load("diabetes")
    rows = diabetes.weight > 0
    x = np.column_stack([diabetes.x[rows], np.ones(rows.sum())]).astype(np.float64)
    y, ridge = diabetes.target[rows].astype(np.float64), cases.RIDGE
    w = np.linalg.solve(x.T @ x / len(y) + ridge * np.eye(x.shape[1]), x.T @ y / len(y))
    np.testing.assert_allclose(found[3], 0.5 * np.mean((x @ w - y) ** 2) + 0.5 * ridge * w @ w, rtol=SOLVED)
    assert np.all(found < cases.start_losses("linear", 1)[:, 0])


def test_batches_are_independent_or_epochs():
    rows = cases.batches(2, 20, 64, shuffled=True)
    assert rows.shape == (4, 2, 20, 64)
    wine = rows[2].reshape(2, -1)[:, :178]
    np.testing.assert_array_equal(np.sort(wine), np.tile(np.arange(178), (2, 1)))
    drawn = cases.batches(2, 20, 64, shuffled=False)
    assert [int(x.max()) < count for x, count in zip(drawn, cases.row_counts(), strict=True)] == [True] * 4
    assert len(np.unique(drawn[2, 0, :2])) < 128, "independent draws repeat"
    assert np.any(drawn[:, 0] != drawn[:, 1])


def test_unknown_methods_are_refused():
    with pytest.raises(SystemExit, match="no method 'adamm'; choose from sgd"):
        lr_free.chosen(lr_free.arguments(["--only", "adamm"]))
    names = [method.name for method in lr_free.chosen(lr_free.arguments(["--only", "sgd × dog"]))]
    assert names == ["sgd", "adam", "adam × cosine", "sgd × dog"]


@pytest.mark.slow
def test_a_small_run_prints_and_writes_everything(tmp_path, capsys):
    lr_free.main(["--quick", "--output", str(tmp_path / "out.json")])
    out, err = capsys.readouterr()
    for name in methods.QUICK:
        assert name in out
    assert "wrote out.json" in err

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    result = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert set(result) == {"machine", "settings", "targets", "robustness", "against_tuned_cosine", "problems", "runs"}
    assert set(result["runs"]) == set(methods.QUICK)
    assert np.shape(result["runs"]["adam"]["final_loss"]) == (8, 4, 2)
    assert np.shape(result["runs"]["sgd × cocob"]["last_rate"]) == (8, 1)
    assert len(result["robustness"]) == len(methods.QUICK)
    assert set(result["problems"]) == set(tables.problem_names())
    assert not {"host", "path", "user"} & set(result["machine"])
