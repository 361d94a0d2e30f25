"""`adaptx plan`: what a model and an optimizer will take, before they take it."""

import inspect
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adaptx import controllers, optimizers
from adaptx.engine.optimizer import Optimizer

from .budget import Budget, Part, budget
from .errors import InputError
from .models import DTYPES, model
from .plan_words import as_json, notes, stored
from .recipe import optimizer
from .shapes import EXAMPLES
from .text import console, shaped, size


def command(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help=f"{', '.join(EXAMPLES)}, an .npz file, or module:function.")
    ],
    name: Annotated[
        str, typer.Option("--optimizer", metavar="NAME", help=f"One of {', '.join(optimizers.ALL)}.")
    ] = "adam",
    controller: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"What sets the rate: {', '.join(controllers.ALL)}.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The rate; changes no bytes.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another argument, as amsgrad=true; may be repeated."),
    ] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="f32|bf16|int8", help="Of the slots: a name, or by slot, as m=bf16,v=int8.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--storage-exclude",
            metavar="N|REGEX",
            help="Leaves that stay f32: with fewer than N elements [4096], or a path that matches; may be repeated.",
        ),
    ] = None,
    rounding: Annotated[
        str | None, typer.Option(metavar="POLICY", help="Of narrow parameters: nearest, stochastic, kahan or master.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="|".join(DTYPES), help="Of the parameters; without it their own.")
    ] = None,
    shards: Annotated[int, typer.Option(metavar="N", help="Devices to spread over.")] = 1,
    bandwidth: Annotated[
        float | None, typer.Option(metavar="GB/s", help="Of the memory: gives the least time of a step.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="K", help="List the K largest leaves.")] = 10,
    output: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write everything, in bytes, to a file.")
    ] = None,
) -> None:
    """What will this optimizer cost?

    Prints the bytes of parameters, gradients and state, in total, by leaf and by device, the least traffic of a step,
    and the equations. Nothing is allocated.
    """
    if shards < 1:
        raise InputError(f"--shards {shards}: expected a number of devices of at least 1.")
    if top < 0:
        raise InputError(f"--top {top}: expected a number of leaves of at least 0.")
    if bandwidth is not None and not 0 < bandwidth < float("inf"):
        raise InputError(f"--bandwidth {bandwidth:g}: expected GB/s above 0, as 4800.")
    opt = optimizer(
        name, learning_rate=learning_rate, controller=controller, changes=changes or (), storage=storage,
        exclude=exclude or (), rounding=rounding,
    )  # fmt: skip
    plan = budget(opt, model(source, dtype), shards)
    if output is not None:
        _write(output, as_json(source, opt, plan, bandwidth))
    out = console()
    _print(out, f"{source}: {plan.elements:,} parameters in {len(plan.leaves)} leaves; {opt!r}", "bold")
    out.print(_parts(plan))
    for line in notes(opt, plan, bandwidth):
        _print(out, line)
    if top:
        out.print(_leaves(opt, plan, top))
    for part in (opt.rule, opt.controller):
        if part is not None:
            _print(out, f"\n{(inspect.getmodule(type(part)) or part).__doc__ or ''}".rstrip())


def _print(out: Console, text: str, style: str = "") -> None:
    out.print(Text(text, style=style), soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=SIMPLE_HEAD)
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


def _leaves(opt: Optimizer, plan: Budget, top: int) -> Table:
    """The largest leaves, then the rest and all."""
    many = plan.shards > 1
    names = [part.name for part in plan.parts[2:-1]]
    table = _table("Leaves", "leaf", "shape", "parameter", *names, "sum", *(["a device"] if many else []), "storage")
    ordered = sorted(plan.leaves, key=lambda leaf: -leaf.cost.total)
    shown, rest = ordered[:top], ordered[top:]
    rows = [((leaf.cost.path, shaped(leaf.cost.shape)), [leaf], stored(leaf)) for leaf in shown]
    if rest:
        rows.append(((f"{len(rest)} more", ""), rest, ""))
    for head, leaves, storage in rows:
        state = [sum(leaf.cost.state[name] for leaf in leaves) for name in names]
        sizes = [sum(leaf.cost.parameter for leaf in leaves), *state, sum(leaf.cost.total for leaf in leaves)]
        sizes += [sum(sum(leaf.local.values()) for leaf in leaves)] if many else []
        table.add_row(*map(Text, (*head, *map(size, sizes), storage)))
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", False
    return table


def _write(path: Path, content: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--json {path}: the file cannot be written ({reason}); choose another path.") from error
