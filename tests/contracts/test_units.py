"""A rule rescaled to another unit takes the same steps on gradients in that unit: every constant is scaled along.

Controllers that feed a rule a multiple of the gradient (prodigy, mechanic) rely on it; with an ε too small to matter a
forgotten one would not show.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adaptx.base import Clock
from adaptx.engine.leaf import record
from cases import CASES, Case, one_each, thinned
from probes import flat

UNIT = 2.0**-7  # a power of two: what has no ε differs by nothing
LARGE = 0.1  # as large as the gradients: a factor forgotten on it changes the first digit
F64 = 1e-9  # rounding of float64, and of roots of powers of the unit that are no powers of two
ROOTS = 2e-7  # shampoo's grafting has an ε inside
STEPS = 8
FIRST = {"acprop": 1, "radam": 5}  # steps of plain momentum, which follow the scale of gradients
# their start is a number in the unit of the gradients, and is made before a controller knows the unit
OTHERS = ("adagrad-initial", "yogi", "yogi-raw")
# d of adahessian goes with the power 1 − k of the unit, and its degree is that of k = 1
OTHERS += ("adahessian-power", "adahessian-last")
SLOW_TO_SCALE = "psgd_kron"  # finds the scale of gradients in its first hundreds of steps
CELLS = one_each([c for c in CASES if c.name not in OTHERS and c.constructor != SLOW_TO_SCALE])


@jax.jit
def moves(opt, p, grads):
    """The updates of a few steps, the parameters staying where they are."""
    _, out = jax.lax.scan(lambda s, g: opt.update(g, s, p)[::-1], opt.init(p), grads)
    return out


@pytest.mark.parametrize("c", CELLS)
def test_a_rescaled_rule_is_the_rule_in_another_unit(c: Case, x64):
    opt = c.build(0.01, weight_decay=0.0, **(c.eps(LARGE) if "eps" not in c.hyper else {}))
    p, grads = c.params(jnp.float64), c.grads(jnp.float64, 0.1, STEPS)
    other = dataclasses.replace(opt, rule=opt.rule.rescaled(UNIT))
    late = lambda moved: flat(jax.tree.map(lambda u: u[FIRST.get(c.constructor, 0) :], moved))  # noqa: E731
    got = late(moves(other, p, jax.tree.map(lambda g: UNIT * g, grads)))
    want = UNIT ** float(opt.rule.degree) * late(moves(opt, p, grads))
    np.testing.assert_allclose(got, want, rtol=F64, atol=F64 * np.max(np.abs(want)))


def after(rule, p, grads: list, extra: dict):
    """(slots, slots a step before) of one array after gradients; every second step has the extra arguments."""
    first = {name: rule.initial(name, p) for name in rule.slots()}
    s = record(rule, {name: jnp.full_like(p, x) if jnp.ndim(x) == 0 and x is not None and not rule.slots()[name].own
                      else x for name, x in first.items()})  # fmt: skip
    old = s
    for t, g in enumerate(grads, 1):
        old, s = s, rule.advance(g, s, p, clock(t, extra if t % 2 else {}))
    return s, old


def clock(t: int, extra: dict, debias: bool = True) -> Clock:
    return Clock(jnp.float64(t), debias, extra, 0.01, jnp.uint32(t))


# their means and squares lack different shares, or lacked them at other steps: one number is right about the largest
SEVERAL = ("nadam", "nadamw", "qhadam", "adan", "ademamix", "laprop", "adabound-ams", "rmsprop-all")
ALL_IN_ONE = [
    c
    for c in CASES
    if not (c.build().rule.degree or c.constructor in SEVERAL or c.name in SEVERAL or c.hyper.get("nesterov"))
]


@pytest.mark.parametrize(
    "c", thinned(ALL_IN_ONE, lambda c: (c.name == c.constructor and c.pointwise) or c.name == "adahessian")
)
def test_what_a_controller_corrects_is_what_the_rule_leaves_out(c: Case, x64):
    """With ε = 0: d with the rule's corrections of bias is `correction` times d without, arguments given or not."""
    rule = c.build(**c.eps(0.0)).rule
    name = "w" if "w" in c.leaves else c.leaves[0]
    p, grads = c.params(jnp.float64)[name], c.grads(jnp.float64, 1.0, 4)[name]
    s, old = after(rule, p, list(grads), dict.fromkeys(rule.requires, 1.5 + grads[0]))
    ours, theirs = (rule.direction(grads[-1], s, old, p, clock(4, {}, debias)) for debias in (True, False))
    np.testing.assert_allclose(ours, rule.correction(clock(4, {})) * theirs, rtol=ROOTS, atol=ROOTS)
