"""The command `adaptx show`: print a card, or a line for each."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..words import console, say, titled
from .cards import Card, card, registry
from .slots import NAMES, SIDE, Slot


def command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="What to show; without it, a list of all.")] = None,
) -> None:
    """What does it compute, keep and need?

    Prints the equations with their reference, the slots with their bytes, the hyperparameters and the metrics.
    """
    out = console()
    if name is None:
        _list(out)
        return
    one = card(name)
    say(out, f"{one.name}, {'an' if one.kind[0] in 'aeiou' else 'a'} {one.kind}", "bold")
    say(out, f"{one.call}\n", "dim")
    for text in one.texts:
        say(out, f"{text}\n")
    if one.slots:
        out.print(_slots(one))
    for what, fields in one.fields:
        if fields:
            table = _table(f"Hyperparameters of the {what}", "name", "default", "range", "meaning")
            for field in fields:
                table.add_row(*map(Text, field))
            out.print(table)
    width = max((len(key) for key, _ in one.facts), default=0)
    for key, value in one.facts:
        say(out, f"{key:<{width}}  {value}")


def _list(out: Console) -> None:
    cards = [card(name) for name in registry()]
    width = max(len(one.name) for one in cards)
    for kind, family in dict.fromkeys((one.kind, one.family) for one in cards):
        say(out, f"{kind.capitalize()}s{', ' if family else ''}{family}", "bold")
        for one in cards:
            if (one.kind, one.family) == (kind, family):
                say(out, f"  {one.name:<{width}}  {one.line}")
    say(out, "Equations and hyperparameters of one: adaptx show NAME", "dim")


def _slots(one: Card) -> Table:
    """Slots of a rule with bytes in each storage, or marks of a controller."""
    if one.kind == "controller":
        table = _table("Marks, in f32", "mark", "B/param")
        for mark in one.slots:
            table.add_row(Text(mark.name), Text(f"{mark.bytes[0]:.4g}"))
        return table
    table = _table(f"Slots, in bytes per parameter of a matrix of {SIDE} × {SIDE}", "slot", "sign", *NAMES, "meaning")
    used = [slot for slot in one.slots if slot.used]
    total = tuple(sum(slot.bytes[i] for slot in used) for i in range(len(NAMES)))
    rows = [*one.slots, *([Slot("together", "", total, "")] if len(used) > 1 else [])]
    for slot in rows:
        cells = slot.name, slot.sign, *(f"{count:.4g}" if count else "—" for count in slot.bytes), slot.meaning
        table.add_row(*map(Text, cells[:-1]), Text(slot.meaning + ("" if slot.used else "; not by default")))
    return table


def _table(title: str, *columns: str) -> Table:
    table = titled(title)
    for column in columns:
        justify = "right" if column in (*NAMES, "B/param") else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column == "name")
    return table
