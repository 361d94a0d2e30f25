"""What every test shares: float32 unless a test asks for more, and fixtures for x64 and compile counting.

Two thirds of the time of these tests were the compiler's. It translates quickly instead of well here, which changes no
program's structure: XLA's passes over whole programs, and so counts of bytes, copies and operations, stay. With
COMPILER=full in the environment it translates as for users; continuous integration runs the tests both ways.
"""

import gc
import os
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import jax
import pytest

from probes import Compilations
from turns import EVERY

TESTS = Path(__file__).parent

QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):  # later ones do not know it, and abort
    QUICK += " --xla_cpu_use_fusion_emitters=false"
if os.environ.get("COMPILER") != "full":  # read when jax first looks for devices; programs of their own inherit it
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}"


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is marked
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every so many-th cell of the tests in turns.py stays fast."""
    seen: Counter[str] = Counter()
    for item in items:
        file, name = item.path.relative_to(TESTS).as_posix(), getattr(item, "originalname", item.name)
        every = EVERY.get(file, {}).get(name, 1)
        if every > 1 and not item.get_closest_marker("slow"):
            if seen[f"{file}::{name}"] % every:
                item.add_marker("slow")
                item.add_marker("catalogue")
            seen[f"{file}::{name}"] += 1


@pytest.fixture(autouse=True, scope="module")
def what_lives_on() -> None:
    """What earlier modules left in jax's caches stays: the collector need not walk over all of it again and again."""
    gc.freeze()


@pytest.fixture
def x64() -> Iterator[None]:
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def compilations() -> Iterator[Compilations]:
    """A counter of the compilations JAX does while the test runs."""
    counter = Compilations()
    jax.monitoring.register_event_duration_secs_listener(counter)
    yield counter
    jax.monitoring.unregister_event_duration_listener(counter)
