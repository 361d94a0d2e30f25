"""Examples and the README's Python run as a user would run them, and every benchmark script in its quick form."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BENCHMARKS = {
    "step_time.py": ["--leaves", "10", "--rows", "adam", "adamw+clip", "--processes", "1"],
    "compile_time.py": ["--leaves", "4", "--rows", "adam", "--processes", "1"],
    "before_after.py": ["--before", str(ROOT), "--samples", "1"],  # with itself: every count is equal
    "memory.py": ["--trees", "large", "--processes", "1"],
    "layout.py": ["--processes", "1"],
    "sweep.py": [],
}


# one after the other in one interpreter, which imports jax once
ONE_BY_ONE = """
import runpy, sys
for path in sys.argv[1:]:
    sys.argv = [path]
    print("example", path, flush=True)
    runpy.run_path(path, run_name="__main__")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter on the CPU, with this checkout's package; adaptx's warnings are errors."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error:::adaptx", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


def test_there_are_examples():
    assert {path.stem for path in EXAMPLES} >= {
        "minimize_quadratic", "linear_regression", "two_layer_network", "by_hand", "sweep", "layerwise_rates",
    }  # fmt: skip


@pytest.mark.slow
def test_every_example_runs_and_prints_its_result():
    done = run("-c", ONE_BY_ONE, *map(str, EXAMPLES))
    assert done.returncode == 0, done.stdout + done.stderr
    printed = done.stdout.split("example " + str(ROOT))[1:]
    silent = [said.splitlines()[0] for said in printed if not said.partition("\n")[2].strip()]
    assert len(printed) == len(EXAMPLES)
    assert not silent


def test_the_readme_s_python_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["metrics"]["loss"] < 1e-3
    assert 0 < np.argmin(names["losses"]) < 64
    data, start = (np.asarray(names["x"]), np.asarray(names["y"])), {"w": np.zeros(10, "f"), "b": np.zeros((), "f")}
    loss, opt, fresh = names["loss"], names["adaptx"].adam(0.1), jax.tree.map(jax.numpy.array, start)
    fitted = names["adaptx"].fit(loss, opt, start, data, steps=25, batch_size=100, progress=False)
    by_hand = names["trained"](loss, opt, fresh, data, 25, 100)
    for one, other in zip(jax.tree.leaves(fitted.params), jax.tree.leaves(by_hand[0]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, err_msg="what fit does is not what the README says")


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_quick(name, tmp_path):
    output = tmp_path / "out.json"
    done = run(str(ROOT / "benchmarks" / name), "--quick", "--output", str(output), *BENCHMARKS[name])
    assert done.returncode == 0, done.stderr
    text = output.read_text(encoding="utf-8")
    found = json.loads(text)
    assert found["quick"]
    assert found["machine"]["platform"] == "cpu"
    assert str(ROOT) not in text, "results hold no paths"
    for result in found.get("results", []):
        if name == "step_time.py":
            assert result["largest_difference_from_optax"] < 1e-4  # both took the same steps; f32 over some tens
        if name == "before_after.py" and not isinstance(result["ratio"], dict):
            assert result["before"] == result["after"], result["what"]
