"""Eight forced host devices, Auto and Explicit mesh: init under jit keeps shardings, and sharded equals unsharded."""

import json
from pathlib import Path

import pytest

from cases import NAMES, STORAGES
from devices import run_on_devices

PROGRAM = Path(__file__).with_name("sharded_program.py")
CELLS = [f"{name}-{storage}" for storage in STORAGES for name in NAMES]
FAST = [cell for cell in CELLS if cell.endswith("-f32") or cell == "adam-bf16"]
FORMS = ("momentum", "adam", "adafactor", "muon")  # one slot, two, of their own shape, of a whole matrix
SLOW = [cell for cell in CELLS if cell not in FAST and cell.split("-")[0] in FORMS]


@pytest.mark.multi
@pytest.mark.parametrize(
    "cells", [pytest.param(FAST, id="fast"), pytest.param(SLOW, id="rest", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_sharded_is_unsharded(kind: str, cells: list[str]):
    """All optimizers in one process: most of its time is starting jax on eight devices."""
    complaints = json.loads(run_on_devices(8, str(PROGRAM), kind, *cells).splitlines()[-1])
    assert complaints == {cell: [] for cell in cells}
