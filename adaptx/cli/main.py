"""The commands of `adaptx`, and how their errors reach the user: one red sentence and exit code 2."""

from collections.abc import Sequence

import typer
from rich.console import Console

from .find.command import command as find_lr
from .plan.command import command as plan
from .race.command import command as race
from .show.command import command as show
from .words import InputError, say

INTERRUPTED = 130  # 128 + SIGINT, as shells count

app = typer.Typer(add_completion=False, rich_markup_mode=None)
app.command("plan")(plan)
app.command("show")(show)
app.command("race")(race)
app.command("find-lr")(find_lr)
# the parent of all errors in the use of options, which typer does not export under a name of its own
UsageError: type[Exception] = typer.BadParameter.__mro__[1]


@app.callback(invoke_without_command=True)
def commands(context: typer.Context) -> None:
    """Adaptive learning rates: compare them on your problem."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code: 0, 2 for input that cannot be used, 130 if interrupted."""
    try:
        code = app(args=arguments, prog_name="adaptx", standalone_mode=False) or 0
    except InputError as error:
        return _end(str(error), 2)
    except UsageError as error:
        return _end(error.format_message(), 2)  # pyright: ignore[reportAttributeAccessIssue]
    except typer.Abort:
        code = INTERRUPTED
    return _end("Interrupted; nothing was written.", code) if code == INTERRUPTED else code


def _end(sentence: str, code: int) -> int:
    say(Console(stderr=True), " ".join(sentence.split()), "red")
    return code
