"""The README's advice: every call in its table runs, and its state is as large as it says."""

import math
import re
from pathlib import Path

import pytest

import adaptx
from adaptx.cli.plan.models import model

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
ADVICE = re.findall(r"^\| [^|]*\| `([a-z_]+\(.*\))` \| (\d+\.\d\d) \|$", README, re.MULTILINE)


def test_there_is_advice():
    assert len(ADVICE) >= 10


@pytest.mark.parametrize(("call", "wanted"), ADVICE, ids=[call for call, _ in ADVICE])
def test_state_is_as_large_as_told(call: str, wanted: str):
    leaves = model("gpt2-small", None)
    rows = eval(call, vars(adaptx)).costs(leaves)
    elements = sum(math.prod(p.shape) for p in leaves.arrays)
    assert f"{sum(sum(row.state.values()) for row in rows) / elements:.2f}" == wanted


def test_every_optimizer_and_controller_is_named():
    table = README.split("## What there is")[1].split("##")[0]
    for name in (*adaptx.optimizers.ALL, *(set(adaptx.controllers.ALL) - {"constant", "hypergradient_additive"})):
        assert f"`{name}`" in table, name
    for family in adaptx.optimizers.FAMILIES:
        assert f"| `{family}`" in table, family
