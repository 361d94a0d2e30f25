"""Which controller, over which rule, ends above its start on a noisy quadratic?

    python benchmarks/noisy_quadratic.py [--quick] [--optimizers NAME ...] [--controllers NAME ...] [--steps N]

Every optimizer × every controller at its defaults, from the optimizer's default rate, on one matrix x of 8 × 16:

    f(x) = ½ Σ hᵢ xᵢ²                h log-spaced over [1, 100], in an order drawn once
    g = h x + ξ                      ξᵢ ~ N(0, σ²) anew in every step, x₀ᵢ ~ N(0, 1)
    σ = 0.1 √(mean h²)               so that E‖ξ‖² = 0.01 E‖g₀‖²
    f(x, ξ) = ½ Σ hᵢ (xᵢ + ξᵢ/hᵢ)²   the loss given as value=, of the sample whose gradient g is

This is a model of training with mini-batches: each has a quadratic of its own, with its minimum elsewhere, loss and
gradient belong together, and no loss falls to zero. A tenth of the first gradient is noise enough to swamp all
gradients near the minimum, and too little to throw a stable method back to its start. What needs the diagonal of the
Hessian is given h. Three starts, each with noise of its own, train in one program.

Reported is the mean of the exact f over the last 50 of 1,000 steps over f(x₀), of the worst seed. A pair diverges where
that is above 1 or not finite. lars and lamb bring their controller along and so run at their default rate alone.

The file is written after every optimizer; a run goes on where it stopped, and names given are run again. Prints a table
and writes benchmarks/results/noisy_quadratic.json, and once that holds all pairs what `adaptx show` says of them.
"""

import argparse
import inspect
import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from harness import RESULTS, headline, table, write
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import adaptx
from adaptx import controllers, optimizers
from adaptx.cli.registries import default_rate

SHOWN = Path(adaptx.__file__).parent / "cli" / "show" / "diverging.json"
SHAPE = (8, 16)
CONDITION = 100.0
NOISE = 0.1  # ‖ξ‖ over ‖g₀‖, as root mean squares
LAST = 50  # steps that make the final loss
STEPS, SEEDS = 1000, 3
CONSTANT = "constant"  # the optimizer as its constructor makes it
NAMES = (CONSTANT, *controllers.ALL)
# steps are few and arrays small: nearly all of the time is the compiler's
COMPILER = {"xla_backend_optimization_level": 0}


class Problem(NamedTuple):
    """A quadratic: its curvatures, and the noise of its gradients."""

    h: np.ndarray
    sigma: float

    def loss(self, x: jax.Array) -> jax.Array:
        """The exact one."""
        return 0.5 * jnp.sum(self.h * x**2)


def problem(shape: tuple[int, ...] = SHAPE, noise: float = NOISE) -> Problem:
    """Curvatures in an order that no row and no column of the matrix has a part in."""
    h = np.geomspace(1.0, CONDITION, math.prod(shape))
    h = np.random.default_rng(0).permutation(h).reshape(shape).astype(np.float32)
    return Problem(h, noise * float(np.sqrt(np.mean(h.astype(np.float64) ** 2))))


def built(name: str, controller: str) -> Any:
    """An optimizer of the catalogue under a controller, or as it is; what routes to adamw keeps the matrix."""
    make = optimizers.ALL[name]
    options = {"adamw": False} if "adamw" in inspect.signature(make).parameters else {}
    if controller == CONSTANT:
        return make(**options)
    return make(controllers.ALL[controller](default_rate(make)), **options)


def drawn(given: Problem, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The start and the noise of every step; ahead of time, as a generator inside would double the compilation."""
    normal = np.random.default_rng(seed).normal
    return normal(size=given.h.shape).astype(np.float32), normal(0.0, given.sigma, (steps, *given.h.shape)).astype(
        np.float32
    )


def losses(opt: Any, given: Problem, x0: jax.Array, noise: jax.Array) -> jax.Array:
    """The exact loss at the start and after each step."""

    def step(carry: Any, xi: jax.Array) -> Any:
        x, state = carry
        grad = given.h * x + xi
        known = {"value": 0.5 * jnp.sum(grad**2 / given.h), "hessian": jnp.asarray(given.h)}
        x, state = opt.step(grad, state, x, **{what: known[what] for what in sorted(opt.requires)})
        return (x, state), given.loss(x)

    after = jax.lax.scan(step, (x0, opt.init(x0)), noise)[1]
    return jnp.concatenate([given.loss(x0)[None], after])


def curves(opt: Any, given: Problem, steps: int, seeds: int) -> np.ndarray:
    """The losses of every seed, a row each, all in one program."""
    starts, noises = map(np.stack, zip(*(drawn(given, steps, seed) for seed in range(seeds)), strict=True))
    run = jax.jit(jax.vmap(partial(losses, opt, given))).lower(starts, noises)
    return np.asarray(run.compile(COMPILER)(starts, noises), np.float64)


def ratios(found: np.ndarray) -> list[float | None]:
    """Of every seed the final loss over the first, None where it is not finite."""
    ends = found[:, -min(LAST, found.shape[1] - 1) :].mean(1) / found[:, 0]
    return [float(f"{x:.4g}") if np.isfinite(x) else None for x in ends]


def tried(name: str, controller: str, given: Problem, steps: int, seeds: int) -> dict[str, Any]:
    """The row of a pair."""
    row: dict[str, Any] = {"optimizer": name, "controller": controller}
    try:
        opt = built(name, controller)
        each = ratios(curves(opt, given, steps, seeds))
    except (TypeError, ValueError) as refusal:
        return {**row, "refused": str(refusal)}
    finite = [x for x in each if x is not None]
    worst = max(finite) if len(finite) == len(each) else None
    theory = None if controller == CONSTANT or opt.controller.theory is None else opt.rule.name in opt.controller.theory
    return {**row, "derived": theory, "ratio": worst, "ratios": each, "diverges": worst is None or worst > 1}


def pairs(names: list[str], under: list[str]) -> list[tuple[str, str]]:
    """(optimizer, controller) of all that can be crossed."""
    whole = {name for name in names if built(name, CONSTANT).of_controller}
    return [(name, c) for name in names for c in under if c == CONSTANT or name not in whole]


def diverging(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """controller -> optimizer -> ratio of those that diverge; every controller that was tried has an entry."""
    found: dict[str, dict[str, float | None]] = {}
    for row in rows:
        over = found.setdefault(row["controller"], {})
        if row.get("diverges"):
            over[row["optimizer"]] = row["ratio"]
    return found


def report(rows: list[dict[str, Any]]) -> str:
    """What diverges and what is refused, on the terminal."""
    cells = [
        [row["controller"], row["optimizer"], {None: "", True: "yes", False: "no"}[row["derived"]],
         "not finite" if row["ratio"] is None else f"{row['ratio']:.3g}"]
        for row in rows if row.get("diverges")
    ]  # fmt: skip
    refused = [f"{row['optimizer']} × {row['controller']}: {row['refused']}" for row in rows if "refused" in row]
    found = table(["controller", "optimizer", "derived for it", "final ÷ first loss"], sorted(cells, key=order))
    counts = f"{len(rows)} pairs, {len(refused)} refused, {len(cells)} end above their start"
    return "\n".join([found, *refused, counts])


def order(cells: list[str]) -> int:
    """The place of a row's controller."""
    return NAMES.index(cells[0])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few pairs, steps and elements: a check, no measurement")
    parser.add_argument("--optimizers", nargs="+", choices=tuple(optimizers.ALL), metavar="NAME")
    parser.add_argument("--controllers", nargs="+", choices=NAMES, metavar="NAME")
    parser.add_argument("--steps", type=int, help=f"of a run ({STEPS})")
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    given.again = bool(given.optimizers or given.controllers)
    given.optimizers = given.optimizers or (["sgd", "adam"] if given.quick else list(optimizers.ALL))
    given.controllers = given.controllers or ([CONSTANT, "dog"] if given.quick else list(NAMES))
    given.steps = given.steps or (20 if given.quick else STEPS)
    name = "noisy_quadratic_quick.json" if given.quick else "noisy_quadratic.json"
    given.output = given.output or RESULTS / name
    return given


def begun(path: Path, wanted: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The pairs that a file already holds; none where there is no file.

    Raises:
        SystemExit: the file holds pairs with other settings.
    """
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["settings"] != wanted:
        sys.exit(f"{path.name} was measured with other settings; move it away or name another --output.")
    return {(row["optimizer"], row["controller"]): row for row in found["results"]}


def save(given: argparse.Namespace, shared: dict[str, Any], rows: dict[tuple[str, str], Any]) -> list[dict[str, Any]]:
    """Writes what there is, and what is shown of it once that is all; returns the rows in the registries' order."""
    every = pairs(list(optimizers.ALL), list(NAMES))
    results = [rows[pair] for pair in every if pair in rows]
    write(given.output, {"quick": given.quick, "settings": shared, "results": results}, quiet=True)
    if not given.quick and given.steps == STEPS and len(results) == len(every):
        SHOWN.write_text(json.dumps(diverging(results), indent=1) + "\n", encoding="utf-8")
    return results


def measured(given: argparse.Namespace, on: Problem, shared: dict[str, Any], tick: Callable) -> list[dict[str, Any]]:
    """All rows, old and new; saves after every optimizer."""
    rows = begun(given.output, shared)
    for name in given.optimizers:
        for pair in pairs([name], given.controllers):
            if given.again or pair not in rows:
                rows[pair] = tried(*pair, on, given.steps, shared["seeds"])
            tick(" × ".join(pair))
        save(given, shared, rows)
        jax.clear_caches()
    return save(given, shared, rows)


def main() -> None:
    """Trains, prints, writes."""
    given = arguments()
    on = problem((2, 4) if given.quick else SHAPE)
    shared = {"steps": given.steps, "seeds": 2 if given.quick else SEEDS, "shape": list(on.h.shape),
              "condition": CONDITION, "noise": NOISE, "last": LAST}  # fmt: skip
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        shown = bar.add_task("", total=len(pairs(given.optimizers, given.controllers)))
        results = measured(given, on, shared, lambda what: bar.update(shown, advance=1, description=what))
    print(headline())
    print(report(results))


if __name__ == "__main__":
    main()
