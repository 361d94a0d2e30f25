"""`adaptx plan` counts the bytes that init makes, on one device and on several, and refuses bad input in a sentence."""

import codecs
import dataclasses
import json
import re
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx.cli.main import main
from adaptx.cli.plan import budget, models, recipe, shapes
from adaptx.cli.words import plain, seconds, size

INSTANT = 20.0  # seconds for 100 B parameters; a fraction of one on an idle machine, and all of them would take memory
TREE = """
import jax, jax.numpy as jnp, numpy as np
def mixed():
    return {"w": jnp.ones((64, 128)), "b": jnp.zeros(128, jnp.bfloat16), "n": 3, "f": jnp.tanh, "none": None}
def vast():
    key = jax.random.key(0)
    return {"w": jax.random.normal(key, (100_000, 1_000_000)), "b": jnp.zeros(1_000_000)}
def structs(): return [jax.ShapeDtypeStruct((12288, 49152), jnp.bfloat16)] * 170
def concrete(): return {"w": jnp.ones(3) if float(jnp.ones(3).sum()) > 0 else None}
def raises(): raise RuntimeError("out of\\ncheese")
def asks(x): return x
def ints(): return {"i": np.arange(3)}
def words(): return {"a": "b"}
def empty(): return {"a": jnp.zeros((0, 3))}
def complexes(): return {"z": jnp.ones(3, jnp.complex64)}
class Net:
    @staticmethod
    def init(): return {"w": jnp.ones(5)}
number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a module of trees."""
    (tmp_path / "planned_trees.py").write_text(TREE)
    (tmp_path / "planned_broken.py").write_text("import planned_nowhere")
    (tmp_path / "planned_exit.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("planned_")]:
        del sys.modules[name]


@pytest.fixture
def planned(folder, capsys):
    """Runs `adaptx plan` with --json and gives (what it printed, the JSON)."""

    def run(*arguments: str) -> tuple[str, dict]:
        assert main(["plan", *arguments, "--json", "plan.json"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out, json.loads((folder / "plan.json").read_text("utf-8"))

    return run


# published numbers of parameters; ResNet-50 and GPT-2 as torchvision and the authors' weights have them
COUNTS = {
    "digits": 2_410,
    "resnet-50": 25_557_032,
    "gpt2-small": 124_439_808,
    "gpt2-xl": 1_557_611_200,
    "llama-7b": 6_738_415_616,
    "gpt3-175b": 174_604_259_328,
}


@pytest.mark.parametrize("name", shapes.EXAMPLES)
def test_examples_have_the_published_number_of_parameters(name):
    assert sum(np.prod(p.shape, dtype=int) for p in models.model(name, None).arrays) == COUNTS[name]


OPTIMIZERS = [
    ("adam", {}),
    ("adam", {"changes": ["amsgrad=true", "max_norm=1.0", "telemetry=true", "weight_decay=0.1"]}),
    ("adam", {"storage": "int8"}),
    ("adam", {"storage": "m=bf16,v=int8", "exclude": ["9", "norm"]}),
    ("adam", {"storage": "bf16", "controller": "prodigy", "rounding": "kahan"}),
    ("adam", {"controller": "ldog", "storage": "int8", "exclude": ["conv"]}),
    ("rmsprop", {"changes": ["centered=True", "momentum=0.9"], "storage": "int8"}),
    ("momentum", {"storage": "bf16", "controller": "plateau"}),
    ("lamb", {"storage": "int8"}),
    ("sgd", {}),
]


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=lambda x: x if isinstance(x, str) else "-".join(x))
def test_the_parts_add_up_to_the_state_of_init(name, options, dtype):
    tree = {
        "stem": shapes.resnet()["stem"],
        "block": shapes.resnet()["stage0_0"],
        "scale": jax.ShapeDtypeStruct((), "f"),
    }
    tree = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, models.DTYPES[dtype]), tree)
    leaves, opt = models.take_apart(tree), recipe.optimizer(name, **options)
    made = budget.budget(opt, leaves, 1)
    state = jax.eval_shape(opt.init, tree)
    assert sum(part.size for part in made.parts[2:]) == budget.tree_bytes(state) == opt.state_bytes(tree)
    assert [leaf.cost for leaf in made.leaves] == [
        dataclasses.replace(cost, decayed=leaf.cost.decayed, lr_scale=1.0)
        for cost, leaf in zip(opt.costs(models.take_apart(tree)), made.leaves, strict=True)
    ]
    assert all(part.size == part.local for part in made.parts)
    assert made.traffic == made.whole_traffic


def test_the_floors_of_a_step_are_those_of_the_table(planned):
    """numpy's own arithmetic: p, g read, p written, and both moments read and written."""
    assert planned("gpt2-small")[1]["step"]["bytes_per_parameter"] == 28
    assert planned("gpt2-small", "--dtype", "bf16")[1]["step"]["bytes_per_parameter"] == 22
    assert planned("gpt2-small", "--optimizer", "sgd")[1]["step"]["bytes_per_parameter"] == 12
    coded = planned("llama-7b", "--storage", "int8", "--bandwidth", "4800")[1]["step"]
    assert coded["bytes_per_parameter"] == pytest.approx(16.06, abs=0.01)
    assert coded["seconds"] == pytest.approx(coded["bytes"] / 4.8e12)


def test_devices_split_along_the_first_dividing_axis():
    tree = {"rows": jnp.ones((8, 768)), "columns": jnp.ones((3, 1024)), "whole": jnp.ones((3, 5)), "one": jnp.ones(())}
    leaves = models.take_apart(tree)
    made = {leaf.cost.path: leaf for leaf in budget.budget(adaptx.adam(), leaves, 4).leaves}
    assert {path: leaf.split for path, leaf in made.items()} == {"rows": 0, "columns": 1, "whole": None, "one": None}
    assert made["rows"].local == dict.fromkeys(("parameters", "gradients", "m", "v"), 8 * 768)
    assert made["whole"].local == dict.fromkeys(("parameters", "gradients", "m", "v"), 60)
    coded = budget.budget(adaptx.adam(storage="int8", storage_exclude=0), leaves, 8)
    assert coded.leaves[-2].cost.path == "rows"
    # 8 rows of 768: codes and the 3 bounds of a row, of m and v, are split alike; columns: 1,024 divide by 8, 4 do not
    rows = {"m": 2 * 768, "v": 2 * 3 * 4}
    assert {name: coded.leaves[-2].local[name] for name in rows} == rows
    assert coded.leaves[0].local == {"parameters": 1536, "gradients": 1536, "m": 2 * 384, "v": 2 * 48}


def test_sharded_bytes_are_those_of_jax():
    """What a device holds under the rule equals what NamedSharding gives it."""
    axis = jax.sharding.AbstractMesh((4,), ("data",))
    for shape, split in (((8, 6), 0), ((6, 8), 1), ((3, 5), None)):
        spec = jax.sharding.PartitionSpec(*("data" if a == split else None for a in range(2)))
        local = jax.sharding.NamedSharding(axis, spec).shard_shape(shape)
        leaf = budget.budget(adaptx.sgd(), models.take_apart({"p": jnp.ones(shape)}), 4).leaves[0]
        assert leaf.split == split
        assert leaf.local["parameters"] == 4 * np.prod(local)


def test_exclusions_are_told_with_their_reason(planned):
    arguments = ("gpt2-small", "--storage", "int8", "--storage-exclude", "4096", "--storage-exclude", "^tokens")
    out, data = planned(*arguments)
    told = {leaf["path"]: (leaf["excluded"], set(leaf["storage"].values())) for leaf in data["leaves"]}
    assert told["tokens"] == ("path matches '^tokens'", {"f32"})
    assert told["norm/b"] == ("fewer than 4,096 elements", {"f32"})
    assert told["block03/up/w"] == (None, {"int8"})
    assert "98 (fewer than 4,096 elements)" in out
    assert "1 (path matches '^tokens')" in out


def test_the_output_has_all_its_parts(planned):
    out, data = planned("gpt2-small", "--shards", "8", "--top", "3", "--bandwidth", "1000", "--controller", "prodigy")
    for words in ("124,439,808 parameters", "on each of 8", "145 more", "mark of the controller", "At 1000 GB/s",
                  "m ← β₁ m + (1 − β₁) g", "arXiv:1412.6980", "d ← max(d, d_coef · r / ‖s‖₁)", "arXiv:2306.06101",
                  budget.SHARDING):  # fmt: skip
        assert words in out, words
    assert data["parts"]["x0"]["bytes"] == 4 * COUNTS["gpt2-small"]
    out, _ = planned("digits", "--top", "0")
    assert "hidden/w" not in out


def test_models_of_functions(planned, monkeypatch):
    start = time.perf_counter()
    assert planned("planned_trees:vast", "--storage", "int8")[1]["parameters"] == 100_001_000_000
    assert planned("planned_trees:structs", "--storage", "bf16")[1]["parameters"] == 170 * 12288 * 49152
    assert time.perf_counter() - start < INSTANT
    out, data = planned("planned_trees:mixed")
    assert [leaf["path"] for leaf in data["leaves"]] == ["b", "w"]
    assert [leaf["dtype"] for leaf in data["leaves"]] == ["bfloat16", "float32"]
    assert "not counted: 3 leaves" in out
    assert planned("planned_trees:concrete")[1]["parameters"] == 3
    assert planned("planned_trees:Net.init")[1]["parameters"] == 5


def test_models_of_files(planned, folder):
    np.savez(
        folder / "a.npz", **{"layer/w": np.ones((6, 7), np.float32), "i": np.arange(3), "h": np.ones(2, np.float16)}
    )
    np.savez_compressed(folder / "b.npz", w=np.ones((50, 50)))
    data = planned("a.npz")[1]
    assert {leaf["path"]: (tuple(leaf["shape"]), leaf["dtype"]) for leaf in data["leaves"]} == {
        "layer/w": ((6, 7), "float32"),
        "h": ((2,), "float16"),
    }
    assert planned("b.npz", "--dtype", "bf16")[1]["parts"]["parameters"]["bytes"] == 5000


def test_notes_on_what_changes_nothing(planned):
    assert "changes nothing" in planned("digits", "--optimizer", "sgd", "--storage", "int8")[0]
    assert "rounding=kahan changes nothing" in planned("digits", "--rounding", "kahan")[0]
    narrow = "--storage", "bf16", "--storage-exclude", "1"
    assert "share words" in planned("digits", *narrow)[0]
    assert "share words" not in planned("digits", "--optimizer", "momentum", *narrow)[0]
    for name in ("adafactor", "sgd_sai", "apollo"):  # slots that are small, or not there, share no word
        assert "share words" not in planned("digits", "--optimizer", name)[0]
    assert "changes nothing" not in planned("digits", "--rounding", "kahan", "--dtype", "bf16", "--storage", "int8")[0]


BAD = [
    (["planned_trees:raises"], ["planned_trees:raises", "RuntimeError: out of cheese", "without arguments"]),
    (["planned_trees:asks"], ["TypeError", "'x'", "without arguments"]),
    (["planned_trees:ints"], ["planned_trees:ints", "'i' is int32"]),
    (["planned_trees:words"], ["no floating array"]),
    (["planned_trees:empty"], ["empty"]),
    (["planned_trees:complexes"], ["'z' is complex64"]),
    (["planned_trees:number"], ["expected a function, got int"]),
    (["planned_trees:mixd"], ["no 'mixd'", "did you mean 'mixed'"]),
    (["planned_trees:"], ["module:function"]),
    ([":mixed"], ["module:function"]),
    (["planned_broken:f"], ["'planned_broken' cannot be imported", "planned_nowhere"]),
    (["planned_exit:f"], ["'planned_exit' cannot be imported", "SystemExit: 3"]),
    (["planned_gone:f"], ["'planned_gone' cannot be imported"]),
    (["gone.npz"], ["gone.npz: no such file"]),
    (["junk.npz"], ["junk.npz: not an .npz"]),
    (["objects.npz"], ["array 'w' is object"]),
    (["gpt2-smal"], ["did you mean 'gpt2-small'", "llama-7b", "module:function"]),
    (["digits", "--optimizer", "adamm"], ["did you mean 'adam'", "lamb"]),
    (["digits", "--controller", "prodigyy"], ["did you mean 'prodigy'", "cocob"]),
    (["digits", "--controller", "prodigy", "--learning-rate", "1"], ["finds the rate itself"]),
    (["digits", "--optimizer", "lars", "--controller", "dog"], ["lars", "got dog"]),
    (["digits", "--learning-rate", "-1"], ["learning_rate", "got -1"]),
    (["digits", "--learning-rate", "nan"], ["finite"]),
    (["digits", "--storage", "int4"], ["'int8'", "got 'int4'"]),
    (["digits", "--storage", "q=int8"], ["slot 'q'", "m, v"]),
    (["digits", "--storage", "m=bf16,"], ["m=bf16,v=int8"]),
    (["digits", "--storage", "m=int8=bf16"], ["m=bf16,v=int8"]),
    (["digits", "--storage-exclude", "3"], ["--storage bf16 or int8"]),
    (["digits", "--storage", "bf16", "--storage-exclude", "("], ["not a regular expression"]),
    (["digits", "--storage", "bf16", "--storage-exclude", "zzz"], ["matches none", "hidden/w"]),
    (["digits", "--rounding", "up"], ["'kahan'", "'up'"]),
    (["digits", "--dtype", "f8"], ["bf16"]),
    (["digits", "--shards", "0"], ["--shards 0", "at least 1"]),
    (["digits", "--shards", "-3"], ["--shards -3", "at least 1"]),
    (["digits", "--top", "-1"], ["--top -1"]),
    (["digits", "--bandwidth", "0"], ["--bandwidth 0"]),
    (["digits", "--set", "b1"], ["key=value", "b2"]),
    (["digits", "--set", "bb=1"], ["no 'bb'", "amsgrad"]),
    (["digits", "--set", "b1=2"], ["b1", "[0, 1)"]),
    (["digits", "--set", "storage=int8"], ["--storage int8"]),
    (["digits", "--set", "weight_decay=0.1", "--set", "decay_mask=zzz"], ["decay_mask", "matches none"]),
    (["digits", "--set", "lr_scale={'zz': 2}"], ["lr_scale", "matches none"]),
    (["digits", "--set", "layout=packed", "--controller", "ldog"], ["layout='packed'"]),
    (["digits", "--json", "gone/plan.json"], ["--json gone/plan.json", "cannot be written"]),
    ([], ["MODEL"]),
]


@pytest.mark.parametrize(("arguments", "words"), BAD, ids=lambda x: " ".join(x))
def test_bad_input_is_refused_in_one_sentence(folder, capsys, arguments, words):
    (folder / "junk.npz").write_bytes(b"junk")
    np.savez(folder / "objects.npz", w=np.array([{}], dtype=object))
    assert main(["plan", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert "Traceback" not in err
    assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.000 kB"),
        (999_999, "1.000 MB"),
        (248_879_616, "248.9 MB"),
        (2e16, "20.00 PB"),
    ],
)
def test_sizes(count, words):
    assert size(count) == words


def test_times():
    assert [seconds(t) for t in (2.5, 0.0123, 4.6e-5)] == ["2.5 s", "12.3 ms", "46 µs"]


def test_letters_an_encoding_lacks_are_spelled_out():
    codecs.register_error("plain", plain)
    written = "v ← β₂ v + (1 − β₂ᵗ) g², ‖ĥ‖ ≤ √v̂ · ε │".encode("ascii", "plain").decode()
    assert re.sub(r" +", " ", written) == "v <- beta_2 v + (1 - beta_2^t) g^2, ||h^|| <= sqrt v^ * epsilon -"


def test_a_route_is_planned_leaf_by_leaf():
    """Muon gives the rest of the tree to AdamW: the plan says which leaf is whose."""
    opt, leaves = adaptx.muon(storage="bf16"), models.take_apart({"w": jnp.ones((80, 80)), "embed": jnp.ones((90, 80))})
    made = budget.budget(opt, leaves, 1)
    assert {leaf.cost.path: leaf.cost.group for leaf in made.leaves} == {"w": "muon", "embed": "adamw"}
    assert {part.name: part.size for part in made.parts[2:4]} == {"m": 80 * 80 * 2 + 90 * 80 * 4, "v": 0}
    assert [one.rule.name for one in made.opts] == ["muon", "adam"]
