"""The table on the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .summary import Summary
from .words import COLUMNS, cells, notes, verdict


def show(console: Console, summary: Summary, title: str) -> None:
    """Prints the table, the verdict and the definitions."""
    # narrow gaps: the longest name, adam+prodigy+cosine, fits into 80 columns
    style = {"title_style": "bold", "header_style": "bold", "box": SIMPLE_HEAD, "padding": (0, 1, 0, 0)}
    table = Table(title=title, title_justify="left", show_edge=False, **style)
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if index else "left", no_wrap=index > 0, overflow="fold")
    for row in summary.rows:
        table.add_row(*map(Text, cells(row)))
    console.print(table)
    console.print(Text(verdict(summary), style="bold"))
    for note in notes(summary):
        console.print(Text(note, style="dim"))
