"""Links of an optax.chain: a rule without a rate, averages, corrections of bias."""

from typing import Unpack

from .. import rules
from ..base import Rule
from ..engine.keywords import EngineOptions
from ..engine.optimizer import Optimizer, build
from ..values import Scalar


def scale_by_rule(rule: Rule, **engine: Unpack[EngineOptions]) -> Optimizer:
    """A rule as a link of an optax.chain: gradients in, directions d out, neither scaled by a rate nor negated.

    Args:
        rule: an instance from `adaptx.rules`, or your own.
        **engine: see `EngineOptions` (weight decay enters as d + λp, or before the rule; there is no rate for it to be
            independent of).

    Its `step` adds d, so it ascends.

    Raises:
        TypeError: if rule is not a Rule instance.
    """
    if not isinstance(rule, Rule):
        hint = "; call the class" if isinstance(rule, type) and issubclass(rule, Rule) else ""
        raise TypeError(f"scale_by_rule takes a Rule, such as adaptx.rules.Adam(), got {rule!r}{hint}.")
    return build("scale_by_rule", rule, None, engine, bare=True)


def ema(decay: Scalar, debias: bool = True, start: str = "zero") -> Optimizer:
    """An exponential average as an optax transformation: m ← βm + (1 − β)x, out m/(1 − βᵗ), or m with debias=False.

    `ema(0.9).over(values)` averages a plain sequence along its first axis.

    Args:
        decay: β in [0, 1).
        debias: divide by 1 − βᵗ, so that the first value comes out as it went in.
        start: "zero", or "first" for the recursion that begins at the first value (debias=False).
    """
    return scale_by_rule(rules.Average(decay, debias, start))


def bias_correction(decay: Scalar) -> Optimizer:
    """An optax transformation that divides step t's updates by 1 − βᵗ (t from 1), to 3e-7 relative in f32.

    Args:
        decay: β in [0, 1).
    """
    return scale_by_rule(rules.BiasCorrection(decay))
