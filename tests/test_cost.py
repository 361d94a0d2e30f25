"""The cost of an optimizer before it is paid: bytes as init really makes them, and the table of leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx.engine.tree import take_apart
from cases import DEFAULTS, Case

STORAGES = ("f32", "bf16", "int8", {"m": "bf16"})
PARAMS = {
    "w": jnp.zeros((64, 300)), "b": jnp.zeros(300, jnp.bfloat16), "n": np.arange(3), "none": None, "s": jnp.zeros(()),
    "empty": jnp.zeros((0, 5)),
}  # fmt: skip
TRAINED = ("b", "empty", "s", "w")


def costs(opt, params):
    return opt.costs(take_apart(params))


def real_bytes(tree) -> int:
    return sum(x.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("policy", ["nearest", "kahan", "master"])
@pytest.mark.parametrize("storage", STORAGES, ids=str)
def test_bytes_are_those_of_init(storage, policy: str):
    """In total and leaf by leaf, from arrays or their shapes alone."""
    opt = adaptx.adam(storage=storage, rounding=policy, storage_exclude=0)
    trained = {k: PARAMS[k] for k in TRAINED}
    state = opt.init(trained)
    assert opt.state_bytes(trained) == real_bytes(state)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), trained)
    assert opt.state_bytes(shapes) == opt.state_bytes(trained)
    rows = {row.path: row for row in costs(opt, trained)}
    for k, row in rows.items():
        assert sum(row.state.values()) == sum(
            real_bytes(tree[k]) for tree in (*state.slots.values(), *state.kept.values())
        )
        assert row.parameter == row.gradient == trained[k].nbytes
        assert row.total == 2 * row.parameter + sum(row.state.values())
        read = 1 if row.state.get("master") else 2  # a master is read in place of its parameter
        assert row.traffic == (1 + read) * row.parameter + 2 * sum(row.state.values())


@pytest.mark.parametrize("c", DEFAULTS, ids=lambda c: c.name)
def test_every_rule_has_a_cost(c: Case):
    """Slots as large as the parameter, and what those with a shape of their own have: of f32, without bounds."""
    opt, p = c.build(0.1), c.fit(jnp.zeros(1000))
    (row,) = costs(opt, p)
    firsts = {k: opt.rule.initial(k, p) if slot.own else p for k, slot in opt.rule.slots().items()}
    assert row.state == {k: 0 if x is None else 4 * x.size for k, x in firsts.items()}
    assert row.traffic == 12000 + 2 * sum(row.state.values())


def test_nothing_is_allocated():
    """A parameter of a petabyte is counted at once."""
    vast = {"w": jax.ShapeDtypeStruct((1 << 20, 1 << 28), jnp.float32)}
    assert adaptx.adam().state_bytes(vast) >= 8 << 48
    assert len(costs(adaptx.adam(storage="bf16"), vast)) == 1


def test_table_says_what_is_done_to_every_leaf():
    opt = adaptx.adam(
        storage="int8", weight_decay=0.1, decay_mask="matrices", lr_scale={"b": 0.5}, storage_exclude=(100, "^b$")
    )
    rows = {line.split()[0]: line.split() for line in opt.describe({k: PARAMS[k] for k in TRAINED}).splitlines()}
    assert rows["w"][1:4] == ["64×300", "float32", "yes"]
    assert rows["w"][5:7] == ["m:int8", "v:int8"]
    assert rows["b"][1:5] == ["300", "bfloat16", "no", "0.5"]
    assert rows["b"][5:7] == ["m:f32", "v:f32"]
    assert rows["s"][1] == "scalar"


def test_other_optimizers_are_refused():
    import optax

    opt = adaptx.averaged(optax.adam(1e-3))
    with pytest.raises(TypeError, match="need an adaptx optimizer"):
        opt.describe({"w": PARAMS["w"]})
