"""Eight forced host devices, Auto and Explicit mesh: init under jit keeps shardings, and sharded equals unsharded."""

import json
from pathlib import Path

import pytest

from adaptx.optimizers import FAMILIES
from cases import DEFAULTS, LATER, NAMES, STORAGES
from devices import run_on_devices

PROGRAM = Path(__file__).with_name("sharded_program.py")
FORMS = ("momentum", "adam", "adafactor", "muon")  # one slot, two, of their own shape, of a whole matrix
STORED = [f"{name}-{storage}" for name in FORMS for storage in STORAGES if storage != "f32"]
# what sees more than an element, half of it on one kind of mesh by turns, the forms on both; the rest is slow
ELSEWHERE = FAMILIES["preconditioned"]  # tests/test_preconditioned.py
WHOLE = [c.name for c in DEFAULTS if not c.pointwise and c.name not in ELSEWHERE]
FAST = {
    kind: [f"{name}-f32" for name in NAMES if name in WHOLE[turn::4] or name in FORMS] + ["adam-bf16"]
    for turn, kind in enumerate(("auto", "explicit"))
}
REST = {kind: [f"{name}-f32" for name in NAMES if f"{name}-f32" not in fast] for kind, fast in FAST.items()}


@pytest.mark.multi
@pytest.mark.parametrize(
    ("kind", "cells"),
    [pytest.param(kind, cells, id=kind) for kind, cells in FAST.items()]
    + [pytest.param(kind, STORED, id=f"{kind}-stored", marks=pytest.mark.slow) for kind in FAST]
    + [pytest.param(kind, cells, id=f"{kind}-rest", marks=LATER) for kind, cells in REST.items()],
)
def test_sharded_is_unsharded(kind: str, cells: list[str]):
    """All optimizers in one process: most of its time is starting jax on eight devices."""
    complaints = json.loads(run_on_devices(8, str(PROGRAM), kind, *cells).splitlines()[-1])
    assert complaints == {cell: [] for cell in cells}
