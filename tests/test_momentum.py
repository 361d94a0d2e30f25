"""Which rules have momentum: what they declare is what they do, and schedule-free learning takes those without."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import controllers, optimizers, rules
from adaptx.rules import averages
from cases import CASES, DEFAULTS, Case, one_each, plain
from golden.controller_rows import SHAPES, SHORT, START, problem, saved
from oracles import iterates
from oracles.controllers import each
from oracles.trajectories import ORACLES, direction
from test_iterates import assert_same, loop

ZEROED = [Case(f"{c.name}-zeroed", c.constructor, dict.fromkeys(c.build().rule.momenta or (), 0.0)) for c in DEFAULTS]
CLOSED_LOOP = 2e-5  # f32 scalars (rates, weights) beside f64 parameters, 100 steps whose rounding is fed back


@pytest.mark.parametrize("name", rules.ALL)
def test_every_rule_declares_its_momentum(name: str):
    assert "momenta" in vars(rules.ALL[name]), f"{name} does not say which hyperparameters carry momentum: momenta"
    assert set(rules.ALL[name].momenta or ()) <= set(rules.ALL[name].__dataclass_fields__)


@pytest.mark.parametrize("c", one_each(CASES + ZEROED))
def test_a_rule_without_momentum_forgets_a_gradient_and_one_with_it_does_not(c: Case):
    """After gradients a gradient of 0 gives a direction of 0, or does not, as the rule declares."""
    opt = c.build(1.0, weight_decay=0.0)
    p, g = c.params(), jax.tree.map(lambda x: x[0], c.grads(steps=1))
    state = opt.init(p)
    for _ in range(3):
        _, state = opt.update(g, state, p)
    moves, _ = opt.update(jax.tree.map(jnp.zeros_like, g), state, p)
    assert opt.rule.has_momentum == any(bool(jnp.any(u != 0)) for u in jax.tree.leaves(moves))


def test_of_numbers_that_nobody_can_look_at():
    """A traced number passes as with a range; a schedule is not 0; all of a batch must be."""
    adam = rules.Adam
    assert adam(b1=lambda step: 0.0).has_momentum
    assert adam(b1=jnp.array([0.0, 0.9])).has_momentum
    assert not adam(b1=jnp.zeros(2)).has_momentum
    assert not jax.jit(lambda b1: jnp.asarray(adam(b1=b1).has_momentum))(0.9)
    assert averages.Average(0.9).has_momentum
    assert not averages.BiasCorrection(0.9).has_momentum


def refused(opt) -> str:
    with pytest.raises(ValueError, match=r"^schedule_free takes the place of momentum") as caught:
        adaptx.schedule_free(opt)
    return str(caught.value)


@pytest.mark.parametrize("name", optimizers.ALL)
def test_schedule_free_takes_every_rule_that_has_no_momentum(name: str):
    make = plain(name)
    momenta = make().rule.momenta
    if make().rule.has_momentum:
        sentence = refused(make())
        assert f"which {name} " in sentence
        assert momenta is None or ", ".join(f"{field}=0.0" for field in momenta) in sentence
    if momenta is not None:
        adaptx.schedule_free(make().replace(**dict.fromkeys(momenta, 0.0)))


def test_schedule_free_looks_into_routes_and_wrappers():
    sgd, adam = adaptx.sgd(0.1), adaptx.adam(0.1)
    assert "adam has with b1=0.9; pass b1=0.0." in refused(adaptx.route({"a": sgd, "b": adam}, {"w": "a", "b": "b"}))
    assert "momentum has with decay=0.9; pass decay=0.0." in refused(adaptx.averaged(adaptx.momentum(0.1)))
    assert "adan has with b1=0.98, b2=0.92; pass b1=0.0, b2=0.0." in refused(adaptx.adan())
    assert "lamb" in refused(adaptx.lamb())
    adaptx.schedule_free(adaptx.adam(controllers.dog(), b1=0.0))
    adaptx.schedule_free(optax.adam(0.1), learning_rate=0.1)  # nothing is known of it


class Endless(rules.Sgd):
    momenta = None


def test_a_rule_that_always_has_momentum_is_refused_by_its_class():
    from adaptx.engine.optimizer import build

    sentence = refused(build("endless", Endless(), 0.1, {}))
    assert sentence.endswith("which endless always has; use a rule without, such as sgd or adam with b1=0.0.")


BASES = ("soap", "splus")  # eigenvectors of the vectors' own products, which are of rank one: any basis of the rest


CHAOTIC = ("scion",)  # steps of one length however small a gradient: the rounding of f32 weights grows


def has_an_oracle_of_its_own(c: Case) -> bool:
    """Whether the direction at y follows from gradients alone: no estimate, no random number, no engine option."""
    rule = c.build().rule
    plain = c.constructor in rules.ALL and not (rule.requires or rule.draws or rule.ranks or rule.has_momentum)
    return plain and c.constructor not in (*BASES, *CHAOTIC)


FREE = [c for c in ZEROED if has_an_oracle_of_its_own(c)]


@pytest.mark.parametrize("c", FREE, ids=lambda c: c.constructor)
def test_schedule_free_of_every_rule_equals_its_oracle(c: Case):
    """Closed loop in float64: the direction at y from the rule's own oracle, the blend from that of schedule-free."""
    held = {name: ORACLES[c.constructor](**c.hyper) for name in SHAPES}
    at = dict(START)

    def watched(t, x):
        at.update(x)
        return problem(t, x)

    lr = 0.02

    def rule(g):
        return each(lambda oracle, g, p: direction(oracle, g, p, lr), held, g, at)

    want = iterates.schedule_free(watched, START, SHORT, rule, lr)
    with jax.enable_x64(True):
        params, evaluated = loop(adaptx.schedule_free(c.build(lr, weight_decay=0.0)))
    assert np.all(np.isfinite(saved(want.params)))
    assert_same(saved(params), saved(want.params), CLOSED_LOOP)
    assert_same(saved(evaluated), saved(want.evaluated), CLOSED_LOOP)
