"""What a step of Adam moves and keeps under every storage of its state, against optax in f32 and torch's fused Adam.

    python benchmarks/memory.py [--quick] [--large 33554432] [--leaves 1600] [--samples 9] [--processes 5]

On one large leaf and on many small ones, which int8 storage excludes by default; with nothing excluded it compiles a
conditional per leaf, so that those rows are measured on an eighth of the leaves. Each tree is measured in processes of
its own, all storages in turns within each; the table shows median and range of the ratios over the processes. Prints
the table and writes benchmarks/results/memory.json.
"""

import argparse
from pathlib import Path
from typing import Any

import optax
import processes
import programs
import rivals
import trees
from harness import RESULTS, headline, table, write
from processes import ranged

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
TORCH = "torch fused f32"
CODED = ("adaptx int8", "adaptx m bf16, v int8")  # with every leaf coded, however small
TREES = ("large", "small", "small / 8")
SAMPLE = 0.2  # s, of one timing at least


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small trees, few timings: a check, not a measurement")
    parser.add_argument("--large", type=int, help="elements of the large leaf, a multiple of 1,024 (33,554,432)")
    parser.add_argument("--leaves", type=int, help="how many small leaves (1,600)")
    parser.add_argument("--samples", type=int, help="timings of a step in each process (9)")
    parser.add_argument("--trees", nargs="+", choices=TREES, default=list(TREES))
    processes.add_options(parser)
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    full = {"large": 1 << 25, "leaves": 1600, "samples": 9, "processes": processes.PROCESSES}
    quick = {"large": 1 << 18, "leaves": 30, "samples": 3, "processes": 2}
    for name, value in (quick if given.quick else full).items():
        setattr(given, name, getattr(given, name) or value)
    given.output = given.output or RESULTS / ("memory_quick.json" if given.quick else "memory.json")
    return given


def case(name: str, given: argparse.Namespace) -> tuple[trees.Tree, dict[str, Any]]:
    """The tree of a name, and what is measured on it."""
    if name == "large":
        return trees.large(given.large), METHODS
    if name == "small":
        return trees.small(given.leaves), {key: opt for key, opt in METHODS.items() if key not in CODED}
    return trees.small(max(5, given.leaves // 8)), METHODS


def account(opt: Any, tree: trees.Tree, compiled: Any) -> dict[str, Any]:
    """What a method keeps and moves: no times."""
    size = trees.elements(tree)
    kept = programs.state_bytes(opt, tree) / size
    says = programs.counts(compiled, size)
    return {"state_bytes_per_parameter": kept, "floor_bytes_per_parameter": 12 + 2 * kept, **says}


def measure(name: str, given: argparse.Namespace) -> processes.Run:
    """What one process finds of one tree."""
    tree, methods = case(name, given)
    size = trees.elements(tree)
    params, grads = programs.start(tree)
    facts, calls = {}, {}
    for method, opt in methods.items():
        _, compiled = programs.cold_compile(opt, tree)
        facts[method] = account(opt, tree, compiled)
        calls[method] = programs.stepper(compiled, opt, params, grads)
    if rivals.torch is not None:
        calls[TORCH] = rivals.TorchStepper(rivals.ROWS["adam"], params, grads)
        facts[TORCH] = {"floor_bytes_per_parameter": 28}
    calls["triad"] = programs.Triad(size)
    step, _ = programs.step_ms(calls, given.samples, SAMPLE, given.process)
    bandwidth = 12 * size / (1e-3 * step["triad"])
    measured = {
        method: {
            "step_ms": step[method],
            "step_ratio_to_optax": step[method] / step["optax f32"],
            "step_ratio_to_torch": step[method] / step[TORCH] if TORCH in step else None,
            "fraction_of_triad": fact["floor_bytes_per_parameter"] * size / (1e-3 * step[method]) / bandwidth,
            "triad_gb_per_s": bandwidth / 1e9,
        }
        for method, fact in facts.items()
    }
    return {"facts": {"tree": name, "leaves": len(tree), "parameters": size, "methods": facts}, "measured": measured}


def rows(runs: list[processes.Run]) -> list[dict[str, Any]]:
    """The rows of one tree."""
    found = processes.merged(runs)
    common = {key: found[key] for key in ("tree", "leaves", "parameters", "processes", "facts_agree")}
    return [common | {"method": name, **fact, **found[name]} for name, fact in found["methods"].items()]


def report(results: list[dict[str, Any]]) -> str:
    """The table on the terminal."""
    header = ["tree", "method", "state B", "temp B", "accessed B", "/optax f32", "/torch", "of triad", "step ms"]
    counted = ("state_bytes_per_parameter", "temporary_bytes_per_parameter", "bytes_accessed_per_parameter")
    timed = ("step_ratio_to_optax", "step_ratio_to_torch", "fraction_of_triad")
    cells = [
        [r["tree"], r["method"], *(r.get(x) for x in counted), *(ranged(r[x]) for x in timed), r["step_ms"]["median"]]
        for r in results
    ]
    return table(header, cells)


def brief(run: processes.Run) -> str:
    """A ratio of a process that says how its memory lies."""
    return f"adaptx f32 {run['measured']['adaptx f32']['step_ratio_to_optax']:.2f} × optax"


def main() -> None:
    """Measures, prints, writes; in a process of one tree measures and hands over."""
    given = arguments()
    if given.process is not None:
        processes.hand_over(given.output, measure(given.trees[0], given))
        return
    options = [f"--{name}={getattr(given, name)}" for name in ("large", "leaves", "samples")]
    comparisons = {name: ["--trees", name, *options] for name in given.trees}
    found = processes.repeated(Path(__file__), comparisons, given.processes, brief)
    results = [row for runs in found.values() for row in rows(runs)]
    print(headline())
    print(report(results))
    write(given.output, {"quick": given.quick, "samples": given.samples, "processes": given.processes,
                         "results": results})  # fmt: skip


if __name__ == "__main__":
    main()
