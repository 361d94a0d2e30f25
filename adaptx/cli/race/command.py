"""The command `adaptx race`: train everyone, print the table, write the report."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from ..words import say, titled
from . import contest, data, options, report
from .contestants import CONTROLLED, Contestant, choose
from .sentences import COLUMNS, cells, notes, verdict
from .summary import Summary, summarize


def command(
    source: options.Source = "digits",
    target: options.Target = None,
    optimizers: options.Names = options.EVERYONE,
    controllers: options.Controllers = False,
    steps: options.Steps = None,
    batch_size: options.BatchSize = None,
    hidden: options.Hidden = None,
    seeds: options.Seeds = None,
    grid: options.Grid = None,
    output: options.Output = Path("adaptx-race"),
    quick: options.Quick = False,
) -> None:
    """Which adaptive learning rate suits my problem?

    Trains a small model on a data set with every optimizer, a grid of learning rates and several seeds, prints a table
    and writes results.json and report.html.
    """
    left_out: list[str] = []
    contestants = choose([*optimizers.split(","), *(CONTROLLED if controllers else ())], left_out.append)
    report.check_folder(output)
    dataset = data.load(source, target)
    settings = options.settings(
        dataset, quick, steps=steps, batch_size=batch_size, hidden=hidden, seeds=seeds, grid=grid
    )
    courses = _race(contestants, dataset, settings)
    summary = summarize(courses)
    page = report.write(output, dataset, settings, courses, summary)
    console = Console()
    title = f"{dataset.name}: {settings.steps} steps, {settings.grid[2]} learning rates, {settings.seeds} seeds"
    _show(console, summary, title)
    for reason in left_out:
        console.print(Text(f"Left out: {reason}", style="dim"))
    say(console, f"Report: {page}")


def _race(contestants: Sequence[Contestant], dataset: data.Dataset, settings: contest.Settings) -> list[contest.Course]:
    """The courses of all, with a bar that shows who is training."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        total = len(contestants) * (len(settings.evaluated) + 1)
        task = progress.add_task("racing", total=total)

        def one(contestant: Contestant) -> contest.Course:
            def tick(doing: str) -> None:
                progress.update(task, advance=1, description=f"{contestant.name:>19}: {doing}")

            return contest.run(contestant, dataset, settings, tick)

        return [one(contestant) for contestant in contestants]


def _show(console: Console, summary: Summary, title: str) -> None:
    """Prints the table, the verdict and the definitions."""
    table = titled(title)
    table.show_edge = False
    table.padding = (0, 1, 0, 0)  # narrow gaps: the longest name, adam+prodigy+cosine, fits into 80 columns
    for index, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if index else "left", no_wrap=index > 0, overflow="fold")
    for row in summary.rows:
        table.add_row(*map(Text, cells(row)))
    console.print(table)
    console.print(Text(verdict(summary), style="bold"))
    for note in notes(summary):
        console.print(Text(note, style="dim"))
