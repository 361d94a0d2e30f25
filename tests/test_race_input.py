"""`adaptx race` refuses bad input with one sentence and exit code 2, and reads good files as they are meant."""

import subprocess
import sys

import numpy as np
import pytest

from adaptx import __main__ as entry
from adaptx.cli.main import main
from adaptx.cli.race import contest, data
from adaptx.cli.race.readers import BUILTIN, read

GOOD_ROWS = "".join(f"{i},{i % 3},{'yes' if i % 2 else 'no'}\n" for i in range(40))
GOOD = "height,weight,label\n" + GOOD_ROWS

# what is in data.csv, the arguments after --data data.csv, words the sentence must have
BAD_CSV = [
    ("no target", GOOD, [], ["--target", "'height'", "'weight'", "'label'"]),
    ("unknown column", GOOD, ["--target", "colour"], ["'colour'", "'height'", "'label'"]),
    ("text", GOOD + "tall,1,yes\n", ["--target", "label"], ["'height'", "line 42", "'tall'", "number"]),
    ("nan", GOOD + "1,NaN,yes\n", ["--target", "label"], ["'weight'", "line 42", "NaN"]),
    ("infinite", GOOD + "inf,1,yes\n", ["--target", "label"], ["'height'", "line 42", "inf", "finite"]),
    ("empty cell", GOOD + "1,,yes\n", ["--target", "label"], ["'weight'", "line 42", "empty"]),
    ("no label", GOOD + "1,2,\n", ["--target", "label"], ["'label'", "line 42", "empty"]),
    ("short line", GOOD + "1,2\n", ["--target", "label"], ["line 42", "2 cells", "3"]),
    ("same name", "a,a,label\n" + GOOD_ROWS, ["--target", "label"], ["more than one column 'a'"]),
    ("header only", "a,b,label\n", ["--target", "label"], ["rows of data"]),
    ("empty", "", ["--target", "label"], ["rows of data"]),
    ("target only", "label\nyes\nno\n", ["--target", "label"], ["'label' is the only column"]),
    ("one class", "a,label\n" + "1,yes\n" * 20, ["--target", "label"], ["class yes", "two classes"]),
    ("few rows", GOOD + "1,1,maybe\n", ["--target", "label"], ["too few rows", "1 of class 'maybe'"]),
    (
        "measurement",
        "a,b\n" + "".join(f"{i},0\n" for i in range(40)),
        ["--target", "a"],
        ["too few rows", "measurement"],
    ),
    ("huge", GOOD + "1e300,1,yes\n-1e308,1,yes\n" * 5, ["--target", "label"], ["'height'", "too large"]),
]

X, Y = np.arange(80.0).reshape(20, 4), np.arange(20) % 2
BAD_NPZ = [
    ("no labels", {"X": X, "labels": Y}, [], ["no array 'y'", "'labels'", "--target"]),
    ("no such array", {"X": X, "y": Y}, ["--target", "z"], ["no array 'z'"]),
    ("no features", {"y": Y}, [], ["features", "'X'"]),
    ("which features", {"a": X, "b": X, "y": Y}, [], ["'a'", "'b'", "rename"]),
    ("flat", {"X": X[:, 0], "y": Y}, [], ["'X'", "(rows, columns)", "(20,)"]),
    ("text", {"X": X.astype(str), "y": Y}, [], ["'X'", "numbers"]),
    ("lengths", {"X": X, "y": Y[:-1]}, [], ["'y'", "20 rows", "(19,)"]),
    ("nan", {"X": np.where(X == 9, np.nan, X), "y": Y}, [], ["'X'", "nan", "row 2", "column 1"]),
    ("nan label", {"X": X, "y": np.where(Y == 1, np.nan, 0.0)}, [], ["'y'", "nan", "row 1"]),
    ("objects", {"X": X, "y": np.array([{}] * 20, dtype=object)}, [], ["plain arrays"]),
]

BAD_OPTIONS = [
    (["--data", "iris"], ["iris", "digits", ".csv"]),
    (["--data", "gone.csv", "--target", "y"], ["gone.csv", "no such file"]),
    (["--data", "wine", "--target", "y"], ["--target", "known target"]),
    (["--optimizers", "adam,adamm"], ["'adamm'", "sgd", "adamw"]),
    (["--optimizers", ","], ["at least one of"]),
    (["--grid", "1e-4:1"], ["--grid", "LOW:HIGH:N"]),
    (["--grid", "a:1:3"], ["--grid", "LOW:HIGH:N"]),
    (["--grid", "1:0.1:3"], ["--grid", "0 < LOW < HIGH"]),
    (["--grid", "0:1:3"], ["--grid", "0 < LOW < HIGH"]),
    (["--grid", "nan:1:3"], ["--grid", "0 < LOW < HIGH"]),
    (["--grid", "0.1:1:1"], ["--grid", "at least 2"]),
    (["--steps", "0"], ["--steps 0", "at least 1"]),
    (["--steps", "many"], ["--steps", "integer"]),
    (["--seeds", "-1"], ["--seeds -1", "at least 1"]),
    (["--hidden", "0"], ["--hidden 0", "at least 1"]),
    (["--batch-size", "0"], ["--batch-size 0", "at least 1"]),
    (["--batch-size", "5000"], ["--batch-size 5000", "1079 training rows"]),
    (["--output", "file"], ["--output file", "is a file"]),
    (["--output", "file/deeper"], ["--output", "is a file"]),
    (["--fast"], ["--fast"]),
]


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys):
    """Runs `adaptx race`, which must fail, and gives its sentence."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")

    def run(*arguments: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        code = main(["race", *arguments])
        out, err = capsys.readouterr()
        assert code == 2
        assert out == ""
        assert len(err.splitlines()) == 1, err
        assert sorted(tmp_path.rglob("*")) == before, "a refused race left files behind"
        return err

    return run


@pytest.mark.parametrize(("text", "arguments", "words"), [case[1:] for case in BAD_CSV], ids=[c[0] for c in BAD_CSV])
def test_bad_csv(refusal, tmp_path, text, arguments, words):
    (tmp_path / "data.csv").write_text(text)
    sentence = refusal("--data", "data.csv", *arguments)
    assert all(word in sentence for word in ("data.csv", *words)), sentence


@pytest.mark.parametrize(("arrays", "arguments", "words"), [case[1:] for case in BAD_NPZ], ids=[c[0] for c in BAD_NPZ])
def test_bad_npz(refusal, tmp_path, arrays, arguments, words):
    np.savez(tmp_path / "data.npz", **arrays)
    sentence = refusal("--data", "data.npz", *arguments)
    assert all(word in sentence for word in ("data.npz", *words)), sentence


@pytest.mark.parametrize(("arguments", "words"), BAD_OPTIONS, ids=lambda value: " ".join(value))
def test_bad_options(refusal, arguments, words):
    sentence = refusal(*arguments)
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("content", [b"not a zip", b"", b"PK\x03\x04 cut short", "größe,y\n1,2\n".encode("latin-1")])
@pytest.mark.parametrize("name", ["data.npz", "data.csv"])
def test_files_of_another_kind(refusal, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert name in refusal("--data", name, "--target", "y")


def test_a_folder_is_no_file(refusal, tmp_path):
    (tmp_path / "data.csv").mkdir()
    assert "no such file" in refusal("--data", "data.csv", "--target", "y")


def test_the_real_program_says_one_sentence():
    command = [sys.executable, "-m", "adaptx", "race", "--data", "gone.csv"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "gone.csv" in result.stderr


def test_an_interrupted_race_writes_nothing(tmp_path, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(contest, "run", interrupt)
    assert main(["race", "--output", str(tmp_path / "out")]) == 130
    assert "Interrupted" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(monkeypatch, capsys):
    monkeypatch.setattr(entry, "find_spec", lambda name: None if name == "sklearn" else name)
    with pytest.raises(SystemExit) as stop:
        entry.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip().endswith("needs scikit-learn; install with: pip install 'adaptx[race]'")


def test_help_is_printed_without_a_command(capsys):
    assert main([]) == 0
    assert "race" in capsys.readouterr().out
    assert main(["race", "--help"]) == 0
    assert "--grid" in capsys.readouterr().out


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_csv_is_read_as_it_stands(tmp_path, separator):
    path = tmp_path / "data.csv"
    path.write_text("﻿" + (GOOD + "\n").replace(",", separator), encoding="utf-8")
    examples = read(str(path), "label")
    assert examples.columns == ("height", "weight")
    np.testing.assert_array_equal(examples.features[:, 0], np.arange(40))
    np.testing.assert_array_equal(examples.labels[:3], ["no", "yes", "no"])


@pytest.mark.parametrize(("features", "key"), [("X", "y"), ("x", "y"), ("images", "digit")])
def test_npz_images_are_flattened(tmp_path, features, key):
    images = np.arange(160, dtype=np.uint8).reshape(10, 4, 4)
    np.savez(tmp_path / "data.npz", **{features: images, key: np.arange(10) % 2})
    examples = read(str(tmp_path / "data.npz"), None if key == "y" else key)
    np.testing.assert_array_equal(examples.features, images.reshape(10, 16))


@pytest.mark.parametrize("name", BUILTIN)
def test_built_in_data_are_split_by_class_and_standardized_by_training_rows(name):
    dataset, again = data.load(name), data.load(name)
    parts = dataset.train, dataset.validation, dataset.test
    total = sum(len(part.y) for part in parts)
    assert [round(len(part.y) / total, 1) for part in parts] == [0.6, 0.2, 0.2]
    shares = [np.bincount(part.y, minlength=len(dataset.classes)) / len(part.y) for part in parts]
    np.testing.assert_allclose(shares[1], shares[0], atol=0.03)
    np.testing.assert_allclose(shares[2], shares[0], atol=0.03)
    moving = dataset.train.x.std(0) > 0
    np.testing.assert_allclose(dataset.train.x.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(dataset.train.x.std(0)[moving], 1, rtol=1e-5)
    assert np.abs(dataset.test.x.mean(0)).max() > 1e-3, "the test rows took part in the standardization"
    np.testing.assert_array_equal(dataset.test.x, again.test.x)
