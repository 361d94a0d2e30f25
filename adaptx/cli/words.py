"""What the commands share: the words they are written in, how numbers read, and how both reach the terminal."""

import codecs
import difflib
import math
import sys
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 160  # columns of what goes to a file or a pipe
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
LONGEST = 200  # characters of somebody else's error
PLAIN = {"←": "<-", "√": "sqrt ", "≤": "<=", "≥": ">=", "−": "-", "·": "*", "×": "x", "⟨": "<", "⟩": ">", "‖": "||",
         "…": "...", "–": "-", "∞": "inf", "⌊": "floor(", "⌋": ")", "Σ": "sum ", "\u0302": "^", "\u0304": "_mean",
         "₋": "_-", "₊": "+", "±": "+-"}  # fmt: skip


class InputError(Exception):
    """Input that cannot be used; its message is one sentence that names the place, what is wrong and the remedy."""


def check_name(option: str, name: str, valid: Collection[str]) -> None:
    """Refuses the name that an option was given unless it is a valid one.

    Raises:
        InputError: it is none; the sentence lists the valid ones.
    """
    if name not in valid:
        near = meant(name, valid)
        raise InputError(f"--{option} {name}: there is no such {option}{near}; choose {', '.join(valid)}.")


@contextmanager
def reading(place: object, path: Path) -> Iterator[None]:
    """Reads a file inside; place is what the sentences name.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{place}: no such file; check the path (the current folder is {Path.cwd()}).")
    try:
        yield
    except OSError as error:
        raise InputError(f"{place}: the file cannot be read ({error.strerror or error}).") from error


def meant(name: str, valid: Iterable[str]) -> str:
    """(did you mean 'adam'?), or nothing where no valid name is near."""
    near = difflib.get_close_matches(name.lower(), list(valid), 1, 0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def cause(error: BaseException) -> str:
    """Somebody else's error as part of a sentence: its kind and the first of what it says."""
    said = " ".join(str(error).split()).rstrip(".;")
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]}…"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def rate(value: float) -> str:
    """A learning rate in two significant digits."""
    if not math.isfinite(value):
        return "–"
    if 1e-3 <= value < 1e3 or value == 0:
        return f"{value:.2g}"
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e+")


def loss(value: float) -> str:
    """A loss in three decimals, or in two significant digits if it is small."""
    return f"{value:.3f}" if value >= 0.01 else f"{value:.2g}"


def size(count: float) -> str:
    """Bytes in decimal units, in four significant digits: 497.8 MB."""
    if count < 1000:
        return f"{count:.0f} B"
    power = min(int(math.log10(count * 1.00005)) // 3, len(UNITS) - 1)
    return f"{count / 1000**power:#.4g} {UNITS[power]}"


def shaped(shape: tuple[int, ...]) -> str:
    """768×3072."""
    return "×".join(map(str, shape)) or "scalar"


def seconds(time: float) -> str:
    """A time in s, ms or µs."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if time >= scale:
            return f"{time / scale:.3g} {unit}"
    return f"{time / 1e-6:.3g} µs"


def console() -> Console:
    """The console of standard output; letters its encoding lacks come out as `plain` writes them."""
    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        codecs.register_error("plain", plain)
        getattr(sys.stdout, "reconfigure", lambda **_: None)(errors="plain")
    return Console(width=None if sys.stdout.isatty() else WIDE)


def say(out: Console, text: str, style: str = "") -> None:
    """Prints a text as it is: no markup, broken only where the terminal breaks it."""
    out.print(Text(text, style=style), soft_wrap=True)


def titled(title: str) -> Table:
    """A table without columns yet."""
    return Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=SIMPLE_HEAD)


def plain(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: β as beta, ² as ^2, ₁ as _1, ← as <-, ? for the rest."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    apart = unicodedata.normalize("NFD", error.object[error.start : error.end])
    return "".join(map(_letter, apart)), error.end


def _letter(x: str) -> str:
    if x.isascii():
        return x
    name, simple = unicodedata.name(x, ""), unicodedata.normalize("NFKD", x).encode("ascii", "ignore").decode()
    if x in PLAIN:
        return PLAIN[x]
    if name.startswith("GREEK"):
        return name.split(" WITH ")[0].split()[-1].lower()
    mark = {"<super>": "^", "<sub>": "_"}.get(unicodedata.decomposition(x).split(" ")[0], "")
    return mark + simple if simple else "-" if name.startswith("BOX") else "?"
