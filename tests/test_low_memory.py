"""What the contract matrix cannot see of Adam-mini, GaLore, APOLLO and SGD-SaI: sizes, blocks by name, refreshes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx.bits import normals
from adaptx.engine.tree import take_apart
from adaptx.matrices import leading, wide
from devices import run_on_devices
from oracles import ORACLES, draws
from probes import assert_close, assert_identical

F32 = 2e-6  # a few steps of a few roundings
D, HEAD = 8, 4
CONTRACTS = Path(__file__).parent / "contracts"


def uniform(*shape: int, seed: int = 0) -> jax.Array:
    """Uniform numbers in [-1, 1)."""
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, shape), jnp.float32)


def shapes(opt, params) -> dict:
    """The shapes of all slots there are, by name and leaf."""
    slots = opt.init(params).slots
    return {name: {k: jnp.shape(x) for k, x in slot.items() if x is not None} for name, slot in slots.items()}


def run(opt, params, grads):
    """Parameters and state after one step for every gradient."""
    state, step = opt.init(params), jax.jit(opt.step)
    for g in grads:
        params, state = step(g, state, params)
    return params, state


# sizes

P = {"w": jnp.ones((12, 6)), "tall": jnp.ones((4, 20)), "b": jnp.ones(6), "s": jnp.ones(())}


def test_adam_mini_has_one_second_moment_a_block():
    v = {
        "rows": shapes(adaptx.adam_mini(), P)["v"],
        "columns": shapes(adaptx.adam_mini(axis=-1), P)["v"],
        "heads": shapes(adaptx.adam_mini(size=4), P)["v"],
        "whole": shapes(adaptx.adam_mini(axis=None), P)["v"],
    }
    assert v == {
        "rows": {"w": (12,), "tall": (4,), "b": (6,), "s": ()},
        "columns": {"w": (6,), "tall": (20,), "b": (6,), "s": ()},
        "heads": {"w": (3,), "tall": (1,), "b": (2,), "s": ()},
        "whole": {"w": (), "tall": (), "b": (), "s": ()},
    }


def test_low_rank_states_are_of_the_rank():
    assert shapes(adaptx.galore(rank=3), P) == {
        "m": {"w": (3, 12), "tall": (3, 20), "b": (6,), "s": ()},
        "v": {"w": (3, 12), "tall": (3, 20), "b": (6,), "s": ()},
        "q": {"w": (6, 3), "tall": (4, 3)},
    }
    assert shapes(adaptx.apollo_mini(), P) == {
        "m": {"w": (1, 12), "tall": (1, 20), "b": (6,), "s": ()},
        "v": {"w": (1, 12), "tall": (1, 20), "b": (6,), "s": ()},
        "n": {"w": (), "tall": ()},
    }
    assert shapes(adaptx.galore(rank=4), P)["q"] == {"w": (6, 4)}, "a matrix of rank 4 at most has Adam"
    assert shapes(adaptx.apollo(rank=2, limit=None), {"stack": jnp.ones((5, 3, 7))}) == {
        "m": {"stack": (5, 2, 7)}, "v": {"stack": (5, 2, 7)}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("opt", "share"),
    [(adaptx.adam(), 2), (adaptx.adam_mini(), 1 + 320 / 2 / 16384), (adaptx.sgd_sai(), 1 + 1 / 16384),
     (adaptx.galore(rank=8), (2 * 8 * 256 + 8 * 64) / 16384), (adaptx.apollo_mini(), (2 * 256 + 1) / 16384)],
    ids=["adam", "adam_mini", "sgd_sai", "galore", "apollo_mini"],
)  # fmt: skip
def test_the_plan_of_memory_counts_what_is_there(opt, share: float):
    """Bytes that a state takes beside its matrices' own, of which Adam's are two for one."""
    params = {"w": jnp.ones((64, 256)), "v": jnp.ones((256, 64))}
    planned = sum(sum(row.state.values()) for row in opt.costs(take_apart(params)))
    assert planned == sum(x.nbytes for x in jax.tree.leaves(opt.init(params).slots))
    assert planned == pytest.approx(share * 4 * 2 * 64 * 256, rel=1e-9)


# Adam-mini


def transformer() -> dict:
    """A small model under the names of torch, and of flax."""
    return {
        "embed_tokens": {"weight": uniform(11, D, seed=1)},
        "layer": {
            "q_proj": {"weight": uniform(D, D, seed=2), "bias": uniform(D, seed=3)},
            "k_proj": {"weight": uniform(HEAD, D, seed=4)},
            "v_proj": {"weight": uniform(HEAD, D, seed=5)},
            "o_proj": {"weight": uniform(D, D, seed=6)},
            "mlp": {"up": {"weight": uniform(3 * D, D, seed=7)}},
            "norm": {"weight": uniform(D, seed=8)},
        },
        "flax": {
            "query": {"kernel": uniform(D, 2, HEAD, seed=9), "bias": uniform(2, HEAD, seed=10)},
            "key": {"kernel": uniform(D, D, seed=11)},
            "linear": {"kernel": uniform(D, 5, seed=12)},
            "conv": {"kernel": uniform(3, D, D, seed=13)},
        },
        "lm_head": {"weight": uniform(11, D, seed=14)},
    }


BLOCKS = {  # (axis, size), None for Adam
    "embed_tokens/weight": (0, 1), "layer/q_proj/weight": (0, HEAD), "layer/q_proj/bias": None,
    "layer/k_proj/weight": (0, HEAD), "layer/v_proj/weight": (0, 1), "layer/o_proj/weight": (0, 1),
    "layer/mlp/up/weight": (0, 1), "layer/norm/weight": (None, 1), "flax/query/kernel": (1, 1),
    "flax/query/bias": None, "flax/key/kernel": (1, HEAD), "flax/linear/kernel": (1, 1), "flax/conv/kernel": (None, 1),
    "lm_head/weight": (0, 1),
}  # fmt: skip


def by_path(tree) -> dict[str, jax.Array]:
    flat = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): x for path, x in flat}


def test_adam_mini_by_name_has_the_blocks_of_the_authors():
    params = transformer()
    opt = adaptx.adam_mini_by_name(0.1, head_size=HEAD, max_norm=1e6)
    grads = [jax.tree.map(lambda p, t=t: jnp.sin(9 * p + t), params) for t in range(3)]
    last, state = run(opt, params, grads)
    assert set(by_path(params)) == set(BLOCKS)
    for path, p in by_path(params).items():
        block = BLOCKS[path]
        rule = ORACLES["adam"]() if block is None else ORACLES["adam_mini"](axis=block[0], size=block[1])
        want = np.asarray(p, np.float64)
        for g in grads:
            want = want - 0.1 * rule.step(np.asarray(by_path(g)[path], np.float64))
        assert_close(by_path(last)[path], want, rtol=F32, atol=F32)
    full = sum(p.size for p in jax.tree.leaves(params))
    held = sum(x.size for group in state.groups.values() for x in jax.tree.leaves(group.slots))
    assert full < held < 1.3 * full


def test_adam_mini_by_name_refuses_heads_that_it_does_not_know():
    for size in (None, 3):
        with pytest.raises(ValueError, match=r"'layer/k_proj/weight' of shape \(4, 8\) has heads .* head_size"):
            adaptx.adam_mini_by_name(head_size=size).init({"layer": {"k_proj": {"weight": jnp.ones((HEAD, D))}}})


def test_adam_mini_blocks_by_hand():
    params = {"a": uniform(4, 6), "b": uniform(4, 6)}
    opt = adaptx.adam_mini_by_name(0.1, by={"^a": "column"}, weight_decay=0.1)
    state = opt.init(params)
    assert state.groups["column"].slots["v"]["a"].shape == (6,)
    assert state.groups["whole"].slots["v"]["b"].shape == ()
    same = adaptx.adam_mini(0.1, axis=-1, weight_decay=0.1)
    assert_identical(opt.step(params, state, params)[0]["a"], same.step(params, same.init(params), params)[0]["a"])


def test_adam_mini_says_which_axis_is_missing():
    with pytest.raises(ValueError, match="arrays that have an axis 1, but parameter 'b' has shape"):
        adaptx.adam_mini(axis=1).init({"b": jnp.ones(3)})


def test_adam_mini_of_a_vector_is_adam():
    g = [uniform(5, seed=t) for t in range(3)]
    assert_close(run(adaptx.adam_mini(0.1), g[0], g)[0], run(adaptx.adam(0.1), g[0], g)[0], rtol=F32)


# projections


def test_leading_vectors_are_those_of_numpy():
    for shape in ((4, 9), (5, 5), (2, 3, 6)):
        x = uniform(*shape)
        q = np.asarray(leading(x, 2), np.float64)
        u = np.linalg.svd(np.asarray(x, np.float64))[0][..., :2]
        np.testing.assert_allclose(np.abs(np.sum(q * u, -2)), 1, rtol=F32)
        assert np.all(np.take_along_axis(q, np.abs(q).argmax(-2)[..., None, :], -2) > 0)


@pytest.mark.parametrize("scale", [2.0**-50, 2.0**60])
def test_a_power_of_two_on_all_gradients_changes_nothing(scale: float):
    """With eps = 0, as far as second moments are in range."""
    p, g = jnp.zeros((4, 6)), [uniform(4, 6, seed=t) for t in range(4)]
    for opt in (adaptx.galore(0.1, rank=2, gap=2, eps=0.0), adaptx.apollo(0.1, rank=2, gap=2, eps=0.0)):
        assert_close(run(opt, p, [x * scale for x in g])[0], run(opt, p, g)[0], rtol=1e-5, atol=1e-6)


def test_galore_decomposes_at_its_gap_alone_and_keeps_its_moments():
    opt, p = adaptx.galore(0.1, rank=2, gap=3), uniform(5, 7)
    state, old, seen = opt.init(p), None, []
    for t in range(7):
        _, new = opt.step(uniform(5, 7, seed=t), state, p)
        q = np.asarray(new.slots["q"])
        seen.append(old is None or not np.array_equal(q, old))
        np.testing.assert_allclose(q.T @ q, np.eye(2), atol=F32)
        state, old = new, q
    assert seen == [True, False, False, True, False, False, True]


def test_galore_decomposes_a_leaf_that_comes_late():
    """Its first gradient at step 2 of 200: without vectors of its own it would stand still until step 201."""
    params = {"a": uniform(5, 7), "b": uniform(5, 7)}
    opt = adaptx.galore(0.1, rank=2)
    _, state = opt.step({"a": params["a"], "b": None}, opt.init(params), params)
    moved, _ = opt.step(params, state, params)
    assert not np.any(np.asarray(moved["b"]) == np.asarray(params["b"]))


def test_the_steps_of_galore_have_the_rank():
    opt, p = adaptx.galore(0.1, rank=2), uniform(9, 6)
    updates, _ = opt.update(uniform(9, 6, seed=1), opt.init(p), p)
    assert np.linalg.matrix_rank(np.asarray(updates), tol=1e-5) == 2


def test_random_numbers_are_normal_and_those_of_the_oracle():
    x = np.asarray(normals((400, 500), jnp.uint32(7), jnp.float32), np.float64)
    assert abs(x.mean()) < 0.01
    assert abs(x.std() - 1) < 0.01
    assert abs((x**4).mean() - 3) < 0.1
    assert np.all(np.isfinite(x))
    assert abs(np.mean(x[:-1] * x[1:])) < 0.01
    assert abs(np.mean(x[:, :-1] * x[:, 1:])) < 0.01
    other = np.asarray(normals((400, 500), jnp.uint32(8), jnp.float32), np.float64)
    assert abs(np.mean(x * other)) < 0.01
    salt = draws.seed_of(3, 2)
    want = draws.normals((6, 5), salt)
    np.testing.assert_allclose(normals((6, 5), jnp.uint32(salt), jnp.float32), want, rtol=0, atol=3e-6)


def test_apollo_draws_at_its_gap_alone_and_apart_for_every_leaf():
    """With b1 = 0 and no limit the direction at a step is a function of the projection: equal for equal projections."""
    opt = adaptx.apollo(0.1, b1=0.0, b2=0.0, eps=1e3, rank=2, gap=3, limit=None)
    params = {"a": jnp.zeros((4, 6)), "b": jnp.zeros((4, 6))}
    g, state, seen = {"a": uniform(4, 6), "b": uniform(4, 6)}, opt.init(params), []
    for _ in range(7):
        _, state = opt.update(g, state, params)
        low = np.asarray(state.slots["m"]["a"])
        assert not np.allclose(low, state.slots["m"]["b"])
        seen.append(low)
    changed = [not np.array_equal(x, y) for x, y in zip(seen[1:], seen[:-1], strict=True)]
    assert changed == [False, False, True, False, False, True]


def test_apollo_lets_a_norm_grow_by_its_limit():
    """A gradient of another direction and size every step: norms of steps without their bias grow by 1.5 at most."""
    opt, p = adaptx.apollo(1.0, eps=0.0, rank=2, limit=1.5), jnp.zeros((4, 6))
    state, norms = opt.init(p), []
    for t in range(6):
        updates, state = opt.update(uniform(4, 6, seed=t) * 10.0 ** (t % 3), state, p)
        c = np.sqrt(1 - 0.999 ** (t + 1)) / (1 - 0.9 ** (t + 1))
        norms.append(float(jnp.linalg.norm(updates)) / c)
        assert float(state.slots["n"]) == pytest.approx(norms[-1], rel=1e-5)
    growth = np.asarray(norms[1:]) / np.asarray(norms[:-1])
    assert np.max(growth) == pytest.approx(1.5, rel=1e-5)


def test_a_matrix_turned_is_its_transpose():
    """Rules on the shorter axis do to a matrix what they do to its transpose, square ones aside."""
    p, g = uniform(4, 7), [uniform(4, 7, seed=t) for t in range(5)]
    for opt in (adaptx.galore(0.1, rank=2, gap=2), adaptx.apollo(0.1, rank=2, gap=2), adaptx.apollo_mini(0.1)):
        straight, _ = run(opt, p, g)
        turned, _ = run(opt, p.T, [x.T for x in g])
        assert_close(turned.T, straight, rtol=1e-4, atol=1e-5)
    assert wide(jnp.ones((3, 3)), jnp.ones((3, 3))).shape == (3, 3)


# SGD-SaI


def test_sgd_sai_waits_for_a_gradient():
    p, zero, g = jnp.ones(4), jnp.zeros(4), np.float32([1.0, -2.0, 3.0, 0.5])
    opt = adaptx.sgd_sai(0.1)
    late, state = run(opt, p, [zero, zero, g, 0.5 * g])
    soon, _ = run(opt, p, [g, 0.5 * g])
    assert_identical(late, soon)
    assert float(state.slots["h"]) == pytest.approx(np.linalg.norm(g) / np.std(g, ddof=1), rel=1e-6)


@pytest.mark.parametrize(
    "g", [jnp.full((3, 5), 0.1), jnp.float32(0.3), jnp.full(7, -1e-20)], ids=["equal", "one", "small"]
)
def test_sgd_sai_without_a_deviation_is_momentum(g):
    """Entries that are equal, to the last bit, whatever a mean of them rounds to: sqrt(n) of momentum's step."""
    updates, _ = adaptx.sgd_sai(0.1).update(g, adaptx.sgd_sai().init(g), g)
    np.testing.assert_allclose(updates, -0.1 * np.sqrt(np.size(g)) * np.asarray(g), rtol=1e-6)


def test_sgd_sai_in_range_where_squares_are_not():
    g = uniform(3, 5)
    small, large = (adaptx.sgd_sai(eps=0.0).update(c * g, adaptx.sgd_sai().init(g), g)[0] for c in (1.0, 2.0**62))
    assert_close(large, 2.0**62 * small, rtol=1e-5)


# sharded, where a decomposition, and blocks that shards would split, need what lies on other devices

PROGRAM = """
import sys
import jax
from jax.sharding import AxisType
import adaptx
import sharded_program

mesh = jax.make_mesh((8,), ("x",), axis_types=(getattr(AxisType, sys.argv[1]),))
made = (adaptx.galore(0.1, rank=2, **sharded_program.ENGINE), adaptx.adam_mini(0.1, axis=0, size=2),
        adaptx.adam_mini(0.1, axis=-1, size=3), adaptx.apollo(0.1, rank=2, gap=2))
with jax.set_mesh(mesh):
    found = [x for opt in made for x in sharded_program.check(opt, mesh, "f32")]
assert not [x for x in found if x != "a leaf is gathered in the step"], found
print("alike")
"""


@pytest.mark.multi
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_sharded_is_unsharded(kind: str):
    """Galore's vectors and the blocks of Adam-mini; APOLLO's random numbers are the same on every device."""
    program = f"import sys; sys.path.insert(0, {str(CONTRACTS)!r})\n{PROGRAM}"
    assert "alike" in run_on_devices(8, "-c", program, kind)
