"""Is anything slower than in another checkout of this repository? The same comparisons with its package and with ours.

    python benchmarks/before_after.py --before ../other-checkout [--quick] [--large 16777216] [--processes 5]

Bytes, temporaries, step times, tracing and compiling, and steps without jit, in processes that import the package from
one checkout or the other, in turns. A pair of processes, one after the other, gives a ratio; the table shows median and
range of the ratios. optax's Adam runs in all of them: its row is 1 but for the machine, and its range is the noise.
Prints the table and writes benchmarks/results/before_after_jaxVERSION.json.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import optax
import processes
import programs
import rivals
import trees
from harness import RESULTS, headline, interleaved, jax_series, median, table, write
from processes import ranged

import adaptx

RATE = 1e-3
METHODS: dict[str, Any] = {
    "adam f32": adaptx.adam(RATE),
    "adam bf16": adaptx.adam(RATE, storage="bf16"),
    "adam int8": adaptx.adam(RATE, storage="int8"),
    "momentum": adaptx.momentum(RATE),
    "rmsprop": adaptx.rmsprop(RATE),
    "adagrad": adaptx.adagrad(RATE),
    "adamw+clip": adaptx.adamw(RATE, max_norm=1.0),
    "optax adam": optax.adam(RATE),
}
CONTROL = "optax adam"
SAMPLE = 0.02  # s, of one timing at least
SMALL, FEW = 50, 4  # leaves
SIDES = ("before", "after")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="the root of the other checkout")
    parser.add_argument("--quick", action="store_true", help="small trees, few repetitions: a check, not a measurement")
    parser.add_argument("--large", type=int, help="elements of the one large leaf (16,777,216)")
    parser.add_argument("--leaves", type=int, help="of the largest tree that is compiled (1,600)")
    parser.add_argument("--samples", type=int, help="timings of a step in each process (15)")
    processes.add_options(parser)
    parser.add_argument("--package", type=Path, help=argparse.SUPPRESS)  # of a process: what it must have imported
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    full = {"large": 1 << 24, "leaves": 1600, "samples": 15, "processes": processes.PROCESSES}
    quick = {"large": 1 << 18, "leaves": 10, "samples": 3, "processes": 1}
    for name, value in (quick if given.quick else full).items():
        setattr(given, name, getattr(given, name) or value)
    name = "before_after_quick.json" if given.quick else f"before_after_jax{jax_series()}.json"
    given.output = given.output or RESULTS / name
    if given.process is None and not (given.before and (given.before / "adaptx").is_dir()):
        parser.error("--before must name the root of another checkout, with its folder adaptx.")
    return given


def stepped(title: str, tree: trees.Tree, given: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """({row: counts}, {row: milliseconds}) of every method on one tree."""
    params, grads = programs.start(tree)
    counts, calls = {}, {}
    for method, opt in METHODS.items():
        _, compiled = programs.cold_compile(opt, tree)
        says = programs.counts(compiled, trees.elements(tree))
        for key, unit in (("bytes_accessed", "bytes accessed/param"), ("temporary_bytes", "temporary bytes/param")):
            counts[f"{unit}, {title}, {method}"] = says[f"{key}_per_parameter"]
        counts[f"operations, {title}, {method}"] = says["compiled_operations"]
        calls[method] = programs.stepper(compiled, opt, params, grads)
    step, _ = programs.step_ms(calls, given.samples, SAMPLE, given.process)
    return counts, {f"step ms, {title}, {method}": value for method, value in step.items()}


def compiled(given: argparse.Namespace) -> dict[str, float]:
    """{row: milliseconds} of tracing and lowering, and with compiling, medians of cold ones."""
    out = {}
    for leaves, repeats in {FEW: 7, min(200, given.leaves): 3, given.leaves: 1}.items():
        for method in ("adam f32", "adamw+clip", CONTROL):
            runs = 1 if given.quick else repeats
            times = [programs.cold_compile(METHODS[method], trees.small(leaves))[0] for _ in range(runs)]
            for key in ("trace_and_lower", "trace_and_compile"):
                name = f"{key.replace('_and_', ' + ')} ms, {leaves} leaves, {method}"
                out[name] = 1e3 * median([t[f"{key}_s"] for t in times])
    return out


def eager(leaves: int, given: argparse.Namespace) -> dict[str, float]:
    """{row: milliseconds} of steps without jit."""
    params, grads = programs.start(trees.small(leaves))
    calls = {}
    for method in ("adam f32", "adamw+clip", "momentum", CONTROL):
        opt = METHODS[method]
        step, state = rivals.step_function(opt), opt.init(params)
        for _ in range(3):
            jax.block_until_ready(step(params, state, grads))
        calls[method] = lambda step=step, state=state: step(params, state, grads)
    taken = interleaved(calls, given.samples, given.process)
    return {f"eager ms, {leaves} leaves, {method}": 1e3 * median(times) for method, times in taken.items()}


def measure(given: argparse.Namespace) -> processes.Run:
    """What one process finds with the package it imports."""
    if not Path(adaptx.__file__).resolve().is_relative_to(given.package.resolve()):
        raise SystemExit("another adaptx was imported than the one to measure")
    programs.cold_compile(METHODS[CONTROL], trees.small(5))  # a process's first compilations load compiler and package
    programs.cold_compile(METHODS["adamw+clip"], trees.small(5))
    times = compiled(given)
    facts, large = stepped("one large leaf", trees.large(given.large), given)
    counts, small = stepped(f"{SMALL} leaves", trees.small(SMALL), given)
    return {"facts": facts | counts, "measured": large | small | times | eager(FEW, given) | eager(SMALL, given)}


def pairs(given: argparse.Namespace) -> dict[str, list[processes.Run]]:
    """Processes of both checkouts in turns: {side: runs}."""
    roots = {"before": given.before.resolve(), "after": processes.ROOT}
    options = [f"--{name}={getattr(given, name)}" for name in ("large", "leaves", "samples")]
    options += ["--quick"] if given.quick else []
    found: dict[str, list[processes.Run]] = {side: [] for side in SIDES}
    for index in range(given.processes):
        for turn, side in enumerate(SIDES[:: 1 if index % 2 else -1]):
            start = time.perf_counter()
            root = roots[side]
            run = processes.fresh(Path(__file__), [*options, f"--package={root}"], index, root)
            found[side].append(run)
            step = run["measured"]["step ms, one large leaf, adam f32"]
            done, wall = 2 * index + turn + 1, time.perf_counter() - start
            processes.note(f"[{done}/{2 * given.processes}] {side}: adam f32 {step:.3g} ms; {wall:.0f} s")
    return found


def compared(found: dict[str, list[processes.Run]]) -> list[dict[str, Any]]:
    """The rows of the table: counts of both sides, then times and their ratios pair by pair."""
    rows = []
    for what, after in found["after"][0]["facts"].items():
        before = found["before"][0]["facts"][what]
        rows.append({"what": what, "before": before, "after": after, "ratio": after / before if before else None})
    for what in found["after"][0]["measured"]:
        before, after = ([run["measured"][what] for run in found[side]] for side in SIDES)
        ratio = processes.spread([b / a for a, b in zip(before, after, strict=True)])
        rows.append({"what": what, "before": median(before), "after": median(after), "ratio": ratio})
    return rows


def main() -> None:
    """Measures, prints, writes; in a process of one checkout measures and hands over."""
    given = arguments()
    if given.process is not None:
        processes.hand_over(given.output, measure(given))
        return
    rows = compared(pairs(given))
    print(headline())
    header = ["what", "before", "after", "after ÷ before"]
    cells = [
        [*(r[x] for x in ("what", *SIDES)), ranged(r["ratio"]) if isinstance(r["ratio"], dict) else r["ratio"]]
        for r in rows
    ]
    print(table(header, cells))
    write(given.output, {"quick": given.quick, "processes": given.processes, "results": rows})


if __name__ == "__main__":
    main()
