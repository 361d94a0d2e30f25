"""Where optax keeps what an adaptx rule calls its slots, in which measure, and which rules it does not have.

adaptx                    optax keeps                              slots
sgd                       nothing
momentum                  TraceState            t ← γt + g         v = (1 − τ) t
adagrad                   ScaleByRssState                          h = sum_of_squares
rmsprop                   ScaleByRmsState                          v = nu
  centered                ScaleByRStdDevState                      v = nu, a = mu
  momentum                and TraceState        t ← μt − lr·n      b = −t / lr; b = t where trace follows at once
adam, adamw               ScaleByAdamState                         m = mu, v = nu
  amsgrad                 ScaleByAmsgradState                      m = mu, v = nu, h = nu_max
lion                      ScaleByLionState                         m = mu
adafactor                 FactoredState                            r, q = v_row, v_col or the reverse; v = v
muon                      MuonState                                m = mu
"""

import math

import numpy as np
from jaxtyping import PyTree

from .. import rules
from ..base import Rule
from ..engine.optimizer import Optimizer
from ..values import Scalar, is_concrete, is_scheduled, is_traced

KNOWN = (
    rules.Sgd, rules.Momentum, rules.Adagrad, rules.Rmsprop, rules.Adam, rules.Lion, rules.Adafactor, rules.Muon
)  # fmt: skip
NEGLIGIBLE = 1e-7  # what is left of a bias where two corrections of it agree: a rounding in f32

Place = tuple[str, str]  # (kind of optax state, its field)


def places(who: str, rule: Rule, path: str, shape: tuple[int, ...]) -> dict[str, Place]:
    """Where optax has every slot of a leaf.

    Raises:
        ValueError: for a leaf that optax factors along other axes.
    """
    if isinstance(rule, rules.Rmsprop):
        kind = f"ScaleBy{'RStdDev' if rule.centered else 'Rms'}{'WithCount' if rule.debias else ''}State"
        every = {"v": (kind, "nu"), "a": (kind, "mu"), "b": ("TraceState", "trace")}
        return {name: every[name] for name in rule.slots()}
    if isinstance(rule, rules.Adam):
        kind = "ScaleByAmsgradState" if rule.amsgrad else "ScaleByAdamState"
        every = {"m": (kind, "mu"), "v": (kind, "nu"), "h": (kind, "nu_max")}
        return {name: every[name] for name in rule.slots()}
    if isinstance(rule, rules.Adafactor):
        return {name: ("FactoredState", field) for name, field in _factored(who, rule, path, shape).items()}
    return {
        rules.Sgd: {},
        rules.Momentum: {"v": ("TraceState", "trace")},
        rules.Adagrad: {"h": ("ScaleByRssState", "sum_of_squares")},
        rules.Lion: {"m": ("ScaleByLionState", "mu")},
        rules.Muon: {"m": ("MuonState", "mu")},
    }[type(rule)]


def _factored(who: str, rule: rules.Adafactor, path: str, shape: tuple[int, ...]) -> dict[str, str]:
    """optax averages v_row over the longest axis, v_col over the next; adaptx r over the last, q over the other."""
    if len(shape) < 2 or min(shape[-2:]) < rule.min_dim_size_to_factor:
        return {"v": "v"}
    second, first = (int(axis) for axis in np.argsort(shape)[-2:])  # as optax sorts them, where axes are equally long
    if {second, first} != {len(shape) - 2, len(shape) - 1}:
        raise ValueError(
            f"{who}: optax factors parameter '{path}' of shape {shape} along its longest axes, {second} and {first}, "
            "expected the last two, which adaptx factors; start this leaf anew with an optimizer of its own."
        )
    return {"r": "v_row", "q": "v_col"} if first == len(shape) - 1 else {"r": "v_col", "q": "v_row"}


def factors(who: str, opt: Optimizer, kinds: list[str]) -> dict[str, Scalar]:
    """What optax's numbers are multiplied by to be a slot; slots that are not here are the same number.

    Args:
        who: the function that was called.
        opt: the adaptx optimizer.
        kinds: the states of the optax chain, in order.

    Raises:
        ValueError: where the factor is not one number.
    """
    rule = opt.rule
    if isinstance(rule, rules.Momentum):
        return {"v": 1 - _one_number(who, "dampening", rule.dampening, zero=1.0)}
    if isinstance(rule, rules.Rmsprop) and rule.momentum is not None:
        trace = kinds.index("TraceState")
        if trace and kinds[trace - 1].startswith("ScaleByR"):
            return {}
        return {"b": -1 / _one_number(who, "learning_rate", opt.controller.base, zero=0.0)}
    return {}


def _one_number(who: str, name: str, x: PyTree, zero: float) -> Scalar:
    """A hyperparameter that slots are measured in; ValueError where it changes, is none or leaves nothing of them."""
    if x is None or is_scheduled(x) or np.shape(x) or (not is_traced(x) and float(x) == zero):
        raise ValueError(
            f"{who}: optax's momentum buffer is measured in {name}, expected one number other than {zero:g}, got "
            f"{x!r}; start anew with opt.init(params)."
        )
    return x


def refuse_other_equations(who: str, rule: Rule) -> None:
    """Raise ValueError where no optax transformation takes the steps of this rule."""
    what = None
    if isinstance(rule, rules.Adam) and rule.amsgrad and (rule.debias or rule.nesterov):
        what = "optax takes AMSGrad's maximum over corrected moments, adaptx over raw ones; with debias=False, and "
        what += "neither correction in optax.scale_by_amsgrad, they agree"
    elif isinstance(rule, rules.Adam) and not rule.debias and not rule.amsgrad:
        what = "optax's Adam always corrects the bias, expected debias=True"
    elif isinstance(rule, rules.Adafactor) and rule.b1 is not None:
        what = "optax's momentum is over displacements, after learning rate and parameter size, adaptx's over u before "
        what += "them; expected b1=None"
    if what is not None:
        raise ValueError(f"{who}: {what}, got {rule!r}; start anew with opt.init(params).")


def refuse_early_muon(who: str, rule: Rule, t: Scalar) -> None:
    """Raise ValueError while optax's corrections of bias in Muon's look-ahead, which adaptx lacks, still matter."""
    if not isinstance(rule, rules.Muon) or not rule.nesterov:
        return
    rest, now = rule.decay.complement, int(t) if is_concrete(t) else None
    if not is_concrete(rest) or now is None:
        raise ValueError(f"{who}: muon's look-ahead needs numbers that can be read, got {rule!r}; call it outside jit.")
    least = math.ceil(math.log(NEGLIGIBLE) / math.log1p(-float(rest))) if float(rest) < 1 else 0
    if now < least:
        raise ValueError(
            f"{who}: optax corrects the bias of m and g apart in Muon's look-ahead, which changes steps until {least} "
            f"are taken, expected as many, got {now}; carry the state over later, or train with nesterov=False."
        )
