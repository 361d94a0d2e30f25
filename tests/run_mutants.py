"""Plant every mistake of mutants.toml in a copy of the tree, one at a time, and see that the suite catches it.

    python tests/run_mutants.py            # all of them, ten minutes or more
    python tests/run_mutants.py swapped    # those whose name contains a word

Prints one line each: killed, SURVIVED, or BROKEN (the mutant no longer applies, or does not import). Exits with 1
unless every mutant is killed. The selections are first run on the unchanged tree, where they must pass.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPTIONS = [
    "-x",
    "-q",
    "-n",
    "0",
    "-p",
    "no:cacheprovider",
    "-m",
    "catalogue or not slow",
]  # whatever turns.py leaves out
PASSED, FAILED = 0, 1  # pytest's exit codes; the rest are usage and collection errors


def environment(tree: Path) -> dict[str, str]:
    """That of a process which imports the copy."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def run_tests(tree: Path, selection: list[str]) -> int:
    """Pytest's exit code for a selection in a copy of the tree."""
    command = [sys.executable, "-m", "pytest", *OPTIONS, *selection]
    return subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True).returncode


def verdict(tree: Path, mutant: dict) -> str:
    """Apply a mutant, run its tests, take it back."""
    path = tree / mutant["file"]
    text = path.read_text("utf-8")
    if text.count(mutant["old"]) != 1:
        return f"BROKEN: its text stands {text.count(mutant['old'])} times in {mutant['file']}, expected once"
    path.write_text(text.replace(mutant["old"], mutant["new"]), "utf-8")
    try:
        code = run_tests(tree, mutant["tests"])
    finally:
        path.write_text(text, "utf-8")
    if code == FAILED:
        return "killed"
    return "SURVIVED" if code == PASSED else f"BROKEN: pytest exited with {code}"


# every selection in one process, which imports jax and compiles what they share once
ALL_AT_ONCE = """
import json, sys
import pytest
options, selections = json.loads(sys.argv[1])
codes = [int(pytest.main([*options, *selection])) for selection in selections]
print("codes", *codes)
"""


def unchanged_fails(tree: Path, mutants: list[dict]) -> list[str]:
    """Selections that do not pass although nothing was changed."""
    selections = list(dict.fromkeys(tuple(m["tests"]) for m in mutants))
    command = [sys.executable, "-c", ALL_AT_ONCE, json.dumps([OPTIONS, selections])]
    done = subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True, text=True)
    last = (done.stdout.splitlines() or [""])[-1].split()
    if last[:1] != ["codes"]:
        return [f"(none finished) {done.stderr[-500:]}"]
    return [" ".join(s) for s, code in zip(selections, map(int, last[1:]), strict=True) if code != PASSED]


def main(words: list[str]) -> int:
    """Run the mutants whose name contains one of the words (all without words); the exit code."""
    every = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text("utf-8"))["mutant"]
    mutants = [m for m in every if not words or any(w in m["name"] for w in words)]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("adaptx", "tests"):
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        shutil.copy(ROOT / "README.md", tree) if (ROOT / "README.md").exists() else None
        for selection in (wrong := unchanged_fails(tree, mutants)):
            print(f"FAILS UNCHANGED: pytest {selection}", flush=True)
        verdicts = []
        for m in mutants:
            start = time.perf_counter()
            verdicts.append(verdict(tree, m))
            print(f"{verdicts[-1]:9}  {m['name']}  ({time.perf_counter() - start:.0f} s)", flush=True)
    killed = verdicts.count("killed")
    print(f"{killed} of {len(mutants)} mutants killed")
    return 0 if killed == len(mutants) > 0 and not wrong else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
