"""Many small leaves: one array per leaf, leaves packed into one array in the step, and a model packed from the start.

    python benchmarks/layout.py [--quick] [--leaves 400] [--processes 5] [--output FILE]

Adam with parameters and state donated, all ways in turns within each of several fresh processes; the table shows the
compiled operations and median and range of the times over optax's. `packed model` is adaptx.pack: the parameters
themselves are one vector.
"""

import argparse
from pathlib import Path

import jax
import optax
import processes
import programs
import trees
from harness import RESULTS, headline, table, write
from processes import ranged

import adaptx

SHAPES = [(64,), (16, 32), (128,), (32, 32), (256,)]
WAYS = {
    "leaf": adaptx.adam(1e-3),
    "packed": adaptx.adam(1e-3, layout="packed"),
    "packed model": adaptx.adam(1e-3),
    "optax": optax.adam(1e-3),
}
TIMES = ("trace_and_lower_s", "compile_s", "step_ms")
SAMPLE = 0.02  # s, of one timing at least


def measure(given: argparse.Namespace) -> processes.Run:
    """What one process finds of all ways."""
    tree = {f"l{i}": trees.leaf(*SHAPES[i % len(SHAPES)]) for i in range(given.leaves)}
    programs.cold_compile(WAYS["optax"], tree)  # a process's first compilation loads the compiler
    measured: dict[str, dict[str, float]] = {}
    facts, calls = {}, {}
    for way, opt in WAYS.items():
        params, grads = programs.start(tree)
        if way == "packed model":
            params, grads = ({"vector": adaptx.pack(x)[0]} for x in (params, grads))
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
        measured[way], compiled = programs.cold_compile(opt, shapes)
        facts[way] = programs.counts(compiled, trees.elements(tree))
        calls[way] = programs.stepper(compiled, opt, params, grads)
    step, _ = programs.step_ms(calls, given.samples, SAMPLE, given.process)
    for way, milliseconds in step.items():
        measured[way]["step_ms"] = milliseconds
    ratios = {way: {x: measured[way][x] / measured["optax"][x] for x in TIMES} for way in WAYS}
    return {"facts": {"leaves": given.leaves, "programs": facts}, "measured": {"ways": measured, "ratios": ratios}}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 leaves: a check, not a measurement")
    parser.add_argument("--leaves", type=int, help="how many leaves of five shapes (400)")
    parser.add_argument("--samples", type=int, default=20, help="timings of a step in each process")
    processes.add_options(parser)
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    given.leaves = given.leaves or (20 if given.quick else 400)
    given.processes = given.processes or (2 if given.quick else processes.PROCESSES)
    given.output = given.output or RESULTS / ("layout_quick.json" if given.quick else "layout.json")
    return given


def brief(run: processes.Run) -> str:
    """The ratio of a step in a process."""
    return f"leaf {run['measured']['ratios']['leaf']['step_ms']:.2f} × optax"


def main() -> None:
    """Measures, prints, writes; in a process of its own measures and hands over."""
    given = arguments()
    if given.process is not None:
        processes.hand_over(given.output, measure(given))
        return
    options = {"layouts": [f"--leaves={given.leaves}", f"--samples={given.samples}"]}
    found = processes.merged(processes.repeated(Path(__file__), options, given.processes, brief)["layouts"])
    print(f"{headline()}; {given.leaves} leaves of {len(SHAPES)} shapes")
    header = ["way", "operations", "trace + lower /optax", "compile /optax", "step /optax", "step ms"]
    rows = [
        [way, found["programs"][way]["compiled_operations"], *(ranged(found["ratios"][way][x]) for x in TIMES),
         found["ways"][way]["step_ms"]["median"]]
        for way in WAYS
    ]  # fmt: skip
    print(table(header, rows))
    write(given.output, {"quick": given.quick, **found})


if __name__ == "__main__":
    main()
