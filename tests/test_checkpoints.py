"""Trainings that are interrupted: they go on from the newest whole checkpoint, to the same last bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx.training.digest import digests
from runs import XS, YS, P, X, Y, loss, same

# what orbax leaves behind where it cannot read
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
STEPS = 40
A = adaptx.adam(0.05)


def drawn(p, x, y, rng):
    return loss(p, x * jax.random.bernoulli(rng, 0.8, x.shape), y)


def fit(opt, folder=None, *, steps=STEPS, every=8, data=(X, Y), loss_fn=drawn, params=P, **options):
    where = None if folder is None else adaptx.checkpoints(folder, every=every, keep=2)
    options = {"batch_size": 8, **options} if isinstance(data, tuple) else options
    return adaptx.fit(loss_fn, opt, params, data, steps=steps, checkpoint=where, progress=False, **options)


KINDS = {
    "adam": adaptx.adam(0.05),
    "int8, stochastic": adaptx.adam(0.05, storage="int8", rounding="stochastic"),
    "prodigy, averaged": adaptx.averaged(adaptx.adam(adaptx.controllers.prodigy()), 0.9),
    "route": adaptx.route({"w": adaptx.muon(0.01, adamw=False), "b": adaptx.sgd(0.1)}, {"w": "w", "b": "b"}),
    "shield": adaptx.shield(adaptx.soap(0.01)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_to_the_same_bit(kind, tmp_path):
    opt = KINDS[kind]
    evaluate = {"eval_fn": lambda p: loss(p, X, Y), "eval_every": 5}
    whole = fit(opt, **evaluate)
    for steps in (11, 24, STEPS):
        part = fit(opt, tmp_path, steps=steps, **evaluate)
    assert same(part[:2], whole[:2])
    assert part.history["loss"].tolist() == whole.history["loss"].tolist()
    assert sorted(x.name for x in tmp_path.iterdir()) == ["32", "40"]
    again = fit(opt, tmp_path, **evaluate)
    assert same(again[:2], whole[:2]), "a training that is at its end takes no step"


def test_narrow_parameters_and_leaves_that_are_no_numbers(tmp_path):
    p = {**jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), P), "key": jax.random.key(3), "n": jnp.arange(3),
         "act": jnp.tanh, "none": None, "empty": jnp.zeros((0, 4))}  # fmt: skip

    def run(folder, steps):
        opt = adaptx.adamw(0.01, rounding="kahan")
        return fit(opt, folder, steps=steps, params=p, loss_fn=lambda p, x, y: loss({"w": p["w"], "b": p["b"]}, x, y))

    whole = run(None, 20)
    run(tmp_path, 9)
    part = run(tmp_path, 20)
    assert part.params["act"] is jnp.tanh
    assert jax.random.key_data(part.params["key"]).tolist() == jax.random.key_data(p["key"]).tolist()
    for name in ("w", "b", "n", "empty"):
        np.testing.assert_array_equal(part.params[name], whole.params[name])
        assert part.params[name].dtype == whole.params[name].dtype
    assert same(part.state, whole.state)


def source(kind):
    if kind == "function":
        return lambda t: (XS[t % 6], YS[t % 6])
    if kind == "iterator":
        return iter([(XS[t % 6] * t, YS[t % 6]) for t in range(STEPS)])
    if kind == "list":
        return list(zip(XS, YS, strict=True))
    return Loader()


class Loader:
    """An iterator that says where it is, as grain's do."""

    def __init__(self):
        self.at, self.asked = 0, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.at, self.asked = self.at + 1, self.asked + 1
        return XS[self.at % 6] * self.at, YS[self.at % 6]

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


@pytest.mark.parametrize("kind", ["function", "iterator", "list", "loader"])
def test_data_go_on_where_they_were(kind, tmp_path):
    opt = adaptx.adam(0.05)
    whole = fit(opt, data=source(kind))
    fit(opt, tmp_path, steps=16, data=source(kind))
    data = source(kind)
    assert same(fit(opt, tmp_path, data=data)[:2], whole[:2])
    if kind == "loader":
        assert data.asked == STEPS - 16, "it was told where to go on, and skipped nothing"


def test_an_iterator_that_is_too_short_is_refused(tmp_path):
    fit(adaptx.sgd(0.1), tmp_path, steps=16, data=source("iterator"))
    with pytest.raises(ValueError, match="data ended after 3 batches, but the saved training had taken 16"):
        fit(adaptx.sgd(0.1), tmp_path, data=iter([(X, Y)] * 3))


def test_ctrl_c_saves(tmp_path):
    def data(t):
        if t == 13:
            os.kill(os.getpid(), signal.SIGINT)
        return XS[t % 6], YS[t % 6]

    opt = adaptx.adam(0.05)
    stopped = fit(opt, tmp_path, data=data, every=1000)
    done = len(stopped.history["loss"])
    assert [x.name for x in tmp_path.iterdir()] == [str(done)]
    assert same(fit(opt, tmp_path, data=source("function"))[:2], fit(opt, data=source("function"))[:2])


def test_logs_go_on(tmp_path):
    """What was written after the last checkpoint is taken out, a line that was cut off too."""
    opt, a, b = adaptx.adam(0.05), tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    evaluate = {"eval_fn": lambda p: loss(p, X, Y), "eval_every": 8}
    fit(opt, log=a, **evaluate)
    fit(opt, tmp_path / "c", steps=24, log=b, **evaluate)
    with b.open("a", encoding="utf-8") as file:
        file.write('{"step": 24, "loss": 3.0}\n{"step": 25, "lo')
    fit(opt, tmp_path / "c", log=b, **evaluate)
    assert b.read_text(encoding="utf-8") == a.read_text(encoding="utf-8")


def files(folder: Path) -> list[Path]:
    return sorted(x for x in folder.rglob("*") if x.is_file() and x.stat().st_size)


HARMS = {
    "cut": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "one bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
}


@pytest.mark.parametrize("harm", [x if x == "one bit" else pytest.param(x, marks=pytest.mark.slow) for x in HARMS])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(harm, tmp_path):
    """Whichever file is harmed; a few bytes, such as those of a time, may be none that anybody needs."""
    opt = adaptx.adam(0.05)
    whole = fit(opt, steps=24)
    fit(opt, tmp_path / "whole", steps=24)
    newest = tmp_path / "whole" / "24"
    noticed = 0
    for n, file in enumerate(files(newest)):
        folder = tmp_path / str(n)
        shutil.copytree(tmp_path / "whole", folder)
        target = folder / "24" / file.relative_to(newest)
        target.write_bytes(HARMS[harm](target.read_bytes()))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            part = fit(opt, folder, steps=24)
        assert same(part[:2], whole[:2]), file.relative_to(newest)
        words = [str(x.message) for x in said if "is damaged" in str(x.message)]
        if words:
            noticed += 1
            assert words[0].startswith(f"checkpoint 24 of {folder} is damaged (")
            assert sorted(x.name for x in folder.iterdir()) == ["16", "24", "damaged-24"]
    assert noticed >= 3


def test_arrays_of_another_checkpoint_are_noticed(tmp_path):
    """Whole for the library that reads them, but not what was written."""
    whole = fit(A, tmp_path, steps=24)
    shutil.rmtree(tmp_path / "24" / "arrays")
    shutil.copytree(tmp_path / "16" / "arrays", tmp_path / "24" / "arrays")
    with pytest.warns(UserWarning, match=r"checkpoint 24 of .* is damaged \('params/b' is not what was written\)"):
        part = fit(A, tmp_path, steps=24)
    assert same(part[:2], whole[:2])


def test_where_all_are_damaged_nothing_begins_in_silence(tmp_path):
    fit(adaptx.adam(0.05), tmp_path, steps=16)
    for file in files(tmp_path):
        if "/d/" in str(file):
            file.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="is damaged"),
        pytest.raises(ValueError, match=r"all checkpoints of .* are damaged"),
    ):
        fit(adaptx.adam(0.05), tmp_path, steps=16)


OTHERS = {
    "another rule": ({"opt": adaptx.lion(0.1)}, "it has in addition 'state/slots/v/b', 'state/slots/v/w'"),
    "another setting": ({"opt": adaptx.adam(0.05, amsgrad=True)}, "it lacks 'state/slots/h/b', 'state/slots/h/w'"),
    "another shape": (
        {"params": {"w": P["w"], "b": P["b"][:1]}},
        r"'params/b' is float32 of shape \(5,\) there, expected",
    ),
    "another leaf": ({"params": {**P, "c": P["b"]}}, "it lacks 'params/c', 'state/slots/m/c', 'state/slots/v/c'"),
    "another seed": ({"seed": 1}, "was written with seed=0, got 1"),
    "another batch size": ({"batch_size": 4}, "was written with batch_size=8, got 4"),
    "other data": ({"data": (X[:16], Y[:16])}, "was written with rows=24, got 16"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_training_is_refused_by_name(name, tmp_path):
    fit(A, tmp_path, steps=8)
    changed, words = OTHERS[name]
    given = {"opt": A, **changed}
    before = files(tmp_path)
    with pytest.raises(ValueError, match=words) as caught:
        fit(given.pop("opt"), tmp_path, steps=16, **given)
    assert "name another folder" in str(caught.value)
    assert files(tmp_path) == before


def test_another_rate_is_told_and_taken(tmp_path):
    schedule = adaptx.schedules.cosine_decay_schedule(0.05, 20)

    def trained(opt, steps):
        return adaptx.fit(loss, opt, P, (X, Y), steps=steps, batch_size=8, progress=False, checkpoint=tmp_path)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(adaptx.adam(lambda t: schedule(t)), 4)
        trained(adaptx.adam(lambda t: schedule(t)), 6)  # another function, of the same words
    with pytest.warns(UserWarning, match=r"checkpoint 6 .* goes on with adam\(learning_rate=0\.5"):
        trained(adaptx.adam(0.5), 8)


def test_folders_of_somebody_else_are_left_alone(tmp_path):
    for name in ("0", "1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "digit.txt").write_text("0", "utf-8")
    with pytest.raises(ValueError, match=r"has a folder [01] that is no checkpoint; name one for them alone"):
        fit(A, tmp_path, steps=4)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["0", "1"]


@pytest.mark.parametrize("data", [lambda t: (X[:8], Y[:8]), [(X[:8], Y[:8])]], ids=["function", "list"])
def test_data_of_another_kind_are_refused(data, tmp_path):
    fit(A, tmp_path, steps=4)
    with pytest.raises(ValueError, match=r"was written with data='arrays', got '(function|iterated)'"):
        fit(A, tmp_path, steps=8, data=data)


def test_a_training_beyond_its_end_says_so(tmp_path):
    done = fit(A, tmp_path, steps=4)
    with pytest.warns(UserWarning, match="checkpoint 4 of .* is beyond steps=3; it is returned as it is"):
        assert same(fit(A, tmp_path, steps=3)[:2], done[:2])


def test_what_is_told_is_sealed(tmp_path):
    fit(A, tmp_path, steps=8)
    about = tmp_path / "8" / "about" / "metadata"
    told = json.loads(about.read_text(encoding="utf-8"))
    about.write_text(json.dumps({**told, "step": 7}), encoding="utf-8")
    with (
        pytest.warns(UserWarning, match="what is told about it was changed"),
        pytest.raises(ValueError, match="all check"),
    ):
        fit(A, tmp_path, steps=16)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").write_text("", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        fit(A, tmp_path / "x")


def test_a_digest_sees_every_bit():
    x = jnp.arange(24, dtype=jnp.float32).reshape(2, 3, 4)

    def flipped(*places):
        y = np.array(x).view(np.uint32).reshape(-1)
        for i, bit in places:
            y[i] ^= np.uint32(1 << bit)
        return jnp.asarray(y.view(np.float32).reshape(x.shape))

    ones = [((i, bit),) for i in range(24) for bit in (0, 13, 31)]
    pairs = [(a[0], b[0]) for a in ones[::9] for b in ones[::11] if a != b]
    seen = digests([x, *(flipped(*places) for places in (*ones, *pairs))])
    assert seen.count(seen[0]) == 1
    assert digests([np.array(x)]) != digests([np.array(flipped(*ones[0]))])
    for dtype in ("bfloat16", "int8", "uint32", "bool", "float16", "int32"):
        y = jnp.asarray(x, dtype)
        assert digests([y]) != digests([y.at[0, 0, 0].set(jnp.ones((), dtype))])


CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from test_checkpoints import fit, KINDS
fitted = fit(KINDS["int8, stochastic"], sys.argv[2], steps=int(sys.argv[3]), every=5)
import numpy as np, jax
np.savez(sys.argv[4], *[np.asarray(x).view(np.uint8) if x.dtype.itemsize > 1 and x.ndim else np.asarray(x)
                        for x in jax.tree.leaves(fitted[:2])])
"""


def killed(tmp_path, kills, steps):
    """How often a training was killed, a random moment after it began to write; it ends as if it never was."""
    dice, words = random.Random(0), tmp_path / "words"

    def start(name):
        here = str(Path(__file__).parent)
        arguments = [here, str(tmp_path / name), str(steps), str(tmp_path / f"{name}.npz")]
        with words.open("ab") as file:
            return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stderr=file, cwd=here)

    def names():
        return {x.name for x in (tmp_path / "killed").glob("*")}

    assert start("quiet").wait() == 0, words.read_text()
    survived = 0
    while survived < kills:
        began, child = names(), start("killed")
        while child.poll() is None and names() == began:
            time.sleep(0.01)
        time.sleep(dice.uniform(0, 0.3))
        if child.poll() is not None:
            break  # it was done before it could be killed
        child.kill()
        child.wait()
        survived += 1
    assert start("killed").wait() == 0, words.read_text()
    with np.load(tmp_path / "quiet.npz") as a, np.load(tmp_path / "killed.npz") as b:
        assert all(np.array_equal(a[name], b[name]) for name in a.files)
    return survived


@pytest.mark.multi
def test_a_killed_training_goes_on(tmp_path):
    assert killed(tmp_path, 1, 100) == 1


@pytest.mark.slow
def test_fifty_kills(tmp_path):
    assert killed(tmp_path, 50, 4_000) == 50


FULL = """
import resource, sys, warnings
import numpy as np
import adaptx
from runs import P, X, Y, loss
folder, most = sys.argv[1], int(sys.argv[2])
big = {**P, "w": P["w"], "table": np.random.default_rng(0).normal(size=(400, 400))}
where = adaptx.checkpoints(folder, every=4)
def fit(steps, **more):
    few = lambda p, x, y: loss({"w": p["w"], "b": p["b"]}, x, y)
    return adaptx.fit(few, adaptx.adam(0.05), big, (X, Y), steps=steps, batch_size=8, progress=False, **more)
fit(4, checkpoint=where)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # every larger file is as on a full disk
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    done = fit(12, checkpoint=where)
assert np.array_equal(done.params["w"], fit(12).params["w"])
print([str(x.message) for x in said if "could not be written" in str(x.message)])
"""


@pytest.mark.slow
def test_a_full_disk_costs_a_checkpoint_and_not_the_training(tmp_path):
    folder = tmp_path / "kept"
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    run = subprocess.run([sys.executable, "-c", FULL, str(folder), "100000"], capture_output=True, text=True,
                         env={**os.environ, "PYTHONPATH": path})  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert "could not be written" in run.stdout
    assert "the whole checkpoints there are 4" in run.stdout
    assert fit_again(folder) == 4


def fit_again(folder):
    """The step of the newest whole checkpoint."""
    return max(int(x.name) for x in folder.iterdir() if x.name.isdecimal())
