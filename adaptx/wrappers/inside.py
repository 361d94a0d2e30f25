"""What may lie inside which wrapper, and the sentences that refuse the rest."""

from collections.abc import Iterator

import jax
import optax
from jaxtyping import PyTree

from ..base import fields_of
from ..engine.optimizer import Optimizer
from ..engine.route import Route
from ..engine.transformation import Transformation
from .wrapper import Wrapper

Reasons = dict[str, str]  # kind of a wrapper -> why it is refused, and what to do


def optimizers_in(opt: Transformation) -> Iterator[Optimizer]:
    """Every adaptx optimizer inside of wrappers and routes."""
    if isinstance(opt, Optimizer):
        yield opt
    inside = [opt.inner] if isinstance(opt, Wrapper) else opt.groups.values() if isinstance(opt, Route) else ()
    for one in inside:
        yield from optimizers_in(one)


def refuse_inside(who: str, opt: Transformation, reasons: Reasons) -> None:
    """Raise TypeError for a wrapper somewhere inside that must not be there."""
    while isinstance(opt, Wrapper):
        if opt.family in reasons:
            raise TypeError(f"{who}: {reasons[opt.family]}.")
        opt = opt.inner


def refuse_momentum(who: str, opt: Transformation) -> None:
    """Raise ValueError for a rule with momentum."""
    for one in optimizers_in(opt):
        if one.rule.has_momentum:
            name, momenta = one.name or one.rule.name, one.rule.momenta
            if momenta is None:
                raise ValueError(
                    f"{who} takes the place of momentum, which {name} always has; use a rule without, such as sgd or "
                    "adam with b1=0.0."
                )
            has, give = (
                ", ".join(f"{field}={value!r}" for field, value in pairs)
                for pairs in ([(m, getattr(one.rule, m)) for m in momenta], [(m, 0.0) for m in momenta])
            )
            raise ValueError(f"{who} takes the place of momentum, which {name} has with {has}; pass {give}.")


def refuse_followers(who: str, opt: Transformation) -> None:
    """Raise TypeError for a controller that keeps arrays of where parameters were, which somebody else decides."""
    for one in optimizers_in(opt):
        if fields_of(one.controller.Marks):
            raise TypeError(
                f"{who} decides how far to go, and so does the controller {one.controller.name}; give "
                f"{one.name or one.rule.name} a number or a schedule."
            )


def refuse_gathering(who: str, inner: PyTree) -> None:
    """Raise TypeError where the state is one of an optimizer that gathers gradients over several calls."""
    kind = optax.MultiStepsState
    if any(isinstance(x, kind) for x in jax.tree.leaves(inner, is_leaf=lambda x: isinstance(x, kind))):
        raise TypeError(
            f"{who}: optax.MultiSteps inside would be given what is computed of every part of a batch; put {who} "
            "inside of MultiSteps."
        )
