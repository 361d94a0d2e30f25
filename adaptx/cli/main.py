"""The commands of `adaptx`, and how their errors reach the user: one red sentence and exit code 2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from . import data, plan, race, report, show, table
from .contestants import CLASSICAL, CONTROLLED, Contestant, choose
from .errors import InputError
from .options import DEFAULT, QUICK, settings
from .summary import summarize

INTERRUPTED = 130  # 128 + SIGINT, as shells count

app = typer.Typer(add_completion=False, rich_markup_mode=None)
app.command("plan")(plan.command)
app.command("show")(show.command)
# the parent of all errors in the use of options, which typer does not export under a name of its own
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 0, 2 for input that cannot be used, 130 if interrupted."""
    try:
        code = app(args=arguments, prog_name="adaptx", standalone_mode=False) or 0
    except InputError as error:
        return _say(str(error), 2)
    except UsageError as error:
        return _say(error.format_message(), 2)  # pyright: ignore[reportAttributeAccessIssue]
    except typer.Abort:
        code = INTERRUPTED
    return _say("Interrupted; nothing was written.", code) if code == INTERRUPTED else code


def _say(sentence: str, code: int) -> int:
    Console(stderr=True).print(Text(" ".join(sentence.split()), style="red"), soft_wrap=True)
    return code


@app.callback(invoke_without_command=True)
def commands(context: typer.Context) -> None:
    """Adaptive learning rates: compare them on your problem."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("race")
def race_command(
    data_source: Annotated[
        str, typer.Option("--data", metavar="NAME|FILE", help=f"{', '.join(data.BUILTIN)}, or a .csv or .npz file.")
    ] = "digits",
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column (CSV) or array (NPZ, default y) with the class.")
    ] = None,
    optimizers: Annotated[
        str,
        typer.Option(metavar="A,B,C", help="Who races, separated by commas; adam+prodigy is adam under a controller."),
    ] = ",".join(CLASSICAL),
    controllers: Annotated[
        bool, typer.Option("--controllers", help=f"Also {', '.join(CONTROLLED)}: rates that adapt.")
    ] = False,
    steps: Annotated[
        int | None, typer.Option(help=f"Updates of each run [{DEFAULT.steps}; quick {QUICK.steps}].")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help=f"Rows of each update [{DEFAULT.batch_size}, or all training rows if fewer].")
    ] = None,
    hidden: Annotated[int | None, typer.Option(help=f"Hidden units of the model [{DEFAULT.hidden}].")] = None,
    seeds: Annotated[
        int | None, typer.Option(help=f"Runs of each learning rate [{DEFAULT.seeds}; quick {QUICK.seeds}].")
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(metavar="LOW:HIGH:N", help="Learning rates, evenly spaced in the logarithm [1e-4:10:N]."),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the report goes.")] = Path("adaptx-race"),
    quick: Annotated[bool, typer.Option("--quick", help="A small race: under a minute on two cores.")] = False,
) -> None:
    """Which adaptive learning rate suits my problem?

    Trains a small model on a data set with every optimizer, a grid of learning rates and several seeds, prints a table
    and writes results.json and report.html.
    """
    contestants = choose([*optimizers.split(","), *(CONTROLLED if controllers else ())])
    report.check_folder(output)
    dataset = data.load(data_source, target)
    chosen = settings(dataset, quick, steps=steps, batch_size=batch_size, hidden=hidden, seeds=seeds, grid=grid)
    courses = _race(contestants, dataset, chosen)
    summary = summarize(courses)
    page = report.write(output, dataset, chosen, courses, summary)
    console = Console()
    title = f"{dataset.name}: {chosen.steps} steps, {chosen.grid[2]} learning rates, {chosen.seeds} seeds"
    table.show(console, summary, title)
    console.print(Text(f"Report: {page}"), soft_wrap=True)


def _race(contestants: Sequence[Contestant], dataset: data.Dataset, chosen: race.Settings) -> list[race.Course]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        total = len(contestants) * (len(chosen.evaluated) + 1)
        task = progress.add_task("racing", total=total)

        def one(contestant: Contestant) -> race.Course:
            def tick(doing: str) -> None:
                progress.update(task, advance=1, description=f"{contestant.name:>19}: {doing}")

            return race.run(contestant, dataset, chosen, tick)

        return [one(contestant) for contestant in contestants]
