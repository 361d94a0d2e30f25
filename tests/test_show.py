"""`adaptx show`: every name has a card with its equations, and the card agrees with the source and the engine."""

import ast
import dataclasses
import inspect
import math

import jax
import pytest

import adaptx
from adaptx import controllers, optimizers, rules
from adaptx.cli.main import main
from adaptx.cli.show import cards, ranges, source
from adaptx.cli.show.slots import EXAMPLE, NAMES
from adaptx.engine.tree import take_apart
from adaptx.fields import Domain, domain_of
from adaptx.values import Range
from cases import plain


@pytest.fixture
def shown(capsys):
    def run(*arguments: str) -> str:
        assert main(["show", *arguments]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


def test_every_registry_is_covered_and_names_are_unique():
    functions = (cards._functions(x) for x in (adaptx.schedules, adaptx.wrappers))
    kinds = [optimizers.ALL, controllers.ALL, adaptx.recipes.ALL, *functions]
    names = [name for kind in kinds for name in kind] + list(cards.PIECES)
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
            assert field.takes or field.meaning, f"{name}: the field {field.name} has no comment with its range"
            told = field.meaning or field.takes not in ("True or False", "in [0, 1)")
            assert told or card.kind != "optimizer", f"{name}: {field.name} does not say what it is"
    if card.kind in ("optimizer", "controller"):
        facts = dict(card.facts)
        assert facts["metrics"].startswith("learning_rate")
        assert facts["needs"]
        assert facts["reference"]


@pytest.mark.parametrize("name", optimizers.ALL)
def test_slots_cost_what_the_engine_says(name):
    for storage, column in zip(NAMES, range(3), strict=True):
        opt = plain(name)(storage=storage)
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
                  "in [0, 1)", "≥ 0             units of g", "1e-08", "True or False",
                  "largest v so far (AMSGrad); not by default",
                  "1.016", "2.031", "pointwise  ", "adaptx.adam(learning_rate=0.001, b1=0.9"):  # fmt: skip
        assert words in out, words
    fields = {field.name: field for field in source.fields_of(rules.Momentum())}
    assert list(fields) == [field.name for field in dataclasses.fields(rules.Momentum)]
    assert fields["dampening"] == ("dampening", "0", "in [0, 1]", "τ")
    assert ("low", "required", "≥ 0", "the rate where |g| > tau") in cards.card("threshold").fields[0][1]


@pytest.mark.parametrize("name", optimizers.ALL)
def test_defaults_are_those_of_the_optimizer(name):
    opt = plain(name)()
    for what, fields in cards.card(name).fields:
        alone = what == "rule"
        part, takes = (opt.rule, opt.of_rule) if alone else (opt.controller, ("base", *opt.of_controller))
        assert [field.name for field in fields] == [field.name for field in dataclasses.fields(part)]
        for field in fields:
            value = getattr(part, field.name)
            value = 1 - value.complement if hasattr(value, "complement") else value
            told = ast.literal_eval(field.default)
            number = not isinstance(value, (str, bool, type(None)))
            assert told == (pytest.approx(value, rel=5e-6) if number else value), field
            assert (field.takes == "fixed here") == (field.name not in takes), field


def test_defaults_are_written_as_they_were_given():
    for name, field, default in (("scion", "radius", "50"), ("tiger", "decay", "0.965"), ("lamb", "eps", "1e-06"),
                                 ("stableadamw", "b2", "0.99"), ("apollo_mini", "rank", "1"), ("adam", "b1", "0.9"),
                                 ("lars", "before", "True"), ("ldog", "scope", "'leaf'"), ("momo", "base", "1"),
                                 ("hypergradient_additive", "mode", "'additive'")):  # fmt: skip
        found = [f.default for _, fields in cards.card(name).fields for f in fields if f.name == field]
        assert default in found, (name, field)


@pytest.mark.parametrize("name", optimizers.ALL)
def test_arguments_are_explained(shown, name):
    out, parameters = shown(name), inspect.signature(optimizers.ALL[name]).parameters
    for parameter in parameters:
        explained = out.count(f"\n    {parameter}: ")
        assert explained == (parameter != "engine"), parameter
    assert out.lower().count("when to use it") == 1


@pytest.mark.parametrize("name", rules.ALL)
def test_declared_ranges_are_those_that_hold(name):
    for field in dataclasses.fields(type(plain(name)().rule)):
        domain, check = domain_of(field), field.metadata["check"]
        assert domain is not None

        def takes(value: object, name=field.name, check=check) -> bool:
            try:
                check(name, value)
            except (TypeError, ValueError):
                return False
            return True

        assert takes(None) == domain.optional
        assert takes(True) == (not domain.names and domain.span is None)
        assert all(map(takes, domain.names))
        assert not takes("no such name")
        if domain.span is None:
            continue
        span, many = domain.span, domain.count or 1
        for end, is_open, out in ((span.low, span.open_low, -math.inf), (span.high, span.open_high, math.inf)):
            if math.isfinite(end):
                end, beyond = (int(end), int(end) - 1) if domain.whole else (end, math.nextafter(end, out))
                assert takes((end,) * many if domain.several else end) == (not is_open), field.name
                assert not takes((beyond,) * many if domain.several else beyond), field.name
        assert takes(0.5) == (not domain.whole and not domain.several and span.excluded(0.5) is None)
        assert not domain.several or takes((0.5,) * (many + 1)) == (domain.count is None)


@pytest.mark.parametrize(
    ("domain", "comment", "said"),
    [
        (Domain(Range(0.0)), "ρ ≥ 0, units of p", ("≥ 0", "ρ, units of p")),
        (Domain(Range(0.0)), "> 0, or so", ("≥ 0", "> 0, or so")),
        (Domain(Range(0.0, 1.0, open_low=True)), "in (0, 1], ≤ max_prob", ("in (0, 1]", "≤ max_prob")),
        (Domain(Range(high=2.0), optional=True), "None for 1", ("≤ 2 or None", "None for 1")),
        (Domain(Range(high=2.0, open_high=True)), "", ("< 2", "")),
        (Domain(Range(1), whole=True), "steps, ≥ 1", ("integer ≥ 1", "steps")),
        (Domain(Range(), several=True, count=3), "a, b, c", ("3 numbers", "a, b, c")),
        (Domain(Range(0.0), several=True), "", ("numbers ≥ 0", "")),
        (Domain(Range()), "ν, any number; in [0, 1] for a mean", ("any number", "ν; in [0, 1] for a mean")),
        (Domain(), "whether", ("True or False", "whether")),
        (Domain(names=("a", "b")), 'or "b", of it', ("one of 'a', 'b'", "of it")),
        (None, 'or "b": of it', ("one of 'a', 'b'", "of it")),
        (None, '"c", "a" or "b"', ("one of 'c', 'a', 'b'", "")),
        (None, "β > 0; None for no bound", ("> 0 or None", "β; None for no bound")),
        (None, "each in [0, 1)", ("each in [0, 1)", "")),
        (None, "(low, high) of φ, 0 ≤ low ≤ high", ("", "(low, high) of φ, 0 ≤ low ≤ high")),
        (None, "True or False", ("True or False", "")),
    ],
)
def test_a_range_is_said_once(domain, comment, said):
    assert ranges.told(domain, comment, "a") == said


def test_a_rate_for_every_leaf_is_not_pointwise():
    said = {name: dict(cards.card(name).facts)["pointwise"] for name in ("adam", "lars", "lamb", "stableadamw", "muon")}
    assert said["adam"].startswith("yes, ")
    assert said["muon"] == "no"
    for name, other in (("lars", "the controller"), ("lamb", "the controller"), ("stableadamw", "clip_update_rms")):
        assert said[name].startswith("the rule: yes, ")
        assert f"; {other}: no, " in said[name]


def test_pieces_have_a_card(shown):
    assert "adam_mini_by_name, a piece" in shown("adam_mini_by_name")
    assert "adaptx.ema(decay, debias=True, start='zero')" in shown("ema")
    assert "head_size: ≥ 1" in shown("adam_mini_by_name")
    assert all(name in adaptx.__dict__ for name in cards.PIECES)


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
