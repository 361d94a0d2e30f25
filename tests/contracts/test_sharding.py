"""Eight forced host devices, Auto and Explicit mesh: init under jit keeps shardings, and sharded equals unsharded."""

import json
from functools import lru_cache
from pathlib import Path

import pytest

from cases import NAMES, STORAGES
from devices import run_on_devices

PROGRAM = Path(__file__).with_name("sharded_program.py")
CELLS = [f"{name}-{storage}" for storage in STORAGES for name in NAMES]
FAST = (*(cell for cell in CELLS if cell.endswith("-f32")), "adam-bf16")
SLOW = tuple(cell for cell in CELLS if cell not in FAST)


@lru_cache
def found(kind: str, cells: tuple[str, ...]) -> dict[str, list[str]]:
    """The complaints of one run of the program over some optimizers."""
    printed = run_on_devices(8, str(PROGRAM), kind, *cells)
    return json.loads(printed.splitlines()[-1])


@pytest.mark.multi
@pytest.mark.parametrize("cell", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CELLS])
@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.xdist_group(k)) for k in ("auto", "explicit")])
def test_sharded_is_unsharded(kind: str, cell: str):
    assert found(kind, FAST if cell in FAST else SLOW)[cell] == []
