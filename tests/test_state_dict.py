"""States as named arrays: names that stay, files of arrays, what is refused."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import controllers, optimizers
from runs import same

GOLDEN = Path(__file__).parent / "golden" / "state_names.json"
P = {"layers": [{"w": jnp.ones((256, 256))}, {"w": jnp.ones((256, 256)), "b": None}], "scale": jnp.ones(())}
A = adaptx.adam(0.1)
OTHERS = {
    **{f"adam × {name}": adaptx.adam(make(0.1)) for name, make in controllers.ALL.items()},
    "averaged": adaptx.averaged(A, 0.9), "lookahead": adaptx.lookahead(A), "shield": adaptx.shield(A),
    "schedule_free": adaptx.schedule_free(adaptx.sgd(0.1)), "grokfast": adaptx.grokfast(A), "trac": adaptx.trac(A),
    "sam": adaptx.sam(A), "int8": adaptx.adam(0.1, storage="int8"), "bf16": adaptx.adam(0.1, storage="bf16"),
    "packed": adaptx.adam(0.1, layout="packed"), "route": adaptx.route({"a": A, "b": adaptx.sgd(0.1)}, {"w": "a"}, "b"),
    "chain": optax.chain(optax.clip_by_global_norm(1.0), A),
}  # fmt: skip
MATRICES = ("muon", "normuon", "dion", "scion")


def names() -> dict[str, list[str]]:
    """What arrays are called, of every optimizer, controller and wrapper."""
    every = {name: make() for name, make in optimizers.ALL.items()} | OTHERS
    return {key: list(adaptx.state_dict(jax.eval_shape(opt.init, P))) for key, opt in every.items()}


def test_names_stay():
    """A state that was saved is read by later versions: write the golden file anew only for what is new."""
    assert names() == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["adam × prodigy", "averaged", "int8", "bf16", "route", "chain", "packed", "shield"])
def test_through_a_file_of_arrays(name, tmp_path):
    opt, p = OTHERS[name], jax.tree.map(jnp.array, P)
    state = opt.init(p)

    def loss(p, x):
        return sum(jnp.sum(jnp.sin(x * w)) for w in jax.tree.leaves(p))

    step = adaptx.train_step(loss, opt)
    for t in range(3):
        p, state, _ = step(p, state, 1.0 + t)
    np.savez(tmp_path / "state.npz", **adaptx.state_dict(state))
    with np.load(tmp_path / "state.npz", allow_pickle=False) as arrays:
        back = adaptx.load_state_dict(opt, p, arrays)
    assert same(back, state)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    kept = jax.tree.map(jnp.copy, (p, back))
    assert same(step(p, state, 2.0)[:2], step(*kept, 2.0)[:2])


S = A.init(P)
WRONG = {
    "another rule": (lambda: adaptx.load_state_dict(adaptx.lion(), P, adaptx.state_dict(S)), ValueError,
                     r"it has in addition \['slots/v/layers/0/w', .*; pass the optimizer .* adaptx.convert"),
    "lacks": (lambda: adaptx.load_state_dict(A, P, {"step": S.step}), ValueError, r"it lacks \['born', 'slots/m/"),
    "shape": (lambda: adaptx.load_state_dict(A, P, {**adaptx.state_dict(S), "slots/m/scale": jnp.ones(3)}), ValueError,
              r"'slots/m/scale' is float32 of shape \(3,\), expected float32 of shape \(\)"),
    "dtype": (lambda: adaptx.load_state_dict(A, P, {**adaptx.state_dict(S), "step": np.float32(3)}), ValueError,
              "'step' is float32 of shape .., expected int32"),
    "no mapping": (lambda: adaptx.load_state_dict(A, P, S), TypeError, "arrays by name"),
    "no optimizer": (lambda: adaptx.load_state_dict(adaptx.adam, P, {}), TypeError, "got function and dict"),
    "one name twice": (lambda: adaptx.state_dict(A.init({"a": {"b": jnp.ones(2)}, "a/b": jnp.ones(2)})), ValueError,
                       "two arrays of this state would be named 'slots/m/a/b'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused(name):
    do, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        do()


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(names(), indent=1) + "\n", encoding="utf-8")
