"""benchmarks/steps_to_target.py: its arithmetic on known losses, its tasks, and the whole at toy size."""

import argparse
import json
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx.engine.route import Route
from adaptx.engine.tree import take_apart
from cases import LATER

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))  # benchmarks are scripts: their folder is what they import from

import readme  # noqa: E402
import steps_to_target as script  # noqa: E402
import target_steps as steps  # noqa: E402
import target_tables as tables  # noqa: E402
import target_tasks as tasks  # noqa: E402

TWO_WAYS = 2e-5  # relative, f32 sums in another order over twenty steps


def test_a_loss_is_reached_between_two_looks():
    curve = [4.0, 4.0, 4.0, 1.0, 1.0, 1.0]  # smoothed 4, 4, 4, 3, 2, 1
    assert tables.smoothed(curve).tolist() == [4, 4, 4, 3, 2, 1]
    assert tables.reached(curve, 10, 2.5) == pytest.approx(45)
    assert tables.reached(curve, 10, 4.0) == 10
    assert tables.reached(curve, 10, 1.0) == pytest.approx(60)
    assert tables.reached(curve, 10, 0.9) is None
    assert tables.reached([4.0, None, 1.0, 1.0, 1.0], 10, 1.0) == 50  # nothing counts until three looks are finite
    assert tables.final(curve, 5) == 2
    assert tables.final([1.0, None, 1.0], 3) == math.inf


def test_the_test_is_the_one_of_two_pooled_samples():
    found = tables.compared([60.0, 70.0, 80.0], [100.0, 110.0, 120.0])
    # pooled s² = 100, z = −40 / (10 √(2/3)), and log(70/110) ± 1.96 √(100/(3·70²) + 100/(3·110²))
    assert found["ratio"] == pytest.approx(70 / 110)
    assert found["z"] == pytest.approx(-4.898979)
    assert found["p"] == pytest.approx(9.634e-7, rel=1e-3)
    np.testing.assert_allclose(found["interval"], [0.525399, 0.770763], rtol=1e-5)
    assert tables.compared([5.0], [10.0]) == {"ratio": 0.5, "interval": None, "z": None, "p": None}
    same = tables.compared([5.0, 5.0], [5.0, 5.0])
    assert same["z"] is None
    assert same["interval"] == [1.0, 1.0]


def known(curves, step_seconds=1.0, step_ratio=1.0):
    return {"rate": 0.1, "decay": 0.0, "on_edge": False, "curves": curves, "step_seconds": step_seconds,
            "step_ratio": step_ratio}  # fmt: skip


def test_rows_compare_seed_by_seed_and_count_who_never_arrives():
    falling = [9.0, 6.0, 3.0, 3.0, 3.0, 3.0]  # smoothed 9, 7.5, 6, 4, 3, 3
    fast = [3.0] * 6
    runs = {"characters": {
        "adamw": known([falling, [x + 1 for x in falling]]),
        "quick": known([fast, fast], 2.0, 2.0),
        "stuck": known([falling, [9.0] * 6]),
    }, "digits": {"quick": known([fast, fast])}}  # fmt: skip
    shared = {"every": 10, "steps": {"characters": 40, "digits": 40}}
    found = {row["optimizer"]: row for row in tables.rows(runs, shared)}
    assert set(found) == {"adamw", "quick", "stuck"}, "digits have no base to be compared with"
    assert found["adamw"]["steps"] == [40, 40]
    assert found["adamw"]["ratio"] == found["adamw"]["seconds_ratio"] == 1
    assert found["adamw"]["target"] == 4.5
    assert found["quick"]["steps"] == [10, 10]
    assert found["quick"]["ratio"] == 0.25
    assert found["quick"]["seconds_ratio"] == 0.5
    assert found["quick"]["seconds"] == 20
    assert (found["stuck"]["reached"], found["stuck"]["steps"]) == (1, [40, None])
    assert found["stuck"]["mean_steps"] == 50, "one that never arrives counts with the 60 steps it was trained for"
    assert found["stuck"]["ratio"] == 1.25
    # pooled s² = 100: 1.25 · exp(± 1.96 √(100/(2·50²) + 100/(2·40²)))
    assert "≥ 1.25 (0.80–1.95), 1 of 2 reach it" in tables.report(list(found.values()))
    machine = {"jax": "0", "device": "cpu", "cores": 2}
    table = readme.steps_to_target(
        {"machine": machine, "settings": {**shared, "seeds": dict.fromkeys(runs, 2), "overrun": 1.5},
         "results": [*found.values()]}
    )  # fmt: skip
    assert "2 seeds and 40 steps of digits" in table
    order = [line.split("|")[2].strip() for line in table.splitlines() if line.startswith("| characters")]
    assert order == ["quick", "adamw", "stuck"]


def test_patches_make_a_convolution():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    w = jax.random.normal(jax.random.key(1), (3, 3, 3, 5))
    want = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(tasks.patches(x) @ w.reshape(27, 5), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tasks.pooled(x)[0, 0, 0], x[0, :2, :2].mean((0, 1)), rtol=1e-5)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_tasks_are_what_they_say(name):
    task = tasks.TASKS[name](tasks.QUICK)
    again = tasks.TASKS[name](tasks.QUICK)
    assert task.digest == again.digest
    params = jax.eval_shape(task.init, jax.random.key(0))
    x, y = task.batch(jax.random.key(0))
    assert jax.eval_shape(task.loss, params, x, y).shape == ()
    whole = jax.eval_shape(tasks.TASKS[name](tasks.Sizes()).init, jax.random.key(0))
    count = sum(leaf.size for leaf in jax.tree.leaves(whole))
    assert count == {"characters": 1_017_216, "digits": 38_282}[name]
    moved = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(whole)
             if steps.inner("/".join(key.key for key in path), leaf)]  # fmt: skip
    assert sum(leaf.size for leaf in moved) / count > 0.9, "most of the parameters are matrices inside"


def line(sizes):
    """A task that compiles at once: logistic regression on ten features, with a hidden matrix."""
    x = np.random.default_rng(0).normal(size=(200, 10)).astype(np.float32)
    y = (x @ np.linspace(-1, 1, 10) > 0).astype(np.float32)

    def init(key):
        return {"hidden": jax.random.normal(key, (10, 4)) / 3, "output": jnp.ones(4) / 4}

    def loss(p, x, y):
        z = jnp.tanh(x @ p["hidden"]) @ p["output"]
        return jnp.mean(jnp.logaddexp(0, z) - y * z)

    def batch(key):
        rows = jax.random.randint(key, (16,), 0, 150)
        return jnp.asarray(x)[rows], jnp.asarray(y)[rows]

    return tasks.Task(init, batch, loss, (x[150:], y[150:]), sizes.digit_steps, sizes.digit_seeds, tasks.digest(x, y))


@pytest.mark.parametrize("name", [x if x in script.DEFAULT else pytest.param(x, marks=LATER) for x in steps.RACING])
def test_every_optimizer_steps_at_a_point_of_the_grid(name):
    task = line(tasks.QUICK)
    opt = steps.built(name, 0.1, 1e-4, 3)
    params = task.init(jax.random.key(0))
    carry = jax.eval_shape(lambda p: (p, opt.init(p)), params)
    after = jax.eval_shape(lambda c: steps.one_step(task, opt, jax.random.key(0), jnp.uint32(0), c), carry)
    assert jax.tree.structure(after) == jax.tree.structure(carry)


def test_matrix_methods_leave_the_outer_layers_to_adamw():
    opt = steps.built("muon", 0.04, 0.0, 1)
    assert isinstance(opt, Route)
    params = jax.tree.map(jnp.ones_like, tasks.TASKS["characters"](tasks.QUICK).init(jax.random.key(0)))
    rows = {row.path: row.group for row in opt.costs(take_apart(params))}
    assert {path for path, group in rows.items() if group == next(iter(opt.groups))} == {
        f"block0/{name}" for name in ("qkv", "mix", "up", "down")
    }
    grads = jax.tree.map(jnp.ones_like, params)
    new, _ = opt.step(grads, opt.init(params), params)
    np.testing.assert_allclose(new["scale"], 1 - 2e-3, rtol=1e-5)  # twice adamw's default, as 0.04 is twice muon's


def test_members_are_runs_of_their_own():
    task = line(tasks.QUICK)
    run = script.program(task, "adamw", 5, 6)
    members = [(0.01, 0.0, 0), (0.1, 1e-3, 1), (0.1, 0.0, 0)]
    ticks = []
    curves = script.trained(run, members, 4, 2, lambda: ticks.append(1))
    assert curves.shape == (3, 4)
    assert len(ticks) == 2
    rate, decay, seed = members[1]
    key, opt = jax.random.key(seed), adaptx.adamw(lambda t: rate * jnp.minimum(1.0, (t + 1)), weight_decay=decay,
                                                   decay_mode="independent")  # fmt: skip
    params = task.init(key)
    state = opt.init(params)
    for t in range(20):
        grads = jax.grad(task.loss)(params, *task.batch(jax.random.fold_in(key, t)))
        params, state = opt.step(grads, state, params)
    np.testing.assert_allclose(curves[1, -1], task.loss(params, *task.unseen), rtol=TWO_WAYS)


def tuned_on(loss_of, factors=(1.0, 10.0, 100.0)):
    """What `tuned` finds for adamw where the loss depends on rate and decay in a known way; and the points it tried."""
    seen = []

    def run(rates, decays, seeds, evaluations):
        seen.extend(zip(rates.tolist(), decays.tolist(), strict=True))
        assert set(seeds.tolist()) == {script.TUNING_SEED}
        return np.array([[loss_of(*point)] * evaluations for point in zip(rates, decays, strict=True)])

    given = argparse.Namespace(factors=factors, together=3)
    return script.tuned(run, "adamw", 4, given, lambda: None), seen


def test_tuning_looks_beside_the_best_of_the_grid():
    best, seen = tuned_on(lambda rate, decay: abs(math.log10(rate) + 1.8) + decay)
    unit = script.default_rate(adaptx.adamw)  # 1e-3: of the grid 1e-2 is nearest to 10^-1.8, then 10^-1.75
    assert best["rate"] == pytest.approx(10**-1.75)
    assert best["decay"] == 0
    assert not best["on_edge"]
    wanted = [(unit, 0), (10 * unit, 0), (100 * unit, 0), (10**-2.25, 0), (10**-1.75, 0), (1e-2, script.DECAY)]
    np.testing.assert_allclose(seen, wanted, rtol=1e-6)
    np.testing.assert_allclose([one[:2] for one in best["tuning"]], wanted)
    decayed, _ = tuned_on(lambda rate, decay: abs(math.log10(rate) + 2) - decay)
    assert decayed["rate"] == pytest.approx(1e-2)
    assert decayed["decay"] == script.DECAY


def test_tuning_tells_of_an_edge_and_of_runs_that_diverged():
    edge, _ = tuned_on(lambda rate, decay: -rate)
    assert edge["on_edge"]
    assert edge["rate"] == pytest.approx(0.1 * script.NEARER)
    inside, _ = tuned_on(lambda rate, decay: rate if rate > 9e-4 else 1.0)
    assert not inside["on_edge"], "a smaller rate was tried and is worse"
    diverged, _ = tuned_on(lambda rate, decay: math.nan)
    assert [one[2] for one in diverged["tuning"]] == [None] * 6


def test_a_run_is_split_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "TASKS", {"digits": line})
    path = tmp_path / "out.json"

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["steps_to_target.py", "--quick", "--tasks", "digits", "--output", str(path),
                                          *arguments])  # fmt: skip
        script.main()
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)

    first = main("--optimizers", "adamw")
    assert list(first["runs"]["digits"]) == ["adamw"]
    second = main("--optimizers", "adamw", "lion")
    assert second["runs"]["digits"]["adamw"] == first["runs"]["digits"]["adamw"], "what was there was trained again"
    assert [row["optimizer"] for row in second["results"]] == ["adamw", "lion"]
    assert second["results"][1]["seeds"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert "lion" in capsys.readouterr().out
    again = main("--times")
    untimed = [{k: v for k, v in one["runs"]["digits"]["lion"].items() if "step_" not in k} for one in (again, second)]
    assert untimed[0] == untimed[1], "--times trained anew"
    assert again["runs"]["digits"]["lion"]["step_seconds"] != second["runs"]["digits"]["lion"]["step_seconds"]
    left = set(steps.MAKERS) - set(steps.RACING)
    assert all(steps.MAKERS[name]().requires for name in left)
    with pytest.raises(SystemExit, match=r"out.json was measured with other sizes, steps; move it away"):
        main("--budget-steps", "10")


@pytest.mark.slow
def test_the_quick_run(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["steps_to_target.py", "--quick", "--output", str(path)])
    script.main()
    found = json.loads(path.read_text(encoding="utf-8"))
    assert {(row["task"], row["optimizer"]) for row in found["results"]} == {
        (task, name) for task in tasks.TASKS for name in ("adamw", "muon")
    }
    assert str(FOLDER.parent) not in path.read_text(encoding="utf-8")
