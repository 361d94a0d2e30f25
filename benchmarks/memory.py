"""What a step of Adam moves and keeps under every storage of its state, against optax in f32 and torch's fused Adam.

    python benchmarks/memory.py [--quick] [--large 33554432] [--leaves 1600] [--samples 15]

On one large leaf and on many small ones, which int8 storage excludes by default; with nothing excluded it compiles a
conditional per leaf, minutes at 1,600 leaves, so that those rows are measured on an eighth of them. Prints a table, the
device and its measured bandwidth, and writes benchmarks/results/memory.json.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import rivals
import trees
from harness import RESULTS, headline, interleaved, median, progress, seconds, table, write
from step_time import Stepper, Triad, cold_compile, torch_stepper

import adaptx

RATE = 1e-3
EVERY = {"storage_exclude": 0}
METHODS: dict[str, Any] = {
    "adaptx f32": adaptx.adam(RATE),
    "adaptx bf16": adaptx.adam(RATE, storage="bf16", **EVERY),
    "adaptx int8": adaptx.adam(RATE, storage="int8", **EVERY),
    "adaptx m bf16, v int8": adaptx.adam(RATE, storage={"m": "bf16", "v": "int8"}, **EVERY),
    "adaptx int8, default exclusion": adaptx.adam(RATE, storage="int8"),
    "optax f32": optax.adam(RATE),
}
CODED = ("adaptx int8", "adaptx m bf16, v int8")  # with every leaf coded, however small
SAMPLE = 0.2  # seconds of one timing


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small trees, few timings: a check, not a measurement")
    parser.add_argument("--large", type=int, help="elements of the large leaf, a multiple of 1,024 (33,554,432)")
    parser.add_argument("--leaves", type=int, help="how many small leaves (1,600)")
    parser.add_argument("--samples", type=int, help="timings of a step (15)")
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    for name, full, quick in (("large", 1 << 25, 1 << 18), ("leaves", 1600, 30), ("samples", 15, 3)):
        setattr(given, name, getattr(given, name) or (quick if given.quick else full))
    given.output = given.output or RESULTS / ("memory_quick.json" if given.quick else "memory.json")
    return given


def state_bytes(opt: Any, tree: trees.Tree) -> int:
    """Bytes of a fresh state's arrays."""
    made = jax.eval_shape(opt.init, tree)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(made))


def measure(name: str, tree: trees.Tree, samples: int, methods: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of one tree."""
    size = trees.elements(tree)
    params, grads = (trees.filled(tree, jax.random.key(k), s) for k, s in ((0, 0.02), (1, 0.01)))
    copy = partial(jax.tree.map, partial(jnp.array, copy=True))
    rows, calls = {}, {}
    for method, opt in methods.items():
        progress(f"{name}: {method}")
        times, compiled = cold_compile(opt, tree)
        memory, costs = compiled.memory_analysis(), compiled.cost_analysis() or {}
        costs = costs[0] if isinstance(costs, list) else costs
        kept = state_bytes(opt, tree)
        rows[method] = {
            "tree": name, "method": method, "leaves": len(tree), "parameters": size,
            "state_bytes_per_parameter": kept / size, "floor_bytes_per_parameter": 12 + 2 * kept / size,
            "temporary_bytes_per_parameter": memory.temp_size_in_bytes / size if memory else None,
            "bytes_accessed_per_parameter": costs.get("bytes accessed", 0) / size or None,
            "trace_and_compile_s": times["trace_and_compile_s"],
        }  # fmt: skip
        calls[method] = Stepper(compiled, copy(params), opt.init(params), copy(grads))
    if rivals.torch is not None:
        calls["torch fused f32"] = torch_stepper(rivals.ROWS["adam"], params, grads)
    calls["triad"] = Triad(size)
    for call in calls.values():
        seconds(lambda call=call: call(2))
    steps = max(1, round(SAMPLE / max(seconds(lambda call=call: call(2)) / 2 for call in calls.values())))
    taken = interleaved({key: lambda call=call: call(steps) for key, call in calls.items()}, samples)
    step = {key: 1e3 * median(times) / steps for key, times in taken.items()}
    bandwidth = 12 * size / (1e-3 * step["triad"])
    torch = {"tree": name, "method": "torch fused f32", "leaves": len(tree), "parameters": size}
    found = [*rows.values(), *([torch] if "torch fused f32" in step else [])]
    for row in found:
        row |= {"step_ms": step[row["method"]], "step_ratio_to_optax": step[row["method"]] / step["optax f32"]}
        floor = row.get("floor_bytes_per_parameter", 28)
        row |= {
            "fraction_of_triad": floor * size / (1e-3 * row["step_ms"]) / bandwidth,
            "triad_gb_per_s": bandwidth / 1e9,
        }
    return found


def main() -> None:
    """Measures, prints, writes."""
    given = arguments()
    found = []
    cheap = {key: opt for key, opt in METHODS.items() if key not in CODED}
    for name, tree, methods in (
        ("large", trees.large(given.large), METHODS),
        ("small", trees.small(given.leaves), cheap),
        ("small / 8", trees.small(max(5, given.leaves // 8)), METHODS),
    ):
        found += measure(name, tree, given.samples, methods)
    columns = ["tree", "method", "state_bytes_per_parameter", "temporary_bytes_per_parameter",
               "bytes_accessed_per_parameter", "step_ms", "step_ratio_to_optax", "fraction_of_triad"]  # fmt: skip
    print(headline())
    header = ["tree", "method", "state B", "temp B", "accessed B", "step ms", "/optax f32", "of triad"]
    print(table(header, [[row.get(column) for column in columns] for row in found]))
    write(given.output, {"quick": given.quick, "samples": given.samples, "results": found})


if __name__ == "__main__":
    main()
