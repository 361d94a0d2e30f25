"""Step time, trace and compile time, temporaries and bytes of one optimizer step: adaptx, optax and torch side by side.

    python benchmarks/step_time.py [--quick] [--trees large gpt2 small] [--rows adam ...]

Every library does the same step on the same parameters in this one process, in turn. What each column means is written
in benchmarks/README.md. Prints a table and writes benchmarks/results/step_time.json.
"""

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave room for torch on the same card

import jax
import jax.numpy as jnp
import rivals
import trees
from harness import RESULTS, headline, interleaved, median, progress, seconds, table, write
from rivals import ROWS, Row

SAMPLE = 0.02  # s; a timing shorter than this takes several steps, so that the clock and the dispatch do not count


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small trees, few repetitions: a check, not a measurement")
    parser.add_argument("--large", type=int, help="elements of the one large leaf (50,000,000)")
    parser.add_argument("--scale", type=float, help="factor on the widths of the GPT-2 tree (1)")
    parser.add_argument("--leaves", type=int, help="how many small leaves (1,600)")
    parser.add_argument("--trees", nargs="+", choices=("large", "gpt2", "small"), default=["large", "gpt2", "small"])
    parser.add_argument("--rows", nargs="+", choices=tuple(ROWS), default=list(ROWS))
    parser.add_argument("--samples", type=int, help="timings of a step (30)")
    parser.add_argument("--compiles", type=int, help="cold compilations (3)")
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    full = {"large": 50_000_000, "scale": 1.0, "leaves": 1600, "samples": 30, "compiles": 3}
    quick = {"large": 1 << 18, "scale": 0.05, "leaves": 50, "samples": 5, "compiles": 1}
    for name, value in (quick if given.quick else full).items():
        setattr(given, name, getattr(given, name) or value)
    given.output = given.output or RESULTS / ("step_time_quick.json" if given.quick else "step_time.json")
    return given


def cold_compile(opt: Any, tree: trees.Tree) -> tuple[dict[str, float], Any]:
    """Seconds to trace, lower and compile a step with empty caches, and the compiled step."""
    state = jax.eval_shape(opt.init, tree)
    jax.clear_caches()
    found: dict[str, Any] = {}
    function = rivals.jitted(opt)
    times = {
        "trace_s": seconds(lambda: found.update(traced=function.trace(tree, state, tree))),
        "lower_s": seconds(lambda: found.update(lowered=found["traced"].lower())),
        "compile_s": seconds(lambda: found.update(compiled=found["lowered"].compile())),
    }
    return times | {"trace_and_compile_s": sum(times.values())}, found["compiled"]


def compilations(row: Row, tree: trees.Tree, repeats: int) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """{library: medians of the times, and what the compiled program says of itself}, {library: compiled step}."""
    opts = {"adaptx": row.adaptx, "optax": row.optax}
    times: dict[str, list[dict[str, float]]] = {name: [] for name in opts}
    compiled: dict[str, Any] = {}
    for _ in range(repeats):
        for name, opt in opts.items():
            taken, compiled[name] = cold_compile(opt, tree)
            times[name].append(taken)
    size = trees.elements(tree)
    out: dict[str, dict[str, Any]] = {}
    for name, program in compiled.items():
        medians = {key: median([t[key] for t in times[name]]) for key in times[name][0]}
        costs = program.cost_analysis() or {}
        memory = program.memory_analysis()
        accessed = costs.get("bytes accessed")
        out[name] = medians | {
            "temporary_bytes": None if memory is None else memory.temp_size_in_bytes,
            "temporary_share_of_params": None if memory is None else memory.temp_size_in_bytes / (4 * size),
            "bytes_accessed_per_parameter": None if accessed is None else accessed / size,
        }
    return out, compiled


class Stepper:
    """A compiled step that carries its own parameters and state from call to call."""

    def __init__(self, compiled: Any, params: Any, state: Any, grads: Any):
        self.compiled, self.params, self.state, self.grads = compiled, params, state, grads

    def __call__(self, steps: int) -> Any:
        for _ in range(steps):
            self.params, self.state = self.compiled(self.params, self.state, self.grads)
        return self.params


class Triad:
    """The in-place triad, as a stepper."""

    def __init__(self, elements: int):
        self.compiled, (self.x, self.y) = rivals.triad(elements)

    def __call__(self, steps: int) -> Any:
        for _ in range(steps):
            self.x = self.compiled(self.x, self.y)
        return self.x


def torch_stepper(row: Row, params: Any, grads: Any) -> Any:
    """The torch step, as a stepper."""
    call = rivals.torch_step(row, params, grads)

    def steps(n: int) -> None:
        for _ in range(n):
            call()
        rivals.synchronize()

    return steps


def steppers(row: Row, tree: trees.Tree, compiled: dict[str, Any]) -> dict[str, Any]:
    """{name: function that does n steps}, each on parameters of its own."""
    params = trees.filled(tree, jax.random.key(0), 0.02)
    grads = trees.filled(tree, jax.random.key(1), 0.01)
    copy = partial(jax.tree.map, partial(jnp.array, copy=True))  # gradients too, or the second finds them in the cache
    states = {"adaptx": row.adaptx.init(params), "optax": row.optax.init(params)}
    calls: dict[str, Any] = {
        name: Stepper(compiled[name], copy(params), states[name], copy(grads)) for name in compiled
    }
    if rivals.torch is not None:
        calls["torch"] = torch_stepper(row, params, grads)
    return calls | {"triad": Triad(trees.elements(tree))}


def step_times(row: Row, tree: trees.Tree, compiled: dict[str, Any], samples: int) -> dict[str, Any]:
    """Median milliseconds a step of every library, and how far adaptx and optax are apart after it all."""
    calls = steppers(row, tree, compiled)
    for call in calls.values():
        seconds(lambda call=call: call(2))
    slowest = max(seconds(lambda call=call: call(2)) / 2 for call in calls.values())
    steps = max(1, min(200, round(SAMPLE / slowest)))
    taken = interleaved({name: lambda call=call: call(steps) for name, call in calls.items()}, samples)
    mine, theirs = (jax.tree.leaves(calls[name].params) for name in ("adaptx", "optax"))
    apart = max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(mine, theirs, strict=True))
    return {
        "step_ms": {name: 1e3 * median(times) / steps for name, times in taken.items()},
        "fastest_step_ms": {name: 1e3 * min(times) / steps for name, times in taken.items()},
        "steps_per_sample": steps,
        "samples": samples,
        "largest_difference_from_optax": apart,
        "steps_compared": 4 + steps * samples,
    }


def measure(name: str, row: Row, tree_name: str, tree: trees.Tree, given: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    size = trees.elements(tree)
    programs, compiled = compilations(row, tree, given.compiles)
    times = step_times(row, tree, compiled, given.samples)
    step = times["step_ms"]
    bandwidth = 12 * size / (1e-3 * step["triad"])
    reached = {lib: row.floor * size / (1e-3 * step[lib]) / bandwidth for lib in step if lib != "triad"}
    ratios = {lib: step["adaptx"] / step[lib] for lib in step if lib not in ("adaptx", "triad")}
    compile_ratio = programs["adaptx"]["trace_and_compile_s"] / programs["optax"]["trace_and_compile_s"]
    return {
        "tree": tree_name, "row": name, "leaves": len(tree), "parameters": size, "programs": programs, **times,
        "triad_gb_per_s": bandwidth / 1e9, "floor_bytes_per_parameter": row.floor, "fraction_of_triad": reached,
        "step_ratio": ratios, "trace_and_compile_ratio": compile_ratio,
    }  # fmt: skip


def report(results: list[dict[str, Any]]) -> str:
    """The table on the terminal."""
    header = [
        "tree", "optimizer", "adaptx ms", "optax ms", "torch ms", "/optax", "/torch", "of triad", "compile s",
        "optax s", "ratio", "temp %", "optax %", "B/param", "optax B", "floor",
    ]  # fmt: skip
    rows = []
    for r in results:
        mine, theirs, step = r["programs"]["adaptx"], r["programs"]["optax"], r["step_ms"]
        shares = [x["temporary_share_of_params"] for x in (mine, theirs)]
        accessed = [x["bytes_accessed_per_parameter"] for x in (mine, theirs)]
        rows.append([
            r["tree"], r["row"], step["adaptx"], step["optax"], step.get("torch"), r["step_ratio"]["optax"],
            r["step_ratio"].get("torch"), r["fraction_of_triad"]["adaptx"], mine["trace_and_compile_s"],
            theirs["trace_and_compile_s"], r["trace_and_compile_ratio"],
            *(None if x is None else 100 * x for x in shares), *accessed, r["floor_bytes_per_parameter"],
        ])  # fmt: skip
    return table(header, rows)


def main() -> None:
    """Measures, prints, writes."""
    given = arguments()
    made = {"large": lambda: trees.large(given.large), "gpt2": lambda: trees.gpt2(given.scale),
            "small": lambda: trees.small(given.leaves)}  # fmt: skip
    results = []
    cold_compile(ROWS["adam"].optax, trees.small(5))  # the process's first compilation pays for loading the compiler
    total = len(given.trees) * len(given.rows)
    for tree_name in given.trees:
        for row_name in given.rows:
            progress(f"[{len(results) + 1}/{total}] {tree_name}: {row_name}")
            results.append(measure(row_name, ROWS[row_name], tree_name, made[tree_name](), given))
    print(headline())
    print(report(results))
    version = rivals.torch.__version__ if rivals.torch is not None else None
    write(given.output, {"quick": given.quick, "torch": version, "results": results})


if __name__ == "__main__":
    main()
