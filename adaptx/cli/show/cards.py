"""What `adaptx show` says of each name, read off the source and the registries."""

import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import adaptx
from adaptx import base, controllers, optimizers, recipes, schedules, wrappers
from adaptx.base import Rule
from adaptx.control import Controller
from adaptx.engine.optimizer import Optimizer

from ..registries import ENGINE_OPTIONS, RATE, equations
from ..words import InputError, meant
from .slots import Slot, marks_of, slots_of
from .source import Field, arguments, called, fields_of, first_line, hyperparameters, shown, when

# functions that optimizers are put together with, or whose results some take
PIECES = ("route", "freeze", "hidden_matrices", "adam_mini_by_name", "scale_by_rule", "ema", "bias_correction",
          "hutchinson", "gauss_newton_bartlett")  # fmt: skip
# engine options under which an element sees others
SEE_ARRAYS = ("max_norm", "max_leaf_norm", "agc", "centralize", "clip_update_rms")


@dataclass(frozen=True)
class Card:
    """All there is to say of a name."""

    name: str
    kind: str  # "optimizer", "controller", "schedule", "wrapper", "recipe" or "piece"
    line: str  # one sentence
    call: str  # how it is called, defaults included
    texts: list[str]  # docstrings, equations and reference
    slots: list[Slot]
    fields: list[tuple[str, list[Field]]]  # per class: what it is, its hyperparameters
    facts: list[tuple[str, str]]
    family: str = ""  # of an optimizer


@lru_cache
def registry() -> dict[str, tuple[str, Callable[..., object]]]:
    """Name -> (kind, constructor) of everything that can be shown, kind by kind."""
    kinds = {
        "optimizer": {name: optimizers.ALL[name] for names in optimizers.FAMILIES.values() for name in names},
        "controller": controllers.ALL,
        "schedule": _functions(schedules),
        "wrapper": _functions(wrappers),
        "recipe": recipes.ALL,
        "piece": {name: getattr(adaptx, name) for name in PIECES},
    }
    return {name: (kind, make) for kind, names in kinds.items() for name, make in names.items()}


def _functions(module: ModuleType) -> dict[str, Callable[..., object]]:
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
        return _optimizer(name)
    if kind == "controller":
        return _controller(name, controllers.ALL[name](RATE))
    made = inspect.signature(make).return_annotation
    texts = [inspect.getdoc(make) or "", *([inspect.getdoc(made) or ""] if kind == "wrapper" else [])]
    where = {"schedule": "schedules.", "recipe": "recipes."}.get(kind, "")
    return Card(name, kind, first_line(texts[0]), called(f"adaptx.{where}{name}", make), texts, [], [], [])


def _optimizer(name: str) -> Card:
    make: Any = optimizers.ALL[name]
    routes = "adamw" in inspect.signature(make).parameters
    opt = make(adamw=False) if routes else make()
    rule, controller = opt.rule, opt.controller if opt.of_controller else None
    doc = inspect.getdoc(make) or ""
    fields, facts = [("rule", fields_of(rule, opt.of_rule))], [("when to use it", when(doc)), *_rule_facts(opt)]
    texts = [arguments(doc, alone=rule.name == name), equations(rule)]
    if controller is not None:
        texts.append(equations(controller))
        fields.append(("controller", fields_of(controller, ("base", *opt.of_controller))))
        facts += _controller_facts(controller)
    facts += _noisy_quadratic_of(name, alone=controller is not None)
    facts += [("metrics", ", ".join(opt.metric_names)), ("engine options", ", ".join(ENGINE_OPTIONS))]
    facts += [("set here", ", ".join(opt.options.changed()))] if opt.options.changed() else []
    if routes:
        facts.append(("rest of the tree", "adamw has embeddings, heads, vectors and scalars, unless adamw=False"))
    facts.append(("reference", ", ".join(_references(rule, controller))))
    call = called(f"adaptx.{name}", make)
    family, members = next((family, names) for family, names in optimizers.FAMILIES.items() if name in names)
    facts.append(("family", f"{family}: {', '.join(members)}"))
    return Card(name, "optimizer", first_line(doc), call, texts, slots_of(rule), fields, facts, family)


def _references(*parts: Rule | Controller | None) -> list[str]:
    return [part.reference for part in parts if part is not None and part.reference] or ["none"]


def _controller(name: str, made: Controller) -> Card:
    function = getattr(controllers, name, None)  # None: a preset that only the registry names
    own = next(key for key, value in vars(controllers).items() if value is type(made))
    preset = "" if function is type(made) else _preset(made)
    line = first_line(inspect.getdoc(function)) if function else f"`{own}` with {preset}."
    call = called(f"adaptx.controllers.{name if function else own}", function or type(made))
    facts = [*([("here", preset)] if preset else []), *_controller_facts(made), *_noisy_quadratic_under(name)]
    facts += [("metrics", ", ".join(optimizers.sgd(made).metric_names)), ("reference", made.reference or "none")]
    return Card(name, "controller", line, call, [equations(made)], marks_of(made),
                [("controller", fields_of(_plain(function) or made, _parameters(function)))], facts)  # fmt: skip


def _plain(function: Callable[..., Any] | None) -> Controller | None:
    """What a controller's constructor makes by itself, where it makes anything: the registry gives it a rate."""
    takes = _parameters(function) or {}
    return function() if function and all(p.default is not p.empty for p in takes.values()) else None


def _parameters(function: Callable[..., Any] | None) -> Mapping[str, inspect.Parameter] | None:
    return inspect.signature(function).parameters if function else None


def _preset(made: Controller) -> str:
    """Where an instance of the registry differs from its class's defaults, as name=value."""
    declared = hyperparameters(type(made))
    if any(f.default is dataclasses.MISSING for f in declared):
        return ""
    plain = type(made)()
    pairs = [(f.name, getattr(made, f.name), getattr(plain, f.name)) for f in declared]
    return ", ".join(f"{name}={shown(value)}" for name, value, other in pairs if value != other)


def _rule_facts(opt: Optimizer) -> list[tuple[str, str]]:
    rule, whose = opt.rule, " of the rule" if opt.of_controller else ""
    scaled = {0.0: "leaves d as it is", 1.0: "scales d by c"}.get(
        float(rule.degree), f"scales d by c to the {rule.degree}"
    )
    return [
        ("pointwise", _pointwise(opt) if rule.pointwise else "no"),
        ("degree", f"{rule.degree}{whose}: scaling every gradient by c {scaled} (ε aside)"),
        ("needs", ", ".join(("gradients", *(["parameters"] if rule.reads_params else []), *sorted(rule.requires)))),
        ("takes", "any array" if rule.ranks is None else f"arrays with {base.counts_in_words(rule.ranks)} axes"),
    ]


def _pointwise(opt: Optimizer) -> str:
    """Of an optimizer whose rule is: what its controller and its options see beside."""
    controller = opt.controller
    whole = [f"the controller: no, {_scope(controller)}"] if controller.measured or controller.scope == "leaf" else []
    changed = [option.partition("=")[0] for option in opt.options.changed()]
    whole += [f"{name}: no, it looks at whole arrays" for name in SEE_ARRAYS if name in changed]
    return "; ".join([f"{'the rule: ' if whole else ''}yes, an element sees nothing but itself", *whole])


def _scope(made: Controller) -> str:
    return {"global": "one rate"}.get(made.scope, f"one rate per {made.scope}")


def _controller_facts(made: Controller) -> list[tuple[str, str]]:
    scope = _scope(made)
    extra = (f", {name}={'loss' if name == 'value' else '…'}" for name in sorted(made.requires))
    needs = f"gradients and parameters{''.join(extra)}"
    derived = "any rule"
    if made.theory is not None:
        derived = f"{', '.join(made.theory)}; over other rules it runs without a theory"
    facts = [
        ("rate", scope),
        ("derived for", derived),
        ("needs", needs),
        ("scalars", ", ".join(base.fields_of(made.Scalars)) or "none"),
    ]
    if made.exact:
        facts.append(("narrow parameters", "get an f32 master copy unless rounding says otherwise"))
    return facts


@lru_cache
def diverging() -> dict[str, dict[str, float | None]]:
    """controller -> optimizer -> final loss over the first, None for not finite, where that is above 1.

    benchmarks/noisy_quadratic.py writes it; the controller "constant" is the optimizer's own default rate.
    """
    return json.loads(Path(__file__).with_name("diverging.json").read_text("utf-8"))


def _noisy_quadratic_under(controller: str) -> list[tuple[str, str]]:
    if controller not in diverging():
        return []
    over = diverging()[controller]
    return _noisy_quadratic([f"over {_ends(over)}"] if over else [], "over every rule")


def _noisy_quadratic_of(optimizer: str, alone: bool) -> list[tuple[str, str]]:
    above = {controller: over[optimizer] for controller, over in diverging().items() if optimizer in over}
    own = {"at its default rate": above.pop("constant")} if "constant" in above else {}
    parts = [*([_ends(own)] if own else []), *([f"with {_ends(above)}"] if above else [])]
    return _noisy_quadratic(parts, f"at its default rate{'' if alone else ' and with every controller'}")


def _noisy_quadratic(above: list[str], otherwise: str) -> list[tuple[str, str]]:
    told = f"ends above its start {', '.join(above)}" if above else f"stays below its start {otherwise}"
    return [("on a noisy quadratic", f"{told}; benchmarks/noisy_quadratic.py")]


def _ends(ratios: dict[str, float | None]) -> str:
    return ", ".join(f"{name} ({'not finite' if x is None else f'{x:.3g}×'})" for name, x in ratios.items())
