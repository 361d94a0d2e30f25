"""`adaptx race` with the whole catalogue: groups of names, matrices alone, grids in units of the default rate."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import assert_trees_all_equal

import adaptx
from adaptx import optimizers
from adaptx.base import Rule
from adaptx.cli.main import main
from adaptx.cli.race import contest, contestants, data, options
from adaptx.cli.registries import default_rate
from adaptx.cli.words import InputError
from adaptx.engine.optimizer import build
from adaptx.engine.route import Route
from adaptx.values import value_class

FOLDER = Path(optimizers.__file__).parent
RACING = [name for name, make in optimizers.ALL.items() if not make().requires]  # the others need the Hessian
SETTINGS = contest.Settings(
    steps=3, batch_size=16, hidden=8, seeds=1, grid=(1e-1, 1e1, 3), evaluations=1, relative=True
)
RACING = [name for name, make in contestants.OPTIMIZERS.items() if make().requires <= {"value"}]
PARAMS = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(3)}
GRADS = {"w": jnp.ones((2, 3)) + jnp.eye(2, 3), "b": jnp.arange(3.0)}


@value_class
class Curved(Rule):
    """A rule that cannot race: it needs what only its user can compute."""

    requires = frozenset({"hessian"})

    def advance(self, g, s, p, k):
        return s

    def direction(self, g, s, old, p, k):
        return g / k.extra["hessian"]


@value_class
class Square(Rule):
    """A rule for matrices alone."""

    ranks = (2,)

    def advance(self, g, s, p, k):
        return s

    def direction(self, g, s, old, p, k):
        return g @ g.T @ g


def square(learning_rate=0.5, **engine):
    return build("square", Square(), learning_rate, engine)


def curved(learning_rate=0.1, **engine):
    return build("curved", Curved(), learning_rate, engine)


def names(*words, **more):
    return [one.name for one in contestants.choose(words, **more)]


def test_families_are_the_modules_and_hold_every_optimizer_once():
    held = [name for members in optimizers.FAMILIES.values() for name in members]
    assert sorted(held) == sorted(optimizers.ALL)
    makes_none = {"__init__", "pieces", "hidden", "blocks"}  # links of a chain, routes
    assert set(optimizers.FAMILIES) == {path.stem for path in FOLDER.glob("*.py")} - makes_none


def test_groups_stand_for_their_members():
    assert names("all") == RACING
    assert names("signs") == [*optimizers.FAMILIES["signs"]]
    assert names("adam") == ["adam"]
    assert names("adam_family") == [*optimizers.FAMILIES["adam_family"]]
    assert names("signs+cosine") == [f"{name}+cosine" for name in optimizers.FAMILIES["signs"]]
    assert names("lion", "signs", "lion")[0] == "lion"
    assert len(names("all", "signs", "adam+cosine")) == len(names("all")) + 1
    assert names("sgd")[0] in contestants.CLASSICAL


def test_members_that_cannot_race_are_left_out_of_groups_with_the_reason(monkeypatch):
    monkeypatch.setitem(contestants.OPTIMIZERS, "curved", curved)
    said = []
    assert names("all", left_out=said.append) == RACING
    assert len(said) == len(contestants.OPTIMIZERS) - len(RACING)
    assert all(word in said[-1] for word in ("curved", "hessian="))
    said.clear()
    assert "lamb+prodigy" not in names("all+prodigy", left_out=said.append)
    assert all(any(f"{word}+prodigy" in one for one in said) for word in ("lars", "lamb", "curved"))
    with pytest.raises(InputError, match="hessian="):
        names("curved")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lyon", ["'lyon'", "did you mean 'lion'?", "all", "adam_family", "muon"]),
        ("low-memory", ["'low-memory'", "did you mean 'low_memory'?"]),
        ("sign", ["did you mean 'signs'?"]),
        ("al", ["did you mean 'all'?"]),
        ("signs+prodigee", ["lion+prodigee", "did you mean 'prodigy'?"]),
        ("layers+prodigy", ["lars+prodigy", "a number or a schedule"]),
    ],
)
def test_near_misses_are_answered_in_one_sentence(word, said, tmp_path, capsys):
    assert main(["race", "--optimizers", f"sgd,{word}", "--output", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(part in err for part in said), err
    assert list(tmp_path.iterdir()) == []


def test_what_takes_matrices_alone_leaves_the_rest_to_adamw(monkeypatch):
    monkeypatch.setitem(contestants.OPTIMIZERS, "square", square)
    one = contestants.contestant("square")
    opt = one.optimizer(0.1, 10)
    assert one.routed
    assert isinstance(opt, Route)
    new, state = opt.step(GRADS, opt.init(PARAMS), PARAMS)
    for leaf, alone in (("w", square(0.1)), ("b", adaptx.adamw(0.1 * default_rate(adaptx.adamw) / 0.5))):
        part = {leaf: PARAMS[leaf]}
        assert_trees_all_equal(new[leaf], alone.step({leaf: GRADS[leaf]}, alone.init(part), part)[0][leaf])
    assert adaptx.read(state, "own/learning_rate") == adaptx.read(state, "learning_rate", -1) == np.float32(0.1)


def test_what_routes_by_itself_is_told_the_rate_of_the_rest(monkeypatch):
    def own(learning_rate=0.5, adamw=None):
        groups = {"adamw": adaptx.adamw(**adamw), "own": square(learning_rate)}
        return adaptx.route(groups, by=lambda path, leaf: "own" if leaf.ndim == 2 else "adamw")

    monkeypatch.setitem(contestants.OPTIMIZERS, "own", own)
    opt = contestants.contestant("own").optimizer(0.1, 10)
    assert float(opt.groups["adamw"].learning_rate) == pytest.approx(0.1 * default_rate(adaptx.adamw) / 0.5)


def test_who_is_routed():
    assert contestants.contestant("muon").routed
    assert not contestants.contestant("sm3").routed, "sm3 takes every array of the race"
    assert contestants.contestant("muon+prodigy+shield").routed


@pytest.mark.parametrize("name", RACING)
def test_everyone_takes_the_arrays_of_the_race(name):
    one = contestants.contestant(name)
    opt = one.optimizer(one.default_rate, 10)
    state = jax.eval_shape(opt.init, PARAMS)
    after = jax.eval_shape(lambda s: opt.step(GRADS, s, PARAMS, value=1.0), state)
    assert jax.tree.structure(after[1]) == jax.tree.structure(state)


def test_a_relative_grid_is_in_units_of_the_default_rate():
    for name, unit in (("adam", 1e-3), ("nesterov", 1e-2), ("muon", 0.02), ("simplified_ademamix", 1e-5)):
        one = contestants.contestant(name)
        np.testing.assert_allclose(SETTINGS.rates_of(one), [0.1 * unit, unit, 10 * unit])
    assert np.isnan(SETTINGS.rates_of(contestants.contestant("adam+prodigy"))).all()
    dataset = data.load("wine")
    assert options.settings(dataset, True).relative
    given = options.settings(dataset, True, grid="1e-3:1:4")
    assert not given.relative
    np.testing.assert_allclose(given.rates_of(contestants.contestant("muon")), [1e-3, 1e-2, 1e-1, 1.0])


def test_a_route_races_in_one_program():
    traces = []

    def make(rate):
        traces.append(rate)
        return contestants.contestant("muon").build(rate)

    one = contestants.Contestant("muon", make, default_rate=0.02, routed=True)
    course = contest.run(one, data.load("wine"), SETTINGS)
    assert len(traces) == 2
    np.testing.assert_allclose(course.rates, [2e-3, 2e-2, 2e-1], rtol=1e-6)
    np.testing.assert_allclose(course.measured.learning_rate[:, 0, -1], course.rates, rtol=1e-6)
    assert np.all(np.isfinite(course.measured.validation_loss))


def test_the_table_says_who_was_routed(tmp_path, capsys):
    arguments = ["--data", "wine", "--steps", "2", "--seeds", "1", "--hidden", "4", "--grid", "1e-3:1e-2:2"]
    assert main(["race", "--optimizers", "muon,sgd", *arguments, "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "muon‡" in out
    assert "sgd‡" not in out
    assert "‡ Takes matrices alone" in out
    found = json.loads((tmp_path / "out" / "results.json").read_text())["contestants"]
    routed = {one["name"]: one["summary"]["routed"] for one in found}
    assert routed["muon"]
    assert not routed["sgd"]


@pytest.mark.slow
def test_the_whole_catalogue_races(tmp_path):
    arguments = ["--data", "wine", "--steps", "40", "--seeds", "1", "--hidden", "8"]
    assert main(["race", "--optimizers", "all", *arguments, "--output", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["contestants"]
    assert [one["name"] for one in found] == RACING
    lost = [one["name"] for one in found if one["summary"]["validation_loss"] is None]
    assert lost == []
