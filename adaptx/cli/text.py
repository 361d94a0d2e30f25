"""Words on the terminal: the nearest valid name, errors of others in one line, and plain letters where there are no
others."""

import codecs
import difflib
import math
import sys
import unicodedata
from collections.abc import Iterable

from rich.console import Console

WIDE = 160  # columns of what goes to a file or a pipe
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
LONGEST = 200  # characters of somebody else's error
PLAIN = {"←": "<-", "√": "sqrt ", "≤": "<=", "≥": ">=", "−": "-", "·": "*", "×": "x", "⟨": "<", "⟩": ">", "‖": "||",
         "…": "...", "–": "-", "∞": "inf", "⌊": "floor(", "⌋": ")", "Σ": "sum ", "\u0302": "^", "\u0304": "_mean",
         "₋": "_-", "₊": "+", "±": "+-"}  # fmt: skip


def console() -> Console:
    """The console of standard output; letters its encoding lacks come out as `plain` writes them."""
    if not (sys.stdout.encoding or "").lower().startswith("utf"):
        codecs.register_error("plain", plain)
        getattr(sys.stdout, "reconfigure", lambda **_: None)(errors="plain")
    return Console(width=None if sys.stdout.isatty() else WIDE)


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


def meant(name: str, valid: Iterable[str]) -> str:
    """(did you mean 'adam'?), or nothing where no valid name is near."""
    near = difflib.get_close_matches(name.lower(), list(valid), 1, 0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def cause(error: BaseException) -> str:
    """Somebody else's error as part of a sentence: its kind and the first of what it says."""
    said = " ".join(str(error).split()).rstrip(".;")
    said = said if len(said) <= LONGEST else f"{said[:LONGEST]}…"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def size(count: float) -> str:
    """Bytes in decimal units, in four significant digits: 497.8 MB."""
    if count < 1000:
        return f"{count:.0f} B"
    power = min(int(math.log10(count * 1.00005)) // 3, len(UNITS) - 1)
    return f"{count / 1000**power:#.4g} {UNITS[power]}"


def shaped(shape: tuple[int, ...]) -> str:
    """768×3072."""
    return "×".join(map(str, shape)) or "scalar"
