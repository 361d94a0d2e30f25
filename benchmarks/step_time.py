"""One optimizer step of adaptx, optax and torch side by side: bytes, temporaries, time.

    python benchmarks/step_time.py [--quick] [--trees large gpt2 small] [--rows adam ...] [--processes 5]
    python benchmarks/step_time.py --catalogue [--rows adafactor muon ...]

The first measures five optimizers on three trees; the second the whole catalogue on the GPT-2 tree, as far as optax or
torch has it (peers.py lists who has what), and beside optax's adamw what neither has but costs more than Adam. On a CPU
it leaves out what takes seconds a step unless --rows names it; --add keeps what the file holds of other rows.

Every comparison runs in processes of its own. In each, every library does the same step on the same parameters, in
turns, which gives a ratio; the table shows median and range of the ratios. What each column means is written in
benchmarks/README.md. Prints the table and writes benchmarks/results/step_time.json, or step_time_catalogue.json.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave room for torch on the same card

import harness
import jax
import jax.numpy as jnp
import peers
import processes
import programs
import rivals
import trees
from harness import RESULTS, headline, table, write
from processes import ranged
from rivals import ROWS, Row

SAMPLE = 0.02  # s, of one timing at least
COSTLY_SAMPLES = 3  # timings of what takes seconds
TREES = ("large", "gpt2", "small")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small trees, few repetitions: a check, not a measurement")
    parser.add_argument("--large", type=int, help="elements of the one large leaf (50,000,000)")
    parser.add_argument("--scale", type=float, help="factor on the widths of the GPT-2 tree (1)")
    parser.add_argument("--leaves", type=int, help="how many small leaves (1,600)")
    parser.add_argument("--catalogue", action="store_true", help="the rest of the catalogue, on the GPT-2 tree")
    parser.add_argument("--trees", nargs="+", choices=TREES, help="all; of the catalogue gpt2")
    parser.add_argument("--rows", nargs="+", choices=(*ROWS, *peers.NAMES), metavar="NAME", help="some of them")
    parser.add_argument("--samples", type=int, help="timings of a step in each process (15)")
    processes.add_options(parser)
    parser.add_argument("--output", type=Path, help="the JSON file")
    parser.add_argument("--without-torch", action="store_true", help="where a step of torch takes minutes")
    parser.add_argument("--add", action="store_true", help="keep the other rows of that file")
    given = parser.parse_args()
    full = {"large": 50_000_000, "scale": 1.0, "leaves": 1600, "samples": 15, "processes": processes.PROCESSES}
    quick = {"large": 1 << 18, "scale": 0.05, "leaves": 50, "samples": 5, "processes": 2}
    for name, value in (quick if given.quick else full).items():
        setattr(given, name, getattr(given, name) or value)
    given.trees = given.trees or (["gpt2"] if given.catalogue else list(TREES))
    given.rows = given.rows or (peers.default_rows() if given.catalogue else list(ROWS))
    strange = [f"{row} on {tree}" for row in given.rows for tree in given.trees if row not in ROWS and tree != "gpt2"]
    if strange:
        parser.error(f"{strange[0]}: the catalogue is measured on the GPT-2 tree alone; give --trees gpt2")
    name = "step_time_catalogue" if given.catalogue else "step_time"
    given.output = given.output or RESULTS / f"{name}{'_quick' if given.quick else ''}.json"
    return given


def row_of(name: str) -> Row:
    """The row of a name."""
    return ROWS[name] if name in ROWS else peers.MAKERS[name]()


def made(tree_name: str, given: argparse.Namespace) -> trees.Tree:
    """The tree of a name."""
    if tree_name == "gpt2":
        return trees.gpt2(given.scale)
    return trees.large(given.large) if tree_name == "large" else trees.small(given.leaves)


def compilations(row: Row, tree: trees.Tree, order: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, float]]:
    """{library: ...} of compiled steps, of what they say of themselves, and of seconds to trace and compile."""
    opts = {"adaptx": row.adaptx, "optax": row.optax}
    compiled, says, times = {}, {}, {}
    programs.cold_compile(ROWS["sgd"].optax, trees.small(5))  # a process's first compilation loads the compiler
    for name in list(opts)[:: 1 if order % 2 else -1]:
        taken, compiled[name] = programs.cold_compile(opts[name], tree)
        kept = programs.state_bytes(opts[name], tree) / trees.elements(tree)
        says[name] = {**programs.counts(compiled[name], trees.elements(tree)), "state_bytes_per_parameter": kept}
        times[name] = taken["trace_and_compile_s"]
    return compiled, says, times


def measure(row_name: str, tree_name: str, given: argparse.Namespace) -> processes.Run:
    """What one process finds of one row of the table."""
    row, tree, order = row_of(row_name), made(tree_name, given), given.process
    size = trees.elements(tree)
    compiled, says, compile_s = compilations(row, tree, order)
    params, grads = programs.start(tree)
    calls = {name: programs.stepper(compiled[name], getattr(row, name), params, grads) for name in compiled}
    mine, theirs = calls["adaptx"], calls["optax"]
    if rivals.torch is not None and row.torch is not None and not given.without_torch:
        calls["torch"] = rivals.TorchStepper(row, params, grads)
    calls["triad"] = programs.Triad(size)
    samples = min(given.samples, COSTLY_SAMPLES) if row.costly else given.samples
    step, steps = programs.step_ms(calls, samples, SAMPLE, order, row.period, warm=1 if row.costly else 2)
    if "torch" in calls:
        says["torch"] = {"state_bytes_per_parameter": calls["torch"].state_bytes() / size}
    # every array read once, every new one written once; to clip, the gradients are read once more
    floor = round(12 + 4 * row.clipped + 2 * says["adaptx"]["state_bytes_per_parameter"], 2)
    apart = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), mine.params, theirs.params)
    bandwidth = 12 * size / (1e-3 * step["triad"])
    facts = {"tree": tree_name, "row": row_name, "leaves": len(tree), "parameters": size,
             "floor_bytes_per_parameter": floor, "samples": samples, "programs": says, "beside": row.beside,
             "same": row.same, "period": row.period}  # fmt: skip
    libraries = [name for name in step if name != "triad"]
    measured = {
        "step_ms": step,
        "step_ratio": {name: step["adaptx"] / step[name] for name in libraries if name != "adaptx"},
        "triad_gb_per_s": bandwidth / 1e9,
        "fraction_of_triad": {name: floor * size / (1e-3 * step[name]) / bandwidth for name in libraries},
        "trace_and_compile_s": compile_s,
        "trace_and_compile_ratio": compile_s["adaptx"] / compile_s["optax"],
        "apart": max(jax.tree.leaves(apart)),
        "steps_compared": steps,
    }
    return {"facts": facts, "measured": measured}


def joined(runs: list[processes.Run]) -> dict[str, Any]:
    """One row: facts, spreads, and how far adaptx and optax ever ended apart."""
    row = processes.merged(runs)
    return row | {"largest_difference_from_optax": row.pop("apart")["largest"]}


def report(results: list[dict[str, Any]]) -> str:
    """The table on the terminal."""
    header = ["tree", "optimizer", "state B", "optax B", "B/param", "optax B", "floor", "temp B/param", "optax B",
              "/optax", "/torch", "of triad", "compile /optax", "adaptx ms"]  # fmt: skip
    rows = []
    for r in results:
        mine, theirs = r["programs"]["adaptx"], r["programs"]["optax"]
        rows.append([
            r["tree"], r["row"] + (f" (beside {r['beside']})" if r["beside"] else ""),
            mine["state_bytes_per_parameter"], theirs["state_bytes_per_parameter"],
            mine["bytes_accessed_per_parameter"], theirs["bytes_accessed_per_parameter"],
            r["floor_bytes_per_parameter"], mine["temporary_bytes_per_parameter"],
            theirs["temporary_bytes_per_parameter"], ranged(r["step_ratio"]["optax"]),
            ranged(r["step_ratio"].get("torch")), ranged(r["fraction_of_triad"]["adaptx"]),
            ranged(r["trace_and_compile_ratio"]), r["step_ms"]["adaptx"]["median"],
        ])  # fmt: skip
    return table(header, rows)


def others(given: argparse.Namespace, now: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that the output file holds beside those measured now, if it was written under the same circumstances."""
    if not given.add or not given.output.exists():
        return []
    before = json.loads(given.output.read_text(encoding="utf-8"))
    here = {"machine": harness.machine(), **now}
    strange = [key for key, value in here.items() if before.get(key) != value]
    if strange:
        sys.exit(f"{given.output} was written with another {strange[0]}; measure all rows, or give another --output")
    sizes = {name: trees.elements(made(name, given)) for name in given.trees}
    return [row for row in before["results"]
            if row["row"] not in given.rows or row["parameters"] != sizes.get(row["tree"])]  # fmt: skip


def brief(run: processes.Run) -> str:
    """The ratios of a process."""
    return ", ".join(f"{ratio:.2f} × {name}" for name, ratio in run["measured"]["step_ratio"].items())


def main() -> None:
    """Measures, prints, writes; in a process of one comparison measures and hands over."""
    given = arguments()
    if given.process is not None:
        processes.hand_over(given.output, measure(given.rows[0], given.trees[0], given))
        return
    options = [f"--{name}={getattr(given, name)}" for name in ("large", "scale", "leaves", "samples")]
    options += ["--without-torch"] * given.without_torch
    comparisons = {
        f"{tree}, {row}": ["--trees", tree, "--rows", row, *options] for tree in given.trees for row in given.rows
    }
    version = rivals.torch.__version__ if rivals.torch is not None else None
    now = {"quick": given.quick, "torch": version, "processes": given.processes}
    kept = others(given, now)
    found = processes.repeated(Path(__file__), comparisons, given.processes, brief)
    results = kept + [joined(runs) for runs in found.values()]
    print(headline())
    print(report(results))
    write(given.output, {**now, "results": results})


if __name__ == "__main__":
    main()
