"""plots: what is drawn is what was measured, on axes that belong to it."""

import math

import numpy as np
import pytest

import adaptx
from adaptx import drawing, plots
from adaptx.training.history import History, Series
from runs import P, X, Y, loss


def curves(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_a_history():
    values = np.geomspace(1, 1e-3, 20)
    history = History({
        "loss": Series(np.arange(20), values), "learning_rate": Series(np.arange(20), np.full(20, 0.1)),
        "eval/accuracy": Series(np.array([10, 20]), np.array([0.5, 0.9])),
    })  # fmt: skip
    figure = history.plot()
    loss_axes, other, rate = figure.axes
    np.testing.assert_allclose(curves(loss_axes)["loss"][:, 1], values)
    assert loss_axes.get_yscale() == "log"
    np.testing.assert_allclose(curves(other)["eval/accuracy"], [[10, 0.5], [20, 0.9]])
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "eval/accuracy", "learning rate"]
    assert rate.get_xlabel() == "steps"


def test_the_running_mean_lies_on_a_line():
    line = np.arange(300.0)
    drawn = curves(History({"loss": Series(np.arange(300), line)}).plot().axes[0])["loss"]
    np.testing.assert_allclose(drawn[:, 1], drawn[:, 0], atol=0.51)


def test_what_fit_measured_is_drawn(tmp_path):
    done = adaptx.fit(loss, adaptx.adam(0.1), P, (X, Y), steps=12, batch_size=8, progress=False)
    figure = done.history.plot(tmp_path / "history.svg")
    np.testing.assert_allclose(curves(figure.axes[0])["loss"][:, 1], done.history["loss"])
    assert (tmp_path / "history.svg").read_text("utf-8").startswith("<?xml")


def test_learning_rates_of_runs_and_groups():
    figure = plots.learning_rates(
        {"one": [0.1, 0.2], "two": {"a/learning_rate": np.ones(3), "b/learning_rate": np.ones(3)}}
    )
    assert set(curves(figure.axes[0])) == {"one", "two: a", "two: b"}
    with pytest.raises(ValueError, match="draws 1 to 9 curves, got 0"):
        plots.learning_rates({"none": {"loss": np.ones(3)}})


def test_a_schedule():
    figure = plots.schedule(adaptx.schedules.linear_schedule(1.0, 0.0, 10), 11)
    np.testing.assert_allclose(curves(figure.axes[0]).popitem()[1][:, 1], np.linspace(1, 0, 11), atol=1e-6)
    assert len(plots.schedule(0.1, 10_000).axes[0].lines[0].get_xdata()) == 2000
    figure = plots.schedule(lambda t: math.sqrt(t) if t else 1.0, 10)  # of Python's numbers
    np.testing.assert_allclose(curves(figure.axes[0]).popitem()[1][:, 1], [1.0, *np.sqrt(np.arange(1, 10))], rtol=1e-6)
    with pytest.raises(ZeroDivisionError):
        plots.schedule(lambda t: 1 / int(t), 10)
    with pytest.raises(ValueError, match="steps must be at most 2147483647"):
        plots.schedule(0.1, 2**33)
    with pytest.raises(ValueError, match="steps must be an integer ≥ 1"):
        plots.schedule(0.1, 0)


def test_a_finder_that_found_nothing_stands_upright():
    found = adaptx.training.finder.suggested(np.geomspace(1e-4, 1, 50), np.full(50, 2.0), False, "learning rate")
    low, high = found.plot().axes[0].get_ylim()
    assert low < 2 < high


def test_a_finder():
    found = adaptx.find_lr(loss, adaptx.adam(), P, (X, Y))
    axes = found.plot().axes[0]
    assert axes.get_xscale() == "log"
    np.testing.assert_allclose(axes.lines[0].get_ydata(), found.losses)
    assert f"{found.suggestion:.2g}" in [text.get_text() for text in axes.texts]


def test_hues_are_as_many_as_curves_may_be():
    assert len(set(drawing.COLORS)) == len(drawing.COLORS) == 9


def test_a_finder_of_nothing_finite_is_drawn():
    def broken(p, x, y):
        return loss(p, x, y) * np.nan

    assert adaptx.find_lr(broken, adaptx.adam(), P, (X, Y), steps=20).plot().axes


def test_a_disk_that_fills_leaves_the_old_picture(tmp_path, monkeypatch):
    def half(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    old = tmp_path / "old.png"
    old.write_bytes(b"old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", half)
    with pytest.raises(OSError, match="No space"):
        plots.schedule(0.1, 3, old)
    assert [(x.name, x.read_bytes()) for x in tmp_path.iterdir()] == [("old.png", b"old")]


WRONG = {
    "a folder": (lambda folder: plots.schedule(0.1, 3, folder), ValueError, "name a file that ends in"),
    "no ending": (lambda folder: plots.schedule(0.1, 3, folder / "a"), ValueError, "name a file that ends in"),
    "all of fit": (lambda folder: plots.history((1, 2)), TypeError, r"got tuple; pass fit\(…\).history"),
    "no finder": (lambda folder: plots.finder({}), TypeError, "takes what find_lr returned, got dict"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused(name, tmp_path):
    call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        call(tmp_path)
    assert not list(tmp_path.iterdir())
