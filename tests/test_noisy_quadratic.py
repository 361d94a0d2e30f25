"""benchmarks/noisy_quadratic.py: its arithmetic by hand, the whole at toy size, and what `adaptx show` says of it."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest

import adaptx
from adaptx import controllers, optimizers
from adaptx.cli.show import cards

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))  # benchmarks are scripts: their folder is what they import from

import noisy_quadratic as script  # noqa: E402
import readme  # noqa: E402


def test_sgd_without_noise_is_the_closed_form():
    given = script.problem((2, 3), noise=0.0)
    np.testing.assert_allclose(np.sort(given.h.ravel()), 10 ** np.linspace(0, 2, 6), rtol=1e-6)
    rate, steps = 0.015, 30
    found = script.curves(adaptx.sgd(rate), given, steps, 2)
    for seed in (0, 1):
        x = script.drawn(given, steps, seed)[0].astype(np.float64)
        h = given.h.astype(np.float64)
        want = [0.5 * np.sum(h * ((1 - rate * h) ** t * x) ** 2) for t in range(steps + 1)]
        np.testing.assert_allclose(found[seed], want, rtol=1e-4)


def test_noise_is_a_tenth_of_the_first_gradient():
    given = script.problem((8, 16))
    xi = script.drawn(given, 400, 3)[1]
    first = np.sum(given.h.astype(np.float64) ** 2)  # E‖g₀‖², as x₀ ~ N(0, 1)
    assert np.mean(np.sum(xi**2, (1, 2))) == pytest.approx(0.01 * first, rel=0.05)
    assert script.drawn(given, 2, 3)[0].std() == pytest.approx(1, rel=0.2)


class Told:
    """Instead of an optimizer: the next x is what it was given."""

    def __init__(self, what):
        self.what, self.requires = what, frozenset({"value", "hessian"})

    def init(self, x):
        return ()

    def step(self, grad, state, x, **given):
        return {"grad": grad, **given}[self.what] + 0 * x, state


def test_loss_gradient_and_hessian_are_those_of_one_sample():
    given = script.problem((2, 2))
    x, (xi,) = script.drawn(given, 1, 0)
    grad = given.h * x + xi
    value = np.full((2, 2), np.sum(given.h * (x + xi / given.h) ** 2) / 2)
    for what, want in (("grad", grad), ("value", value), ("hessian", given.h)):
        after = script.curves(Told(what), given, 1, 1)[0, 1]
        assert after == pytest.approx(float(np.sum(given.h * want**2) / 2), rel=1e-5), what


def test_a_pair_is_judged_by_its_worst_seed(monkeypatch):
    curves = np.ones((3, 101))
    curves[0, -50:], curves[1, -50:], curves[2, -25:] = 0.5, 0.25, 4.0
    monkeypatch.setattr(script, "curves", lambda *_: curves)
    row = script.tried("adam", "polyak", script.problem((2, 2)), 100, 3)
    assert (row["ratio"], row["ratios"], row["diverges"]) == (2.5, [0.5, 0.25, 2.5], True)
    assert row["derived"] is False
    curves[1, -1] = np.nan
    row = script.tried("sgd", "polyak", script.problem((2, 2)), 100, 3)
    assert (row["ratio"], row["ratios"][1], row["diverges"], row["derived"]) == (None, None, True, True)


def test_a_refusal_is_a_row_with_its_sentence(monkeypatch):
    def refuses(*_):
        raise ValueError("no, not these two.")

    monkeypatch.setattr(script, "built", refuses)
    row = script.tried("adam", "polyak", script.problem((2, 2)), 1, 1)
    assert row == {"optimizer": "adam", "controller": "polyak", "refused": "no, not these two."}
    assert script.report([row]).splitlines()[-2:] == [
        "adam × polyak: no, not these two.", "1 pairs, 1 refused, 0 end above their start"
    ]  # fmt: skip
    assert script.diverging([row]) == {"polyak": {}}


@pytest.mark.slow
def test_the_quick_run_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    path, shown = tmp_path / "out.json", tmp_path / "shown.json"
    monkeypatch.setattr(script, "SHOWN", shown)

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["noisy_quadratic.py", "--quick", "--output", str(path), *arguments])
        script.main()
        return {
            (row["optimizer"], row["controller"]): row
            for row in json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)["results"]
        }

    first = main("--optimizers", "sgd", "--controllers", "constant", "hypergradient_additive")
    assert list(first) == [("sgd", "constant"), ("sgd", "hypergradient_additive")]
    assert first["sgd", "constant"]["ratio"] < 1
    second = main("--optimizers", "lamb", "--controllers", "constant", "l4")
    assert list(second) == [*first, ("lamb", "constant")], "lamb has a controller of its own"
    third = main("--optimizers", "muon", "sophia", "--controllers", "constant")
    assert list(third)[-3:] == [("muon", "constant"), ("sophia", "constant"), ("lamb", "constant")]
    assert "not finite" not in capsys.readouterr().err
    assert not shown.exists(), "a quick run is not what is shown"
    with pytest.raises(SystemExit, match=r"out.json was measured with other settings; move it away"):
        main("--steps", "10")


def test_what_is_shown_is_written_once_all_pairs_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(script, "SHOWN", tmp_path / "shown.json")
    given = argparse.Namespace(quick=False, steps=script.STEPS, output=tmp_path / "out.json")
    rows = {
        pair: {"optimizer": pair[0], "controller": pair[1], "ratio": 2.0, "diverges": pair[1] == "dog"}
        for pair in script.pairs(list(optimizers.ALL), list(script.NAMES))
    }
    last = rows.popitem()
    script.save(given, {}, rows)
    assert not script.SHOWN.exists()
    assert script.save(given, {}, {**rows, last[0]: last[1]}) == [*rows.values(), last[1]]
    found = json.loads(script.SHOWN.read_text(encoding="utf-8"))
    assert list(found) == list(script.NAMES)
    assert found["dog"] == {name: 2.0 for name in optimizers.ALL if name not in ("lars", "lamb")}
    assert not any(over for name, over in found.items() if name != "dog")


def measured():
    return json.loads((FOLDER / "results" / "noisy_quadratic.json").read_text(encoding="utf-8"))["results"]


def test_what_is_shown_is_what_was_measured():
    assert json.loads(script.SHOWN.read_text(encoding="utf-8")) == script.diverging(measured()) == cards.diverging()


def test_every_name_is_known_and_every_pair_was_tried():
    assert list(cards.diverging()) == ["constant", *controllers.ALL]
    assert {name for over in cards.diverging().values() for name in over} <= set(optimizers.ALL)
    tried = [(row["optimizer"], row["controller"]) for row in measured()]
    wanted = script.pairs(list(optimizers.ALL), list(script.NAMES))
    assert tried == wanted, "run python benchmarks/noisy_quadratic.py: it tries the pairs that are missing"


@pytest.mark.parametrize("name", script.NAMES[1:])
def test_cards_name_what_diverges(name):
    over = cards.diverging()[name]
    told = dict(cards.card(name).facts)["on a noisy quadratic"]
    assert told.startswith("ends above its start over " if over else "stays below its start over every rule")
    for other, ratio in over.items():
        end = "not finite" if ratio is None else f"{ratio:.3g}×"
        assert f"{other} ({end})" in told
        assert f" {name} ({end})" in dict(cards.card(other).facts)["on a noisy quadratic"]


def test_cards_of_what_never_diverges_and_of_what_is_new(monkeypatch):
    found = {"constant": {"lamb": 3.3, "adam": 2e7}, "dog": {"adam": None, "sgd": 1.25}, "l4": {"adam": 2.0}}
    monkeypatch.setattr(cards, "diverging", lambda: found)
    facts = {name: dict(cards.card(name).facts).get("on a noisy quadratic", "")
             for name in ("dog", "dowg", "adam", "lion", "lamb", "lars")}  # fmt: skip
    assert {name: told.partition(";")[0] for name, told in facts.items()} == {
        "dog": "ends above its start over adam (not finite), sgd (1.25×)",
        "dowg": "",
        "adam": "ends above its start at its default rate (2e+07×), with dog (not finite), l4 (2×)",
        "lion": "stays below its start at its default rate and with every controller",
        "lamb": "ends above its start at its default rate (3.3×)",
        "lars": "stays below its start at its default rate",
    }


def test_the_table_counts_and_lists():
    row = {"optimizer": "adam", "controller": "l4", "ratio": 3.3, "diverges": True}
    rows = [{**row, "ratio": 0.5, "controller": "constant", "diverges": False}, row,
            {**row, "optimizer": "sgd", "ratio": None},
            {"optimizer": "sgd", "controller": "dog", "refused": "no."}]  # fmt: skip
    told = readme.noisy_quadratic({"settings": {"seeds": 3}, "results": rows}).splitlines()
    assert told[0] == "3 pairs and 1 optimizers alone tried, 1 refused, 2 end above their start."
    assert told[-1] == "| `l4` | 2 | `adam` 3.3×, `sgd` not finite |"
