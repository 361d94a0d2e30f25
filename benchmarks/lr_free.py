"""What does a learning rate that adapts forgive, and what does it cost? Base rules × controllers on 8 small problems.

    python benchmarks/lr_free.py [--quick]

Four bundled data sets (breast cancer, digits, wine, diabetes), each with a linear model (logistic, softmax, least
squares) and with a perceptron of 32 hidden units; every method gets the same 1,000 steps of 64 rows, starts and
batches, 3 seeds and 15 initial rates from 1e-5 to 1e2. All runs of a method on a model are one vmapped program. The
figures are losses, not times: they do not depend on how busy the machine is.

Prints two tables (defined in lr_free_tables.py) and the targets, and writes benchmarks/results/lr_free.json. Rows are
drawn independently; methods marked "shuffled" go through reshuffled epochs instead, where a gradient tells of the rows
that the next one will not see: successive gradients are then anticorrelated, which lowers a hypergradient's rate.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import lr_free_problems as cases
import lr_free_tables as tables
import numpy as np
from harness import RESULTS, machine, progress, table
from lr_free_methods import METHODS, QUICK, Method, cosine, knobs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import adaptx

LARGEST = 1e4  # of the numbers in the printed tables


def train(method: Method, model: str, steps: int, rate: Any, key: Any, rows: Any, problem: Any) -> tuple[Any, Any]:
    """One run: (final loss of all rows, last learning rate)."""
    opt = method.build(rate, cosine(steps))
    params = cases.init(model, key, problem)

    def step(carry, rows):
        params, state = carry
        value, grads = jax.value_and_grad(cases.batch_loss)(params, problem, rows)
        return opt.step(grads, state, params, value=value), None

    (params, state), _ = jax.lax.scan(step, (params, opt.init(params)), rows)
    final = cases.full_loss(adaptx.eval_params(opt, state, params), problem)
    return final, adaptx.read(state, "learning_rate")


def run(method: Method, model: str, rows: np.ndarray, rates: tuple[float, ...]) -> dict[str, np.ndarray]:
    """All runs of a method on one model in one program: arrays (problems, knobs, seeds), of rates without the seeds."""
    seeds, steps = rows.shape[1:3]

    def one(rate, key, rows, problem):
        return train(method, model, steps, rate, key, rows, problem)

    over_seeds = jax.vmap(one, (None, 0, 0, None))
    over_rates = jax.vmap(over_seeds, (0, None, None, None))
    everything = jax.jit(jax.vmap(over_rates, (None, None, 0, 0)))
    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    values = jnp.asarray(knobs(method, rates), jnp.float32)
    final, last = everything(values, keys, rows, jax.tree.map(jnp.asarray, cases.problems()))
    final = np.asarray(final, np.float64)
    last = np.median(np.asarray(last, np.float64), axis=-1)
    return {"final_loss": np.where(np.isfinite(final), final, np.inf), "last_rate": last}


def run_all(methods: list[Method], given: argparse.Namespace) -> dict[str, dict[str, np.ndarray]]:
    """Every method on both models, joined along the problems."""
    rows = {kind: cases.batches(given.seeds, given.steps, given.batch, kind) for kind in (False, True)}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    found: dict[str, dict[str, np.ndarray]] = {}
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=len(methods) * len(cases.MODELS))
        for method in methods:
            parts = []
            for model in cases.MODELS:
                bar.update(task, description=f"{method.name}, {model}")
                parts.append(run(method, model, rows[method.shuffled], given.rates))
                bar.advance(task)
            jax.clear_caches()
            found[method.name] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return found


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="eight methods, 20 steps, 2 seeds: a check of the program")
    parser.add_argument("--steps", type=int, help="updates of each run (1000)")
    parser.add_argument("--seeds", type=int, help="runs of each rate (3)")
    parser.add_argument(
        "--only", nargs="+", metavar="METHOD", help="names of methods; their base and the baselines run too"
    )
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args(line)
    given.steps = given.steps or (20 if given.quick else 1000)
    given.seeds = given.seeds or (2 if given.quick else 3)
    given.batch, given.iterations = 64, 20 if given.quick else 300
    given.rates = tuple(float(f"{rate:.6g}") for rate in np.geomspace(1e-5, 1e2, 3 if given.quick else 15))
    given.output = given.output or RESULTS / ("lr_free_quick.json" if given.quick else "lr_free.json")
    return given


def chosen(given: argparse.Namespace) -> list[Method]:
    """The methods to run: all, the quick ones, or those named and what they are measured by."""
    names = {method.name: method for method in METHODS}
    if given.only is None:
        return [method for method in METHODS if not given.quick or method.name in QUICK]
    unknown = [name for name in given.only if name not in names]
    if unknown:
        raise SystemExit(f"--only: there is no method {unknown[0]!r}; choose from {'; '.join(names)}.")
    wanted = {*given.only, *(names[name].base for name in given.only), tables.REFERENCE, "adam"}
    return [method for method in METHODS if method.name in wanted]


def show(outcome: tables.Outcome, robust: list, tuned: list, targets: list) -> None:
    """Both tables and the targets, on stdout."""
    whole = [rate for rate in outcome.rates if abs(np.log10(rate) - round(np.log10(rate))) < 1e-3]
    print(
        "Gap by initial rate, median over 8 problems and the seeds; the best fixed rate's gap is missed by at most 3×"
    )
    print(f"over so many decades of initial rate (median and least over problems); inf: above {LARGEST:.0e}")
    head = ["method", "knob", *(f"{rate:.0e}" for rate in whole), "default", "worst", "decades", "least"]
    rows = [[row["method"], row["knob"], *(row["gap"][rate] for rate in whole), row["gap_at_default"],
             row["worst_gap"], row["decades_median"], row["decades_least"]] for row in robust]  # fmt: skip
    print(table(head, [list(map(capped, row)) for row in rows]))
    print(
        "\nFinal loss with all defaults / that of Adam with a tuned cosine: geometric mean over 4 data sets, and worst"
    )
    head = ["method", "linear", "worst", "mlp", "worst", "all"]
    rows = [[row["method"], *(row[what][model] for model in cases.MODELS for what in ("mean", "worst")),
             row["mean"]["all"]] for row in tuned]  # fmt: skip
    print(table(head, [list(map(capped, row)) for row in rows]))
    print()
    for target in targets:
        print(
            f"{'met   ' if target['met'] else 'missed'}  {target['what']}: {target['value']:.3g} ({target['wanted']})"
        )


def capped(cell: Any) -> Any:
    """What diverged shows as infinite, so that the columns stay narrow."""
    return float("inf") if isinstance(cell, float) and cell > LARGEST else cell


def as_json(value: Any) -> Any:
    """JSON values of four digits; NaN and infinity (a run that diverged) become null."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [as_json(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.4g}") if np.isfinite(value) else None
    return value


def write(path: Path, content: dict[str, Any]) -> None:
    """One line for every entry of every top-level part."""

    def part(value: Any) -> str:
        if isinstance(value, dict):
            return (
                "{\n"
                + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in value.items())
                + "\n }"
            )
        return "[\n" + ",\n".join(f"  {json.dumps(item, allow_nan=False)}" for item in value) + "\n ]"

    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f" {json.dumps(name)}: {part(as_json(value))}" for name, value in content.items())
    path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    progress(f"wrote {path.name}")


def main(line: list[str] | None = None) -> None:
    """Runs, prints, writes."""
    given = arguments(line)
    methods, began = chosen(given), time.perf_counter()
    progress("solving for f*")
    solved = np.concatenate([cases.least_losses(model, given.iterations) for model in cases.MODELS])
    start = np.concatenate([cases.start_losses(model, given.seeds) for model in cases.MODELS])
    found = run_all(methods, given)
    losses = {name: runs["final_loss"] for name, runs in found.items()}
    outcome = tables.Outcome(given.rates, losses, start, tables.least_seen(losses, solved))
    robust, tuned, targets = tables.robustness(outcome), tables.against_tuned(outcome), tables.targets(outcome)
    show(outcome, robust, tuned, targets)
    runs = {method.name: {"base": method.base, "knob": method.knob, "values": knobs(method, given.rates),
                          "default": method.default, **found[method.name]} for method in methods}  # fmt: skip
    settings = {"quick": given.quick, "steps": given.steps, "batch": given.batch, "seeds": given.seeds,
                "ridge": cases.RIDGE, "minutes": (time.perf_counter() - began) / 60}  # fmt: skip
    problems = {name: {"start": start[i], "least": outcome.least[i], "least_of_solver": solved[i]}
                for i, name in enumerate(tables.problem_names())}  # fmt: skip
    write(given.output, {"machine": machine(), "settings": settings, "targets": targets, "robustness": robust,
                         "against_tuned_cosine": tuned, "problems": problems, "runs": runs})  # fmt: skip


if __name__ == "__main__":
    main()
