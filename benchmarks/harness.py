"""What the benchmarks share: the machine, interleaved timing, a table, a JSON file."""

import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Cores, versions and the device; nothing that identifies the host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.devices()[0]
    return {
        "cores": cores,
        "system": platform.system(),
        "architecture": platform.machine(),
        "platform": device.platform,
        "device": device.device_kind,
        "python": platform.python_version(),
        "jax": version("jax"),
        "jaxlib": version("jaxlib"),
        "optax": version("optax"),
    }


def headline() -> str:
    """The machine in one line."""
    about = machine()
    return (
        f"{about['device']} ({about['platform']}), {about['cores']} cores, jax {about['jax']}, optax {about['optax']}"
    )


def jax_series() -> str:
    """The first two numbers of the jax version, for the names of files."""
    return ".".join(version("jax").split(".")[:2])


def progress(text: str) -> None:
    """One line on stderr, so that stdout holds nothing but the table."""
    print(text, file=sys.stderr, flush=True)


def seconds(call: Callable[[], Any]) -> float:
    """Wall seconds of one call, including the wait for its arrays."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def interleaved(calls: dict[str, Callable[[], Any]], samples: int, order: int = 0) -> dict[str, list[float]]:
    """`samples` timings of every call, taken in turns, so that a slow spell of the machine hits all alike.

    The order within a turn is shuffled, by the number `order`: what ran just before decides what lies in the cache.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    draw = random.Random(order)
    for _ in range(samples):
        for name in draw.sample(list(calls), len(calls)):
            taken[name].append(seconds(calls[name]))
    return taken


def median(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)


def table(header: list[str], rows: list[list[Any]]) -> str:
    """Aligned columns: text to the left, numbers to the right, None as a dash."""
    cells = [header, *[[shown(x) for x in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    numeric = [all(not isinstance(row[i], str) for row in rows) for i in range(len(header))]

    def line(row: list[str]) -> str:
        parts = zip(row, widths, numeric, strict=True)
        return "  ".join(x.rjust(w) if n else x.ljust(w) for x, w, n in parts).rstrip()

    return "\n".join([line(cells[0]), line(["-" * w for w in widths]), *map(line, cells[1:])])


def shown(x: Any) -> str:
    """A cell: three significant digits, thousands kept whole."""
    if x is None:
        return "-"
    if isinstance(x, float):
        return f"{x:.0f}" if abs(x) >= 1000 else f"{x:.3g}"
    return str(x)


def write(path: Path, content: dict[str, Any], quiet: bool = False) -> None:
    """The content as JSON, with the machine it was measured on; the file is whole at every moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}")
    half.write_text(json.dumps({"machine": machine(), **content}, indent=2) + "\n", encoding="utf-8")
    half.replace(path)
    if not quiet:
        progress(f"wrote {path.parent.name}/{path.name}")
