"""The methods of lr_free.py: base rules × learning rates. Each says what its initial rate is, and its default."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import adaptx
from adaptx import controllers as c
from adaptx.schedules import cosine_decay_schedule


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    `build(rate, cosine)` makes the optimizer; cosine is the schedule from 1 to 0 over the steps of a run. `knob` names
    the argument that `rate` (traced) stands for: the learning rate, or what the first step of a method that estimates
    its rate depends on; "" where there is none, the method then runs once per seed. `default` is the knob's value when
    nothing is chosen.
    """

    name: str
    base: str  # the method with one fixed rate that this one is measured by
    build: Callable[[Any, Any], adaptx.Optimizer]
    knob: str = "rate"
    default: float | None = 1e-3
    shuffled: bool = False  # batches of reshuffled epochs instead of independent ones


RULES: dict[str, Callable[..., Any]] = {
    "sgd": adaptx.sgd,
    "momentum": adaptx.momentum,
    "rmsprop": adaptx.rmsprop,
    "adagrad": adaptx.adagrad,
    "adam": adaptx.adam,
}
DEFAULT_RATES = {"sgd": 1e-2, "momentum": 1e-2, "rmsprop": 1e-3, "adagrad": 1e-2, "adam": 1e-3}


def fixed(rule: str) -> list[Method]:
    """One rate for all steps."""
    make = RULES[rule]
    return [Method(rule, rule, lambda rate, _: make(rate), default=DEFAULT_RATES[rule])]


def cosine_decay(rule: str) -> list[Method]:
    """A schedule: the rate is its peak."""
    make = RULES[rule]
    build = lambda rate, cosine: make(lambda step: rate * cosine(step))  # noqa: E731
    return [Method(f"{rule} × cosine", rule, build, default=DEFAULT_RATES[rule])]


def hypergradients(rule: str) -> list[Method]:
    """The multiplicative hypergradient, bare and shielded."""
    make = RULES[rule]
    return [
        Method(f"{rule} × hypergradient", rule, lambda rate, _: make(c.hypergradient(rate))),
        Method(f"{rule} × shield(hypergradient)", rule, lambda rate, _: adaptx.shield(make(c.hypergradient(rate)))),
    ]


def rated(rule: str) -> list[Method]:
    """Controllers that start from a rate and adapt it."""
    make = RULES[rule]
    return [
        Method(f"{rule} × plateau", rule, lambda rate, _: make(c.plateau(rate, window=10))),
        Method(f"{rule} × bandit", rule, lambda rate, _: make(c.bandit(rate))),
        Method(f"{rule} × shield(bandit)", rule, lambda rate, _: adaptx.shield(make(c.bandit(rate)))),
        Method(f"{rule} × trust_ratio", rule, lambda rate, _: make(c.trust_ratio(rate))),
    ]


def rate_free(rule: str) -> list[Method]:
    """Controllers that estimate the rate."""
    make = RULES[rule]
    return [
        Method(f"{rule} × dog", rule, lambda r, _: make(c.dog(reps_rel=r)), "reps_rel", 1e-6),
        Method(f"{rule} × dowg", rule, lambda r, _: make(c.dowg(eps=r**2)), "√eps", 1e-2),
        Method(f"{rule} × dadapt", rule, lambda r, _: make(c.dadapt(d0=r)), "d0", 1e-6),
        Method(f"{rule} × prodigy", rule, lambda r, _: make(c.prodigy(d0=r)), "d0", 1e-6),
        Method(f"{rule} × prodigy × cosine", rule, lambda r, cosine: make(c.prodigy(d0=r) * cosine), "d0", 1e-6),
        Method(f"{rule} × mechanic", rule, lambda r, _: make(c.mechanic(s_init=r)), "s_init", 1e-6),
        Method(f"{rule} × polyak", rule, lambda r, _: make(c.polyak(max_lr=r)), "max_lr", 1.0),
        Method(f"{rule} × l4", rule, lambda r, _: make(c.l4()), "", None),
        Method(f"{rule} × cocob", rule, lambda r, _: make(c.cocob()), "", None),
    ]


def averaged_dog(rate: Any, _: Any) -> Any:
    """DoG as its authors evaluate it."""
    return adaptx.averaged(adaptx.sgd(c.dog(reps_rel=rate)), decay=None, power=8.0)


def momentum_momo(rate: Any, _: Any) -> Any:
    """MoMo over momentum as an average, its base."""
    return adaptx.momentum(c.momo(rate), dampening=0.9)


SHUFFLED = tuple(
    replace(method, name=f"{method.name}, shuffled", base="sgd, shuffled", shuffled=True)
    for method in (*fixed("sgd"), *hypergradients("sgd"))
)
METHODS: tuple[Method, ...] = (
    *(method for rule in RULES for method in fixed(rule)),
    *(method for rule in ("sgd", "adam") for method in cosine_decay(rule)),
    *(method for rule in ("sgd", "momentum", "adam") for method in hypergradients(rule)),
    *(method for rule in ("rmsprop", "adagrad") for method in hypergradients(rule)[1:]),
    Method("sgd × hypergradient × cosine", "sgd", lambda r, cosine: adaptx.sgd(c.hypergradient(r) * cosine)),
    Method("sgd × hypergradient, additive", "sgd", lambda r, _: adaptx.sgd(c.hypergradient(r, "additive"))),
    *SHUFFLED,
    Method("sgd × threshold", "sgd", lambda r, _: adaptx.sgd(c.threshold(0.1 * r, r, 1.0)), default=None),
    *rated("sgd"),
    *rated("adam"),
    *rate_free("sgd"),
    Method("sgd × ldog", "sgd", lambda r, _: adaptx.sgd(c.ldog(reps_rel=r)), "reps_rel", 1e-6),
    Method("averaged(sgd × dog)", "sgd", averaged_dog, "reps_rel", 1e-6),
    *rate_free("adam"),
    Method("adam × dadapt × cosine", "adam", lambda r, cos: adaptx.adam(c.dadapt(d0=r) * cos), "d0", 1e-6),
    Method("adam × mechanic × cosine", "adam", lambda r, cos: adaptx.adam(c.mechanic(s_init=r) * cos), "s_init", 1e-6),
    Method("momentum × momo", "momentum", momentum_momo, "max_lr", 1.0),
    Method("adam × momo", "adam", lambda r, _: adaptx.adam(c.momo(r)), "max_lr", 1e-2),
    Method("schedule_free(sgd)", "sgd", lambda r, _: adaptx.schedule_free(adaptx.sgd(r)), default=None),
    Method("schedule_free(adam)", "adam", lambda r, _: adaptx.schedule_free(adaptx.adam(r, b1=0.0)), default=None),
)
QUICK = ("sgd", "adam", "adam × cosine", "sgd × hypergradient", "sgd × shield(hypergradient)", "sgd, shuffled",
         "adam × prodigy × cosine", "sgd × cocob")  # fmt: skip


def cosine(steps: int) -> Any:
    """The schedule from 1 to 0 over the steps of a run."""
    return cosine_decay_schedule(1.0, steps)


def knobs(method: Method, rates: tuple[float, ...]) -> list[float]:
    """The values of the method's knob: the rates, then its default where it has one; NaN where it has no knob."""
    if not method.knob:
        return [float("nan")]
    return [*rates, *([] if method.default is None else [method.default])]
