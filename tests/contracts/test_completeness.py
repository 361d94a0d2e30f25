"""Nothing enters a registry without what the matrix needs: an oracle, a constructor, a reference."""

import dataclasses
import inspect
from pathlib import Path

import jax.numpy as jnp
import pytest

import adaptx
import oracles
from adaptx import optimizers, rules
from adaptx.base import Rule
from adaptx.engine.transformation import Transformation
from cases import CASES, NAMES, VARIANTS, plain
from turns import EVERY


@pytest.mark.parametrize("name", NAMES)
def test_has_an_oracle(name: str):
    assert name in oracles.ORACLES, f"tests/oracles has no oracle of {name!r}: write it, in float64 NumPy"


@pytest.mark.parametrize("name", NAMES)
def test_has_a_constructor_of_its_name(name: str):
    assert name in optimizers.ALL, f"adaptx.optimizers.ALL has no constructor {name!r}: every rule needs one"
    assert getattr(adaptx, name) is optimizers.ALL[name]
    assert isinstance(optimizers.ALL[name](), Transformation)
    assert isinstance(plain(name)(), adaptx.Optimizer)


@pytest.mark.parametrize("name", NAMES)
def test_learning_rate_comes_first(name: str):
    assert next(iter(inspect.signature(optimizers.ALL[name]).parameters)) == "learning_rate"


@pytest.mark.parametrize("name", optimizers.ALL)
def test_says_when_to_use_it(name: str):
    assert (inspect.getdoc(optimizers.ALL[name]) or "").count("When to use it: ") == 1, (
        f"the docstring of {name} has no paragraph that begins 'When to use it: '"
    )


@pytest.mark.parametrize("name", rules.ALL)
def test_rule_says_where_it_is_from(name: str):
    rule = rules.ALL[name]
    text = inspect.getmodule(rule).__doc__ or ""
    assert issubclass(rule, Rule)
    assert rule.reference
    assert "Departs from" in text, "a rule file says where it departs from its paper"
    assert "p ← p − lr·d" in text, "a rule file says what the engine does with d"


@pytest.mark.parametrize("name", rules.ALL)
def test_slots_are_declared(name: str):
    rule = rules.ALL[name]()
    assert set(rule.slots()) == set(rule.Slots._fields) - set(rule.unused())
    p = jnp.ones((4, 3))
    for slot, declared in rule.slots().items():
        shape = jnp.shape(rule.initial(slot, p))
        assert (shape != ()) <= declared.own, f"slot {slot} has a shape of its own: declare it SignedOwn or UnsignedOwn"


def test_every_slot_of_every_rule_is_used_by_some_case():
    used = {(type(c.build().rule).__name__, slot) for c in CASES for slot in c.build().rule.slots()}
    for rule in rules.ALL.values():
        for slot in rule.Slots._fields:
            assert (rule.__name__, slot) in used, f"no case in cases.py turns on slot {slot} of {rule.__name__}"


def test_every_flag_of_every_rule_is_switched_by_some_case():
    seen: dict[tuple[str, str], set] = {}
    for c in CASES:
        rule = c.build().rule
        for f in dataclasses.fields(rule):
            if f.metadata.get("static"):
                seen.setdefault((type(rule).__name__, f.name), set()).add(getattr(rule, f.name))
    lonely = [key for key, values in seen.items() if len(values) < 2]
    assert not lonely, f"no variant in cases.py switches {lonely}"


def test_variants_belong_to_optimizers():
    assert set(VARIANTS) <= set(optimizers.ALL)
    assert len({c.name for c in CASES}) == len(CASES)


def test_what_takes_turns_is_there():
    for file, tests in EVERY.items():
        text = (Path(__file__).parents[1] / file).read_text("utf-8")
        for name, every in tests.items():
            assert f"def {name}(" in text, (file, name)
            assert every > 1
