"""What the source says of itself: docstrings, fields with the comments behind them, signatures."""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import NamedTuple

from adaptx.fields import domain_of
from adaptx.values import Decay

from .ranges import told

ENGINE = "**engine: see `EngineOptions`."  # of an Args block: the card lists the options itself
WHEN = "When to use it: "


class Field(NamedTuple):
    """A hyperparameter."""

    name: str
    default: str
    takes: str  # its range
    meaning: str  # symbol, unit and what it is


def fields_of(made: object, settable: Collection[str] | None = None) -> list[Field]:
    """The hyperparameters of a rule or a controller: its values, the ranges, the comments behind them.

    Args:
        made: an instance with the defaults of its constructor, which its class need not have.
        settable: those that the constructor takes; None for all.
    """
    notes, out = comments(type(made)), []
    for f in hyperparameters(type(made)):
        value = getattr(made, f.name)
        takes, meaning = told(domain_of(f), notes.get(f.name, ""), f.default)
        takes = takes if settable is None or f.name in settable else "fixed here"
        out.append(Field(f.name, "required" if f.default is dataclasses.MISSING else shown(value), takes, meaning))
    return out


def hyperparameters(cls: type) -> tuple[dataclasses.Field, ...]:
    """The dataclass fields of a rule or a controller."""
    return dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()


@lru_cache
def comments(cls: type) -> dict[str, str]:
    """Annotated name -> the comment at the end of its line; "True or False" for a bool without one."""
    source = textwrap.dedent(inspect.getsource(cls))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    body = next(node.body for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))
    out = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            plain = "True or False" if ast.unparse(node.annotation) == "bool" else ""
            out[node.target.id] = found.get(node.end_lineno or node.lineno, plain)
    return out


def first_line(text: str | None) -> str:
    """The first line of a docstring."""
    return (text or "").strip().split("\n")[0].rstrip()


def when(doc: str) -> str:
    """What a constructor's docstring says of when to use it, in one line."""
    return " ".join(doc.partition(WHEN)[2].partition("\n\n")[0].split())


def arguments(doc: str, alone: bool) -> str:
    """A constructor's docstring without when to use it, which `when` has.

    Args:
        doc: the docstring.
        alone: without the sentence it begins with too, where the equations of its rule follow.
    """
    parts = [part for part in doc.split("\n\n") if not part.startswith(WHEN)]
    parts = parts[1:] if alone else parts
    return "\n\n".join("\n".join(line for line in part.split("\n") if line.strip() != ENGINE) for part in parts)


def shown(value: object) -> str:
    """A default value, floats in six digits, decay rates as they were given."""
    if isinstance(value, Decay):
        return shown(value.rate)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))})"
    return repr(value)


def called(name: str, function: Callable[..., object]) -> str:
    """How a function is called, defaults included: name(a, b=1)."""
    words = []
    for p in inspect.signature(function).parameters.values():
        star = {p.VAR_KEYWORD: "**", p.VAR_POSITIONAL: "*"}.get(p.kind, "")
        words.append(f"{star}{p.name}" + ("" if p.default is p.empty else f"={shown(p.default)}"))
    return f"{name}({', '.join(words)})"
