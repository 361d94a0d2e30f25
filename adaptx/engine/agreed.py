"""What rule, learning rate and options of an optimizer ask of one another: they agree, or are refused."""

from typing import TYPE_CHECKING

from ..base import Rule
from ..control import Controller
from ..values import is_scheduled

if TYPE_CHECKING:
    from .optimizer import Optimizer


def agreed(opt: "Optimizer") -> "Optimizer":
    """The optimizer, whose rule and rate have what its options ask of them.

    Raises:
        ValueError: where they have not.
    """
    name, rule, rate, options = opt.name, opt.rule, opt.learning_rate, opt.options
    mode = options.decay_mode
    if rate is None and mode in ("independent", "corrected"):
        raise ValueError(f"{name}: decay_mode={mode!r} of no learning rate, expected 'decoupled' or 'l2'.")
    if mode == "corrected" and isinstance(rate, Controller):
        raise ValueError(
            f"{name}: decay_mode='corrected' divides by the largest rate to come, which the controller "
            f"{opt.controller.name} does not know; use 'decoupled', or a schedule."
        )
    if mode == "corrected" and is_scheduled(rate) and options.max_rate is None:
        raise ValueError(
            f"{name}: decay_mode='corrected' divides by the largest rate of the schedule, expected max_rate=, got "
            "none; pass it."
        )
    clips = options.extras is not None and options.extras.clip_update_rms is not None
    if clips and (not_told(rule, "precondition") or rule.debiased()) and not_told(rule, "surprise"):
        raise ValueError(
            f"{name}: clip_update_rms divides by the size that a rule expects of a gradient, which {rule.name} does "
            "not tell; use max_leaf_norm."
        )
    return opt


def not_told(rule: Rule, name: str) -> bool:
    """Whether a rule leaves a method as the base has it."""
    return getattr(type(rule), name) is getattr(Rule, name)
