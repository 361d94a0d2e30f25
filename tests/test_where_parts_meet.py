"""Where two good parts cross: shields in other trainers, rules of whole rows in every storage, both versions of jax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import (
    assert_tree_all_finite,
    assert_trees_all_equal,
)
from flax import nnx
from flax.training.train_state import TrainState

import adaptx
from adaptx import controllers as c
from adaptx.base import Rule
from adaptx.control import Controller
from adaptx.engine import norms, storage
from adaptx.engine.optimizer import build
from adaptx.values import Scalar, value_class
from steps import INIT, UPDATE, G, P, extra, stepped

# shield through update


def rosenbrock(p):
    return (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2


START = {"x": jnp.float32(-1.2), "y": jnp.float32(1.0)}


def descent(opt, by_step, steps=2000):
    """(parameters after every step, last losses) on Rosenbrock."""

    def body(carry, _):
        p, s = carry
        value, g = jax.value_and_grad(rosenbrock)(p)
        if by_step:
            p, s = opt.step(g, s, p, value=value)
        else:
            updates, s = opt.update(g, s, p, value=value)
            p = optax.apply_updates(p, updates)
        return (p, s), (p, value)

    return jax.jit(lambda p: jax.lax.scan(body, (p, opt.init(p)), length=steps)[1])(START)


@pytest.mark.parametrize("how", ["step", "update", "chain"])
def test_rosenbrock_ends_finite_through_update_as_through_step(how):
    opt = adaptx.shield(adaptx.sgd(c.hypergradient(1e-3)))
    opt = optax.chain(optax.identity(), opt) if how == "chain" else opt
    history, losses = descent(opt, how == "step")
    assert_tree_all_finite(history)
    assert float(losses[-1]) < float(losses[0])
    bare, _ = descent(adaptx.sgd(c.hypergradient(1e-3)), by_step=False)
    assert np.isnan(bare["x"][-1])  # what the shield is for


def test_a_shield_in_a_train_state_which_passes_no_loss():
    opt = adaptx.shield(adaptx.sgd(c.hypergradient(1e-3)))
    state = TrainState.create(apply_fn=None, params=START, tx=opt)
    step = jax.jit(lambda state, g: state.apply_gradients(grads=g))
    for _ in range(50):
        state = step(state, jax.grad(rosenbrock)(state.params))
        assert_tree_all_finite(state.params)
    state = step(state, {"x": jnp.float32(jnp.inf), "y": jnp.float32(0)})
    assert_tree_all_finite(state.params)
    needs_it = adaptx.shield(adaptx.sgd(c.plateau(0.1)))
    with pytest.raises(ValueError, match="value=loss"):
        needs_it.update(START, needs_it.init(START), START)


NNX = {
    "int8": adaptx.adam(0.01, storage="int8", storage_exclude=0),
    "shield": adaptx.shield(adaptx.adam(0.01, storage="int8", storage_exclude=0)),
    "route": adaptx.route({"a": adaptx.adam(0.01), "z": adaptx.freeze()}, by={"kernel": "a"}, default="z"),
}


@pytest.mark.parametrize("name", NNX)
def test_two_updates_in_nnx(name):
    model = nnx.Linear(4, 64, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, NNX[name], wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer, scale):
        loss, grads = nnx.value_and_grad(lambda m: scale * jnp.mean(m(jnp.ones((2, 4))) ** 2))(model)
        optimizer.update(model, grads, value=loss)
        return loss

    losses = [float(step(model, optimizer, 1.0)) for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    if name == "shield":
        step(model, optimizer, jnp.inf)
        assert_tree_all_finite(nnx.state(model, nnx.Param))


# a rate whose unit the second slot must not carry, rules that are not pointwise, a controller in nine lines


@pytest.mark.parametrize("name", ["dadapt", "prodigy", "mechanic", "dog"])
def test_a_first_step_with_momentum_is_as_long_as_one_without(name):
    lengths = []
    for mu in (0.0, 0.9):
        opt = adaptx.rmsprop(c.ALL[name](0.01), momentum=mu)
        lengths.append(optax.global_norm(UPDATE(opt, G, INIT(opt, P), P, extra(opt))[0]))
    np.testing.assert_allclose(lengths[1], lengths[0], rtol=1e-4)


@value_class
class Centred(Rule):
    """Adam's step on rows without their mean."""

    Slots = adaptx.rules.Adam.Slots
    pointwise = False
    ranks = (2,)

    def unused(self):
        return ("h",)

    def advance(self, g, s, p, k):
        g = g - jnp.mean(g, -1, keepdims=True)
        return self.Slots(0.9 * s.m + 0.1 * g, 0.9 * s.v + 0.1 * g * g, None)

    def direction(self, g, s, old, p, k):
        return s.m / (jnp.sqrt(s.v) + 1e-8)


WIDE = {"w": jnp.zeros((4, 384))}
FINE = jax.random.normal(jax.random.key(0), (2, 4, 384))
# the halves of a row differ by far more than what lies within one; Muon alone would see nothing but that
STEEP = [{"w": x + jnp.where(jnp.arange(384) < 256, 4.0, -4.0)} for x in FINE]
ODD = {
    "centred": lambda **k: build("centred", Centred(), 0.1, k),
    "adafactor": lambda **k: adaptx.adafactor(0.1, b1=0.9, **k),
    "muon": lambda **k: adaptx.muon(0.1, adamw=False, **k),
}


@pytest.mark.parametrize(("storage", "tolerance"), [("bf16", 0.01), ("int8", 0.12)])
@pytest.mark.parametrize("name", ODD)
def test_a_rule_of_whole_rows_sees_whole_rows_in_every_storage(name, storage, tolerance):
    gradients = [{"w": x} for x in FINE] if name == "muon" else STEEP
    want, _ = stepped(ODD[name](), gradients, WIDE)
    got, _ = stepped(ODD[name](storage=storage, storage_exclude=0), gradients, WIDE)
    assert np.linalg.norm(got["w"] - want["w"]) < tolerance * np.linalg.norm(want["w"])


@value_class
class Own(Controller):
    base: Scalar = 1e-3
    scope = "global"

    def rate(self, c, k):
        return self.base_rate(k)


SIX = {
    "f32": {},
    "bf16": {"storage": "bf16", "storage_exclude": 0},
    "int8": {"storage": "int8", "storage_exclude": 0},
    "everything": {"max_norm": 1.0, "skip_nonfinite": True, "lr_scale": {"w": 0.5, "b": 2.0}, "weight_decay": 0.1},
    "l2": {"weight_decay": 0.1, "decay_mode": "l2"},
    "independent": {"weight_decay": 0.1, "decay_mode": "independent"},
}


@pytest.mark.parametrize("name", SIX)
def test_a_constant_controller_is_a_plain_rate_to_the_last_bit(name):
    plain, own = (stepped(adaptx.adam(rate, **SIX[name]), [G, P, G]) for rate in (1e-2, Own(1e-2)))
    assert_trees_all_equal(own[0], plain[0])
    assert_trees_all_equal(own[1].slots, plain[1].slots)


# both branches of what depends on jax's version


def test_norms_of_both_compilers_agree(monkeypatch):
    arrays = [jnp.linspace(-1.0, 2.0, norms.LARGE + 7), jnp.ones(5), jnp.full((3, 2), 1e-30)]
    tiny, want = [1e-30 * x for x in arrays[1:]], []
    for writes in (True, False):
        monkeypatch.setattr(norms, "WRITES_SQUARES", writes)
        monkeypatch.setattr(norms, "ONE_KERNEL", not writes)
        with jax.disable_jit():  # nothing that was traced for the other one
            want.append([norms.global_norm(x) for x in (arrays, tiny)])
    exact = np.sqrt(sum(np.sum(np.asarray(x, np.float64) ** 2) for x in arrays))
    np.testing.assert_allclose(want[0], want[1], rtol=1e-6)
    assert float(want[0][0]) == pytest.approx(exact, rel=1e-6)


@pytest.mark.slow
def test_encodings_fenced_for_both_compilers_agree(monkeypatch):
    outs = []
    for version in ((0, 10, 1), (0, 12, 0)):
        monkeypatch.setattr(storage.jax, "__version_info__", version)
        with jax.disable_jit():
            outs.append(stepped(adaptx.adam(0.1, storage="bf16", storage_exclude=0), [G, P]))
    assert_trees_all_equal(outs[0], outs[1])
