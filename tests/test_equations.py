"""benchmarks/equations.py: its rule of counting on known sources, and that it finds every rule and optax's names."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(FOLDER))  # benchmarks are scripts: their folder is what they import from

import equations  # noqa: E402

KNOWN = '''"""A docstring
of two lines."""

import os  # not counted


# a comment
def helper(x):
    """Not counted."""
    return (
        x
    )  # one of three lines


def shared():
    return 1


def other():
    return shared()


class State:
    """Nor this."""

    m: int = shared()


def rule():
    text = """a string
    of two lines that is code"""

    def update_fn(g):
        """Inside."""
        return State(), helper(g), text

    return update_fn
'''


def test_lines_are_those_with_code():
    source = equations.Source(KNOWN)
    assert source.size(range(1, 100))[0] == 16
    assert equations.of_definitions(source, ["helper"])[:3] == (4, 10, 0)
    assert equations.of_definitions(source, ["rule"]).step_lines == 2


def test_what_nothing_else_uses_is_counted_along():
    source = equations.Source(KNOWN)
    assert equations.closed(source, ["rule"], lambda name: False) == ["helper", "State", "rule"]
    assert equations.closed(source, ["other", "rule"], lambda name: False) == [
        "helper", "shared", "other", "State", "rule",
    ]  # fmt: skip
    assert equations.closed(source, ["rule"], lambda name: name == "helper") == ["State", "rule"]


@pytest.fixture(scope="module")
def rows():
    return {row["rule"]: row for row in equations.counted()}


def test_every_rule_has_a_row_and_known_ones_have_peers(rows):
    assert list(rows) == list(equations.rules.ALL)
    assert all(row["adaptx"]["lines"] >= row["adaptx"]["step_lines"] > 0 for row in rows.values())
    for name in set(equations.PEERS) & set(rows):
        assert rows[name]["optax"]["step_lines"] > 0, f"optax has no {equations.PEERS[name]}"
    assert rows["lion"]["optax"]["parts"] == ("ScaleByLionState", "scale_by_lion")
    assert "ScaleByAdamState" not in rows["adam"]["optax"]["parts"], "other optimizers use it too"


def test_what_is_published_is_what_the_rules_have(rows):
    published = json.loads((equations.RESULTS / "equations.json").read_text(encoding="utf-8"))["results"]
    assert [(row["rule"], row["adaptx"]["lines"], row["adaptx"]["tokens"]) for row in published] == [
        (name, row["adaptx"]["lines"], row["adaptx"]["tokens"]) for name, row in rows.items()
    ], "run benchmarks/equations.py and benchmarks/readme.py"


def test_the_summary_is_of_the_rows(rows):
    both = [row for row in rows.values() if row["optax"]]
    found = equations.summary(list(rows.values()))
    assert found["all rules"]["rules"] == len(rows)
    assert found["optax"]["rules"] == found["rules of both"]["rules"] == len(both)
    assert found["optax"]["lines"]["maximum"] == max(row["optax"]["lines"] for row in both)
    assert equations.report(list(rows.values()))
