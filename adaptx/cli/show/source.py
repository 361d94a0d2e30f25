"""What the source says of itself: docstrings, fields with the comments behind them, signatures."""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple


class Field(NamedTuple):
    """A hyperparameter."""

    name: str
    default: str
    meaning: str  # range and unit


def fields_of(cls: type) -> list[Field]:
    """The hyperparameters of a class with the comments behind them."""
    notes = comments(cls)
    return [
        Field(f.name, "required" if f.default is dataclasses.MISSING else shown(f.default), notes.get(f.name, ""))
        for f in hyperparameters(cls)
    ]


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


def shown(value: object) -> str:
    """A default value, floats in six digits."""
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
