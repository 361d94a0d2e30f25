"""How good is the rate that find_lr suggests?

    python benchmarks/find_lr.py [--quick] [--output FILE]

On a perceptron and a convolutional network for digits and on a small transformer for characters, with several
optimizers: a range test, then trainings at the suggested rate and at rates of a grid around it, a quarter of a decade
apart, all from the same parameters and on the same minibatches (others than those of the test). The ratio is that of
the held-out loss at the suggested rate over the least of the grid, where rates are constant; means of some seeds.
Prints a table and writes benchmarks/results/find_lr.json.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import precision_tasks
import target_tasks
from harness import RESULTS, headline, table, write
from rich.console import Console
from rich.progress import track

import adaptx

OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam", "lion")
GRID = tuple(10 ** (i / 4) for i in range(-6, 7))  # of the suggestion
TASKS: dict[str, tuple[Callable[[], Any], int]] = {
    "digits, perceptron": (lambda: precision_tasks.digits(0), 400),
    "digits, convolutions": (lambda: target_tasks.digits(target_tasks.Sizes(channels=8)), 300),
    "characters, transformer": (lambda: precision_tasks.characters(0), 300),
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps: a check, not a measurement")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    given.seeds = 1 if given.quick else given.seeds
    given.output = given.output or RESULTS / ("find_lr_quick.json" if given.quick else "find_lr.json")
    return given


def trained(task: Any, name: str, rates: np.ndarray, seed: int, steps: int) -> np.ndarray:
    """The held-out loss after training, of every rate."""
    x, y = (jnp.asarray(a[:128]) for a in task.unseen)

    def one(opt: Any) -> jax.Array:
        params, key = task.init(jax.random.key(seed)), jax.random.key(seed + 1000)

        def body(carry: Any, t: jax.Array) -> Any:
            params, state = carry
            loss, grads = jax.value_and_grad(task.loss)(params, *task.batch(jax.random.fold_in(key, t)))
            return opt.step(grads, state, params, value=loss), None

        (params, _), _ = jax.lax.scan(body, (params, opt.init(params)), jnp.arange(steps))
        return task.loss(params, x, y)

    found = jax.jit(lambda opts: jax.lax.map(one, opts))(getattr(adaptx, name)(jnp.asarray(rates, jnp.float32)))
    return np.nan_to_num(np.asarray(found, np.float64), nan=np.inf)


def measured(where: str, name: str, seeds: int, quick: bool) -> dict[str, Any]:
    """A row of the table."""
    make, steps = TASKS[where]
    task, ratios, suggestions, best = make(), [], [], []
    for seed in range(seeds):

        def data(t: int, seed: int = seed) -> Any:
            return task.batch(jax.random.fold_in(jax.random.key(seed + 2000), t))

        found = adaptx.find_lr(task.loss, getattr(adaptx, name)(), task.init(jax.random.key(seed)), data)
        grid = (0.1, 1.0, 10.0) if quick else GRID
        losses = trained(task, name, found.suggestion * np.array(grid), seed, 20 if quick else steps)
        suggestions.append(found.suggestion)
        best.append(found.suggestion * grid[int(np.argmin(losses))])
        ratios.append(float(losses[grid.index(1.0)] / losses.min()))
    return {"task": where, "optimizer": name, "suggestions": suggestions, "best": best, "ratios": ratios}


def main() -> None:
    """Run it."""
    given = arguments()
    print(headline())
    cells = [(where, name) for where in TASKS for name in (("adam",) if given.quick else OPTIMIZERS)]
    rows = []
    for where, name in track(cells, "range tests", console=Console(stderr=True)):
        rows.append(measured(where, name, given.seeds, given.quick))
        write(given.output, {"rows": rows}, quiet=True)
    print(table(["task", "optimizer", "suggested", "best of the grid", "loss ÷ best"], [cells_of(row) for row in rows]))


def cells_of(row: dict[str, Any]) -> list[Any]:
    """A row as text."""
    suggested, best = (float(np.exp(np.mean(np.log(row[key])))) for key in ("suggestions", "best"))
    return [row["task"], row["optimizer"], f"{suggested:.2g}", f"{best:.2g}",
            f"{np.mean(row['ratios']):.2f} ({min(row['ratios']):.2f}–{max(row['ratios']):.2f})"]  # fmt: skip


if __name__ == "__main__":
    main()
