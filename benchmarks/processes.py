"""Each comparison again in interpreters of its own, and the median and range of what they found.

Where a process's arrays happen to lie decides part of every memory-bound time: the same two programs can differ by a
third in one process and not at all in the next. Peers therefore take turns within a process, which gives a ratio, and
the ratio is taken in several processes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROCESSES = 5  # a range of fewer says little

Run = dict[str, Any]  # {"facts": what every process finds alike, "measured": a tree of numbers}


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--processes` for users, `--process` for the processes that the script starts."""
    parser.add_argument("--processes", type=int, help=f"fresh processes of each comparison ({PROCESSES}, quick: 2)")
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)


def fresh(script: Path, options: list[str], index: int, package: Path = ROOT) -> Run:
    """What the script writes in an interpreter of its own that imports adaptx from a checkout."""
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "found.json"
        command = [sys.executable, *(f"-W{x}" for x in sys.warnoptions), str(script), *options]
        command += ["--process", str(index), "--output", str(output)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{script.name} {' '.join(options)} failed:\n{done.stderr}")
        return json.loads(output.read_text(encoding="utf-8"))


def hand_over(output: Path, run: Run) -> None:
    """Leaves a process's findings to the script that started it."""
    output.write_text(json.dumps(run), encoding="utf-8")


def repeated(
    script: Path, comparisons: dict[str, list[str]], processes: int, brief: Callable[[Run], str]
) -> dict[str, list[Run]]:
    """{comparison: what each of its processes found}; all once before any twice, so that a slow spell hits all.

    Args:
        script: is run with the options of a comparison, the index of the process and the file to write.
        comparisons: options by name.
        processes: of each comparison.
        brief: a few words on what a process found, for its line of progress.
    """
    found: dict[str, list[Run]] = {name: [] for name in comparisons}
    total, done = processes * len(comparisons), 0
    for index in range(processes):
        for name, options in comparisons.items():
            start = time.perf_counter()
            found[name].append(fresh(script, options, index))
            done += 1
            note(f"[{done}/{total}] {name}: {brief(found[name][-1])}; {time.perf_counter() - start:.0f} s")
    return found


def note(text: str) -> None:
    """A line of progress on stderr, so that stdout holds nothing but the table."""
    print(text, file=sys.stderr, flush=True)


def merged(runs: list[Run]) -> dict[str, Any]:
    """The facts, whether all processes agreed on them, and the spread of everything measured."""
    facts = runs[0]["facts"]
    agree = all(run["facts"] == facts for run in runs)
    return {**facts, "processes": len(runs), "facts_agree": agree, **spread([run["measured"] for run in runs])}


def spread(values: list[Any]) -> Any:
    """Median, least and largest; of trees number by number, of what is not a number in every process None."""
    if isinstance(values[0], dict):
        return {key: spread([value[key] for value in values]) for key in values[0]}
    if any(value is None for value in values):
        return None
    return {"median": statistics.median(values), "least": min(values), "largest": max(values)}


def ranged(found: dict[str, float] | None, form: str = ".2f") -> str:
    """Median (least–largest), or a dash."""
    if found is None:
        return "-"
    return f"{found['median']:{form}} ({found['least']:{form}}–{found['largest']:{form}})"
