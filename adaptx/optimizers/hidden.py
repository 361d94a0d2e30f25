"""Which leaves are hidden matrices, and AdamW for those that are none."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..base import Rule
from ..engine.choices import is_function, one_bool
from ..engine.keywords import PATTERNED, WHOLE, flat
from ..engine.optimizer import build
from ..engine.rates import Rate
from ..engine.route import route
from ..engine.transformation import Transformation
from .adam_family import adamw as make_adamw

Which = str | Callable[[str, Array], bool] | None  # a path regex, a function of (path, leaf), or by names and shapes
Rest = Mapping[str, Any] | Literal[False] | None  # hyperparameters of adamw, or no adamw

SHARED = ("storage", "storage_exclude", "rounding", "lr_scale")  # options of the matrices that the rest has too
AUXILIARY: Mapping[str, Any] = {"learning_rate": 3e-4, "b1": 0.9, "b2": 0.95, "eps": 1e-10, "weight_decay": 0.0}
# a part of a path that names what stands before or behind the hidden layers
ENDS = re.compile(
    r"embed|logits|^w[tp]e$|^(tok(en)?|pos(ition)?|vocab(ulary)?)s?$|lm_?head|"
    r"^(cls|mlm|out|output|policy|value)?_?heads?(_?\d+)?$|^classifier|^readout",
    re.I,
)


@dataclass(frozen=True)
class HiddenMatrices:
    """A function of (path, leaf) for `route`: the name of the group of hidden matrices, or that of the rest."""

    which: Which = None
    matrices: str = "hidden"
    rest: str = "rest"

    def __call__(self, path: str, leaf: Array) -> str:
        """The group of a leaf."""
        return self.matrices if self.has(path, leaf) else self.rest

    def has(self, path: str, leaf: Array) -> bool:
        """Whether a leaf is a hidden matrix."""
        if isinstance(self.which, str):
            return re.search(self.which, path) is not None
        if self.which is not None:
            return one_bool(f"hidden, of parameter '{path}',", self.which(path, leaf))
        named = any(ENDS.search(part) for part in re.split(r"[/.]", path))
        return not named and jnp.ndim(leaf) >= 2 and sum(n > 1 for n in jnp.shape(leaf)) >= 2

    def __repr__(self) -> str:
        return f"hidden_matrices({self.which!r}, {self.matrices!r}, {self.rest!r})"


def hidden_matrices(which: Which = None, matrices: str = "hidden", rest: str = "rest") -> HiddenMatrices:
    """Which leaves are hidden matrices: by= of `route` for optimizers such as Muon, which are for no others.

    Args:
        which: a regex searched in the path, or a function of (path, leaf) that says True for them. None for arrays of
            two axes or more, longer than 1, no part of whose path names an embedding (embed, wte, wpe, tokens,
            positions, vocab), a head (head, lm_head, classifier, readout) or logits.
        matrices: the name of their group.
        rest: the name of the group of all others.
    """
    if which is not None and not isinstance(which, str) and not is_function("hidden", which):
        raise TypeError(
            f"hidden must be a path regex or a function of (path, leaf), got {type(which).__name__}; pass one of these."
        )
    if isinstance(which, str):
        try:
            re.compile(which)
        except re.error as error:
            raise ValueError(f"hidden={which!r} is no regex ({error}); correct it.") from error
    return HiddenMatrices(which, matrices, rest)


def with_adamw(
    name: str, rule: Rule, learning_rate: Rate, given: Mapping[str, PyTree], hidden: Which, adamw: Rest
) -> Transformation:
    """A rule for hidden matrices and AdamW for all else, or the rule alone.

    Raises:
        TypeError: where adamw is neither a mapping nor False, or hidden has no effect.
    """
    engine = flat(given)
    if adamw is False:
        if hidden is not None:
            raise TypeError(f"{name} has adamw=False, so that it has all leaves, and hidden=; leave one out.")
        return build(name, rule, learning_rate, engine, fixed={"adamw": False})
    if adamw is not None and not isinstance(adamw, Mapping):
        raise TypeError(
            f"{name}: adamw must be a mapping of its hyperparameters, or False for none, got {adamw!r}; write "
            "adamw={'learning_rate': 3e-4}."
        )
    for key in WHOLE:
        if key in (adamw or {}):
            raise TypeError(
                f"{name}: adamw={{{key!r}: …}} is for the whole tree, of which adamw has a part; write {name}({key}=…)."
            )
    own = {key: x for key, x in engine.items() if key not in WHOLE}
    matrices = build(name, rule, learning_rate, own, fixed={"adamw": False})
    shared = {key: own[key] for key in SHARED if key in own and (key != "storage" or isinstance(own[key], str))}
    beside: dict[str, PyTree] = {**AUXILIARY, **shared, **(adamw or {})}
    rest = make_adamw(**beside)
    whole = {key: x for key, x in engine.items() if key in WHOLE}
    groups = {name: matrices, "adamw": rest}
    by = hidden_matrices(hidden, name, "adamw")
    sent = {hidden: name} if isinstance(hidden, str) else by  # route refuses a regex that matches nothing
    alike = [key for key in shared if key in PATTERNED and key not in (adamw or {})]
    made = route(groups, sent, "adamw", alike, **whole)
    return replace(made, asked="hidden") if isinstance(hidden, str) else made
