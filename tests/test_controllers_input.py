"""Bad input: one sentence that names the place and the remedy."""

import re

import jax
import jax.numpy as jnp
import pytest

import adaptx
from adaptx import controllers as c

P = {"w": jnp.ones(3)}


def opposite(*names: str) -> str:
    return ".*".join(map(re.escape, names))


RANGES = [  # constructor, words of the message in order
    (lambda: c.threshold(0.2, 0.1, 1.0), ("threshold", "low ≤ high", "swap them")),
    (lambda: c.threshold(-0.1, 0.1, 1.0), ("low must lie in [0", "-0.1", "choose")),
    (lambda: c.threshold(0.1, 0.2, 1.0, scope="layer"), ("scope must be one of", "'element'", "'layer'")),
    (lambda: c.plateau(factor=1.0), ("factor must lie in (0, 1)", "choose")),
    (lambda: c.plateau(-1.0), ("base must lie in [0", "-1")),
    (lambda: c.plateau(patience=0), ("patience must be an integer ≥ 1", "0")),
    (lambda: c.plateau(window=1.5), ("window must be an integer ≥ 1", "1.5")),
    (lambda: c.plateau(rtol=1.0), ("rtol must lie in [0, 1)",)),
    (lambda: c.hypergradient(mode="multiply"), ("mode must be one of 'multiplicative', 'additive'", "'multiply'")),
    (lambda: c.hypergradient(scope="element"), ("scope must be one of", "'element'")),
    (lambda: c.hypergradient(min_lr=1.0, max_lr=0.1), ("min_lr ≤ max_lr", "swap them")),
    (lambda: c.hypergradient(hyper_lr=0.0), ("hyper_lr must lie in (0", "choose")),
    (lambda: c.polyak(0.0), ("max_lr must lie in (0",)),
    (lambda: c.polyak(smooth=0.5), ("smooth must lie in [1",)),
    (lambda: c.polyak(scope="leef"), ("scope must be one of", "'leef'")),
    (lambda: c.l4(gamma=1.0), ("gamma must lie in [0, 1)",)),
    (lambda: c.l4(forget=0.0), ("forget must lie in (0",)),
    (lambda: c.momo(decay=1.0), ("decay must lie in [0, 1)",)),
    (lambda: c.dog(reps_rel=0.0), ("reps_rel must lie in (0",)),
    (lambda: c.dowg(eps=-1.0), ("eps must lie in (0",)),
    (lambda: c.dadapt(growth_rate=1.0), ("growth_rate must lie in (1",)),
    (lambda: c.prodigy(d0=0.0), ("d0 must lie in (0",)),
    (lambda: c.prodigy(b3=1.0), ("b3 must lie in [0, 1)",)),
    (lambda: c.prodigy(scope="element"), ("scope must be one of", "'element'")),
    (lambda: c.mechanic(betas=(0.9, 1.0)), ("betas must lie in [0, 1)",)),
    (lambda: c.trust_ratio(norm_bounds=(2.0, 1.0)), ("norm_bounds", "low ≤ high", "swap them")),
    (lambda: c.trust_ratio(max_ratio=0.0), ("max_ratio must lie in (0",)),
    (lambda: c.bandit(arms=(0.5,)), ("at least two arms", "(0.7, 1.0, 1.4)")),
    (lambda: c.bandit(arms=(0.0, 1.0)), ("arms must lie in (0",)),
    (lambda: c.bandit(min_factor=10.0, max_factor=1.0), ("min_factor ≤ max_factor", "swap them")),
    (lambda: c.bandit(period=0), ("period must be an integer ≥ 1",)),
    (lambda: c.cocob(alpha=0.5), ("alpha must lie in [1",)),
    (lambda: adaptx.shield(adaptx.sgd(), factor=1.0), ("factor must lie in (0, 1)",)),
    (lambda: adaptx.shield(adaptx.sgd(), block=0), ("block must be an integer ≥ 1",)),
]


@pytest.mark.parametrize(("construct", "words"), RANGES, ids=[words[0] for _, words in RANGES])
def test_ranges_and_names_are_refused(construct, words):
    with pytest.raises(ValueError, match=opposite(*words)) as caught:
        construct()
    assert "\n" not in str(caught.value)


KINDS = [
    (lambda: c.shield(c.dog()), ("shield", "whole optimizer", "adaptx.shield(adaptx.sgd(hypergradient(1e-3)))")),
    (lambda: adaptx.shield(0.1), ("shield takes an optimizer", "float", "pass one")),
    (lambda: adaptx.shield(adaptx.shield(adaptx.sgd())), ("shield", "has a shield already", "one is enough")),
    (lambda: c.product(c.dog(), c.prodigy()), ("exactly one controller", "got 2", "Dog, Prodigy")),
    (lambda: c.product(0.1, 0.2), ("exactly one controller", "got 0", "float, float")),
    (lambda: c.dog() * c.prodigy(), ("number or a schedule", "controller Prodigy", "one controller")),
    (lambda: c.plateau(c.dog()), ("base must be a real number", "Dog", "pass a float")),
    (lambda: c.plateau("0.1"), ("base must be a real number", "'0.1'")),
    (lambda: c.prodigy(safeguard_warmup=1), ("safeguard_warmup must be True or False",)),
    (lambda: adaptx.lars(c.dog()), ("lars", "number or a schedule", "use momentum")),
    (lambda: c.plateau(scope="leaf"), ("unexpected keyword argument 'scope'",)),
]


@pytest.mark.parametrize(("construct", "words"), KINDS, ids=[words[0] for _, words in KINDS])
def test_wrong_kinds_are_refused(construct, words):
    with pytest.raises(TypeError, match=opposite(*words)):
        construct()


NEEDS_LOSS = {name for name, make in c.ALL.items() if "value" in make(0.1).requires}


def test_who_needs_the_loss():
    assert {"plateau", "polyak", "l4", "momo", "bandit"} == NEEDS_LOSS
    assert adaptx.sgd(c.dog()).requires == adaptx.sgd(0.1).requires == frozenset()
    assert adaptx.sgd(c.product(0.5, c.momo())).requires == frozenset({"value"})


@pytest.mark.parametrize("name", sorted(NEEDS_LOSS))
def test_a_missing_or_misspelt_loss_is_refused(name: str):
    opt = adaptx.adam(c.ALL[name](0.1))
    state = opt.init(P)
    for extra, words in (({}, ("needs the loss", "value=loss")), ({"vlaue": 1.0}, ("got vlaue", "value=loss"))):
        with pytest.raises(ValueError, match=opposite(*words)):
            opt.update(P, state, P, **extra)
    with pytest.raises(TypeError, match=opposite("'vlaue'", "did you mean value=")):
        opt.step(P, state, P, vlaue=1.0)
    with pytest.raises(ValueError, match=opposite("value must be the scalar loss", "(3,)", "mean")):
        opt.step(P, state, P, value=jnp.ones(3))
    if opt.controller.measured:
        with pytest.raises(
            ValueError, match=opposite("without params", "a controller", "update(grads, state, params)")
        ):
            opt.update(P, state, value=1.0)


def test_the_state_of_another_rate_is_refused():
    plain, closed = adaptx.adam(0.1), adaptx.adam(c.dog())
    with pytest.raises(ValueError, match="init"):
        closed.step(P, plain.init(P), P)
    with pytest.raises(ValueError, match="init"):
        plain.step(P, closed.init(P), P)
    with pytest.raises(ValueError, match="init"):
        closed.step(P, adaptx.adam(c.prodigy()).init(P), P)


def test_schedules_are_bases():
    """Every controller takes a schedule where it takes a number, and a product with one."""
    for name, make in c.ALL.items():
        opt = adaptx.sgd(make(0.1) * (lambda t: 0.5**t))
        after = jax.eval_shape(lambda p, opt=opt: opt.step(p, opt.init(p), p, value=1.0)[0], P)
        assert after["w"].shape == (3,), name
    for make in (c.plateau, c.hypergradient, c.momo, c.trust_ratio, c.bandit, c.dog, c.prodigy):
        assert isinstance(make(lambda t: 0.1), c.Controller)
