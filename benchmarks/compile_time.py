"""Tracing, lowering and compiling a step at 4 to 1,600 leaves, and steps without jit: adaptx against optax.

    python benchmarks/compile_time.py [--quick] [--leaves 4 50 200 1600] [--rows sgd adam adamw+clip] [--processes 5]

Run it with every interpreter whose jax is of interest. Each optimizer at each number of leaves is measured in
processes of its own, both libraries in turns with caches cleared; up to 50 leaves, steps without jit are timed too.
Counts come first: traces, compiled operations, bytes. Prints the table and the targets, and writes
benchmarks/results/compile_time_jaxVERSION.json.
"""

import argparse
import random
from pathlib import Path
from typing import Any

import jax
import processes
import programs
import rivals
import trees
from harness import RESULTS, headline, interleaved, jax_series, median, table, write
from processes import ranged

ROWS = ("sgd", "adam", "adamw+clip")
REPEATS = {4: 7, 50: 5, 200: 3}  # cold compilations in each process, by leaves; beyond, one
EAGER = 50  # leaves: no one steps more of them without jit
COMPILING = "/jax/core/compile/backend_compile_duration"
TIMES = ("trace_and_lower_s", "trace_and_compile_s")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 and 10 leaves: a check, not a measurement")
    parser.add_argument("--leaves", nargs="+", type=int, help="numbers of leaves (4 50 200 1600)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--samples", type=int, help="timings of a step without jit in each process (20)")
    processes.add_options(parser)
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    full = {"leaves": [4, 50, 200, 1600], "samples": 20, "processes": processes.PROCESSES}
    quick = {"leaves": [4, 10], "samples": 3, "processes": 2}
    for name, value in (quick if given.quick else full).items():
        setattr(given, name, getattr(given, name) or value)
    name = "compile_time_quick.json" if given.quick else f"compile_time_jax{jax_series()}.json"
    given.output = given.output or RESULTS / name
    return given


def cold(opts: dict[str, Any], tree: trees.Tree, repeats: int, order: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """({library: median seconds}, {library: counts}); the first of each library pays for imports and is dropped."""
    for opt in opts.values():
        programs.cold_compile(opt, trees.small(5))
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in opts}
    says: dict[str, Any] = {}
    draw = random.Random(order)
    for _ in range(repeats):
        for name in draw.sample(list(opts), len(opts)):
            times, compiled = programs.cold_compile(opts[name], tree)
            taken[name].append(times)
            says[name] = programs.counts(compiled, trees.elements(tree))
    return {name: {key: median([t[key] for t in times]) for key in TIMES} for name, times in taken.items()}, says


def traces(opt: Any, params: Any, grads: Any) -> int:
    """How often three jitted steps in a row trace the step."""
    count = 0
    step = rivals.step_function(opt)

    def counted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        return step(*arguments)

    function, state = jax.jit(counted), opt.init(params)
    for _ in range(3):
        params, state = function(params, state, grads)
    return count


def eager(opts: dict[str, Any], tree: trees.Tree, samples: int, order: int) -> tuple[dict[str, float], dict[str, Any]]:
    """({library: median milliseconds of a step without jit}, {library: counts})."""
    params, grads = programs.start(tree)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    says: dict[str, Any] = {}
    calls = {}
    for name, opt in opts.items():
        call = rivals.step_function(opt)
        says[name] = {"traces_of_3_jitted_steps": traces(opt, params, grads)}
        carried = [params, opt.init(params)]
        for _ in range(3):
            carried = list(call(*carried, grads))
        compiled.clear()
        jax.block_until_ready(call(*carried, grads))
        says[name]["compilations_of_a_later_eager_step"] = compiled.count(COMPILING)
        calls[name] = lambda call=call, carried=carried: call(*carried, grads)
    taken = interleaved(calls, samples, order)
    return {name: 1e3 * median(times) for name, times in taken.items()}, says


def measure(row_name: str, leaves: int, given: argparse.Namespace) -> processes.Run:
    """What one process finds of one optimizer at one number of leaves."""
    row, tree = rivals.ROWS[row_name], trees.small(leaves)
    opts = {"adaptx": row.adaptx, "optax": row.optax}
    repeats = 1 if given.quick else next((n for most, n in REPEATS.items() if leaves <= most), 1)
    times, says = cold(opts, tree, repeats, given.process)
    measured: dict[str, Any] = {name.removesuffix("_s"): versus(times, name) for name in TIMES}
    if leaves <= EAGER:
        milliseconds, more = eager(opts, tree, given.samples, given.process)
        measured["eager"] = {**milliseconds, "ratio": milliseconds["adaptx"] / milliseconds["optax"]}
        says = {name: says[name] | more[name] for name in says}
    return {"facts": {"row": row_name, "leaves": leaves, "repeats": repeats, "programs": says}, "measured": measured}


def versus(times: dict[str, Any], key: str) -> dict[str, float]:
    """A time of both libraries and its ratio."""
    mine, theirs = (times[name][key] for name in ("adaptx", "optax"))
    return {"adaptx": mine, "optax": theirs, "ratio": mine / theirs}


def targets(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is wanted of the median ratios, as far as it was measured."""
    found = {(r["row"], r["leaves"]): r for r in results}
    wanted = [(row, 4, "trace_and_lower", 1.3) for row in ROWS] + [("adamw+clip", 1600, "trace_and_compile", 0.45)]
    wanted += [(row, leaves, "eager", 1.0) for row in ROWS for leaves in (4, EAGER)]
    out = []
    for row, leaves, what, most in wanted:
        if (row, leaves) in found:
            value = found[row, leaves][what]["ratio"]
            name = f"{what.replace('_', ' ')} ÷ optax, {row}, {leaves:,} leaves"
            out.append({"what": name, "wanted": f"≤ {most:g}", "value": value, "met": value["median"] <= most})
    return out


def report(results: list[dict[str, Any]]) -> str:
    """The table on the terminal."""
    header = ["optimizer", "leaves", "operations", "optax", "B/param", "optax", "temp B/param", "optax",
              "trace+lower /optax", "trace+compile /optax", "eager /optax", "compile s"]  # fmt: skip
    counted = ("compiled_operations", "bytes_accessed_per_parameter", "temporary_bytes_per_parameter")
    rows = [
        [
            r["row"], r["leaves"], *(r["programs"][library][x] for x in counted for library in ("adaptx", "optax")),
            *(ranged(r.get(x, {}).get("ratio")) for x in ("trace_and_lower", "trace_and_compile", "eager")),
            r["trace_and_compile"]["adaptx"]["median"],
        ]
        for r in results
    ]  # fmt: skip
    return table(header, rows)


def brief(run: processes.Run) -> str:
    """The ratios of a process."""
    return ", ".join(f"{name.replace('_', ' ')} {x['ratio']:.2f} × optax" for name, x in run["measured"].items())


def main() -> None:
    """Measures, prints, writes; in a process of one comparison measures and hands over."""
    given = arguments()
    if given.process is not None:
        processes.hand_over(given.output, measure(given.rows[0], given.leaves[0], given))
        return
    options = [f"--samples={given.samples}", *(["--quick"] if given.quick else [])]
    comparisons = {
        f"{row}, {leaves} leaves": ["--rows", row, "--leaves", str(leaves), *options]
        for leaves in given.leaves
        for row in given.rows
    }
    found = processes.repeated(Path(__file__), comparisons, given.processes, brief)
    results = [processes.merged(runs) for runs in found.values()]
    print(headline())
    print(report(results))
    for target in targets(results):
        print(f"{'met   ' if target['met'] else 'missed'}  {target['what']}: {ranged(target['value'])} "
              f"({target['wanted']})")  # fmt: skip
    write(given.output, {"quick": given.quick, "processes": given.processes, "results": results,
                         "targets": targets(results)})  # fmt: skip


if __name__ == "__main__":
    main()
