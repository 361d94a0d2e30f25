"""What `adaptx show` says of each name, read off the source: docstrings, fields, their comments, and the registries."""

import ast
import dataclasses
import inspect
import io
import textwrap
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, get_args

import jax
import numpy as np

from adaptx import controllers, optimizers, schedules, wrappers
from adaptx.base import Controller, Rule, Signed
from adaptx.engine.cost import tree_bytes
from adaptx.engine.options import EngineOptions
from adaptx.engine.storage import NAMES, Shelf, stored_type

from .errors import InputError
from .plan.recipe import RATE
from .text import meant

SIDE = 1024  # of the matrix that bytes per parameter are counted on
EXAMPLE = jax.ShapeDtypeStruct((SIDE, SIDE), np.float32)


class Field(NamedTuple):
    """A hyperparameter."""

    name: str
    default: str
    meaning: str  # range and unit


class Slot(NamedTuple):
    """A slot of a rule, or a mark of a controller."""

    name: str
    sign: str
    bytes: tuple[float, ...]  # per parameter, in each of NAMES
    meaning: str
    used: bool = True  # with the default flags


@dataclass(frozen=True)
class Card:
    """All there is to say of a name."""

    name: str
    kind: str  # "optimizer", "controller", "schedule" or "wrapper"
    line: str  # one sentence
    call: str  # how it is called, defaults included
    texts: list[str]  # docstrings, equations and reference
    slots: list[Slot]
    fields: list[tuple[str, list[Field]]]  # per class: what it is, its hyperparameters
    facts: list[tuple[str, str]]


@lru_cache
def registry() -> dict[str, tuple[str, Callable[..., Any]]]:
    """Name -> (kind, constructor) of everything that can be shown, kind by kind."""
    kinds = {
        "optimizer": optimizers.ALL,
        "controller": controllers.ALL,
        "schedule": _functions(schedules),
        "wrapper": _functions(wrappers),
    }
    return {name: (kind, make) for kind, names in kinds.items() for name, make in names.items()}


def _functions(module: Any) -> dict[str, Callable[..., Any]]:
    made_here = inspect.getmembers(module, lambda x: inspect.isfunction(x) and x.__module__ == module.__name__)
    return {name: function for name, function in made_here if not name.startswith("_")}


def card(name: str) -> Card:
    """The card of a name.

    Raises:
        InputError: an unknown name; the sentence lists all.
    """
    known = registry()
    if name not in known:
        raise InputError(f"show {name}: there is no such name{meant(name, known)}; choose from {', '.join(known)}.")
    kind, make = known[name]
    if kind == "optimizer":
        return _optimizer(name, make)
    if kind == "controller":
        return _controller(name, make(RATE))
    made = inspect.signature(make).return_annotation
    texts = [inspect.getdoc(make) or "", *([inspect.getdoc(made) or ""] if kind == "wrapper" else [])]
    return Card(name, kind, first_line(texts[0]), _call(f"adaptx.{'schedules.' * (kind == 'schedule')}{name}", make),
                texts, [], [], [])  # fmt: skip


def _optimizer(name: str, make: Callable[..., Any]) -> Card:
    opt = make()
    rule, controller = opt.rule, opt.controller
    told = [inspect.getdoc(make) or ""] if type(rule).__name__.lower() != name else []
    fields, facts = [("rule", fields_of(type(rule)))], _rule_facts(rule)
    texts = [*told, module_text(rule)]
    if controller is not None:
        texts.append(module_text(controller))
        fields.append(("controller", fields_of(type(controller))))
        facts += _controller_facts(controller)
    facts += [("metrics", _metrics(opt)), ("engine options", ", ".join(EngineOptions.__annotations__))]
    facts.append(("reference", ", ".join(_references(rule, controller))))
    call = _call(f"adaptx.{name}", make)
    return Card(name, "optimizer", first_line(inspect.getdoc(make)), call, texts, slots_of(rule), fields, facts)


def _references(*parts: Any) -> list[str]:
    return [part.reference for part in parts if part is not None and part.reference] or ["none"]


def _controller(name: str, made: Controller) -> Card:
    function = getattr(controllers, name, None)  # None: a preset that only the registry names
    own = next(key for key, value in vars(controllers).items() if value is type(made))
    preset = "" if function is type(made) else _preset(made)
    line = first_line(inspect.getdoc(function)) if function else f"`{own}` with {preset}."
    call = _call(f"adaptx.controllers.{name if function else own}", function or type(made))
    facts = [*([("here", preset)] if preset else []), *_controller_facts(made)]
    facts += [("metrics", _metrics(optimizers.sgd(made))), ("reference", made.reference or "none")]
    return Card(name, "controller", line, call, [module_text(made)], marks_of(made),
                [("controller", fields_of(type(made)))], facts)  # fmt: skip


def _preset(made: Controller) -> str:
    """Where an instance of the registry differs from its class's defaults, as name=value."""
    plain: Any = type(made)
    required = any(f.default is dataclasses.MISSING for f in dataclasses.fields(plain))
    if required:
        return ""
    pairs = [(f.name, getattr(made, f.name), getattr(plain(), f.name)) for f in dataclasses.fields(plain)]
    return ", ".join(f"{name}={shown(value)}" for name, value, other in pairs if value != other)


def fields_of(cls: type) -> list[Field]:
    """The hyperparameters of a class with the comments behind them."""
    notes = comments(cls)
    made: Any = cls
    return [
        Field(f.name, "required" if f.default is dataclasses.MISSING else shown(f.default), notes.get(f.name, ""))
        for f in dataclasses.fields(made)
    ]


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


def slots_of(rule: Rule) -> list[Slot]:
    """The slots of a rule, those that its flags leave out too."""
    out, notes, kinds = [], comments(rule.Slots), rule.slot_kinds()
    for name, hint in rule.Slots.__annotations__.items():
        signed = Signed in (hint, *get_args(hint))
        each = tuple(slot_bytes(signed, storage) for storage in NAMES)
        sign = "both signs" if signed else "never negative"
        out.append(Slot(name, sign, each, notes.get(name, ""), name in kinds))
    return out


def slot_bytes(signed: bool, storage: str) -> float:
    """Bytes per parameter of one slot in a storage."""
    stored = stored_type(Shelf((("x", signed, storage),)), EXAMPLE.shape, EXAMPLE.dtype)
    arrays = jax.tree.map(lambda pair: jax.ShapeDtypeStruct(*pair), stored, is_leaf=_is_pair)
    return tree_bytes(arrays) / SIDE**2


def _is_pair(x: Any) -> bool:
    return type(x) is tuple and len(x) == 2 and isinstance(x[1], np.dtype)


def marks_of(made: Controller) -> list[Slot]:
    """The marks of a controller; they are f32 whatever the storage."""
    marks = jax.eval_shape(made.marks, EXAMPLE)
    return [Slot(name, "", (tree_bytes(mark) / SIDE**2,) * len(NAMES), "") for name, mark in marks.items()]


def _rule_facts(rule: Rule) -> list[tuple[str, str]]:
    scaled = {0: "leaves d as it is", 1: "scales d by c"}.get(rule.degree, f"scales d by c to the {rule.degree}")
    return [
        ("pointwise", "yes: an element sees nothing but itself" if rule.pointwise else "no"),
        ("degree", f"{rule.degree}: scaling every gradient by c {scaled} (ε aside)"),
        ("needs", "gradients and parameters" if rule.reads_params else "gradients"),
    ]


def _controller_facts(made: Controller) -> list[tuple[str, str]]:
    scope = {"global": "one rate", "leaf": "one rate per leaf"}.get(made.scope, f"one rate per {made.scope}")
    extra = (f", {name}={'loss' if name == 'value' else '…'}" for name in sorted(made.requires))
    needs = f"gradients and parameters{''.join(extra)}"
    facts = [("rate", scope), ("needs", needs), ("scalars", ", ".join(made.start()))]
    if made.exact:
        facts.append(("narrow parameters", "get an f32 master copy unless rounding says otherwise"))
    return facts


def _metrics(opt: Any) -> str:
    return ", ".join(opt.metric_names)


def module_text(part: Any) -> str:
    """The docstring of the module a value's class is in: equations and source."""
    return inspect.cleandoc(getattr(inspect.getmodule(type(part)), "__doc__", None) or "")


def first_line(text: str | None) -> str:
    """The first line of a docstring."""
    return (text or "").strip().split("\n")[0].rstrip()


def shown(value: Any) -> str:
    """A default value, floats in six digits."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(shown, value))})"
    return repr(value)


def _call(name: str, function: Callable[..., Any]) -> str:
    words = []
    for p in inspect.signature(function).parameters.values():
        star = {p.VAR_KEYWORD: "**", p.VAR_POSITIONAL: "*"}.get(p.kind, "")
        words.append(f"{star}{p.name}" + ("" if p.default is p.empty else f"={shown(p.default)}"))
    return f"{name}({', '.join(words)})"
