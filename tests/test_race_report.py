"""The report folder of a small race: complete, self-contained, and either whole or not there."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import adaptx
from adaptx.cli.main import main
from adaptx.cli.race import contest, contestants, data, report
from adaptx.cli.race.summary import summarize

NAMES = ["sgd", "adam"]
SETTINGS = contest.Settings(steps=12, batch_size=16, hidden=8, seeds=2, grid=(1e-2, 1e30, 3), evaluations=3)
ARGUMENTS = [
    "--data",
    "wine",
    "--optimizers",
    "sgd,adam",
    "--steps",
    "12",
    "--batch-size",
    "16",
    "--hidden",
    "8",
    "--seeds",
    "2",
    "--grid",
    "1e-2:1:3",
]


@pytest.fixture(scope="module")
def small_race():
    """A race in which sgd diverges at two of three rates, and one contestant has no rate."""
    dataset = data.load("wine")
    free = contestants.Contestant("free", lambda rate: adaptx.adam(0.01), tuned=False)
    courses = [contest.run(contestant, dataset, SETTINGS) for contestant in (*contestants.choose(NAMES), free)]
    return dataset, SETTINGS, courses, summarize(courses)


@pytest.fixture(scope="module")
def folder(small_race, tmp_path_factory):
    path = tmp_path_factory.mktemp("race") / "new" / "folder"
    report.write(path, *small_race)
    return path


def test_the_folder_holds_the_two_files(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "results.json"]


def test_results_are_strict_json_with_every_run(folder, small_race):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    results = json.loads((folder / "results.json").read_text(), parse_constant=refuse)
    assert results["schema"] == report.SCHEMA
    assert set(results) == {
        "schema", "versions", "data", "settings", "target_loss", "verdict", "ranking", "contestants",
    }  # fmt: skip
    assert results["data"]["rows"] == {"train": 106, "validation": 36, "test": 36}
    assert results["settings"]["steps"] == 12
    assert results["settings"]["grid"] == [0.01, 1e30, 3]
    assert [contestant["name"] for contestant in results["contestants"]] == [*NAMES, "free"]
    for contestant, course in zip(results["contestants"], small_race[2], strict=True):
        for name, values in course.measured._asdict().items():
            np.testing.assert_allclose(
                np.array(contestant[name], float), np.where(np.isfinite(values), values, np.nan), 1e-5
            )
        assert set(contestant["summary"]) >= {
            "best_rate", "accuracy_mean", "accuracy_sd", "steps_to_target", "width", "low", "high", "cut", "diverged",
        }  # fmt: skip
    assert results["contestants"][0]["summary"]["diverged"] >= 1
    assert results["contestants"][2]["rates"] == [None]


def test_the_page_has_every_curve_and_needs_nothing_else(folder):
    page = (folder / "report.html").read_text(encoding="utf-8")
    for name in (*NAMES, "free"):
        for figure in ("loss", "accuracy", "sensitivity"):
            assert page.count(f'id="{figure}-{name}"') == 1, f"no {figure} curve of {name}"
        assert f"<td>{name}</td>" in page
    assert page.count("<svg") == page.count("</svg>") == 3
    links = re.findall(r"""\b(?:src|href|srcset|action|data)\s*=\s*["'](?!#)[^"']*|url\((?!#)[^)]*\)|@import""", page)
    assert links == []
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, "more than XML namespaces"
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "two elements share an id"
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids), "a reference inside the page leads nowhere"


def test_the_page_is_the_same_every_time(folder, small_race):
    assert report.as_html(*small_race) == (folder / "report.html").read_text(encoding="utf-8")


def test_names_are_escaped(small_race):
    dataset, *rest = small_race
    page = report.as_html(
        data.Dataset("<b>.csv", dataset.train, dataset.validation, dataset.test, ("a", "b", "c")), *rest
    )
    assert "<b>.csv" not in page
    assert "&lt;b&gt;.csv" in page


@pytest.mark.parametrize("failing", ["replace", "fdopen"])
def test_a_failure_leaves_no_half_file(small_race, tmp_path, monkeypatch, failing):
    (tmp_path / "results.json").write_text("{}")

    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(report.InputError, match="No space left on device"):
        report.write(tmp_path, *small_race)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert (tmp_path / "results.json").read_text() == "{}"


def test_the_command_prints_the_table_and_writes_the_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["race", *ARGUMENTS, "--output", str(tmp_path / "out")]) == 0
    out, _ = capsys.readouterr()
    for word in ("wine", "sgd", "adam", "best rate", "test acc.", "steps", "width", "seconds", "±", "report.html"):
        assert word in out, f"{word!r} is missing:\n{out}"
    assert "…" not in out, "a cell was cut off"
    first = json.loads((tmp_path / "out" / "results.json").read_text())
    assert main(["race", *ARGUMENTS, "--output", str(tmp_path / "out")]) == 0
    second = json.loads((tmp_path / "out" / "results.json").read_text())
    for one, two in zip(first["contestants"], second["contestants"], strict=True):
        assert [one[key] for key in contest.Measured._fields] == [two[key] for key in contest.Measured._fields]


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_a_file_of_the_user_is_raced(tmp_path, capsys, kind):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 2))
    y = (x[:, 0] > 0).astype(int)
    path = tmp_path / f"mine.{kind}"
    if kind == "csv":
        path.write_text(
            "a,b,side\n" + "".join(f"{a},{b},{'right' if c else 'left'}\n" for (a, b), c in zip(x, y, strict=True))
        )
    else:
        np.savez(path, X=x, side=y)
    options = ["--optimizers", "adam", "--steps", "40", "--seeds", "2", "--grid", "1e-3:1:4"]
    assert main(["race", "--data", str(path), "--target", "side", *options, "--output", str(tmp_path / "out")]) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["data"]["classes"] == (["left", "right"] if kind == "csv" else ["0", "1"])
    assert results["settings"]["batch_size"] == 36, "fewer training rows than the preset batch"
    assert results["contestants"][0]["summary"]["accuracy_mean"] > 0.8
    assert f"mine.{kind}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_real_quick_race(tmp_path):
    command = [sys.executable, "-m", "adaptx", "race", "--quick", "--output", str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [contestant["name"] for contestant in results["contestants"]] == list(contestants.CLASSICAL)
    assert max(contestant["summary"]["accuracy_mean"] for contestant in results["contestants"]) > 0.95
