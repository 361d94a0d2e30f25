"""The command `adaptx plan`: work out the budget, write it, print its tables."""

import json
from pathlib import Path

from rich.table import Table
from rich.text import Text

from adaptx.engine.transformation import Transformation

from ..registries import equations
from ..words import InputError, console, say, shaped, size, titled
from . import options
from .budget import Budget, Part, budget
from .models import model
from .recipe import optimizer
from .sentences import as_json, notes, stored


def command(
    source: options.Model,
    name: options.Optimizer = "adam",
    controller: options.Controller = None,
    learning_rate: options.LearningRate = None,
    changes: options.Changes = None,
    storage: options.Storage = None,
    exclude: options.Exclude = None,
    rounding: options.Rounding = None,
    dtype: options.Dtype = None,
    shards: options.Shards = 1,
    bandwidth: options.Bandwidth = None,
    top: options.Top = 10,
    output: options.Output = None,
) -> None:
    """What will this optimizer cost?

    Prints the bytes of parameters, gradients and state, in total, by leaf and by device, the least traffic of a step,
    and the equations. Nothing is allocated.
    """
    options.check_numbers(shards, top, bandwidth)
    opt = optimizer(
        name, learning_rate=learning_rate, controller=controller, changes=changes or (), storage=storage,
        exclude=exclude or (), rounding=rounding,
    )  # fmt: skip
    plan = budget(opt, model(source, dtype), shards)
    if output is not None:
        _write(output, as_json(source, opt, plan, bandwidth))
    _show(source, opt, plan, bandwidth, top)


def _show(source: str, opt: Transformation, plan: Budget, bandwidth: float | None, top: int) -> None:
    """Prints the parts, what the numbers mean, the largest leaves and the equations."""
    out = console()
    say(out, f"{source}: {plan.elements:,} parameters in {len(plan.leaves)} leaves; {opt!r}", "bold")
    out.print(_parts(plan))
    for line in notes(plan, bandwidth):
        say(out, line)
    if top:
        out.print(_leaves(plan, top))
    for text in dict.fromkeys(equations(part) for one in plan.opts for part in (one.rule, one.controller)):
        say(out, f"\n{text}")


def _table(title: str, *columns: str) -> Table:
    table = titled(title)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index > 1 else "left", no_wrap=index > 1, overflow="fold")
    return table


def _parts(plan: Budget) -> Table:
    """The sum, part by part."""
    many = plan.shards > 1
    table = _table("Memory", "part", "what", "B/param", "bytes", "", *([f"on each of {plan.shards}"] if many else []))
    whole = Part("sum", "", sum(part.size for part in plan.parts), sum(part.local for part in plan.parts))
    for part in (*plan.parts, whole):
        cells = (part.name, part.kind, f"{part.size / plan.elements:.2f}", f"{part.size:,}", size(part.size))
        style = "bold" if part is whole else ""
        table.add_row(*(Text(cell, style=style) for cell in (*cells, *([size(part.local)] if many else []))))
    return table


def _leaves(plan: Budget, top: int) -> Table:
    """The largest leaves, then the rest and all."""
    many = plan.shards > 1
    names = [part.name for part in plan.parts[2:-1]]
    routed = any(leaf.cost.group for leaf in plan.leaves)
    last = (*(["a device"] if many else []), "storage", *(["group"] if routed else []))
    table = _table("Leaves", "leaf", "shape", "parameter", *names, "sum", *last)
    ordered = sorted(plan.leaves, key=lambda leaf: -leaf.cost.total)
    shown, rest = ordered[:top], ordered[top:]
    rows = [((leaf.cost.path, shaped(leaf.cost.shape)), [leaf], (stored(leaf), leaf.cost.group)) for leaf in shown]
    if rest:
        rows.append(((f"{len(rest)} more", ""), rest, ("", "")))
    for head, leaves, tail in rows:
        state = [sum(leaf.cost.state.get(name, 0) for leaf in leaves) for name in names]
        sizes = [sum(leaf.cost.parameter for leaf in leaves), *state, sum(leaf.cost.total for leaf in leaves)]
        sizes += [sum(sum(leaf.local.values()) for leaf in leaves)] if many else []
        table.add_row(*map(Text, (*head, *map(size, sizes), *tail[: 1 + routed])))
    for column in table.columns[-1 - routed :]:
        column.justify, column.no_wrap = "left", False
    return table


def _write(path: Path, content: dict[str, object]) -> None:
    try:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--json {path}: the file cannot be written ({reason}); choose another path.") from error
