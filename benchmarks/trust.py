"""How much was tried: wrong calls, kills, steps under noise, random trainings; and how much of it failed.

    python benchmarks/trust.py [--only WORD ...] [--output FILE]

Runs the tests that try them, counts their cells by what each tries, and writes benchmarks/results/trust.json after
every one; it keeps those of others. All of them take hours.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from harness import RESULTS, progress, table, write

ROOT = Path(__file__).parents[1]


class Claim(NamedTuple):
    """Something that tests try."""

    what: str
    each: int  # how many in one cell
    selection: tuple[str, ...]  # of pytest


CLAIMS = {
    "calls": Claim("wrong calls, each refused in one sentence", 1,
                   ("tests", "-m", "not slow", "-k", "wrong or refused or says_what or one_sentence")),
    "kills": Claim("kills of trainings, each of which went on to the same bits", 50,
                   ("tests/test_checkpoints.py", "-m", "slow or multi", "-k", "fifty_kills")),
    "steps": Claim("steps under noise, of every controller over SGD and Adam", 1_000_000,
                   ("tests/test_long_runs.py", "-m", "slow", "-k", "a_million_steps")),
    "controllers": Claim("random trainings of every controller", 25,
                         ("tests/test_properties.py", "-m", "slow", "-k", "every_controller")),
    "rules": Claim("random trainings of every rule", 25,
                   ("tests/test_properties.py", "-m", "catalogue or slow", "-k", "every_rule")),
}  # fmt: skip


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=tuple(CLAIMS), default=list(CLAIMS), metavar="WORD")
    parser.add_argument("--output", type=Path, default=RESULTS / "trust.json", help="the JSON file")
    return parser.parse_args()


def tried(name: str, claim: Claim) -> dict[str, Any]:
    """A row of the table."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        subprocess.run([*command, *claim.selection], cwd=ROOT, check=False, stdout=sys.stderr)
        suite = next(ElementTree.parse(report).getroot().iter("testsuite"))
    cells, wrong = int(suite.get("tests", 0)), int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    skipped = int(suite.get("skipped", 0))
    return {
        "name": name, "what": claim.what, "tried": (cells - skipped) * claim.each, "cells": cells - skipped,
        "failed": wrong, "seconds": round(time.perf_counter() - began),
    }  # fmt: skip


def main() -> None:
    """Run it."""
    given = arguments()
    old = json.loads(given.output.read_text("utf-8"))["rows"] if given.output.exists() else []
    rows = {row["name"]: row for row in old}
    for name in given.only:
        progress(f"{name} …")
        rows[name] = tried(name, CLAIMS[name])
        write(given.output, {"rows": [rows[n] for n in CLAIMS if n in rows]})
    header = ["tried", "what", "cells that failed", "seconds"]
    shown = [[row["tried"], row["what"], row["failed"], row["seconds"]] for row in rows.values()]
    print(table(header, shown))


if __name__ == "__main__":
    main()
