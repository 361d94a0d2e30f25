"""How many steps, and seconds, until the loss that a tuned AdamW ends with?

    python benchmarks/steps_to_target.py [--quick] [--optimizers adamw muon ...] [--budget-steps N] [--output FILE]

A transformer of a million parameters on characters and a small convolutional network on digits. On each, every
optimizer is tuned in the same way, with the same budget and one seed: rates half a decade apart around its default,
then those a quarter of a decade below and above the best, and the best with weight decay. At its best point it then
trains from fresh seeds, half as long again. The rate is constant after a warmup over the first twentieth. The target
is, seed by seed, the held-out loss with which AdamW ends its budget. Weight decay is independent of the rate
(p ← p − lr·d − λp), so that one grid means the same for all.

Members of a sweep train in one vmapped program, a few at a time. The JSON file is written after every optimizer, and a
run with the same settings goes on where it stopped: split a long one with --optimizers. Losses do not depend on what
else the machine does, times do: --times takes those alone anew. Prints a table and writes
benchmarks/results/steps_to_target.json.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import target_tables as tables
from harness import RESULTS, headline, write
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from target_steps import MAKERS, RACING, SHORT, built, one_step, timed
from target_tables import BASE
from target_tasks import QUICK, TASKS, Sizes, Task

from adaptx import optimizers
from adaptx.cli.registries import default_rate

FACTORS = tuple(float(f) for f in np.geomspace(10**-0.5, 100.0, 6))  # of the default rate, half a decade apart
NEARER = 10**0.25  # the factor to the rates beside the best of these
DECAY = 3e-4  # λ of every step, tried at the best of them
OVERRUN = 1.5  # how much longer than the budget the fresh seeds train
WARMUP = 0.05  # of the budget
TUNING_SEED = 1000  # the fresh ones are 0, 1, …
CHOSEN = (*SHORT, "nadamw", "adan", "adopt", "ademamix", "mars", "lion", "adafactor", "came", "lamb")
DEFAULT = (BASE, *CHOSEN, *optimizers.FAMILIES["matrices"], *optimizers.FAMILIES["preconditioned"])


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two optimizers, tiny networks: a check, no measurement")
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS))
    names = ("all", *RACING)
    parser.add_argument("--optimizers", nargs="+", choices=names, metavar="NAME", help=f"{BASE} always runs too")
    parser.add_argument("--budget-steps", type=int, help="of a run while tuning (300)")
    parser.add_argument("--seeds", type=int, help="fresh ones at the tuned point (3 of characters, 12 of digits)")
    parser.add_argument("--every", type=int, help="steps between two looks at the loss (10)")
    parser.add_argument("--together", type=int, help="members that train at once (3); more on a GPU")
    parser.add_argument("--times", action="store_true", help="only time the steps of what the file holds, once more")
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    for name, full, quick in (("every", 10, 5), ("together", 3, 2)):
        setattr(given, name, getattr(given, name) or (quick if given.quick else full))
    chosen = given.optimizers or ((BASE, "muon") if given.quick else DEFAULT)
    given.optimizers = list(dict.fromkeys((BASE, *(RACING if "all" in chosen else chosen))))
    given.sizes = QUICK if given.quick else Sizes()
    if given.budget_steps:
        given.sizes = given.sizes._replace(character_steps=given.budget_steps, digit_steps=given.budget_steps)
    if given.seeds:
        given.sizes = given.sizes._replace(character_seeds=given.seeds, digit_seeds=given.seeds)
    given.factors = (1.0, 10.0) if given.quick else FACTORS
    name = "steps_to_target_quick.json" if given.quick else "steps_to_target.json"
    given.output = given.output or RESULTS / name
    return given


def program(task: Task, name: str, every: int, longest: int) -> Callable[..., jax.Array]:
    """(rates, decays, seeds, evaluations) -> the loss after each `every` steps, a row of `longest` for every member.

    What all members share, the number of the step above all, stays one number under vmap, so that a rule which does
    something only now and then does it only then.
    """
    warmup = max(1, round(WARMUP * task.steps))

    def member(rate: jax.Array, decay: jax.Array, seed: jax.Array, evaluations: jax.Array) -> jax.Array:
        opt, key = built(name, rate, decay, warmup), jax.random.key(seed)
        params = task.init(key)

        def evaluated(e: jax.Array, carry: Any) -> Any:
            inside, losses = carry
            inside = jax.lax.fori_loop(e * every, (e + 1) * every, partial(one_step, task, opt, key), inside)
            return inside, losses.at[e].set(task.loss(inside[0], *task.unseen))

        start = (params, opt.init(params)), jnp.full(longest, jnp.inf)
        return jax.lax.fori_loop(0, evaluations, evaluated, start)[1]

    return jax.jit(jax.vmap(member, in_axes=(0, 0, 0, None)))


Member = tuple[float, float, int]  # rate, decay, seed


def trained(run: Callable, members: Sequence[Member], evaluations: int, together: int, tick: Callable) -> np.ndarray:
    """The losses of every member, `together` at a time; the last are filled up with copies."""
    out = []
    for first in range(0, len(members), together):
        some = list(members[first : first + together])
        some += some[-1:] * (together - len(some))
        rates, decays, seeds = (np.array(column) for column in zip(*some, strict=True))
        curves = run(rates.astype(np.float32), decays.astype(np.float32), seeds.astype(np.uint32), evaluations)
        out.append(np.asarray(curves, np.float64)[: len(members) - first, :evaluations])
        tick()
    return np.concatenate(out)


def tuned(run: Callable, name: str, budget: int, given: argparse.Namespace, tick: Callable) -> dict[str, Any]:
    """The point with the lowest loss at the end of the budget, and all that were tried: [rate, decay, loss]."""
    unit = default_rate(MAKERS[name])
    tried: list[list[Any]] = []

    def attempt(points: Sequence[tuple[float, float]]) -> list[Any]:
        curves = trained(run, [(*point, TUNING_SEED) for point in points], budget, given.together, tick)
        losses = [tables.final(curve, budget) for curve in curves]
        tried.extend([*p, loss if np.isfinite(loss) else None] for p, loss in zip(points, losses, strict=True))
        return min((one for one in tried if one[2] is not None), key=lambda one: one[2], default=tried[0])

    coarse = attempt([(factor * unit, 0.0) for factor in given.factors])[0]
    rate, decay, _ = attempt([(coarse / NEARER, 0.0), (coarse * NEARER, 0.0), (coarse, DECAY)])
    edge = rate in (min(one[0] for one in tried), max(one[0] for one in tried))
    return {"rate": rate, "decay": decay, "on_edge": edge, "tuning": tried}


def one(task: Task, name: str, given: argparse.Namespace, base: dict[str, Any] | None, tick: Any) -> dict[str, Any]:
    """Everything about one optimizer on one task."""
    budget = task.steps // given.every
    longest = round(OVERRUN * budget)
    run = program(task, name, given.every, longest)
    point = tuned(run, name, budget, given, tick)
    members = [(point["rate"], point["decay"], seed) for seed in range(task.seeds)]
    curves = trained(run, members, longest, given.together, tick)
    shown = [[float(f"{x:.5g}") if np.isfinite(x) else None for x in curve] for curve in curves]
    return {**point, "curves": shown, **timed(task, name, point, base or point)}


def timed_again(tasks: dict[str, Task], runs: dict[str, Any], tick: Callable[[str], None]) -> None:
    """New times of a step in all runs."""
    for task, found in runs.items():
        for name, run in found.items():
            tick(f"{task}: {name}")
            run.update(timed(tasks[task], name, run, found[BASE]))


def settings(given: argparse.Namespace, tasks: dict[str, Task]) -> dict[str, Any]:
    """What two runs must share to be one."""
    return {
        "sizes": given.sizes._asdict(), "steps": {name: task.steps for name, task in tasks.items()},
        "data": {name: task.digest for name, task in tasks.items()},
        "seeds": {name: task.seeds for name, task in tasks.items()}, "every": given.every,
        "factors": list(given.factors), "nearer": NEARER, "decay": DECAY, "overrun": OVERRUN, "warmup": WARMUP,
    }  # fmt: skip


def begun(path: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """The runs that a file already holds; none where there is no file.

    Raises:
        SystemExit: the file holds runs with other settings.
    """
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    differ = [name for name in wanted if found["settings"].get(name) != json.loads(json.dumps(wanted[name]))]
    if differ:
        sys.exit(f"{path.name} was measured with other {', '.join(differ)}; move it away or name another --output.")
    return found["runs"]


def main() -> None:
    """Trains, prints, writes; leaves out what the file holds already."""
    given = arguments()
    tasks = {name: make(given.sizes) for name, make in TASKS.items()}
    shared = settings(given, tasks)
    runs = begun(given.output, shared)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as bar:
        if given.times:
            shown = bar.add_task("", total=sum(map(len, runs.values())))
            timed_again(tasks, runs, lambda text: bar.update(shown, description=text, advance=1))
            given.optimizers = []
        todo = [(t, n) for t in given.tasks for n in given.optimizers if n not in runs.get(t, {})]
        shown = bar.add_task("", total=sum(batches(tasks[task], given) for task, _ in todo))
        for task, name in todo:
            bar.update(shown, description=f"{task}: {name}")
            found = runs.setdefault(task, {})
            found[name] = one(tasks[task], name, given, found.get(BASE), lambda: bar.advance(shown))
            save(given, shared, runs)
    results = save(given, shared, runs)
    print(headline())
    print(tables.report(results))


def batches(task: Task, given: argparse.Namespace) -> int:
    """How many calls of the program an optimizer takes."""
    return sum(-(-members // given.together) for members in (len(given.factors), 3, task.seeds))


def save(given: argparse.Namespace, shared: dict[str, Any], runs: dict[str, Any]) -> list[dict[str, Any]]:
    """Writes what there is; returns the rows of the table."""
    results = tables.rows(runs, shared)
    write(given.output, {"quick": given.quick, "settings": shared, "results": results, "runs": runs}, quiet=True)
    return results


if __name__ == "__main__":
    main()
