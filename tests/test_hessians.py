"""Estimates of the Hessian's diagonal, and the rules that are given one: at some steps, none, negative, not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import controllers
from golden import inputs
from oracles import ORACLES

EXACT = 1e-6  # f32 rounding of a Hessian-vector product
ORACLE = 1e-12  # float64 rounding over some steps
RULES = ("sophia", "adahessian")
P = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(4, 3), "b": jnp.array([0.3, -0.2, 0.1])}
H = {"w": jnp.linspace(0.5, 6.0, 12).reshape(4, 3), "b": jnp.array([1.0, -2.0, 0.0])}
KEYS = jax.random.split(jax.random.key(0), 4000)


def quadratic(p, scale=1.0):
    """A loss with the diagonal Hessian H·scale."""
    return 0.5 * scale * sum(jnp.sum(H[k] * p[k] ** 2) for k in H)


def logits(p, x):
    return x @ p["w"] + p["b"]


def cross_entropy(p, x, y):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits(p, x)), y[:, None], -1))


def diagonal(loss, p):
    """The Hessian's diagonal, by its columns."""
    flat, unravel = jax.flatten_util.ravel_pytree(p)
    return unravel(jnp.diag(jax.hessian(lambda v: loss(unravel(v)))(flat)))


def assert_near(got, want, most):
    for k in want:
        np.testing.assert_allclose(got[k], want[k], rtol=0, atol=most * float(jnp.max(jnp.abs(want[k]))), err_msg=k)


def test_of_a_diagonal_hessian_every_estimate_is_exact():
    estimate = jax.jit(adaptx.hutchinson(quadratic))
    for key in KEYS[:3]:
        assert_near(estimate(P, key, 2.0), jax.tree.map(lambda h: 2 * h, H), EXACT)


def test_estimates_are_right_on_average():
    """Both estimate the Hessian of a linear model's cross entropy, which is its Gauss-Newton matrix."""
    x = jax.random.normal(KEYS[0], (8, 4))
    y = jnp.arange(8) % 3
    want = diagonal(lambda p: cross_entropy(p, x, y), P)
    signs = jax.jit(jax.vmap(lambda key: adaptx.hutchinson(cross_entropy)(P, key, x, y)))(KEYS)
    drawn = jax.jit(jax.vmap(lambda key: adaptx.gauss_newton_bartlett(logits)(P, key, x)))(KEYS)
    assert all(jnp.all(h >= 0) for h in jax.tree.leaves(drawn))
    for found in (signs, drawn):
        assert_near(jax.tree.map(lambda h: jnp.mean(h, 0), found), want, 0.1)
        assert max(float(jnp.std(h)) for h in jax.tree.leaves(found)) > 0.05, "an estimate, not the diagonal itself"


def test_other_leaves_and_outputs_are_left_alone():
    params = {**P, "count": 3, "name": "x", "none": None, "ids": jnp.arange(2), "act": jnp.tanh}

    def loss(p, scale):
        return quadratic({k: p["act"](0.0) + p[k] for k in H}, scale * p["count"]), "aux"

    found = adaptx.hutchinson(loss, has_aux=True)(params, KEYS[0], 1.0)
    assert {k for k, x in found.items() if x is not None} == set(H)
    assert_near({k: found[k] for k in H}, jax.tree.map(lambda h: 3 * h, H), EXACT)
    narrow = adaptx.hutchinson(quadratic)(jax.tree.map(lambda p: p.astype(jnp.bfloat16), P), KEYS[0])
    assert {x.dtype for x in jax.tree.leaves(narrow)} == {jnp.dtype("bfloat16")}


def test_estimates_are_values():
    one, same = adaptx.hutchinson(quadratic, every=3), adaptx.hutchinson(quadratic, every=3)
    assert one == same
    assert hash(one) == hash(same)
    assert one != adaptx.hutchinson(quadratic)
    assert adaptx.hutchinson(quadratic) != adaptx.gauss_newton_bartlett(quadratic)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: adaptx.hutchinson(3), "hutchinson takes a function of .*, got int; pass"),
        (lambda: adaptx.gauss_newton_bartlett(None), "gauss_newton_bartlett takes a function .*, got NoneType; pass"),
        (lambda: adaptx.hutchinson(quadratic, every=0), "every must be an integer ≥ 1, got 0"),
        (lambda: adaptx.hutchinson(quadratic, seed=-1), "seed must be an integer ≥ 0, got -1"),
        (lambda: adaptx.hutchinson(quadratic, has_aux=1), "has_aux must be True or False, got 1"),
    ],
)
def test_wrong_arguments_are_named(make, words):
    with pytest.raises((TypeError, ValueError), match=words):
        make()


def moving(name):
    """An optimizer whose steps show every estimate."""
    return adaptx.sophia(0.1, gamma=1.0, b2=0.5) if name == "sophia" else adaptx.adahessian(0.1, b2=0.5)


def test_a_training_step_estimates_when_it_is_due():
    """train_step and train_epoch against a loop by hand, in which the hessian is None between."""
    x, y = jax.random.normal(KEYS[0], (7, 8, 4)), jnp.tile(jnp.arange(8) % 3, (7, 1))
    for name in RULES:
        opt, estimate = moving(name), adaptx.hutchinson(cross_entropy, every=3, seed=5)
        p, state = P, opt.init(P)
        for t in range(7):
            key = jax.random.fold_in(jax.random.key(5), t)
            found = estimate(p, key, x[t], y[t]) if t % 3 == 0 else None
            p, state = opt.step(jax.grad(cross_entropy)(p, x[t], y[t]), state, p, hessian=found)
        step = adaptx.train_step(cross_entropy, opt, extra={"hessian": estimate})
        q, again = jax.tree.map(jnp.array, P), opt.init(P)
        for t in range(7):
            q, again, _ = step(q, again, x[t], y[t])
        epoch = adaptx.train_epoch(cross_entropy, opt, extra={"hessian": estimate})
        r, last, _ = epoch(jax.tree.map(jnp.array, P), opt.init(P), x, y)
        for got, slots in ((q, again.slots), (r, last.slots)):
            for a, b in zip(jax.tree.leaves((got, slots)), jax.tree.leaves((p, state.slots)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_an_estimate_goes_through_routes_and_wrappers():
    every = {"hessian": adaptx.hutchinson(quadratic, every=2)}
    routed = adaptx.route({"curved": moving("sophia"), "plain": adaptx.sgd(0.1)}, by={"w": "curved", "b": "plain"})
    for opt in (routed, adaptx.lookahead(moving("adahessian")), adaptx.averaged(moving("sophia"))):
        step = adaptx.train_step(quadratic, opt, extra=every)
        p, state = jax.tree.map(jnp.array, P), opt.init(P)
        for _ in range(3):
            p, state, out = step(p, state)
        assert np.isfinite(out["loss"])
        assert float(out["loss"]) < float(quadratic(P))


def test_an_estimate_needs_the_number_of_the_step():
    import optax

    step = adaptx.train_step(quadratic, optax.sgd(0.1), extra={"hessian": adaptx.hutchinson(quadratic)})
    with pytest.raises(TypeError, match=r"extra\['hessian'\] is an estimate.*expected that of an adaptx optimizer"):
        step(jax.tree.map(jnp.array, P), optax.sgd(0.1).init(P))


@pytest.mark.parametrize("name", RULES)
def test_what_is_required_is_asked_for(name):
    opt = getattr(adaptx, name)()
    assert opt.requires == {"hessian"}
    for call in (opt.step, opt.update):
        with pytest.raises(ValueError, match=f"{name} needs hessian=, a tree like the parameters"):
            call(P, opt.init(P), P)
    with pytest.raises(ValueError, match="hessian 'w' has shape"):
        opt.step(P, opt.init(P), P, hessian={**H, "w": jnp.ones(2)})
    with pytest.raises(TypeError, match=r"requires hessian, which .* adaptx.hutchinson\(loss_fn, every=10\)"):
        adaptx.train_step(quadratic, opt)


@pytest.mark.parametrize("hyper", [{}, {"gamma": 0.5, "eps": 0.1}, {"gamma": 3.0, "b2": 0.5, "eps": 0.0}])
def test_sophia_is_its_oracle_where_estimates_are_few_and_negative(hyper, x64):
    against_oracle("sophia", hyper)


@pytest.mark.parametrize(
    "hyper",
    [{}, {"window": "last", "b2": 0.5}, {"average": "matrices"}, {"average": "none", "hessian_power": 0.5, "eps": 0.1}],
)
def test_adahessian_is_its_oracle_where_estimates_are_few_and_negative(hyper, x64):
    """On every number of axes: what is averaged, and over how many estimates."""
    against_oracle("adahessian", hyper)


def against_oracle(name, hyper):
    grads, opt = inputs.gradients(1.0, tuple(inputs.LEAVES))[:7], getattr(adaptx, name)(0.1, **hyper)
    p = {k: jnp.asarray(x) for k, x in inputs.parameters(tuple(inputs.LEAVES)).items()}
    want, rules, state = inputs.parameters(tuple(inputs.LEAVES)), {k: ORACLES[name](**hyper) for k in p}, opt.init(p)
    for t, g in enumerate(grads):
        found = None if t % 3 else {k: np.cos(np.arange(x.size)).reshape(x.shape) + x for k, x in g.items()}
        p, state = opt.step(g, state, p, hessian=found)
        for k, rule in rules.items():
            want[k] = want[k] - 0.1 * rule.step(g[k], None if found is None else found[k])
            np.testing.assert_allclose(p[k], want[k], rtol=ORACLE, atol=ORACLE, err_msg=f"{k} after step {t}")


def test_where_the_curvature_is_negative_sophia_takes_the_sign():
    opt = adaptx.sophia(0.1, gamma=1.0)
    g = {"w": jnp.linspace(-2.0, 2.0, 12).reshape(4, 3), "b": jnp.zeros(3)}
    for h in (jax.tree.map(lambda x: -jnp.ones_like(x), P), None):
        updates, _ = opt.update(g, opt.init(P), P, hessian=h)
        np.testing.assert_allclose(updates["w"], -0.1 * np.sign(g["w"]), rtol=EXACT)
        assert not np.any(updates["b"])


@pytest.mark.parametrize("storage", ["f32", "bf16", "int8"])
@pytest.mark.parametrize("name", RULES)
def test_an_argument_that_is_not_finite_shows_where_it_is(name, storage):
    """NaN and inf alike, in the parameter that has it alone; a huge one is only huge."""
    opt = getattr(adaptx, name)(0.1, storage=storage, storage_exclude=0, max_norm=1e6)
    p, g = jnp.ones(300), jnp.linspace(0.5, 1.0, 300)
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        after, state = opt.step(g, opt.init(p), p, hessian=g.at[7].set(bad))
        assert np.flatnonzero(np.isnan(after)).tolist() == [7], bad
        after, state = opt.step(g, state, after, hessian=None)
        assert np.isnan(after[7])
    after, state = opt.step(g, opt.init(p), p, hessian=g.at[7].set(1e30))
    after, state = opt.step(g, state, after, hessian=g)
    assert np.all(np.isfinite(after))
    assert abs(float(after[7]) - 1) <= 0.11


@pytest.mark.parametrize("name", RULES)
def test_a_guard_skips_steps_whose_argument_is_not_finite(name):
    opt = getattr(adaptx, name)(0.1, skip_nonfinite=True)
    g = jax.tree.map(jnp.cos, P)
    p, state = opt.step(g, opt.init(P), P, hessian=H)
    q, after = opt.step(g, state, p, hessian={**H, "w": H["w"].at[1, 1].set(jnp.nan)})
    jax.tree.map(np.testing.assert_array_equal, (q, after.slots, after.step), (p, state.slots, state.step))
    assert float(adaptx.read(after, "skipped")) == 1
    assert np.any(opt.step(g, after, q, hessian=H)[0]["w"] != q["w"])


@pytest.mark.parametrize("name", RULES)
def test_an_argument_comes_in_the_unit_of_the_gradients(name):
    """Prodigy feeds d·g: the direction is that of g and H, whatever d is."""
    hyper = {"gamma": 1.0} if name == "sophia" else {"b1": 0.0, "b2": 0.0}  # its corrections are in Prodigy's rate
    make = getattr(adaptx, name)
    g = jax.tree.map(jnp.cos, P)
    plain, _ = make(1e-3, eps=1e-6, **hyper).update(g, make().init(P), P, hessian=H)
    opt = make(controllers.prodigy(d0=1e-3), eps=1e-6, **hyper)
    fed, state = opt.update(g, opt.init(P), P, hessian=H)
    rate = float(adaptx.read(state, "learning_rate"))
    for k in P:
        np.testing.assert_allclose(fed[k], plain[k] * (rate / 1e-3), rtol=1e-4)
