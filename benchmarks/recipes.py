"""What does a recipe gain over plain AdamW, on a small model of its kind?

    python benchmarks/recipes.py [--quick] [--recipes cnn gan ...] [--seeds N] [--output FILE]

Every recipe trains a small model of its kind for as many steps as AdamW at a constant rate. Compared are the recipe at
its defaults and AdamW at its own (1e-3, constant), and both at the best of six multiples of these rates, from a tenth
to thirty times, chosen by as many seeds of their own. What is compared is what counts for the model (a held-out loss,
a distance, the time a pole has fallen), smaller is better, as the geometric mean over fresh seeds of the ratios of
both, with its standard error.
Prints a table and writes benchmarks/results/recipes.json after every recipe; it keeps rows of others.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness import RESULTS, headline, write
from recipe_tasks import TASKS, Task
from rich.console import Console
from rich.progress import track

import adaptx

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # of the default rate
PLAIN = 1e-3  # AdamW's
TUNING = 1000  # the first seed of those that choose a rate


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps and seeds: a check, not a measurement")
    parser.add_argument("--recipes", nargs="+", choices=tuple(TASKS), default=list(TASKS), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=10, help="fresh ones (10)")
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    given.seeds = 2 if given.quick else given.seeds
    given.output = given.output or RESULTS / ("recipes_quick.json" if given.quick else "recipes.json")
    return given


def trainer(task: Task, steps: int) -> Callable[..., np.ndarray]:
    """(optimizer, seeds) -> what counts after training, of every seed; inf where it is not finite.

    Optimizers that differ in numbers alone share a program.
    """

    @jax.jit
    def run(opt: Any, seeds: jax.Array) -> jax.Array:
        def one(seed: jax.Array) -> jax.Array:
            first, drawn, last = jax.random.split(jax.random.key(seed), 3)
            params = task.init(first)

            def body(carry: Any, t: jax.Array) -> Any:
                params, state = carry
                loss, grads = jax.value_and_grad(task.loss)(params, jax.random.fold_in(drawn, t))
                return opt.step(grads, state, params, value=loss), None

            (params, state), _ = jax.lax.scan(body, (params, opt.init(params)), jnp.arange(steps))
            return task.measure(adaptx.eval_params(opt, state, params), last)

        return jax.vmap(one)(seeds)

    def counted(opt: Any, seeds: Sequence[int]) -> np.ndarray:
        found = np.asarray(run(opt, jnp.array(seeds)), np.float64)
        return np.where(np.isfinite(found), found, np.inf)

    return counted


def compared(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """The geometric mean of ours over theirs, and the standard error of its logarithm."""
    logs = np.log(ours) - np.log(theirs)
    return {"ratio": float(np.exp(logs.mean())), "error": float(logs.std(ddof=1) / len(logs) ** 0.5)}


def measured(name: str, task: Task, seeds: int, quick: bool) -> dict[str, Any]:
    """A row of the table."""
    steps, fresh = 20 if quick else task.steps, range(seeds)
    trained, runs = trainer(task, steps), {}
    for who, opt in (("adamw", task.plain(PLAIN)), ("recipe", task.recipe(steps))):
        at = {f: opt.scaled(f) for f in (FACTORS[1:4] if quick else FACTORS)}
        # as many seeds as are fresh, so that there is one program
        tried = {f: mean(trained(at[f], [TUNING + seed for seed in fresh])) for f in at}
        best = min(tried, key=lambda f: tried[f])
        ends = {how: trained(at[f], fresh).tolist() for how, f in (("default", 1.0), ("tuned", best))}
        runs[who] = {"tried": {f"{f:g}": x for f, x in tried.items()}, "best": best, **ends}
    both = {how: compared(np.array(runs["recipe"][how]), np.array(runs["adamw"][how])) for how in ("default", "tuned")}
    return {"recipe": name, "what": task.what, "steps": steps, "seeds": seeds, **both, "runs": runs}


def mean(values: np.ndarray) -> float:
    """The geometric mean."""
    return float(np.exp(np.log(values).mean()))


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as text."""
    lines = [f"{'recipe':16} {'defaults':>16} {'both tuned':>16}  measured"]
    for row in rows:
        cells = [
            f"{row[how]['ratio']:.2f} ± {row[how]['ratio'] * row[how]['error']:.2f}" for how in ("default", "tuned")
        ]
        lines.append(f"{row['recipe']:16} {cells[0]:>16} {cells[1]:>16}  {row['what']}")
    return "\n".join(lines)


def main() -> None:
    """Run it."""
    given = arguments()
    print(headline())
    old = json.loads(given.output.read_text("utf-8"))["rows"] if given.output.exists() else []
    rows = {row["recipe"]: row for row in old}
    for name in track(given.recipes, "recipes", console=Console(stderr=True)):
        rows[name] = measured(name, TASKS[name](), given.seeds, given.quick)
        ordered = [rows[n] for n in TASKS if n in rows]
        write(given.output, {"rows": ordered})
    print(table([rows[n] for n in TASKS if n in rows]))


if __name__ == "__main__":
    main()
