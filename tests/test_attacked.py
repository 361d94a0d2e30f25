"""What a demanding user broke: derivatives of steps, copies that rounding keeps, parts that skip, calls gone wrong."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from chex import assert_trees_all_close, assert_trees_all_equal

import adaptx
from adaptx import controllers as c
from cases import plain
from steps import G, P

W = {"w": P["w"]}
BAD = {"a": jnp.full(2, jnp.nan), "b": jnp.ones(2)}
GOOD = {"a": jnp.ones(2), "b": jnp.ones(2)}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (adaptx.adam(0.1), optax.adam(0.1)),
        (adaptx.rmsprop(0.1, decay=0.9), optax.rmsprop(0.1)),
        (adaptx.adagrad(0.1, initial_accumulator=0.1, eps=1e-7, eps_in_sqrt=True), optax.adagrad(0.1)),
    ],
    ids=lambda opt: getattr(opt, "name", "optax"),
)
def test_a_derivative_through_two_steps_is_that_of_the_equation(ours, theirs):
    p, first = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([0.3, -0.2])}

    def moved(g, opt):
        _, state = opt.update(first, opt.init(p), p)
        return jnp.sum(opt.update(g, state, p)[0]["w"])

    slopes = [jax.grad(moved)({"w": jnp.array([0.1, 0.4])}, opt) for opt in (ours, theirs)]
    assert_trees_all_close(*slopes, rtol=1e-4)


@pytest.mark.parametrize("rounding", ["master", "kahan"])
def test_slow_weights_reach_what_rounding_keeps(rounding):
    def course(opt, dtype):
        p, out = {"w": jnp.ones(4, dtype)}, []
        state = opt.init(p)
        for _ in range(6):
            p, state = opt.step({"w": jnp.ones(4, dtype)}, state, p)
            out.append(float(p["w"][0]))
        return out

    narrow = course(adaptx.lookahead(adaptx.sgd(0.1, rounding=rounding), k=2), jnp.bfloat16)
    np.testing.assert_allclose(narrow, course(adaptx.lookahead(adaptx.sgd(0.1), k=2), jnp.float32), rtol=4e-3)


def test_slow_weights_reach_the_groups_of_a_route():
    opt = adaptx.route({"a": adaptx.sgd(0.1, rounding="master"), "z": adaptx.freeze()}, by={"w": "a"}, default="z")
    opt, p = adaptx.lookahead(opt, k=1), {"w": jnp.ones(4, jnp.bfloat16), "v": jnp.ones(2)}
    state = opt.init(p)
    p, state = opt.step(jax.tree.map(jnp.ones_like, p), state, p)
    assert_trees_all_close(state.inner.groups["a"].kept["master"]["w"], jnp.full(4, 0.95), rtol=1e-3)


@pytest.mark.parametrize("wrapper", [adaptx.averaged, adaptx.lookahead])
def test_a_part_that_skips_leaves_the_others_to_train(wrapper):
    parts = optax.partition({name: adaptx.sgd(0.1, skip_nonfinite=True) for name in "ab"}, {"a": "a", "b": "b"})
    opt = wrapper(parts)
    state = opt.init(GOOD)
    updates, _ = opt.update(BAD, state, GOOD)
    for moved in (opt.step(BAD, state, GOOD)[0], optax.apply_updates(GOOD, updates)):
        assert_trees_all_close(moved, {"a": jnp.ones(2), "b": jnp.full(2, 0.9)})


@pytest.mark.parametrize("scale", [1e18, 1e20, 3e38])
@pytest.mark.parametrize("storage", ["f32", "int8"])
def test_factors_of_huge_gradients_stay_finite(scale, storage):
    p, opt = {"w": jnp.ones((2, 4096))}, adaptx.adafactor(0.1, storage=storage, storage_exclude=0)
    q, state = opt.step({"w": jnp.full((2, 4096), scale)}, opt.init(p), p)
    q, state = opt.step({"w": jnp.ones((2, 4096))}, state, q)
    assert np.isfinite(q["w"]).all()


@pytest.mark.parametrize("name", ["muon", "adafactor", "adam"])
def test_the_unit_of_gradients_does_not_matter_to_a_rule_that_is_fed_another(name):
    rates = []
    for scale in (1.0, 2.0**-14):
        opt = plain(name)(c.prodigy())
        p = {"w": jnp.eye(3)}
        state = opt.init(p)
        for _ in range(30):
            p, state = opt.step({"w": scale * (jnp.sign(p["w"] - 5) * jnp.arange(1.0, 10).reshape(3, 3))}, state, p)
        rates.append(float(adaptx.read(state, "learning_rate")))
    np.testing.assert_allclose(rates[1], rates[0], rtol=0.05)


def test_line_searches_work_in_train_step():
    def loss(p, x):
        return jnp.sum((p["w"] - x) ** 2)

    p = jax.tree.map(jnp.copy, W)
    for opt in (optax.lbfgs(), adaptx.averaged(optax.lbfgs())):
        p, state, first = adaptx.train_step(loss, opt)(jax.tree.map(jnp.copy, W), opt.init(W), 0.1)
        _, _, second = adaptx.train_step(loss, opt)(p, state, 0.1)
        assert second["loss"] < first["loss"]


@pytest.mark.parametrize("name", ["averaged", "lookahead", "schedule_free"])
def test_a_leaf_without_a_gradient_stays_under_a_wrapper_of_another_library_s(name):
    opt = getattr(adaptx, name)(optax.sgd(0.1), **({"learning_rate": lambda t: 0.1} if name == "schedule_free" else {}))
    grads = {**G, "w": None}
    for moved in (opt.step(grads, opt.init(P), P)[0], optax.apply_updates(P, opt.update(grads, opt.init(P), P)[0])):
        assert_trees_all_close(moved["w"], P["w"], rtol=1e-6)
        assert not np.allclose(moved["b"], P["b"])


def test_a_converted_wrapper_shares_nothing():
    old, new = adaptx.averaged(adaptx.adam(0.1)), adaptx.averaged(adaptx.adam(0.1, storage="bf16"))
    state = old.init(P)
    made = adaptx.convert(state, old, new, P)
    assert not {id(x) for x in jax.tree.leaves(made)} & {id(x) for x in jax.tree.leaves(state)}
    assert_trees_all_equal(made.iterates, state.iterates)


def test_a_scheduled_decay_mode_has_no_rate_to_be_independent_of():
    with pytest.raises(ValueError, match="expected 'decoupled' or 'l2'"):
        adaptx.scale_by_rule(adaptx.rules.Sgd(), weight_decay=0.1, decay_mode="independent")


SENTENCES = {
    "shield inside": (lambda: adaptx.schedule_free(adaptx.shield(adaptx.sgd())), "put the shield around"),
    "two shields": (lambda: adaptx.shield(adaptx.averaged(adaptx.shield(adaptx.sgd()))), "one is enough"),
    "slash": (lambda: adaptx.route({"a/b": adaptx.sgd()}, by={"w": "a/b"}), "a name without '/'"),
    "number": (lambda: adaptx.route({1: adaptx.sgd()}, by=lambda path, leaf: 1), "a name without '/'"),
    "text": (lambda: adaptx.sgd(c.polyak()).step(G, adaptx.sgd(c.polyak()).init(P), P, value="x"), "got 'x' (str)"),
    "text to shield": (lambda: adaptx.shield(adaptx.sgd()).step(G, adaptx.shield(adaptx.sgd()).init(P), P, value="x"),
                       "got 'x' (str)"),
    "array": (lambda: optax.inject_hyperparams(adaptx.muon)(learning_rate=0.1).init(W), "static_args=('steps',)"),
    "loss twice": (lambda: adaptx.train_step(lambda p: 0.0, adaptx.sgd(), extra={"value": lambda p: 0.0}), "remove it"),
    "no keys": (lambda: adaptx.from_torch(adaptx.adam(), {}, P), "got one with []"),
    "other old": (lambda: adaptx.convert(adaptx.adam().init(P), adaptx.sgd(), adaptx.adam(), P), "pass as old"),
    "hidden": (lambda: adaptx.lars(dampening=0.5), "no option 'dampening'"),
    "replaced": (lambda: adaptx.lamb().replace(amsgrad=True), "no option 'amsgrad'"),
    "no rate": (lambda: adaptx.schedule_free(optax.sgd(0.1), learning_rate=0.0), "learning_rate"),
}  # fmt: skip


@pytest.mark.parametrize("name", SENTENCES)
def test_refused_in_one_sentence(name):
    call, words = SENTENCES[name]
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    said = str(caught.value)
    assert words in said, said
    assert "\n" not in said
    assert said.endswith((".", "?"))


def test_a_factored_state_is_not_made_whole():
    factored, whole = adaptx.adafactor(0.1), adaptx.adafactor(0.1, min_dim_size_to_factor=128)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"has the slots q, r in the state, but v"):
            adaptx.convert(factored.init(W), factored, whole, W)


@pytest.mark.parametrize("name", adaptx.optimizers.ALL)
def test_what_it_prints_makes_it(name):
    opt = adaptx.optimizers.ALL[name]()
    assert eval(repr(opt), vars(adaptx)) == opt


HESSIAN = adaptx.hutchinson(lambda p: jnp.sum(p["w"] ** 2))
ONE = {"w": jnp.ones((3, 3)), "b": jnp.ones(3)}
SAID = {
    "no key": (lambda: HESSIAN(ONE), TypeError, "hutchinson: the second argument must be one random key, got NoneType"),
    "no random key": (lambda: HESSIAN(ONE, 0), TypeError, "must be one random key, got int; call estimate"),
    "no loss": (
        lambda: adaptx.hutchinson(lambda p: p["w"])(ONE, jax.random.key(0)),
        TypeError, "hutchinson: the function must return one number, got shape \\(3, 3\\); reduce the loss",
    ),
    "no logits": (
        lambda: adaptx.gauss_newton_bartlett(lambda p: jnp.sum(p["w"]))(ONE, jax.random.key(0)),
        TypeError, "must return logits \\(…, classes\\), got shape \\(\\)",
    ),
    "half a hessian": (
        lambda: adaptx.sophia().step(ONE, adaptx.sophia().init(ONE), ONE, hessian=1.0),
        ValueError, "hessians lack 'b'.*pass a hessian of every parameter, such as adaptx.hutchinson gives",
    ),
    "grad_fn": (
        lambda: adaptx.sam(adaptx.sgd()).step(ONE, adaptx.sam(adaptx.sgd()).init(ONE), ONE, grad_fn=ONE),
        TypeError, "grad_fn must be a function of params, got dict; pass",
    ),
    "other betas": (
        lambda: adaptx.trac(adaptx.sgd(), betas=(0.9, 0.99)).step(
            ONE, adaptx.trac(adaptx.sgd(), betas=(0.9,)).init(ONE), ONE),
        ValueError, "state belongs to trac_of_1, but this wrapper is trac_of_2",
    ),
    "beyond the ball": (lambda: adaptx.scion(2.0), ValueError, "scion: learning_rate must be at most 1 over"),
    "probabilities": (lambda: adaptx.psgd_kron(max_prob=0.1, min_prob=0.5), ValueError, "min_prob must be at most"),
    "a long seed": (lambda: adaptx.adam(noise=1.0, noise_seed=2**32), ValueError, "noise_seed must be below 2\\*\\*32"),
    "a rate of a route": (lambda: adaptx.muon().replace(learning_rate=0.1), TypeError, "groups 'muon', 'adamw'"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_was_tried_from_outside_is_said_in_one_sentence(name: str):
    call, error, said = SAID[name]
    with pytest.raises(error, match=said) as caught:
        call()
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_a_key_of_either_kind_is_taken():
    one, other = (HESSIAN(ONE, key) for key in (jax.random.key(3), jax.random.PRNGKey(3)))
    assert_trees_all_equal(one, other)


def test_an_unconstrained_scion_takes_any_rate():
    assert adaptx.scion(2.0, weight_decay=0.0).learning_rate is not None
