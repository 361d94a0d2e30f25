"""The options of `adaptx plan`, and what their numbers must be."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from adaptx import controllers, optimizers

from ..words import InputError
from .models import DTYPES
from .shapes import EXAMPLES

Model = Annotated[str, Argument(metavar="MODEL", help=f"{', '.join(EXAMPLES)}, an .npz file, or module:function.")]
Optimizer = Annotated[str, Option("--optimizer", metavar="NAME", help=f"One of {', '.join(optimizers.ALL)}.")]
Controller = Annotated[str | None, Option(metavar="NAME", help=f"What sets the rate: {', '.join(controllers.ALL)}.")]
LearningRate = Annotated[float | None, Option(help="The rate; changes no bytes.")]
Changes = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Another argument, as amsgrad=true; may be repeated.")
]
Storage = Annotated[
    str | None, Option(metavar="f32|bf16|int8", help="Of the slots: a name, or by slot, as m=bf16,v=int8.")
]
Exclude = Annotated[
    list[str] | None,
    Option(
        "--storage-exclude",
        metavar="N|REGEX",
        help="Leaves that stay f32: with fewer than N elements [4096], or a path that matches; may be repeated.",
    ),
]
Rounding = Annotated[
    str | None, Option(metavar="POLICY", help="Of narrow parameters: nearest, stochastic, kahan or master.")
]
Dtype = Annotated[str | None, Option(metavar="|".join(DTYPES), help="Of the parameters; without it their own.")]
Shards = Annotated[int, Option(metavar="N", help="Devices to spread over.")]
Bandwidth = Annotated[float | None, Option(metavar="GB/s", help="Of the memory: gives the least time of a step.")]
Top = Annotated[int, Option(metavar="K", help="List the K largest leaves.")]
Output = Annotated[Path | None, Option("--json", metavar="FILE", help="Also write everything, in bytes, to a file.")]


def check_numbers(shards: int, top: int, bandwidth: float | None) -> None:
    """Refuses counts and rates that are none.

    Raises:
        InputError: fewer than one device, fewer than no leaves, a bandwidth that is not a positive number.
    """
    if shards < 1:
        raise InputError(f"--shards {shards}: expected a number of devices of at least 1.")
    if top < 0:
        raise InputError(f"--top {top}: expected a number of leaves of at least 0.")
    if bandwidth is not None and not 0 < bandwidth < float("inf"):
        raise InputError(f"--bandwidth {bandwidth:g}: expected GB/s above 0, as 4800.")
