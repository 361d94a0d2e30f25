"""The structure of a state depends on the optimizer: optax can map over it, shard it and carry it, or is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import controllers, optimizers
from cases import plain
from devices import run_on_devices
from probes import is_like_params

WIDE = {"w": jnp.ones((4, 8)), "v": jnp.full((2, 8), 2.0)}  # matrices, which every rule takes
NARROW = {name: x.astype(jnp.bfloat16) for name, x in WIDE.items()}
SMALL = {"storage_exclude": 0}  # stored narrow although they are small
TO_FREEZE = {"hidden": adaptx.muon(adamw=False), "rest": adaptx.adam(controllers.prodigy()), "frozen": adaptx.freeze()}


def prodigious(**options):
    return adaptx.adam(controllers.prodigy(), **options)


OPTIMIZERS = {
    **{name: (make(), WIDE) for name, make in optimizers.ALL.items()},
    **{name: (adaptx.adam(make(0.1)), WIDE) for name, make in controllers.ALL.items()},
    **{f"{kind}-{name}": (plain(name)(storage=kind, **SMALL), WIDE)
       for kind in ("bf16", "int8") for name in ("momentum", "adam", "adafactor", "muon")},
    **{f"{policy}-{layout}": (adaptx.adam(rounding=policy, layout=layout), NARROW)
       for policy in ("nearest", "stochastic", "kahan", "master") for layout in ("leaf", "packed")},
    **{f"packed-{kind}": (adaptx.adam(storage=kind, layout="packed", **SMALL), WIDE) for kind in ("bf16", "int8")},
    "masked": (adaptx.adam(weight_decay=0.1, decay_mask={"w": True, "v": False}, lr_scale={"w": 0.5, "v": 1.0}), WIDE),
    "averaged": (adaptx.averaged(prodigious()), WIDE),
    "polynomial": (adaptx.averaged(adaptx.sgd(), None, 8.0), NARROW),
    "lookahead": (adaptx.lookahead(adaptx.adam()), NARROW),
    "schedule_free": (adaptx.schedule_free(adaptx.adam(b1=0.0)), WIDE),
    "shield": (adaptx.shield(adaptx.lookahead(adaptx.adam())), WIDE),
    "horizons": (adaptx.averaged(adaptx.adam(), {"short": 0.9, "long": 0.999}), NARROW),
    "sam": (adaptx.sam(adaptx.adam()), WIDE),
    "grokfast": (adaptx.grokfast(adaptx.adam()), NARROW),
    "window": (adaptx.grokfast(adaptx.adam(), alpha=None, window=3), WIDE),
    "trac": (adaptx.trac(adaptx.adam()), NARROW),
    "route": (adaptx.route(TO_FREEZE, by={"^w$": "hidden"}, default="frozen"), WIDE),
    "route-tree": (adaptx.route(TO_FREEZE, by={"w": "rest", "v": "frozen"}, max_norm=1.0), WIDE),
    "averaged-route": (adaptx.averaged(adaptx.route(TO_FREEZE, by={"w": "hidden", "v": "rest"})), WIDE),
}  # fmt: skip


def paths(tree):
    return [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optax_finds_what_is_like_the_parameters(name: str):
    """tree_map_params reaches slots, marks, iterates and what rounding keeps; scalars and metrics are the others."""
    opt, params = OPTIMIZERS[name]
    state = jax.eval_shape(opt.init, params)
    mapped = optax.tree_utils.tree_map_params(opt, lambda _: True, state)
    assert jax.tree.structure(mapped) == jax.tree.structure(state)
    found = [path for path, x in jax.tree_util.tree_leaves_with_path(mapped) if x is True]
    assert found == [path for path in paths(state) if is_like_params(path)]
    every = {"transform_non_params": lambda x: jax.tree.map(lambda _: False, x)}
    both = optax.tree_utils.tree_map_params(opt, lambda _: True, state, **every)
    assert jax.tree.leaves(both) == [is_like_params(path) for path in paths(state)]


@pytest.mark.parametrize(
    ("opt", "params"),
    [
        (prodigious(), NARROW),
        (adaptx.schedule_free(adaptx.sgd()), NARROW),
        (adaptx.adam(storage="bf16", storage_exclude="v"), WIDE),
    ],
    ids=["master", "y", "second"],
)
def test_what_lies_at_some_leaves_only_is_handed_over_whole(opt, params):
    """Optax asks without leaves, so what depends on a leaf's dtype or size goes to transform_non_params, as a tree."""
    state, seen = jax.eval_shape(opt.init, params), []
    optax.tree_utils.tree_map_params(opt, lambda x, _: x, state, params, transform_non_params=seen.append)
    assert [jax.tree.structure(x).num_leaves > 0 for x in seen if isinstance(x, dict)] == [True]


@pytest.mark.multi
def test_shardings_built_with_optax_and_those_init_keeps():
    assert "placed: " in run_on_devices(2, "-c", PROGRAM)


PROGRAM = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import adaptx
from adaptx import controllers
from probes import is_like_params

mesh = Mesh(np.array(jax.devices()), ("d",))
place = {"w": NamedSharding(mesh, P("d", None)), "b": NamedSharding(mesh, P("d"))}
whole = NamedSharding(mesh, P())
opts = {name: adaptx.sgd(make(0.1)) for name, make in controllers.ALL.items()
        if name in ("prodigy", "dadapt", "hypergradient", "momo", "l4", "cocob")}
opts["averaged"] = adaptx.averaged(adaptx.adam())
opts["stored"] = adaptx.adam(controllers.prodigy(), storage="bf16", storage_exclude=0)

def check(name, opt, params):
    state = jax.jit(opt.init)(params)
    placed = optax.tree_utils.tree_map_params(
        opt, lambda _, at: at, jax.eval_shape(opt.init, params), place, transform_non_params=lambda _: whole)
    for (path, x), at in zip(jax.tree_util.tree_leaves_with_path(state),
                             jax.tree.leaves(jax.tree.broadcast(placed, state)), strict=True):
        like = is_like_params(path)
        own = place[path[-1].key] if like else whole
        assert not like or x.sharding.is_equivalent_to(own, x.ndim), (name, path, x.sharding)
        assert at == own or "master" in str(path), (name, path, at)
    again = jax.jit(opt.init, out_shardings=placed)(params)
    updates, _ = jax.jit(opt.update)(params, again, params, value=1.0)
    assert updates["w"].sharding.is_equivalent_to(place["w"], 2), name

for dtype in (jnp.float32, jnp.bfloat16):
    params = jax.device_put({"w": jnp.ones((4, 2), dtype), "b": jnp.ones(4, dtype)}, place)
    for name, opt in opts.items():
        if dtype == jnp.float32 or name in ("prodigy", "averaged"):
            check(name, opt, params)
print("placed:", len(opts))
"""

FEATURES = {"max_norm": 1.0, "telemetry": True, "skip_nonfinite": True}
SHOWN = {"grad_norm", "update_norm", "param_norm", "skipped", "skipped_in_a_row"}
MEASURED = {
    "adam": adaptx.adam,
    "prodigy": prodigious,
    "route": lambda **options: adaptx.route({"all": adaptx.sgd()}, by={".": "all"}, **options),
    "averaged": lambda **options: adaptx.averaged(adaptx.sgd(**options)),
    "lookahead": lambda **options: adaptx.lookahead(adaptx.sgd(**options)),
    "schedule_free": lambda **options: adaptx.schedule_free(adaptx.sgd(**options)),
    "shield": lambda **options: adaptx.shield(adaptx.sgd(**options)),
}


@pytest.mark.parametrize("name", MEASURED)
def test_metrics_are_no_part_of_what_a_state_is(name: str):
    """Guards and telemetry are switched on and off in the middle: metrics come and go, and numbers stay."""
    off, on = MEASURED[name](), MEASURED[name](**FEATURES)
    params, grads = WIDE, jax.tree.map(lambda x: 0.01 * x, WIDE)

    @jax.jit
    def train(params):
        out = []
        for first, second in ((off, off), (off, on), (on, off)):
            p, s = first.step(grads, first.init(params), params, value=1.0)
            out.append(second.step(grads, s, p, value=1.0))
        return out

    (p, s), (p_on, s_on), (p_off, s_off) = train(params)
    assert set(adaptx.metrics(s_on)) >= SHOWN
    assert set(adaptx.metrics(s_off)) == set(adaptx.metrics(s))
    assert jax.tree.structure(s_off) == jax.tree.structure(s)
    chex.assert_trees_all_close(p_on, p, rtol=1e-6)  # another program, which sums norms beside
    chex.assert_trees_all_close((p_off, s_off), (p, s), rtol=1e-6)


def hypergradient(mode):
    return adaptx.sgd(controllers.hypergradient(0.1, mode))


ALIKE = {  # states of one structure that mean different things
    "rule": (adaptx.momentum(), adaptx.rmsprop(), "momentum", "rmsprop"),
    "controller": (
        hypergradient("multiplicative"), hypergradient("additive"),
        "hypergradient_multiplicative and sgd", "hypergradient_additive and sgd",
    ),
    "average": (adaptx.averaged(adaptx.sgd()), adaptx.averaged(adaptx.sgd(), None, 8.0), "averaged", "averaged_poly"),
    "wrapper": (adaptx.averaged(adaptx.sgd()), adaptx.lookahead(adaptx.sgd()), "averaged", "lookahead"),
    "inside": (adaptx.shield(adaptx.momentum()), adaptx.shield(adaptx.rmsprop()), "momentum", "rmsprop"),
    "route": (
        adaptx.route({"all": adaptx.momentum()}, by={".": "all"}),
        adaptx.route({"all": adaptx.rmsprop()}, by={".": "all"}), "momentum", "rmsprop",
    ),
}  # fmt: skip


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("name", ALIKE)
def test_a_state_knows_whose_it_is(name: str, swapped: bool):
    mine, other, called, calls = ALIKE[name]
    if swapped:
        mine, other, called, calls = other, mine, calls, called
    state = jax.eval_shape(mine.init, WIDE)
    for method in ("step", "update"):
        with pytest.raises(ValueError, match=rf"^state belongs to {called}.*, but this \w+ is {calls}") as caught:
            jax.eval_shape(getattr(other, method), WIDE, state, WIDE, value=1.0)
        sentence = str(caught.value)
        assert "make the state with" in sentence
        assert "\n" not in sentence
        assert sentence.endswith(".")


def test_equal_structures_are_told_apart_by_name_alone():
    """What the refusals above rest on: without the name these states could not be told from one another."""
    for one, other, *_ in (pair for name, pair in ALIKE.items() if name != "wrapper"):  # lookahead counts steps
        shapes = [[np.shape(x) for x in jax.tree.leaves(jax.eval_shape(opt.init, WIDE))] for opt in (one, other)]
        assert shapes[0] == shapes[1]


def test_a_group_without_leaves_keeps_no_array():
    group = prodigious(storage="bf16")
    opt = adaptx.route({"some": adaptx.sgd(), "none": group}, by={".": "some"})
    state = opt.init(WIDE)
    assert not jax.tree.leaves((state.groups["none"].slots, state.groups["none"].kept))
    assert opt.state_bytes(WIDE) == sum(x.nbytes for x in jax.tree.leaves(state))
    after = jax.eval_shape(opt.step, WIDE, state, WIDE)[1]
    assert jax.tree.structure(after) == jax.tree.structure(state)
