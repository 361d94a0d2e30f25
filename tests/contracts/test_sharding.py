"""Eight forced host devices, Auto and Explicit mesh: init under jit keeps shardings, and sharded equals unsharded."""

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from cases import NAMES, STORAGES

PROGRAM = Path(__file__).with_name("sharded_program.py")
TESTS = PROGRAM.parents[1]
FLAGS = "--xla_force_host_platform_device_count=8 --xla_cpu_collective_call_terminate_timeout_seconds=300"


CELLS = [f"{name}-{storage}" for storage in STORAGES for name in NAMES]
FAST = (*(cell for cell in CELLS if cell.endswith("-f32")), "adam-bf16")
SLOW = tuple(cell for cell in CELLS if cell not in FAST)


@lru_cache
def found(kind: str, cells: tuple[str, ...]) -> dict[str, list[str]]:
    """The complaints of one run of the program over some optimizers."""
    folders = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
    env = {**os.environ, "PYTHONPATH": folders, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(PROGRAM), kind, *cells]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.multi
@pytest.mark.parametrize("cell", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CELLS])
@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_sharded_is_unsharded(kind: str, cell: str):
    assert found(kind, FAST if cell in FAST else SLOW)[cell] == []
