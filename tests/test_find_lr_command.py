"""adaptx find-lr: what it prints and writes, and the sentences for what is wrong."""

import json
import textwrap

import numpy as np
import pytest

import adaptx
from adaptx.cli.main import main

PROBLEM = """
import jax.numpy as jnp
import numpy as np
def problem():
    return (lambda p, x: 0.5 * jnp.sum((p - jnp.mean(x)) ** 2)), np.ones(5, np.float32), np.zeros((8, 1), np.float32)
def two():
    return 1, 2
def keys():
    return (lambda p, x: p["zz"].sum()), {"a": np.ones(3, np.float32)}, np.ones((8, 1), np.float32)
def broken():
    raise RuntimeError("out of order")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "ranged.py").write_text(textwrap.dedent(PROBLEM), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def test_a_function_of_ones_own(folder, capsys):
    assert main(["find-lr", "ranged:problem", "--optimizer", "sgd", "--json", "found.json", "--plot", "found.svg"]) == 0
    out = capsys.readouterr().out
    saved = json.loads((folder / "found.json").read_text("utf-8"))
    assert 0.02 < saved["suggestion"] < 2
    assert f"adaptx.sgd({float('%.2g' % saved['suggestion']):g})" in out  # noqa: UP031
    assert len(saved["rates"]) == len(saved["losses"]) == len(saved["smoothed"])
    assert (folder / "found.svg").stat().st_size > 1000


def test_a_data_set(capsys):
    assert main(["find-lr", "wine", "--steps", "60"]) == 0
    out = capsys.readouterr().out
    assert "wine, adam: a learning rate of" in out
    assert "where the loss was smallest" in out


def test_it_is_the_library_function(folder):
    import ranged

    main(["find-lr", "ranged:problem", "--optimizer", "sgd", "--seed", "3", "--json", "found.json"])
    found = adaptx.find_lr(*[ranged.problem()[0], adaptx.sgd(), *ranged.problem()[1:]], seed=3)
    np.testing.assert_allclose(json.loads((folder / "found.json").read_text("utf-8"))["suggestion"], found.suggestion)


WRONG = {
    "no data": (["nowhere"], "nowhere"),
    "no function": (["ranged:nothing"], "there is no 'nothing' in ranged"),
    "no module": (["nomodule:f"], "the module 'nomodule' cannot be imported"),
    "halves": ([":f"], "expected module:function"),
    "two things": (["ranged:two"], "returned 2 things"),
    "it raises": (["ranged:broken"], "raised RuntimeError: out of order"),
    "it cannot be called": (["ranged:keys"], "look at loss_fn"),
    "a target": (["ranged:problem", "--target", "y"], "leave --target out"),
    "optimizer": (["ranged:problem", "--optimizer", "adm"], "did you mean 'adam'?"),
    "range": (["ranged:problem", "--low", "1", "--high", "0.1"], "low must be less than high"),
    "steps": (["ranged:problem", "--steps", "2"], "--steps 2: expected a number of at least 20"),
    "the rate": (["wine", "--set", "learning_rate=0.1"], "the learning rate is what is looked for"),
    "more than a loss": (["wine", "--optimizer", "sophia"], "sophia requires hessian"),
    "storage": (["wine", "--set", "storage=int3"], "storage"),
    "batch": (["wine", "--batch-size", "100000"], "there are only"),
    "no batch": (["wine", "--batch-size", "0"], "expected a number of at least 1"),
    "no file": (["ranged:problem", "--json", "none/found.json"], "cannot be written"),
    "no picture": (["ranged:problem", "--plot", "found.nonsense"], "cannot be written"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_one_sentence(name, capsys):
    arguments, words = WRONG[name]
    assert main(["find-lr", *arguments]) == 2
    said = capsys.readouterr()
    assert words in " ".join(said.err.split())
    assert said.err.count("\n") <= 3
    assert "Traceback" not in said.err
