"""What narrow state and narrow parameters cost in loss: every storage and rounding against f32, on two small tasks.

    python benchmarks/precision.py [--quick] [--tasks digits characters] [--steps N] [--seeds 3]

Adam with a cosine rate; every method starts from the same parameters and sees the same minibatches, seed by seed, with
all seeds in one program. No leaf is excluded from narrow storage, however small. Prints a table and writes
benchmarks/results/precision.json.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import RESULTS, headline, progress, seconds, table, write
from precision_tasks import TASKS, Task

import adaptx

TARGET = 0.005  # mean final loss over that of f32, minus 1
STEPS = {"digits": 1000, "characters": 400}
QUICK = {"digits": 60, "characters": 6}
QUICK_METHODS = ("f32", "int8 slots", "bf16 params, kahan")
NUDGE = 1e-3  # relative change of the initial parameters that shows how far apart two runs in f32 end

# name -> (engine options, dtype of the parameters); "f32" is what the others are held against
METHODS: dict[str, tuple[dict[str, Any], Any]] = {
    "f32": ({}, jnp.float32),
    "f32, start nudged": ({}, jnp.float32),
    "bf16 slots": ({"storage": "bf16"}, jnp.float32),
    "int8 slots": ({"storage": "int8"}, jnp.float32),
    "bf16 m, int8 v": ({"storage": {"m": "bf16", "v": "int8"}}, jnp.float32),
    "bf16 params, nearest": ({"rounding": "nearest"}, jnp.bfloat16),
    "bf16 params, stochastic": ({"rounding": "stochastic"}, jnp.bfloat16),
    "bf16 params, kahan": ({"rounding": "kahan"}, jnp.bfloat16),
    "bf16 params, master": ({"rounding": "master"}, jnp.bfloat16),
    "bf16 params, kahan, int8 slots": ({"rounding": "kahan", "storage": "int8"}, jnp.bfloat16),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three methods, a few steps: a check, not a measurement")
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS))
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), help="all by default; f32 always runs")
    parser.add_argument("--steps", type=int, help="of every task (1000 for digits, 400 for characters)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    given.methods = given.methods or (QUICK_METHODS if given.quick else tuple(METHODS))
    given.output = given.output or RESULTS / ("precision_quick.json" if given.quick else "precision.json")
    return given


def trained(task: Task, name: str, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(loss on what was trained on, on what was not) at the end of one training."""
    options, dtype = METHODS[name]
    rate = adaptx.schedules.cosine_decay_schedule(task.rate, task.steps)
    opt = adaptx.adam(rate, storage_exclude=0, **options)
    key = jax.random.key(seed)
    factor = 1 + NUDGE if name == "f32, start nudged" else 1.0
    params = jax.tree.map(lambda x: (factor * x).astype(dtype), task.init(key))

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        return task.loss(jax.tree.map(lambda p: p.astype(jnp.float32), params), x, y)

    def step(carry: Any, t: jax.Array) -> tuple[Any, None]:
        params, state = carry
        grads = jax.grad(loss)(params, *task.batch(jax.random.fold_in(key, t)))
        return opt.step(grads, state, params), None

    (params, _), _ = jax.lax.scan(step, (params, opt.init(params)), jnp.arange(1, task.steps + 1))
    return loss(params, *task.seen), loss(params, *task.unseen)


def measure(task: Task, name: str, seeds: int) -> dict[str, Any]:
    """The final losses of one method, a number per seed."""
    found: dict[str, Any] = {}
    program = jax.jit(jax.vmap(partial(trained, task, name)))
    wall = seconds(lambda: found.update(losses=program(jnp.arange(seeds))) or found["losses"])
    seen, unseen = (np.asarray(x, np.float64).tolist() for x in found["losses"])
    return {"method": name, "seen": seen, "unseen": unseen, "seconds": wall}


def compared(result: dict[str, Any], reference: dict[str, Any]) -> dict[str, Any]:
    """The result with mean and standard deviation over seeds, and its excess over f32: of the means, and spread."""
    out = dict(result)
    for part in ("seen", "unseen"):
        mine, theirs = np.array(result[part]), np.array(reference[part])
        by_seed = mine / theirs - 1
        out[f"{part}_mean"], out[f"{part}_sd"] = mine.mean(), mine.std(ddof=1) if len(mine) > 1 else 0.0
        out[f"{part}_excess"] = mine.mean() / theirs.mean() - 1
        out[f"{part}_excess_sd"] = by_seed.std(ddof=1) if len(mine) > 1 else 0.0
    out["within_target"] = bool(out["seen_excess"] <= TARGET)
    return out


def run(task_name: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """All methods on one task."""
    steps = given.steps or (QUICK if given.quick else STEPS)[task_name]
    task = TASKS[task_name](steps)
    results: list[dict[str, Any]] = []
    for name in dict.fromkeys(["f32", *given.methods]):
        progress(f"{task_name}: {name}")
        result = measure(task, name, given.seeds)
        results.append({"task": task_name, "steps": steps, **compared(result, results[0] if results else result)})
    return results


def report(results: list[dict[str, Any]]) -> str:
    """The table on the terminal."""
    header = ["task", "method", "loss", "sd", "excess %", "sd", "unseen", "excess %", f"≤ {100 * TARGET:g} %", "s"]
    rows = [
        [
            r["task"], r["method"], f"{r['seen_mean']:.4f}", f"{r['seen_sd']:.4f}", f"{100 * r['seen_excess']:+.2f}",
            f"{100 * r['seen_excess_sd']:.2f}", f"{r['unseen_mean']:.4f}", f"{100 * r['unseen_excess']:+.2f}",
            "yes" if r["within_target"] else "no", r["seconds"],
        ]
        for r in results
    ]  # fmt: skip
    return table(header, rows)


def main() -> None:
    """Trains, prints, writes."""
    given = arguments()
    results = [row for name in given.tasks for row in run(name, given)]
    print(headline())
    print(report(results))
    write(given.output, {"quick": given.quick, "target": TARGET, "seeds": given.seeds, "results": results})


if __name__ == "__main__":
    main()
