"""adaptx.fit: what it trains on, what it measures and writes, how it stops."""

import json
import os
import signal
import threading
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx.training.run import paced
from runs import XS, YS, P, X, Y, fresh, loss, same

A = adaptx.adam(0.05)


def fit(opt=A, data=(X, Y), *, loss_fn=loss, params=P, steps=10, **options):
    return adaptx.fit(loss_fn, opt, params, data, steps=steps, progress=False, **options)


def by_hand(batches, opt=A, p=P):
    step, p = adaptx.train_step(loss, opt), fresh(p)
    state = opt.init(p)
    for x, y in batches:
        p, state, _ = step(p, state, x, y)
    return p, state


def epochs(steps, size, seed=0, keep=False):
    """The minibatches that the documentation promises: a permutation of (seed, epoch), in pieces."""
    per = -(-24 // size) if keep else 24 // size
    for t in range(steps):
        rows = np.random.default_rng((seed, t // per)).permutation(24)[t % per * size :][:size]
        yield X[rows], Y[rows]


@pytest.mark.parametrize(("size", "options"), [(8, {}), (7, {}), (7, {"remainder": "keep"}), (8, {"seed": 3})], ids=str)
def test_arrays_are_shuffled_by_the_epoch(size, options):
    fitted = fit(steps=20, batch_size=size, **options)
    batches = epochs(20, size, options.get("seed", 0), options.get("remainder") == "keep")
    assert same(fitted[:2], by_hand(batches))
    assert len(fitted.history["loss"]) == 20


def test_without_a_batch_size_all_rows_are_taken():
    assert same(fit()[:2], by_hand([(X, Y)] * 10))


def test_functions_and_iterators_give_whole_minibatches():
    want = by_hand(zip(XS, YS, strict=True))
    batches = list(zip(XS, YS, strict=True))
    for data in (lambda t: (XS[t], YS[t]), iter(batches), batches):
        assert same(fit(data=data, steps=6)[:2], want)
    assert same(fit(data=batches, steps=12)[:2], by_hand(batches * 2)), "a list begins anew"


def test_a_dict_is_one_argument():
    fitted = fit(data={"x": X, "y": Y}, loss_fn=lambda p, batch: loss(p, batch["x"], batch["y"]), batch_size=8)
    assert same(fitted[:2], by_hand(epochs(10, 8)))


def test_data_that_ends_is_said():
    with pytest.warns(UserWarning, match="data ended after 6 of 10 steps"):
        fitted = fit(data=zip(XS, YS, strict=True))
    assert fitted.history.stopped == "data ended"
    assert same(fitted[:2], by_hand(zip(XS, YS, strict=True)))


def test_minibatches_of_other_shapes_are_steps_of_their_own():
    batches = [(X[:8], Y[:8]), (X[:5], Y[:5]), (X[:5], Y[:5]), (X, Y)]
    assert same(fit(data=batches, steps=4)[:2], by_hand(batches))


@pytest.mark.parametrize("count", [10, 37])
def test_every_minibatch_of_an_iterator_is_trained_on(count):
    """However many were taken ahead when it ended."""
    with pytest.warns(UserWarning, match=f"data ended after {count} of 1000 steps"):
        fitted = fit(data=iter([(X, Y)] * count), steps=1000)
    assert len(fitted.history["loss"]) == count
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = fit(data=iter([(X, Y)] * count), steps=count)
    assert (len(fitted.history["loss"]), fitted.history.stopped) == (count, "")


def test_a_call_that_is_refused_touches_no_log(tmp_path):
    log = tmp_path / "notes.txt"
    log.write_text("precious\n", "utf-8")
    with pytest.raises(TypeError):
        fit(data=X, log=log)
    assert log.read_text("utf-8") == "precious\n"


def test_what_goes_wrong_on_the_way_saves_what_there_is(tmp_path):
    def broken(p):
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        fit(eval_fn=broken, eval_every=7, checkpoint=tmp_path)
    assert [x.name for x in tmp_path.iterdir()] == ["7"]
    assert same(fit(checkpoint=tmp_path)[:2], fit()[:2])


def test_a_number_of_micro_batches_is_their_mean():
    def with_aux(p, x, y):
        return loss(p, x, y), {"x": jnp.mean(x), "all": x}

    h = fit(loss_fn=with_aux, has_aux=True, accumulate=3, steps=2).history
    assert list(h) == ["loss", "aux/x", "learning_rate"]
    np.testing.assert_allclose(h["aux/x"], X.mean(), rtol=1e-5)


def test_nothing_that_was_given_is_touched():
    p = fresh()
    state = A.init(p)
    first = fit(params=p, state=state)
    assert same(fit(params=p, state=state)[:2], first[:2])
    more = fit(params=first.params, state=first.state)
    assert same(more[:2], by_hand([(X, Y)] * 20))


def test_history_and_evaluation():
    seen = []

    def accuracy(p):
        seen.append(p)
        return {"all": loss(p, X, Y), "b": p["b"][0]}

    opt = adaptx.averaged(A, 0.9)
    fitted = fit(opt, eval_fn=accuracy, eval_every=4)
    h = fitted.history
    assert list(h) == ["loss", "learning_rate", "eval/all", "eval/b"]
    assert h.steps("eval/all").tolist() == [4, 8, 10]
    assert h.steps("loss").tolist() == list(range(10))
    np.testing.assert_allclose(h["learning_rate"], 0.05, rtol=1e-6)
    np.testing.assert_allclose(h["loss"][0], loss(P, X, Y), rtol=1e-6)
    assert same(seen[-1], adaptx.eval_params(opt, fitted.state, fitted.params))
    assert not same(seen[-1], fitted.params)
    np.testing.assert_allclose(h["eval/all"][-1], loss(seen[-1], X, Y), rtol=1e-6)
    assert "loss: 10" in repr(h)
    with pytest.raises(KeyError, match="no 'accuracy' in this history, which has loss"):
        h["accuracy"]


def test_every_horizon_is_evaluated():
    opt = adaptx.averaged(A, decay={"short": 0.5, "long": 0.9})
    fitted = fit(opt, eval_fn=lambda p: {"loss": loss(p, X, Y)}, eval_every=5)
    for horizon in ("short", "long"):
        best = adaptx.eval_params(opt, fitted.state, fitted.params, horizon)
        np.testing.assert_allclose(fitted.history[f"eval/{horizon}/loss"][-1], loss(best, X, Y), rtol=1e-6)
    assert len(fitted.history["eval/short/loss"]) == 2
    assert "eval/loss" not in fitted.history


def test_horizons_that_no_name_tells_are_refused_before_a_step():
    halves = {"a": adaptx.averaged(A, (0.5, 0.9)), "b": adaptx.averaged(A, 0.9)}
    opt = optax.partition(halves, lambda p: {name: "a" if name == "w" else "b" for name in p})
    with pytest.raises(ValueError, match=r"share no horizon \('0.5', '0.9'\); give all of them the same names"):
        fit(opt, data=lambda t: pytest.fail("a step"), eval_fn=lambda p: 1.0)


def test_a_number_from_eval_fn_and_numbers_in_aux():
    def with_aux(p, x, y):
        return loss(p, x, y), {"rows": len(x) * jnp.ones(()), "all": x}

    h = fit(loss_fn=with_aux, has_aux=True, eval_fn=lambda p: 1.5, batch_size=8).history
    assert h["eval"].tolist() == [1.5] * 10
    assert h["aux/rows"].tolist() == [8.0] * 10
    assert "aux/all" not in h


def test_tables(tmp_path):
    h = fit(eval_fn=lambda p: 2.0, eval_every=5).history
    lines = h.to_csv(tmp_path / "h.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "step,loss,learning_rate,eval"
    assert len(lines) == 1 + 11
    assert lines[6].endswith(",2.0")
    assert lines[1].endswith(",")
    assert [x.name for x in tmp_path.iterdir()] == ["h.csv"]
    with pytest.raises(OSError, match="not/there"):
        h.to_csv(tmp_path / "not/there/h.csv")
    try:
        import pandas  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(ModuleNotFoundError, match="to_pandas needs pandas"):
            h.to_pandas()


class Kept:
    """What a user may have as a log."""

    def __init__(self):
        self.rows, self.finished = [], 0

    def log(self, data, step):
        self.rows.append((step, data))

    def finish(self):
        self.finished += 1


def test_logs(tmp_path):
    path, kept = tmp_path / "logs" / "run.jsonl", Kept()
    h = fit(log=[path, kept], log_every=4, eval_fn=lambda p: jnp.nan, eval_every=5).history
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in rows] == [0, 4, 5, 8, 9, 10]
    assert rows[0] == {"step": 0, "loss": h["loss"][0], "learning_rate": h["learning_rate"][0]}
    assert rows[2] == {"step": 5, "eval": None}
    assert [step for step, _ in kept.rows] == [0, 4, 5, 8, 9, 10]
    assert kept.finished == 1
    fit(log=path)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 10, "a new training begins a new file"


def test_a_log_is_finished_when_the_training_fails():
    kept = Kept()
    with pytest.raises(RuntimeError, match="out of data"):
        fit(data=lambda t: (_ for _ in ()).throw(RuntimeError("out of data")), log=kept)
    assert kept.finished == 1


def nan_at(step):
    def data(t):
        x = X.copy()
        x[3, 2] = np.nan if t == step else x[3, 2]
        return x, Y

    return data


@pytest.mark.parametrize("step", [0, 7])
def test_what_is_not_finite_stops_it_before_anything_is_lost(step):
    with pytest.raises(adaptx.NonFiniteError, match=f"step {step} is not finite: 'b' is the first leaf") as caught:
        fit(data=nan_at(step))
    error = caught.value
    assert error.step == step
    assert "max_norm=1.0" in str(error)
    assert same(error.fitted[:2], by_hand([(X, Y)] * step))
    assert error.fitted.history.stopped == "not finite"
    assert len(error.fitted.history["loss"]) == step


def test_which_leaf_and_whose_fault():
    def bad(p, x, y):
        return loss(p, x, y) + jnp.sum(jnp.sqrt(p["w"][0, 0] - p["w"][0, 0]))  # 0 · ∞ in the gradient alone

    with pytest.raises(adaptx.NonFiniteError, match="'w' is the first leaf whose gradient is not, and the loss is "):
        fit(loss_fn=bad)
    with pytest.raises(adaptx.NonFiniteError, match="the loss is inf, though the gradients are finite"):
        fit(loss_fn=lambda p, x, y: loss(p, x, y) + jnp.inf)
    with pytest.raises(adaptx.NonFiniteError, match="parameter 'b' was not finite before it"):
        fit(params={**P, "b": P["b"] * np.nan})


def test_optimizers_that_skip_are_left_to_it():
    for opt in (adaptx.adam(0.05, skip_nonfinite=True), optax.apply_if_finite(optax.adam(0.05), 5), adaptx.shield(A)):
        fitted = fit(opt, data=nan_at(7))
        assert len(fitted.history["loss"]) == 10
        assert np.isnan(fitted.history["loss"][7])
        assert np.isfinite(fitted.params["w"]).all()
    assert np.isnan(fit(data=nan_at(7), nonfinite="ignore").params["w"]).any()
    with pytest.raises(adaptx.NonFiniteError, match="step 7"):
        fit(adaptx.adam(0.05, skip_nonfinite=True), data=nan_at(7), nonfinite="stop")


def test_ctrl_c_stops_after_the_step_and_keeps_what_there_is():
    def data(t):
        if t == 30:
            os.kill(os.getpid(), signal.SIGINT)
        return X, Y

    before = signal.getsignal(signal.SIGINT)
    fitted = fit(data=data, steps=10**6)
    assert signal.getsignal(signal.SIGINT) is before
    done = len(fitted.history["loss"])
    assert 30 <= done <= 200
    assert fitted.history.stopped == "interrupted"
    assert same(fitted[:2], by_hand([(X, Y)] * done))


def test_it_runs_beside_the_main_thread():
    out = []
    thread = threading.Thread(target=lambda: out.append(fit()))
    thread.start()
    thread.join()
    assert same(out[0][:2], by_hand([(X, Y)] * 10))


def test_losses_that_draw_do_so_by_seed_and_step():
    def drawn(p, x, y, rng):
        return loss(p, x * jax.random.bernoulli(rng, 0.5, x.shape), y)

    one, again, other = (fit(loss_fn=drawn, seed=seed).history["loss"] for seed in (0, 0, 1))
    assert one.tolist() == again.tolist()
    assert abs(one - other).max() > 1e-3


def test_an_optimizer_that_counts_no_steps_draws_too():
    def drawn(p, x, y, rng):
        return loss(p, x * jax.random.bernoulli(rng, 0.5, x.shape), y)

    opt, p, want = optax.sgd(0.1), P, []
    for t in range(10):
        key = jax.random.fold_in(jax.random.key(3), t)
        value, grads = jax.value_and_grad(drawn)(p, X, Y, rng=key)
        p = optax.apply_updates(p, opt.update(grads, opt.init(p))[0])
        want.append(value)
    np.testing.assert_allclose(fit(opt, loss_fn=drawn, seed=3).history["loss"], want, rtol=1e-5)


def test_options_of_train_step_hold():
    accumulated = fit(accumulate=4, batch_size=8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), accumulated.params, fit(batch_size=8).params)
    opt = adaptx.sophia(0.1)
    fitted = fit(opt, extra={"hessian": adaptx.hutchinson(loss, every=3)})
    assert float(abs(fitted.params["w"] - P["w"]).max()) > 0
    layer = {**P, "act": jnp.tanh, "n": None}
    kept = fit(params=layer, loss_fn=lambda p, x, y: loss({"w": p["w"], "b": p["b"]}, x, y)).params
    assert kept["act"] is jnp.tanh
    assert kept["n"] is None


def test_the_pace_follows_the_time_a_step_takes():
    assert paced(1, 1, 1e-6, 64) == 2, "no more than twice as many"
    assert paced(32, 32, 1e-3, 64) == 64
    assert paced(64, 64, 1e-3, 64) == 64, "no more than there is room for"
    assert paced(16, 16, 1.6, 64) == 1
    assert paced(4, 4, 0.1, 64) == 4


def test_a_bar_is_shown_on_terminals_alone(monkeypatch, capsys):
    adaptx.fit(loss, A, P, (X, Y), steps=3)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    adaptx.fit(loss, A, P, (X, Y), steps=3)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "loss" in shown
    assert "rate" in shown


WRONG = {
    "steps": ({"steps": 0}, ValueError, "steps must be an integer ≥ 1, got 0"),
    "batch_size": ({"batch_size": 25}, ValueError, "at most the 24 rows of data, got 25"),
    "rows": ({"data": (X, Y[:3])}, ValueError, r"one number of rows.*\(24, 5\), \(3, 5\)"),
    "no data": ({"data": 3}, TypeError, "data must be arrays, an iterator of minibatches or a function"),
    "remainder": ({"batch_size": 7, "remainder": "error"}, ValueError, "no multiple of batch_size=7: 3 are left over"),
    "remainder's name": ({"remainder": "fill"}, ValueError, "remainder must be one of 'drop', 'keep', 'error'"),
    "batches of an iterator": (
        {"data": iter([X]), "batch_size": 3},
        ValueError,
        "batch_size is for arrays; an iterator",
    ),
    "remainder of a function": (
        {"data": lambda t: X, "remainder": "keep"},
        ValueError,
        "remainder is for arrays; a func",
    ),
    "eval_fn": ({"eval_fn": 3}, TypeError, "eval_fn must be a function of params"),
    "eval_fn's result": ({"eval_fn": lambda p: p["w"], "steps": 1}, TypeError, r"got .* of shape \(5, 5\); reduce it"),
    "state": ({"state": "x"}, TypeError, "state must be what opt returned"),
    "eval_every alone": ({"eval_every": 2}, TypeError, "is for eval_fn, which is None"),
    "empty data": ({"data": []}, ValueError, "data ended before the first step"),
    "None as data": ({"data": lambda t: None}, TypeError, r"data\(0\) returned None"),
    "text as data": ({"data": "abc"}, TypeError, "data must be arrays"),
    "a log that cannot be": ({"log": "/proc/none/run.jsonl"}, OSError, "log='/proc/none/run.jsonl' cannot be written"),
    "a folder that cannot be": ({"checkpoint": "/proc/none/x"}, OSError, "checkpoint='/proc/none/x' cannot be made"),
    "eval_fn of None": ({"eval_fn": lambda p: None}, TypeError, "real number or a dict of them, got NoneType; reduce"),
    "eval_fn of text": ({"eval_fn": lambda p: {"a": "x"}}, TypeError, "got str at 'a'"),
    "eval_fn of complex": ({"eval_fn": lambda p: 1j}, TypeError, "got complex"),
    "eval_every": ({"eval_every": 0, "eval_fn": lambda p: 1.0}, ValueError, "eval_every must be an integer ≥ 1"),
    "log": ({"log": 3}, TypeError, "log must be a path for JSON lines"),
    "a class as log": ({"log": Kept}, TypeError, "log must be a path"),
    "log_every": ({"log_every": 0}, ValueError, "log_every must be"),
    "nonfinite": ({"nonfinite": "raise"}, ValueError, "nonfinite must be one of 'stop', 'ignore'"),
    "seed": ({"seed": -1}, ValueError, "seed must be an integer ≥ 0"),
    "progress": ({"progress": "yes"}, TypeError, "progress must be True or False"),
    "opt": ({"opt": adaptx.adam}, TypeError, "call it"),
    "the loss": ({"loss_fn": 3}, TypeError, "loss_fn must be a function"),
    "checkpoint": ({"checkpoint": 3}, TypeError, "checkpoint must be a folder"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused(name):
    options, error, words = WRONG[name]
    given = {"steps": 2, "progress": False, **options}
    opt, data, loss_fn = given.pop("opt", A), given.pop("data", (X, Y)), given.pop("loss_fn", loss)
    with pytest.raises(error, match=words):
        adaptx.fit(loss_fn, opt, P, data, **given)


def test_a_directory_is_no_log(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a directory, expected a file for JSON lines"):
        fit(log=tmp_path)


def test_it_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(batch_size=8, eval_fn=lambda p: loss(p, X, Y))
