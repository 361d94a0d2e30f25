"""`adaptx race` with controllers: names, who has a rate to tune, the figure of the rates."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from adaptx import controllers
from adaptx.cli import main
from adaptx.cli.race import command, contest, contestants, data, figures, report, sentences
from adaptx.cli.race.summary import summarize

SETTINGS = contest.Settings(steps=30, batch_size=16, hidden=8, seeds=2, grid=(1e-3, 1e-1, 3), evaluations=6)
RACERS = ["sgd", "adam+cosine", "sgd+hypergradient", "adam+prodigy+cosine", "sgd+polyak"]
WITHOUT_RATE = {"polyak", "l4", "dog", "ldog", "dowg", "dadapt", "prodigy", "mechanic", "cocob"}
VMAPPED_30_STEPS = 1e-4  # relative; float32 sums in another order, carried through 30 steps


@pytest.fixture(scope="module")
def wine():
    return data.load("wine")


@pytest.fixture(scope="module")
def small_race(wine):
    courses = [contest.run(contestant, wine, SETTINGS) for contestant in contestants.choose(RACERS)]
    return wine, SETTINGS, courses, summarize(courses)


@pytest.fixture(scope="module")
def courses(small_race):
    return {course.name: course for course in small_race[2]}


@pytest.mark.parametrize("name", controllers.ALL)
def test_a_controller_without_a_rate_is_not_tuned(name):
    assert contestants.contestant(f"sgd+{name}").tuned == (name not in WITHOUT_RATE)
    scheduled = contestants.contestant(f"sgd+{name}+cosine")
    assert scheduled.scheduled
    assert scheduled.tuned == (name not in WITHOUT_RATE)


def test_names_say_what_they_are():
    adam = contestants.contestant("adam+prodigy").optimizer(np.nan, 100)
    assert adam.controller == controllers.prodigy()
    assert type(adam.rule).__name__ == "Adam"
    nesterov = contestants.contestant("nesterov+hypergradient+cosine").optimizer(0.1, 100)
    assert nesterov.rule.nesterov
    np.testing.assert_allclose(nesterov.controller.base.second.schedule(50), 0.5, rtol=1e-6)
    assert not contestants.contestant("adam+cosine").optimizer(0.1, 100).controller.measured
    names = ["adam", *contestants.CONTROLLED, "adam"]
    assert [one.name for one in contestants.choose(names)] == names[:-1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("adamm+prodigy", ["'adamm'", "sgd", "adamw"]),
        ("adam+prodigee", ["adam+prodigee", "'prodigee'", "prodigy", "mechanic", "cosine"]),
        ("adam+", ["adam+", "''", "prodigy"]),
        ("adam+cosine+prodigy", ["adam+cosine+prodigy", "rule+controller+cosine", "+cosine+prodigy"]),
        ("adam+prodigy+cosine+cosine", ["+cosine+cosine"]),
    ],
)
def test_unknown_names_are_refused_in_one_sentence(name, said, tmp_path, capsys):
    assert main.main(["race", "--optimizers", f"sgd,{name}", "--output", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(word in err for word in said), err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", [[], ["--controllers"]])
def test_the_flag_adds_the_controllers(flag, tmp_path, monkeypatch):
    seen = []

    def stop(chosen, *others):
        seen.extend(one.name for one in chosen)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_race", stop)
    assert main.main(["race", "--optimizers", "adam,sgd+dog", *flag, "--output", str(tmp_path / "out")]) == 130
    added = [name for name in contestants.CONTROLLED if name != "sgd+dog"] if flag else []
    assert seen == ["adam", "sgd+dog", *added]


def test_a_course_records_the_rate_the_controller_used(courses):
    used = {name: course.measured.learning_rate[..., 1:] for name, course in courses.items()}
    assert {name: values.shape for name, values in used.items()} == {
        "sgd": (3, 2, 6), "adam+cosine": (3, 2, 6), "sgd+hypergradient": (3, 2, 6), "adam+prodigy+cosine": (1, 2, 6),
        "sgd+polyak": (1, 2, 6),
    }  # fmt: skip
    last = 0.5 * (1 + np.cos(np.pi * 29 / 30))  # the cosine at step 29, the last
    np.testing.assert_allclose(used["adam+cosine"][..., -1], np.outer(SETTINGS.rates, [last, last]), rtol=1e-4)
    assert np.all(used["sgd+hypergradient"][0, :, -1] > 2e-3), "from 1e-3 the rate should have risen"
    assert np.all(used["adam+prodigy+cosine"] > 0)
    losses = courses["sgd+polyak"].measured.train_loss
    assert np.all(losses[..., -1] < 0.5 * losses[..., 0]), "without the loss Polyak's rate could not be formed"


def test_a_member_under_a_controller_equals_its_run_without_the_others(wine, courses):
    alone = contest.Settings(**{**vars(SETTINGS), "grid": (1e-2, 1e-1, 2), "seeds": 1})
    course = contest.run(contestants.contestant("sgd+hypergradient"), wine, alone)
    for one, many in zip(course.measured, courses["sgd+hypergradient"].measured, strict=True):
        np.testing.assert_allclose(one[:, 0], many[1:, 0], rtol=VMAPPED_30_STEPS)


def test_the_table_tells_found_rates_from_chosen_ones(small_race):
    table = {row.name: row for row in small_race[3].rows}
    assert {name for name, row in table.items() if row.found} == {"adam+prodigy+cosine", "sgd+polyak"}
    assert "†" in sentences.cells(table["sgd+polyak"])[1]
    assert "†" not in sentences.cells(table["sgd+hypergradient"])[1]
    hypergradient = table["sgd+hypergradient"]
    assert hypergradient.best_rate == SETTINGS.rates[hypergradient.best].astype(np.float32)
    assert any(note.startswith("†") for note in sentences.notes(small_race[3]))


def test_the_report_gains_the_curve_of_every_rate(small_race, tmp_path):
    page = report.write(tmp_path, *small_race).read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "<h2>Learning rate</h2>" in page
    for name in RACERS:
        assert page.count(f'id="rate-{name}"') == 1
        curve = re.search(rf'id="rate-{re.escape(name)}">.*?\bd="([^"]*)"', page, re.DOTALL)
        assert curve
        assert len(re.findall(r"[ML]", curve[1])) >= 2
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [one["summary"]["found"] for one in results["contestants"]] == [False, False, False, True, True]


def test_constant_rates_get_no_figure(small_race):
    wine, settings, courses, _ = small_race
    page = report.as_html(wine, settings, courses[:1], summarize(courses[:1]))
    assert page.count("<svg") == 3
    assert "rate-sgd" not in page


def test_a_rate_of_zero_or_a_lost_run_is_drawn_as_nothing(small_race):
    course = small_race[2][1]
    gone = contest.Measured(*(values * np.nan for values in course.measured))
    frozen = contest.Measured(*course.measured[:3], course.measured.learning_rate * 0)
    lost = [contest.Course(name, course.rates, course.steps, measured, 1.0, 1.0)
            for name, measured in (("gone", gone), ("frozen", frozen))]  # fmt: skip
    svg = figures.rate_curves(lost, summarize(lost))
    assert 'id="rate-gone"' in svg
    assert "nan" not in svg.lower().replace("finance", "")


@pytest.mark.slow
def test_the_longest_name_fits_into_eighty_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    options = ["--data", "wine", "--steps", "12", "--seeds", "2", "--hidden", "4", "--grid", "1e-2:1:2"]
    names = "adam+prodigy+cosine,sgd"
    assert main.main(["race", "--optimizers", names, *options, "--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.strip().startswith("adam+prodigy+cosine ")]
    assert "†" in line
    assert "±" in line
    assert max(map(len, lines[:6])) <= 80


@pytest.mark.slow
def test_the_real_quick_race_with_controllers(tmp_path):
    command = [sys.executable, "-m", "adaptx", "race", "--quick", "--controllers", "--output", str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    names = [contestant["name"] for contestant in results["contestants"]]
    assert names == [*contestants.CLASSICAL, *contestants.CONTROLLED]
    accuracy = {one["name"]: one["summary"]["accuracy_mean"] for one in results["contestants"]}
    assert min(accuracy[name] for name in contestants.CONTROLLED) > 0.9
