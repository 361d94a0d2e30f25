"""`adaptx show`: every name has a card with its equations, and the card agrees with the source and the engine."""

import dataclasses
import inspect

import jax
import pytest

import adaptx
from adaptx import controllers, optimizers, rules
from adaptx.cli.main import main
from adaptx.cli.show import cards, source
from adaptx.cli.show.slots import EXAMPLE, NAMES
from adaptx.engine.tree import take_apart


@pytest.fixture
def shown(capsys):
    def run(*arguments: str) -> str:
        assert main(["show", *arguments]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


def test_every_registry_is_covered_and_names_are_unique():
    kinds = [optimizers.ALL, controllers.ALL, cards._functions(adaptx.schedules), cards._functions(adaptx.wrappers)]
    names = [name for kind in kinds for name in kind]
    assert sorted(names) == sorted(cards.registry())
    assert set(rules.ALL) <= set(cards.registry())
    assert {"inverse_sqrt", "constant_schedule", "schedule_free"} <= set(names)


@pytest.mark.parametrize("name", cards.registry())
def test_every_card_is_complete(shown, name):
    card, out = cards.card(name), shown(name)
    assert card.line
    assert len(card.line) < 160
    assert card.texts
    assert all(out.count(text.strip()) == 1 for text in card.texts)
    for _, fields in card.fields:
        for field in fields:
            assert field.meaning, f"{name}: the field {field.name} has no comment with its range"
    if card.kind in ("optimizer", "controller"):
        facts = dict(card.facts)
        assert facts["metrics"].startswith("learning_rate")
        assert facts["needs"]
        assert facts["reference"]


@pytest.mark.parametrize("name", optimizers.ALL)
def test_slots_cost_what_the_engine_says(name):
    for storage, column in zip(NAMES, range(3), strict=True):
        opt = optimizers.ALL[name](storage=storage)
        cost = opt.costs(take_apart({"w": EXAMPLE}))[0]
        slots = [slot for slot in cards.card(name).slots if slot.used]
        assert [slot.name for slot in slots] == list(opt.rule.slots())
        assert [slot.sign == "both signs" for slot in slots] == [slot.signed for slot in opt.rule.slots().values()]
        counted = sum(slot.bytes[column] for slot in slots) * EXAMPLE.size
        assert counted == sum(size for name, size in cost.state.items() if name not in opt.controller.Marks._fields)


@pytest.mark.parametrize("name", controllers.ALL)
def test_controllers_tell_what_the_engine_does(name):
    opt = adaptx.sgd(controllers.ALL[name](1e-3))
    card, state = cards.card(name), jax.eval_shape(opt.init, {"w": EXAMPLE})
    facts = dict(card.facts)
    assert {slot.name for slot in card.slots} == set(state.control.marks)
    assert set(facts["metrics"].split(", ")) == set(state.metrics)
    assert set(facts["scalars"].split(", ")) == set(state.control.scalars)
    assert ("value=loss" in facts["needs"]) == ("value" in opt.requires)
    assert ("narrow parameters" in facts) == opt.controller.exact


def test_fields_are_the_source(shown):
    out = shown("adam")
    for words in ("m ← β₁ m + (1 − β₁) g                first moment                 Alg. 1, line 7", "arXiv:1412.6980",
                  "in [0, 1)", "≥ 0, units of g", "1e-08", "True or False",
                  "largest v so far (AMSGrad); not by default",
                  "1.016", "2.031", "pointwise  ", "adaptx.adam(learning_rate=0.001, b1=0.9"):  # fmt: skip
        assert words in out, words
    fields = {field.name: field for field in source.fields_of(rules.Momentum)}
    assert list(fields) == [field.name for field in dataclasses.fields(rules.Momentum)]
    assert fields["dampening"] == ("dampening", "0", "τ, in [0, 1]")
    assert {f.name: f.default for f in source.fields_of(controllers.threshold)}["low"] == "required"


def test_optimizers_made_of_parts_show_both(shown):
    out = shown("lars")
    assert "v ← γ v + (1 − τ) g" in out
    assert "q = coefficient · φ(‖p‖) / (‖u‖ + ε)" in out
    assert "doi:10.1016/0041-5553(64)90137-5, arXiv:1904.00962" in out
    assert "weight decay λ = 0.01" in shown("adamw")


def test_presets_of_the_registry_say_what_they_set(shown):
    assert "`hypergradient` with mode='additive', hyper_lr=0.0001." in shown()
    assert "scope='leaf'" in dict(cards.card("ldog").facts)["here"]
    assert "here" not in dict(cards.card("dog").facts)


def test_the_list_has_a_line_for_every_name(shown):
    lines = shown().splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(cards.registry())
    assert {f"Optimizers, {family}" for family in adaptx.optimizers.FAMILIES} <= set(lines)
    assert lines[-1].endswith("adaptx show NAME")


@pytest.mark.parametrize(
    ("name", "near"), [("adamm", "'adam'"), ("Prodigy", "'prodigy'"), ("warmup_cosine", "'warmup_")]
)
def test_an_unknown_name_is_answered_with_the_nearest(capsys, name, near):
    assert main(["show", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(word in err for word in (name, f"did you mean {near}", *cards.registry()))


def test_an_unlikely_name_has_no_nearest(capsys):
    assert main(["show", "xyz"]) == 2
    assert "did you mean" not in capsys.readouterr().err


def test_comments_are_found_behind_any_field():
    class Sample:
        a: int = 1  # first
        b: tuple = (
            1,
            2,
        )  # behind the last line
        c: bool = False
        d: str = "# not a comment"

    assert inspect.getsource(Sample)
    assert source.comments(Sample) == {"a": "first", "b": "behind the last line", "c": "True or False", "d": ""}
