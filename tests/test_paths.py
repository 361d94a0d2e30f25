"""One name for one parameter: paths that patterns are searched in, wherever the tree comes from and whoever has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import adaptx
from adaptx.engine.tree import paths, take_apart

P = {"w": jnp.ones((3, 3)), "b": jnp.ones(3)}
LAYERS = {
    "h": {"q_proj": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)}, "norm": {"scale": jnp.ones(8)}},
    "embed": {"kernel": jnp.ones((10, 8))},
}


class Network(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.mlp = nnx.Linear(4, 8, rngs=rngs)
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.mlp(x)))


OPTIMIZERS = {
    "decay_mask": lambda: adaptx.adamw(0.01, decay_mask="kernel$"),
    "lr_scale": lambda: adaptx.adam(0.01, lr_scale={"head/kernel$": 0.5}),
    "storage_exclude": lambda: adaptx.adam(0.01, storage="bf16", storage_exclude="kernel$"),
    "route": lambda: adaptx.route({"a": adaptx.adam(0.01), "b": adaptx.sgd(0.01)}, {"kernel$": "a"}, default="b"),
    "hidden": lambda: adaptx.muon(0.01, hidden="kernel$"),
    "by name": lambda: adaptx.adam_mini_by_name(0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_pattern_means_the_same_in_an_nnx_state_and_at_a_step(name: str):
    model = Network()
    state = nnx.state(model, nnx.Param)
    opt = OPTIMIZERS[name]()
    assert str(opt.describe(state)) == str(opt.describe(nnx.to_pure_dict(state)))
    trainer = nnx.Optimizer(model, opt, wrt=nnx.Param)
    before = jax.tree.map(jnp.array, nnx.to_pure_dict(state))
    trainer.update(model, nnx.grad(lambda m: jnp.mean(m(jnp.ones((3, 4))) ** 2))(model))
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    assert not np.array_equal(before["head"]["kernel"], after["head"]["kernel"])


def test_a_user_s_value_keeps_its_name():
    assert paths({"value": 1.0, "other": 2.0}) == ["other", "value"]
    assert paths(nnx.state(Network(), nnx.Param))[0] == "head/bias"


WITH_REST = ("muon", "normuon", "dion")


@pytest.mark.parametrize("name", WITH_REST)
def test_patterns_of_what_routes_by_itself_are_for_the_whole_tree(name: str):
    make = getattr(adaptx, name)
    make(storage="bf16", storage_exclude="w").init(P)
    opt = make(lr_scale={"^b$": 0.0})
    after, _ = opt.step(P, opt.init(P), P)
    np.testing.assert_array_equal(after["b"], P["b"])
    assert not np.array_equal(after["w"], P["w"])
    opt = make(lr_scale=lambda path, leaf: 0.0)
    after, _ = opt.step(P, opt.init(P), P)
    np.testing.assert_array_equal(after["b"], P["b"])
    opt = make(lr_scale={"^w$": 0.0}, adamw={"lr_scale": {"^b$": 2.0}})
    after, _ = opt.step(P, opt.init(P), P)
    assert not np.array_equal(after["b"], P["b"])
    np.testing.assert_array_equal(after["w"], P["w"])
    for alone in (  # of one group: a pattern for the other's leaves would be for none
        {"lr_scale": {"^b$": 0.0}, "adamw": {"lr_scale": {"^b$": 2.0}}},
        {"weight_decay": 0.1, "decay_mask": "^b$"},
        {"adamw": {"weight_decay": 0.1, "decay_mask": "^w$"}},
    ):
        with pytest.raises(ValueError, match="matches none of the parameters"):
            make(**alone).describe(P)
    with pytest.raises(ValueError, match=r"'c\$' matches none of the parameters \['b', 'w'\]"):
        make(storage="bf16", storage_exclude="c$").init(P)


@pytest.mark.parametrize(
    "options",
    [{"weight_decay": 0.1, "decay_mask": "kernel"}, {"lr_scale": {"embed": 0.1}},
     {"storage": "bf16", "storage_exclude": "norm"}], ids=str,
)  # fmt: skip
def test_patterns_of_blocks_by_name_are_for_the_whole_tree(options: dict):
    opt = adaptx.adam_mini_by_name(0.1, head_size=4, **options)
    one, _ = opt.step(LAYERS, opt.init(LAYERS), LAYERS)
    plain = adaptx.adam_mini_by_name(0.1, head_size=4)
    other, _ = plain.step(LAYERS, plain.init(LAYERS), LAYERS)
    if "storage" not in options:
        assert not np.allclose(one["embed"]["kernel"], other["embed"]["kernel"])
    np.testing.assert_allclose(one["h"]["norm"]["scale"], other["h"]["norm"]["scale"], rtol=1e-6)
    again = opt.replace(max_norm=1.0)
    again.step(LAYERS, again.init(LAYERS), LAYERS)


def test_a_route_of_a_user_checks_the_patterns_of_each_group():
    route = adaptx.route({"a": adaptx.adam(lr_scale={"^b$": 0.5}), "b": adaptx.sgd()}, {"w": "a"}, default="b")
    with pytest.raises(ValueError, match=r"'\^b\$' matches none of the parameters \['w'\]"):
        route.step(P, route.init(P), P)
    assert take_apart(P).known("lr_scale") == ["b", "w"]
