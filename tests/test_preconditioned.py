"""Shampoo, SOAP, PSGD Kron and SPlus, where the matrix of contracts does not look: refreshes, blocks, factors."""

import inspect
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx.factors import eigenbasis, inverse_power
from devices import run_on_devices
from oracles import trajectory
from probes import assert_close

NAMES = ("shampoo", "soap", "psgd_kron", "splus")
DEAR = {"eigh_one_by_one", "q_of_qr_one_by_one", "inverse_of_triangle"}
RNG = np.random.default_rng(0)
SHORT = {"shampoo": {"every": 3, "start": 3, "eps": 1e-6}, "soap": {"every": 3}, "psgd_kron": {}, "splus": {"every": 3}}


def uniform(shape: tuple[int, ...], steps: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).uniform(-1, 1, (steps, *shape))


def swapped(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(x, -1, -2)


def walk(jaxpr, around: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(primitive, the primitives it lies in) of every equation."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name, around
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from walk(inner, (*around, equation.primitive.name))


@pytest.mark.parametrize("batch", [False, True], ids=["single", "vmapped"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_dear_is_under_one_conditional(name: str, batch: bool):
    """Decompositions and solutions lie in branches alone, and a stack of matrices has one conditional."""
    opt, p = getattr(adaptx, name)(0.1), jnp.ones((4, 5, 3))

    def run(p):
        return opt.step(p, opt.init(p), p)

    jaxpr = jax.make_jaxpr(jax.vmap(run) if batch else run)(jnp.stack([p, p]) if batch else p)
    found = list(walk(jaxpr.jaxpr))
    dear = [around for primitive, around in found if primitive in DEAR]
    assert dear, "nothing dear is found: are the primitives called otherwise?"
    assert all("cond" in around for around in dear)
    assert sum(primitive == "cond" for primitive, around in found if "cond" not in around) == 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(5, 5), (2, 5, 6), (7,)], ids=str)
def test_uneven_blocks_are_the_blocks_one_by_one(name: str, shape: tuple[int, ...], x64):
    """Filled up with zeros in the library, as short as they come in the oracle, which has no stack of them either."""
    hyper = {**SHORT[name], "block_size": 3}
    gs, start = uniform(shape, 12), uniform(shape, 1, 1)[0]
    opt = getattr(adaptx, name)(0.01, **hyper)

    def body(carry, g):
        p, state = opt.step(g, carry[1], carry[0])
        return (p, state), p

    p = jnp.asarray(start)
    got = jax.lax.scan(body, (p, opt.init(p)), jnp.asarray(gs))[1]
    want = [t["x"] for t in trajectory(name, hyper, {"x": start}, [{"x": g} for g in gs], [0.01] * 12)]
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_what_fills_a_block_up_is_kept_apart(x64):
    """A factor without rank has eigenvalues of 0 as what fills it up has, and theirs come out on either side of it."""
    v = uniform((2,), 30)
    a = jnp.pad(jnp.asarray(v[:, :, None] * v[:, None, :]), [(0, 0), (0, 1), (0, 1)])
    q = eigenbasis(a, jnp.array([True, True, False]))
    np.testing.assert_allclose(jnp.swapaxes(q, -1, -2) @ q, np.broadcast_to(np.eye(3), q.shape), atol=1e-12)


@pytest.mark.parametrize("name", ["shampoo", "soap", "splus"])
def test_a_stack_of_matrices_moves_as_the_matrices(name: str, x64):
    gs = jnp.asarray(uniform((2, 4, 3), 8) * np.array([100.0, 0.01])[:, None, None])
    opt = getattr(adaptx, name)(0.01, **SHORT[name])
    p = jnp.ones((2, 4, 3))
    stack, apart = p, list(p)
    states = opt.init(stack), opt.init(apart)
    for g in gs:
        stack, first = opt.step(g, states[0], stack)
        apart, second = opt.step(list(g), states[1], apart)
        states = first, second
    assert_close(list(stack), apart, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_an_axis_that_is_too_long_has_no_matrix(name: str):
    limit = "max_size_triangular" if name == "psgd_kron" else "max_dim"
    opt = getattr(adaptx, name)(**{limit: 4})
    slots = opt.init({"w": jnp.ones((4, 5)), "long": jnp.ones((6, 5))}).slots
    sides = ("QL", "QR") if name == "psgd_kron" else ("L", "R")
    shapes = {side: {k: None if x is None else x.shape for k, x in slots[side].items()} for side in sides}
    if name == "psgd_kron":
        assert shapes == {"QL": {"w": (4, 4), "long": (6,)}, "QR": {"w": (5,), "long": (5,)}}
    else:
        assert shapes == {"L": {"w": (4, 4), "long": None}, "R": {"w": None, "long": None}}


@pytest.mark.parametrize("name", NAMES)
def test_factors_are_never_narrow(name: str):
    p = {"w": jnp.ones((64, 80))}
    state = getattr(adaptx, name)(storage="int8", storage_exclude=0).init(p)
    declared = getattr(adaptx, name)().rule.slots()
    own = [k for k, slot in declared.items() if slot.own]
    assert all(state.slots[k]["w"].dtype == jnp.float32 for k in own)
    for k, slot in declared.items():
        if not slot.own:
            assert (state.slots[k]["w"].dtype == jnp.float32) == slot.exact
    assert declared["m"].exact == (name in ("soap", "shampoo"))
    with pytest.raises(ValueError, match=r"storage\['QL'\]|storage\['L'\]"):
        getattr(adaptx, name)(storage={own[0]: "bf16"}).init(p)


@pytest.mark.parametrize("name", ["shampoo", "soap", "splus"])
@pytest.mark.parametrize("factor", [2.0**-45, 2.0**45])
def test_the_scale_of_gradients_does_not_matter_without_eps(name: str, factor: float):
    eps = {"shampoo": {"eps": 0.0, "graft_eps": 0.0}, "soap": {"eps": 0.0}, "splus": {}}[name]
    opt = getattr(adaptx, name)(0.01, **{**SHORT[name], **eps})
    gs = jnp.asarray(uniform((3, 4), 8), jnp.float32)

    def run(c):
        p = jnp.ones((3, 4))
        return jax.lax.scan(lambda x, g: (opt.step(c * g, x[1], x[0]), None), (p, opt.init(p)), gs)[0][0]

    np.testing.assert_allclose(jax.jit(run)(factor), jax.jit(run)(1.0), rtol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)], ids=str)
def test_shampoo_of_one_gradient_is_its_polar_factor(shape: tuple[int, ...], x64):
    """(g gᵀ)^(−¼) g (gᵀ g)^(−¼) = U Vᵀ where g = U S Vᵀ."""
    g = uniform(shape, 1)[0]
    left, _, right = np.linalg.svd(g, full_matrices=False)
    opt = adaptx.shampoo(1.0, b1=None, b2=None, graft="none", start=1, every=1, eps=1e-30)
    d = -opt.update(jnp.asarray(g), opt.init(jnp.zeros(shape)), jnp.zeros(shape))[0]
    np.testing.assert_allclose(d, left @ right, rtol=0, atol=1e-9)


@pytest.mark.parametrize("graft", ["adam", "rmsprop", "adagrad", "sgd"])
def test_grafting_takes_the_length_of_its_method(graft: str, x64):
    """The mean gradient has a constant length of one block, and so have the steps of the method alone."""
    peers = {
        "adam": adaptx.adam(0.01),
        "rmsprop": adaptx.rmsprop(0.01, decay=0.999, eps=1e-8, eps_in_sqrt=False),
        "adagrad": adaptx.adagrad(0.01, eps=1e-8, eps_in_sqrt=False),
        "sgd": adaptx.sgd(0.01),
    }
    b1 = 0.9 if graft == "adam" else None
    opt, peer = adaptx.shampoo(0.01, b1=b1, graft=graft, start=2, every=1, eps=1e-6), peers[graft]
    p = jnp.zeros((4, 3))
    states = opt.init(p), peer.init(p)
    for t, g in enumerate(jnp.asarray(uniform((4, 3), 5))):
        (got, first), (want, second) = opt.update(g, states[0], p), peer.update(g, states[1], p)
        states = first, second
        np.testing.assert_allclose(np.linalg.norm(got), np.linalg.norm(want), rtol=1e-12)
        assert np.allclose(got, want, rtol=1e-9) == (t == 0)


def test_soap_only_looks_at_its_first_gradient(x64):
    opt, p, g = adaptx.soap(0.1), jnp.ones((3, 2)), jnp.asarray(uniform((3, 2), 1)[0])
    updates, state = opt.update(g, opt.init(p), p)
    assert not np.any(updates)
    np.testing.assert_allclose(state.slots["L"], 0.05 * g @ g.T, rtol=1e-5, atol=1e-8)
    assert not np.any(state.slots["m"])
    again, _ = opt.update(g, state, p)
    left, _, right = np.linalg.svd(g)
    # in its own basis g is diagonal, and the first step of Adam its sign
    np.testing.assert_allclose(-again / 0.1, left[:, :2] @ right, atol=1e-6)


@pytest.mark.parametrize("name", ["shampoo", "soap", "splus"])
def test_rows_and_columns_without_gradient_stay(name: str):
    """What is 0 in a basis is the noise of its vectors, which has a sign, and a ratio to its own root."""
    gs = uniform((6, 4), 12).astype(np.float32)
    gs[:, 2] = 0
    gs[:, :, 1] = 0
    opt, p = getattr(adaptx, name)(0.5, **SHORT[name]), jnp.ones((6, 4))
    state = opt.init(p)
    for g in gs:
        p, state = opt.step(jnp.asarray(g), state, p)
    np.testing.assert_array_equal(p[2], 1)
    np.testing.assert_array_equal(p[:, 1], 1)
    assert np.all(np.abs(np.delete(np.delete(p, 2, 0), 1, 1) - 1) > 1e-5)


def test_splus_evaluates_at_the_average_of_its_authors(x64):
    """The authors' average starts at 0 and is divided by 1 − bᵗ: the weights of `averaged`."""
    opt, p, b = adaptx.averaged(adaptx.splus(0.1, every=2), decay=0.9), jnp.ones((3, 3)), 0.9
    state, average = opt.init(p), np.zeros((3, 3))
    for t, g in enumerate(jnp.asarray(uniform((3, 3), 6)), 1):
        p, state = opt.step(g, state, p)
        average = b * average + (1 - b) * np.asarray(p)
        np.testing.assert_allclose(adaptx.eval_params(opt, state, p), average / (1 - b**t), rtol=1e-12)


def test_psgd_kron_whitens():
    """Gradients S g T with g white: P = QᵀQ settles where the covariance of P_L S g T P_R is the identity."""
    rng = np.random.RandomState(0)
    S, T = np.diag([0.1, 1.0, 5.0]) @ rng.normal(size=(3, 3)), np.diag([3.0, 0.2]) @ rng.normal(size=(2, 2))
    gs = jnp.asarray(S @ rng.normal(size=(20000, 3, 2)) @ T, jnp.float32)
    opt, p = adaptx.psgd_kron(0.0, momentum_into_precond_update=False, precond_lr=0.01, min_prob=1.0), jnp.ones((3, 2))
    state = jax.jit(lambda s: jax.lax.scan(lambda s, g: (opt.update(g, s, p)[1], None), s, gs)[0])(opt.init(p))
    QL, QR = (np.asarray(state.slots[k], np.float64) for k in ("QL", "QR"))
    assert np.all(np.triu(QL) == QL)
    left, right = QL.T @ QL @ S, QR.T @ QR @ T.T
    np.testing.assert_allclose(np.kron(left @ left.T, right @ right.T), np.eye(6), atol=0.3)


def test_psgd_kron_survives_a_leaf_without_gradient():
    p = jnp.ones((3, 2))
    opt = adaptx.psgd_kron(0.1)
    p, state = jax.jit(
        lambda p, s: jax.lax.fori_loop(0, 1000, lambda _, x: opt.step(jnp.zeros((3, 2)), x[1], x[0]), (p, s))
    )(p, opt.init(p))
    assert np.all(p == 1)
    np.testing.assert_array_equal(state.slots["QL"], np.eye(3))
    p, state = opt.step(jnp.ones((3, 2)), state, p)
    assert np.all(np.isfinite(p))


def test_psgd_kron_draws_anew_at_every_step_and_leaf():
    p, g = [jnp.ones((3, 2))] * 2, [jnp.asarray(uniform((3, 2), 1)[0], jnp.float32)] * 2
    opt = adaptx.psgd_kron(0.1)
    _, first = opt.update(g, opt.init(p), p)
    assert not np.allclose(*first.slots["QL"])
    _, again = opt.update(g, opt.init(p), p)
    np.testing.assert_array_equal(first.slots["QL"][0], again.slots["QL"][0])


def test_every_option_of_a_constructor_reaches_the_rule():
    for name in NAMES:
        rule = getattr(adaptx, name)().rule
        options = list(inspect.signature(getattr(adaptx, name)).parameters)
        assert options == ["learning_rate", *type(rule).__dataclass_fields__, "engine"]


@pytest.mark.parametrize("storage", ["bf16", "int8"])
@pytest.mark.parametrize("name", ["soap", "shampoo"])
def test_narrow_storage_trains_where_gradients_lack_rank(name: str, storage: str):
    """The error of a narrow m, rotated to where there never was a gradient, would be divided by almost nothing."""
    kx, ky, kw = jax.random.split(jax.random.key(0), 3)
    x, y, w = jax.random.normal(kx, (16, 64)), jax.random.normal(ky, (16, 64)), jax.random.normal(kw, (64, 64)) / 10

    def loss(p):
        return jnp.mean((x @ p - y) ** 2)

    def trained(storage):
        opt = getattr(adaptx, name)(3e-3, storage=storage)

        def step(carry, _):
            return opt.step(jax.grad(loss)(carry[0]), carry[1], carry[0]), None

        return jax.jit(lambda w: jax.lax.scan(step, (w, opt.init(w)), length=40)[0][0])(w)

    assert loss(trained(storage)) < 1.05 * loss(trained("f32")) < loss(w)
    with pytest.raises(ValueError, match=r"storage\['m'\]: expected 'f32'.*forgives no rounding"):
        getattr(adaptx, name)(storage={"m": storage}).init(w)


@pytest.mark.parametrize("length", [4, (3, 5)])
@pytest.mark.parametrize(("start", "steps"), [(10, 20), (1, 6)])
def test_derivatives_through_shampoo_are_those_of_its_roots(length, start: int, steps: int, x64):
    """A vector's factor lacks rank: with its root held constant, the derivative by the rate was 1e5 times too large."""
    p, x = (jax.random.normal(jax.random.key(i), np.shape(np.empty(length))) for i in (0, 1))

    def loss(p):
        return jnp.sum(jnp.cosh(0.5 * (p - x))) + 0.1 * jnp.sum(p**4)

    def train(rate):
        opt = adaptx.shampoo(rate, start=start, every=2, eps=1e-9)

        def step(carry, _):
            return opt.step(jax.grad(loss)(carry[0]), carry[1], carry[0]), None

        return loss(jax.lax.scan(step, (p, opt.init(p)), length=steps)[0][0])

    train = jax.jit(train)
    want = (train(0.02 + 1e-6) - train(0.02 - 1e-6)) / 2e-6
    np.testing.assert_allclose(jax.grad(train)(0.02), want, rtol=1e-3)
    np.testing.assert_allclose(jax.jvp(train, (0.02,), (1.0,))[1], want, rtol=1e-3)


@pytest.mark.parametrize("kind", ["full", "equal", "low"])
def test_the_derivative_of_a_root_is_its_divided_differences(kind: str, x64):
    b = RNG.normal(size=(2, 5, 2 if kind == "low" else 5))
    db = RNG.normal(size=b.shape)
    a, da = (2 * np.broadcast_to(np.eye(5), (2, 5, 5)), db) if kind == "equal" else (b @ swapped(b), db @ swapped(b))
    da = da + swapped(da)

    seen = swapped(b @ np.linalg.pinv(b)) if kind == "low" else np.eye(5)  # what a multiplies lies in its range

    def root(t, e):
        return seen @ inverse_power(jnp.asarray(a) + t * da, 0.25, 1e-3 + e) @ seen

    for i, step in ((0, 1e-6), (1, 1e-7)):
        by = [step * (i == j) for j in (0, 1)]
        want = (root(*by) - root(*(-x for x in by))) / (2 * step)
        found = jax.jacfwd(root, i)(0.0, 0.0)
        np.testing.assert_allclose(found, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("eps", [0.0, 1e-12])
def test_derivatives_by_eps_are_no_rounding(eps: float, x64):
    """Of gradients without rank, for which ε^(−5/4) is 10¹⁵ where there is nothing but rounding."""
    k = jax.random.split(jax.random.key(0), 3)
    x, w = jax.random.normal(k[0], (1, 5)), {"w": 0.3 * jax.random.normal(k[2], (5, 4))}
    y = jnp.tanh(x @ jax.random.normal(k[1], (5, 4)))

    def loss(p):
        return jnp.mean((jnp.tanh(x @ p["w"]) - y) ** 2)

    def train(eps):
        opt = adaptx.shampoo(0.01, b1=0.8, b2=0.95, eps=eps, start=1, every=1)
        p, state = w, opt.init(w)
        for _ in range(3):
            p, state = opt.step(jax.grad(loss)(p), state, p)
        return loss(p)

    by = jax.jit(jax.grad(train))
    far = (train(eps + 1e-9) - train(eps)) / 1e-9
    np.testing.assert_allclose(by(eps), far, rtol=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_whose_squares_are_out_of_range_leave_parameters_finite(name: str):
    g, opt = jnp.asarray(RNG.normal(size=(8, 8)) * 1e20, jnp.float32), getattr(adaptx, name)(1e-3)

    def step(carry, sign):
        return opt.step(sign * g, carry[1], carry[0]), None

    p = jnp.ones((8, 8))
    last = jax.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), jnp.array([1.0, 1, 1, -1] * 4))[0][0])(p)
    assert jnp.all(jnp.isfinite(last))
    assert jnp.all(last != p)


PROGRAM = """
import sys
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import adaptx
mesh = jax.make_mesh((8,), ("x",), axis_types=(getattr(AxisType, sys.argv[1]),))
with jax.set_mesh(mesh):
    for name in sys.argv[2:]:
        place = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
        rows, columns = np.ones((16, 8), np.float32), np.ones((4, 16), np.float32)
        p = {"rows": place(rows, "x", None), "columns": place(columns, None, "x")}
        if name in ("soap", "shampoo", "splus", "psgd_kron"):  # blocks that lie across devices
            opt = getattr(adaptx, name)(0.1, block_size=3)
            q, state = jax.block_until_ready(jax.jit(opt.step)(p, jax.block_until_ready(jax.jit(opt.init)(p)), p))
            if sys.argv[1] == "Explicit":  # otherwise the compiler decides where results lie
                assert jax.tree.map(lambda x: x.sharding.spec, q) == jax.tree.map(lambda x: x.sharding.spec, p)
        opt = adaptx.dion(0.1, adamw=False)  # a batch, one matrix on every device
        x = place(np.arange(8 * 4 * 3, dtype=np.float32).reshape(8, 4, 3) % 7, "x")
        jax.block_until_ready(jax.jit(opt.step)(x, jax.block_until_ready(jax.jit(opt.init)(x)), x))
        opt = getattr(adaptx, name)(0.1)
        state = jax.block_until_ready(jax.jit(opt.init)(p))
        for t in range(3):
            for side, leaf, other in (("QL", "rows", "columns"), ("QR", "columns", "rows")):
                side = side if side in state.slots else "P" + side[1]
                assert state.slots[side][leaf].sharding.spec[:1] == ("x",), (name, t, side)
                assert state.slots[side][other].sharding.is_fully_replicated, (name, t, side)
            p, state = jax.block_until_ready(jax.jit(opt.step)(p, state, p))
print("laid")
"""


@pytest.mark.multi
@pytest.mark.parametrize("kind", ["Explicit", pytest.param("Auto", marks=pytest.mark.slow)])
def test_factors_are_sharded_as_the_axis_they_belong_to(kind: str):
    assert "laid" in run_on_devices(8, "-c", PROGRAM, kind, *NAMES)
