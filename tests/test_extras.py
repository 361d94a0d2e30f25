"""Engine options around a rule: free while off, exact at every scale, honest where they cannot be."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import controllers as c
from adaptx.bits import normals
from cases import DEFAULTS, ENGINES, EXTRA, Case, case, oracle, run, table
from contracts.test_oracle import F64, F64_ROUNDING, RATES, error, trainer
from devices import run_on_devices
from golden import inputs
from probes import assert_close, assert_identical, excess
from steps import INIT, STEP, UPDATE, G, P, extra

ONCE = 1e-6  # a handful of f32 roundings
SLOW = pytest.mark.slow
OFF = {
    "agc": None, "max_leaf_norm": None, "noise": 0.0, "centralize": None, "cautious": None, "cautious_decay": False,
    "clip_update_rms": None, "max_rate": None,
}  # fmt: skip
ON = {
    "agc": {"agc": 0.1},
    "max_leaf_norm": {"max_leaf_norm": 0.3},
    "noise": {"noise": 0.01},
    "centralize": {"centralize": "last"},
    "mask": {"cautious": "mask"},
    "mean": {"cautious": "mean"},
    "count": {"cautious": "count"},
    "cautious_decay": {"cautious_decay": True, "weight_decay": 0.1},
    "cautious_independent": {"cautious_decay": True, "weight_decay": 0.1, "decay_mode": "independent"},
    "clip_update_rms": {"clip_update_rms": 0.5},
    "corrected": {"weight_decay": 0.1, "decay_mode": "corrected", "max_rate": 0.5},
    "all": {
        "agc": 0.5, "max_leaf_norm": 0.3, "noise": 0.01, "noise_decay": 0.3, "noise_seed": 7, "centralize": "first",
        "cautious": "mean", "cautious_decay": True, "weight_decay": 0.1, "clip_update_rms": 0.5,
    },
}  # fmt: skip


def train(opt, params=P, grads=(G, P, G, P), by=STEP):
    """(parameters, state) after steps over gradients."""
    state = INIT(opt, params)
    for g in grads:
        out, state = by(opt, g, state, params, extra(opt))
        params = out if by is STEP else optax.apply_updates(params, out)
    return params, state


# off


@pytest.mark.parametrize("make", [adaptx.adam, adaptx.lion, adaptx.muon], ids=lambda make: make.__name__)
def test_off_is_the_program_without_it(make):
    params = {"w": P["w"]}

    def text(**options):
        opt = make(0.1, **options)
        return jax.jit(opt.step).lower(params, opt.init(params), params).as_text(), jax.tree.structure(opt)

    for name, value in OFF.items():
        assert text(**{name: value}) == text(), name
    decayed = {"weight_decay": 0.1}
    assert text(**decayed, decay_mode="corrected")[0] == text(**decayed)[0], "a rate that is a number is its maximum"


# numbers


@pytest.mark.parametrize("name", ON)
def test_update_is_step_and_an_optimizer_is_a_value(name: str):
    opt = adaptx.adam(0.1, **ON[name])
    assert_close(train(opt)[0], train(opt, by=UPDATE)[0], rtol=ONCE, atol=ONCE)
    assert opt == adaptx.adam(0.1, **ON[name])
    assert hash(opt) == hash(adaptx.adam(0.1, **ON[name]))
    assert opt != adaptx.adam(0.1)
    assert opt.replace(b1=0.5) == adaptx.adam(0.1, b1=0.5, **ON[name])
    assert eval(repr(opt), {"adam": adaptx.adam}) == opt
    leaves, treedef = jax.tree.flatten(opt)
    assert treedef.unflatten(leaves) == opt
    off = {**dict.fromkeys(("agc", "max_leaf_norm", "centralize", "cautious", "clip_update_rms", "max_rate"))}
    off |= {"noise": 0.0, "noise_decay": 0.55, "noise_seed": 0, "cautious_decay": False, "decay_mode": "decoupled"}
    assert opt.replace(**off, weight_decay=0.0) == adaptx.adam(0.1)


@pytest.mark.parametrize("option", ["agc", "max_leaf_norm", "clip_update_rms", "noise", "noise_decay"])
def test_numbers_may_be_batches_and_derived_by(option: str):
    values, more = jnp.asarray([0.2, 0.6]), {"noise": 0.1} if option == "noise_decay" else {}
    make = adaptx.adam if option == "clip_update_rms" else adaptx.sgd
    batch = jax.vmap(lambda opt: train(opt)[0])(make(0.1, **{option: values}, **more))
    for i, value in enumerate(values):
        one = train(make(0.1, **{option: float(value)}, **more))[0]
        assert_close(jax.tree.map(lambda x, i=i: x[i], batch), one, rtol=1e-5, atol=ONCE)
    assert not np.allclose(batch["w"][0], batch["w"][1])

    def total(value):
        return jnp.sum(train(make(0.1, **{option: value}, **more))[0]["w"])

    h = 1e-2
    slope, near = jax.grad(total)(0.5), (total(0.5 + h) - total(0.5 - h)) / (2 * h)
    np.testing.assert_allclose(slope, near, rtol=0.1, atol=1e-3)


@pytest.mark.parametrize("name", [n if n in ("mean", "corrected", "all") else pytest.param(n, marks=SLOW) for n in ON])
def test_narrow_storage_and_parameters(name: str):
    """Codes and bf16 parameters, rounded stochastically: near the f32 run, in the types they came in."""
    wide = jax.tree.map(lambda x: jnp.tile(x, (32,) * (x.ndim - 1) + (32,)), (P, G))
    params, grads = wide[0], (wide[1], wide[0], wide[1])
    want, _ = train(adaptx.adam(0.1, **ON[name]), params, grads)
    got, _ = train(adaptx.adam(0.1, storage="int8", storage_exclude=0, **ON[name]), params, grads)
    for k, x in want.items():
        assert np.linalg.norm(got[k] - x) < 0.3 * np.linalg.norm(x - params[k]), k
    narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    got, _ = train(adaptx.adam(0.1, rounding="stochastic", **ON[name]), narrow, grads)
    for k, x in want.items():
        assert got[k].dtype == jnp.bfloat16
        assert np.linalg.norm(got[k].astype(jnp.float32) - x) < 0.1 * np.linalg.norm(x - params[k]), k


# the ends of the range


BAD = [  # every option with adam and NaN, and with one of the others by turns
    pytest.param(name, make, bad, id=f"{name}-{make.__name__}-{bad}",
                 marks=() if j == 0 or j == 1 + i % 5 else pytest.mark.slow)
    for i, name in enumerate(ON)
    for j, (bad, make) in enumerate(itertools.product((np.nan, np.inf), (adaptx.adam, adaptx.sgd, adaptx.lion)))
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "bad"), BAD)
def test_what_is_not_finite_shows(name: str, make, bad: float):
    if "clip_update_rms" in ON[name] and make is not adaptx.adam:
        pytest.skip("refused")
    opt = make(0.1, **ON[name])
    grads = {**G, "w": G["w"].at[1, 2].set(bad)}
    params, _ = train(opt, grads=(G, grads))
    shown = np.isfinite(np.asarray(params["w"]))
    if make is not adaptx.lion or np.isnan(bad):
        assert not shown[1, 2]
    assert np.all(np.isfinite(params["b"]))
    kept, state = train(opt.replace(skip_nonfinite=True), grads=(G, grads))
    assert_identical(kept, train(opt.replace(skip_nonfinite=True), grads=(G,))[0])
    assert int(state.step) == 1


@pytest.mark.parametrize("name", [name for name in ON if "noise" not in ON[name]])
def test_nothing_to_do_is_nothing_done(name: str):
    """Zero gradients, no elements, scalars; and no decay of what is 0."""
    params = {"w": jnp.full((3, 2), 0.7), "none": jnp.zeros((0, 3)), "s": jnp.float32(2), "empty": jnp.zeros(0)}
    opt = adaptx.adam(0.1, **{**ON[name], "weight_decay": 0.0})
    got, _ = train(opt, params, [jax.tree.map(jnp.zeros_like, params)] * 2)
    assert_identical(got, params)
    moved, _ = train(opt, params, [jax.tree.map(jnp.ones_like, params)] * 2)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(moved))
    centred = "centralize" in ON[name]
    assert np.allclose(moved["w"], params["w"]) if centred else np.all(moved["w"] < params["w"])
    assert moved["s"] < params["s"]


@pytest.mark.parametrize("option", [{"agc": 0.1}, {"max_leaf_norm": 0.1}], ids=str)
@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e20, 5e37])
def test_clipped_gradients_have_that_length_at_any_scale(option: dict, scale: float):
    params = {"w": jnp.zeros((4, 3))}
    moved, _ = train(adaptx.sgd(1.0, **option), params, [{"w": jnp.full((4, 3), scale)}])
    lengths = np.linalg.norm(np.asarray(moved["w"], np.float64), axis=0 if "agc" in option else None)
    most = 0.1 * 1e-3 if "agc" in option else 0.1
    np.testing.assert_allclose(lengths, min(most, scale * (2 if "agc" in option else 12**0.5)), rtol=1e-5)


@pytest.mark.parametrize("name", [name for name in ON if name not in ("noise", "all")])
def test_derivatives_are_finite_at_zero(name: str):
    def last(g, p, opt):
        state = opt.init(p)
        for _ in range(2):
            p, state = opt.step({"w": g}, state, p)
        return jnp.sum(p["w"])

    for p in (jnp.ones((3, 2)), jnp.zeros((3, 2))):
        slopes = jax.grad(last, (0, 1, 2))(
            jnp.zeros((3, 2)), {"w": p}, jax.tree.map(jnp.float32, adaptx.adam(**ON[name]))
        )
        assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slopes))


def test_a_mask_compares_signs_not_products():
    g, p = {"w": jnp.full((2,), 1e-25)}, {"w": jnp.asarray([1e-25, -1e-25])}
    masked = train(adaptx.sgd(1.0, cautious="mask"), p, [g])[0]
    np.testing.assert_allclose(masked["w"], [0.0, -2e-25], atol=1e-31)
    decayed = train(adaptx.sgd(1.0, cautious_decay=True, weight_decay=0.5), p, [g])[0]
    np.testing.assert_allclose(decayed["w"], [-5e-26, -2e-25], atol=1e-31)


def test_cautious_decay_takes_what_has_no_direction():
    """The paper's mask is ≥: an entry at rest decays."""
    p = {"w": jnp.asarray([1.0, -1.0, 2.0])}
    for mode in ("decoupled", "independent"):
        opt = adaptx.sgd(0.5, cautious_decay=True, weight_decay=0.1, decay_mode=mode)
        rate = 0.5 if mode == "decoupled" else 1.0
        moved = train(opt, p, [{"w": jnp.asarray([0.0, 0.0, -1.0])}])[0]
        np.testing.assert_allclose(moved["w"], [1 - 0.1 * rate, 0.1 * rate - 1, 2.5], rtol=ONCE)


def test_the_mean_of_a_mask_is_a_thousandth_at_least():
    g = jnp.full(4000, -1.0).at[0].set(1.0)
    opt = adaptx.momentum(1.0, decay=1 - 2.0**-10, cautious="mean")
    start, state = {"w": jnp.zeros(4000)}, None
    state = opt.init(start)
    _, state = opt.step({"w": jnp.full(4000, 1.0)}, state, start)
    moved, _ = opt.step({"w": g * 2.0**-6}, state, start)
    assert float(moved["w"][0]) == pytest.approx(-(1 - 2.0**-10 + 2.0**-6) / 1e-3, rel=1e-5)
    assert not np.any(moved["w"][1:])


# AdamC


def test_corrected_decay_is_a_schedule_of_the_decay():
    """λ·η/η_max beside η, whatever else: 'decoupled' with that schedule of λ."""
    rate = adaptx.schedules.cosine_decay_schedule(0.2, 6)
    more = {"lr_scale": {"w": 0.5, "b": 2.0}, "max_norm": 1.0, "cautious": "mean"}
    got = train(adaptx.adam(rate, weight_decay=0.3, decay_mode="corrected", max_rate=0.2, **more))
    want = train(adaptx.adam(rate, weight_decay=lambda t: 0.3 * rate(t) / 0.2, **more))
    assert_close(got[0], want[0], rtol=ONCE, atol=ONCE)
    assert float(adaptx.read(got[1], "learning_rate")) == pytest.approx(float(rate(3)))


# controllers see what comes out


def test_a_controller_sees_the_masked_direction_and_the_clipped_gradient():
    opt = adaptx.momentum(c.trust_ratio(1.0), cautious="mask")
    p, grads = {"w": jnp.asarray([3.0, 4.0])}, [{"w": jnp.asarray([1.0, 1.0])}, {"w": jnp.asarray([-0.5, 1.0])}]
    state = opt.init(p)
    _, state = opt.step(grads[0], state, p)
    _, state = opt.step(grads[1], state, p)
    assert float(adaptx.read(state, "trust_ratio")) == pytest.approx(5 / 1.9)  # d = (0.4, 1.9), of which 1.9 is left
    before = adaptx.sgd(c.trust_ratio(1.0, before=True), max_leaf_norm=0.5)
    _, state = before.step({"w": jnp.asarray([30.0, 40.0])}, before.init(p), p)
    assert float(adaptx.read(state, "trust_ratio")) == pytest.approx(5 / 0.5)


@pytest.mark.parametrize("name", ["prodigy", "dadapt", "mechanic", "momo", "hypergradient", "cocob", "dog"])
def test_all_of_it_beside_controllers(name: str):
    options = {key: value for key, value in ON["all"].items() if key != "noise" or name != "cocob"}
    options = {key: value for key, value in options.items() if "noise" in options or not key.startswith("noise")}
    opt = adaptx.adam(getattr(c, name)(), **options)
    params, state = train(opt)
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves((params, state)))
    assert not np.array_equal(params["w"], train(adaptx.adam(getattr(c, name)(), weight_decay=0.1))[0]["w"])


# against optax, and every rule against the oracle


@pytest.mark.parametrize("shape", [(5,), (1, 5), (4, 3), (3, 2, 4), (2, 3, 2, 4), (2, 2, 3, 2, 4), ()], ids=str)
def test_clipping_is_optax_s(shape: tuple[int, ...]):
    random = np.random.default_rng(3)
    p, g = ({"x": jnp.asarray(random.normal(size=shape), jnp.float32)} for _ in range(2))
    size = max(np.prod(shape), 1)
    pairs = {
        "agc": (optax.adaptive_grad_clip(0.2), {"agc": 0.2}),
        "rms": (optax.clip_by_block_rms(0.3), {"max_leaf_norm": 0.3 * float(size) ** 0.5}),
        "centred": (optax.centralize(), {"centralize": "first"}),
    }
    for name, (theirs, ours) in pairs.items():
        want, _ = theirs.update(g, theirs.init(p), p)
        opt = adaptx.scale_by_rule(adaptx.rules.Sgd(), **ours)
        got, _ = opt.update(g, opt.init(p), p)
        np.testing.assert_allclose(got["x"], want["x"], rtol=1e-5, atol=1e-7, err_msg=name)


ORACLED = ("adam", "adamw", "rmsprop", "stableadamw")  # whose oracles tell the surprise
# centred gradients lack a direction: eigenvectors for 0, and what Dion makes orthonormal there, are any
BASES = ("soap", "splus", "dion")
LARGER = {"normuon": 10.0}  # whose iteration brings what rounding left in that direction up, here to 2e-12


@pytest.mark.slow
@pytest.mark.parametrize("engine", EXTRA)
@pytest.mark.parametrize("c", DEFAULTS, ids=lambda c: c.name)
def test_every_rule_with_every_option(c: Case, engine: str, x64):
    options = ENGINES[engine]
    if "clip_update_rms" in options and c.name not in ORACLED:
        pytest.skip("the oracle of this rule tells no surprise")
    if "centralize" in options and c.name in BASES:
        pytest.skip("the basis of a null space is any")
    assert error(c, trainer(c, **options), jnp.float64, 1.0, F64, F64_ROUNDING, **options) <= LARGER.get(c.name, 1)


@pytest.mark.parametrize("scale", inputs.SCALES)
@pytest.mark.parametrize("engine", ["cautious", "agc", "leaf_clipped", "stable", "corrected"])
def test_f32_at_every_scale(engine: str, scale: float):
    """In the mean square: where a direction is nearly 0, f32 may mask what f64 does not."""
    one, options = case("adam"), ENGINES[engine]
    start = inputs.flatten(inputs.parameters(one.leaves))
    want = oracle(one, scale, RATES, **options)
    rates = jnp.asarray(RATES, jnp.float32)
    history = jax.jit(lambda p, g: run(one.build(lambda t: rates[t], **options), p, g)[2])(
        one.params(), one.grads(scale=scale)
    )
    assert np.linalg.norm(table(history) - want) <= 1e-5 * np.linalg.norm(want - start)
    assert excess(table(history), want, start, 1e-2, 1e-5) <= 1


@pytest.mark.parametrize(
    "name", ["nadam", "radam", "qhadam", "ademamix", "simplified_ademamix", "laprop", "yogi", "adamax"]
)
def test_a_steady_gradient_surprises_no_rule(name: str):
    """The size that a rule expects of a gradient that never changes is its own, from the first step on."""
    more = {"initial_accumulator": 0.0, "eps": 1e-8} if name == "yogi" else {}
    opt = getattr(adaptx, name)(0.1, **more)
    plain, clipped = (train(o, grads=[G] * 5)[0] for o in (opt, opt.replace(clip_update_rms=1.0)))
    assert_close(clipped, plain, rtol=1e-5, atol=ONCE)
    burst = [G, G, jax.tree.map(lambda g: 100 * g, G)]
    plain, clipped = (train(o, grads=burst)[0] for o in (opt, opt.replace(clip_update_rms=1.0)))
    if name != "adamax":  # whose size is a maximum, which no gradient exceeds
        assert not np.allclose(plain["w"], clipped["w"], atol=1e-3)


# noise


def test_noise_is_normal_and_nowhere_the_same():
    draw = jax.jit(jax.vmap(lambda seed: normals((64, 257), seed, jnp.float32)))
    x = np.asarray(draw(7919 * jnp.arange(60, dtype=jnp.uint32) + 1), np.float64)
    n = x.size
    assert abs(x.mean()) < 4 / n**0.5
    assert abs(x.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((x**3).mean()) < 4 * (15 / n) ** 0.5
    assert abs((x**4).mean() - 3) < 4 * (96 / n) ** 0.5
    assert 4.5 < np.max(np.abs(x)) < 6
    for a, b in ((x[1:], x[:-1]), (x[:, 1:], x[:, :-1]), (x[..., 1:], x[..., :-1])):
        assert abs(np.mean(a * b)) < 4 / a.size**0.5
    grid = np.linspace(-3, 3, 25)
    theirs = np.asarray(jax.random.normal(jax.random.key(0), (n,)))
    ours, others = (np.mean(y.reshape(-1, 1) <= grid, axis=0) for y in (x, theirs))
    assert np.max(np.abs(ours - others)) < 2.5 / n**0.5
    double = normals((9,), jnp.uint32(5), jnp.float32)
    with jax.enable_x64(True):
        np.testing.assert_allclose(normals((9,), jnp.uint32(5), jnp.float64), double, rtol=1e-5, atol=1e-6)


def drawn(opt, steps: int, shape=(200, 200), leaves=("w",)) -> list[dict]:
    """The noise of every step."""
    params = {k: jnp.zeros(shape) for k in leaves}
    state, out = opt.init(params), []
    for _ in range(steps):
        updates, state = opt.update(params, state, params)
        out.append(updates)
    return out


def test_noise_has_the_variance_of_the_paper_and_of_optax():
    opt = adaptx.scale_by_rule(adaptx.rules.Sgd(), noise=0.3, noise_decay=0.8)
    for t, (mine, theirs) in enumerate(zip(drawn(opt, 4), drawn(optax.add_noise(0.3, 0.8, key=0), 4), strict=True)):
        want = (0.3 / (1 + t) ** 0.8) ** 0.5
        np.testing.assert_allclose([np.std(mine["w"]), np.std(theirs["w"])], want, rtol=0.02)


def test_noise_is_of_the_seed_the_step_and_the_leaf():
    def make(**more):
        return adaptx.scale_by_rule(adaptx.rules.Sgd(), noise=1.0, noise_decay=0.0, **more)

    (one, two), again = drawn(make(), 2, leaves=("a", "b")), drawn(make(), 2, leaves=("a", "b"))
    assert_identical(again, [one, two])
    (other, _) = drawn(make(noise_seed=1), 2, leaves=("a", "b"))
    sources = [one["a"], one["b"], two["a"], other["a"]]
    for i, x in enumerate(sources):
        for y in sources[:i]:
            assert abs(np.mean(np.asarray(x) * np.asarray(y))) < 4 / x.size**0.5
    (plain,) = drawn(make(), 1, leaves=("a", "b"))
    (route,) = drawn(
        adaptx.route({"x": make(), "y": adaptx.sgd(0.1)}, by={"b": "x"}, default="y"), 1, leaves=("a", "b")
    )
    assert_identical(route["b"], plain["b"])


# where it cannot be done

REFUSED = {
    "packed_mean": (lambda: adaptx.adam(cautious="mean", layout="packed"), "cautious='mean' looks at a whole leaf"),
    "packed_agc": (lambda: adaptx.adam(agc=0.1, layout="packed"), "agc looks at a whole leaf"),
    "packed_centralize": (lambda: adaptx.adam(centralize="last", layout="packed"), "centralize looks at a whole leaf"),
    "packed_rms": (lambda: adaptx.adam(clip_update_rms=1.0, layout="packed"), "clip_update_rms looks at a whole leaf"),
    "packed_norm": (lambda: adaptx.adam(max_leaf_norm=1.0, layout="packed"), "max_leaf_norm looks at a whole leaf"),
    "rescale": (lambda: adaptx.adam(cautious="none"), "cautious must be one of 'mask', 'mean', 'count', got 'none'"),
    "centralize": (lambda: adaptx.adam(centralize=True), "centralize must be one of 'last', 'first', got True"),
    "l2": (lambda: adaptx.adam(cautious_decay=True, decay_mode="l2"), "cautious_decay compares decay with the direct"),
    "noise_decay": (lambda: adaptx.adam(noise_decay=0.3), "noise_decay=0.3 is that of noise, which is off"),
    "noise_seed": (lambda: adaptx.adam(noise=0.0, noise_seed=3), "noise_seed=3 is that of noise, which is off"),
    "max_rate": (lambda: adaptx.adam(max_rate=0.3), "max_rate belongs to decay_mode='corrected', got it with 'dec"),
    "schedule": (lambda: adaptx.adam(lambda t: 0.1, decay_mode="corrected"), "expected max_rate=, got none; pass it."),
    "controller": (lambda: adaptx.adam(c.dog(), decay_mode="corrected"), "which the controller dog does not know"),
    "lamb": (lambda: adaptx.lamb(0.1, decay_mode="corrected"), "which the controller trustratio does not know"),
    "replaced": (
        lambda: adaptx.adam(decay_mode="corrected").replace(learning_rate=lambda t: 0.1),
        "expected max_rate=",
    ),
    "bare": (lambda: adaptx.scale_by_rule(adaptx.rules.Adam(), decay_mode="corrected"), "of no learning rate"),
    "surprise": (lambda: adaptx.lion(clip_update_rms=1.0), "which lion does not tell; use max_leaf_norm."),
    "debiased": (lambda: adaptx.adabelief(clip_update_rms=1.0), "which adabelief does not tell; use max_leaf_norm."),
    "agc": (lambda: adaptx.adam(agc=0.0), r"agc must lie in \(0, inf\)"),
    "negative_noise": (lambda: adaptx.adam(noise=-1.0), r"noise must lie in \[0, inf\)"),
    "no_params": (lambda: (o := adaptx.sgd(agc=0.1)).update(G, o.init(P)), "without params, which agc needs"),
    "whole": (lambda: adaptx.route({"a": adaptx.sgd()}, by={"w": "a"}, agc=0.1), "others are those of its groups"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_sentence(name: str):
    make, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_packed_leaves_may_be_masked():
    options = {"cautious": "mask", "cautious_decay": True, "weight_decay": 0.1}
    one, other = (train(adaptx.adam(0.1, layout=layout, **options))[0] for layout in ("leaf", "packed"))
    assert_close(one, other, rtol=ONCE, atol=ONCE)


# parts of a mesh

SUMMED = {key: value for key, value in ON["all"].items() if key not in ("agc", "centralize") and "noise" not in key}


def test_parts_along_a_named_axis_are_summed_or_refused():
    whole, grads = {"w": jnp.linspace(-1, 1, 24).reshape(8, 3)}, {"w": jnp.cos(jnp.arange(24.0)).reshape(8, 3)}
    steps = [grads, jax.tree.map(jnp.sin, grads), jax.tree.map(lambda g: -3 * g, grads)]
    halves = jax.tree.map(lambda x: x.reshape(2, 4, 3), (whole, steps))

    def part(p, gs, **options):
        opt = adaptx.adam(0.1, **options, axis_name="halves")
        state = opt.init(p)
        for g in gs:
            p, state = opt.step(g, state, p)
        return p

    for options in (SUMMED, {**SUMMED, "cautious": "count"}):
        want = train(adaptx.adam(0.1, **options), whole, steps)[0]
        got = jax.vmap(lambda p, g, o=options: part(p, g, **o), axis_name="halves")(*halves)
        assert_close(got["w"].reshape(8, 3), want["w"], rtol=1e-4, atol=1e-6)
    for name in ("agc", "centralize", "noise"):
        with pytest.raises(ValueError, match=f"{name} sees whole leaves, but inside shard_map"):
            jax.vmap(lambda p, g, name=name: part(p, g, **ON[name]), axis_name="halves")(*halves)


SHARDS = """
import sys; sys.path.insert(0, "tests")
import jax, jax.numpy as jnp, numpy as np, adaptx
from jax.sharding import Mesh, PartitionSpec as S

mesh = Mesh(np.array(jax.devices()), ("d",))
p = {"w": jnp.sin(jnp.arange(24.0)).reshape(8, 3), "b": jnp.linspace(0.1, 0.5, 4)}
spec = {"w": S("d"), "b": S()}

def train(opt):
    def run(p):
        s = opt.init(p)
        for t in range(3):
            p, s = opt.step(jax.tree.map(lambda x: jnp.cos(3 * x + 2 * t), p), s, p)
        return p
    return run

def split(opt):
    mapped = jax.shard_map(train(opt), mesh=mesh, in_specs=(spec,), out_specs=spec)
    return jax.block_until_ready(jax.jit(mapped)(p))

summed = [{"max_leaf_norm": 0.3}, {"clip_update_rms": 0.5}, {"cautious": "mean"}, {"cautious": "count"}]
for option in summed:
    want, got = jax.jit(train(adaptx.adam(0.1, **option)))(p), split(adaptx.adam(0.1, **option, axis_name="d"))
    for x, y in zip(jax.tree.leaves(want), jax.tree.leaves(got), strict=True):
        np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6, err_msg=str(option))
placed = [{"agc": 0.1}, {"centralize": "last"}, {"noise": 0.1}]
for option in summed + placed:
    for axes in ((), ("d",)) if option in placed else ((),):
        try:
            split(adaptx.adam(0.1, **option, axis_name=axes))
        except ValueError as error:
            assert "inside shard_map" in str(error) and next(iter(option)) in str(error), error
        else:
            raise AssertionError(f"{option} was not refused")
free = split(adaptx.adam(0.1, cautious="mask", cautious_decay=True, weight_decay=0.1))
print("equal and refused")
"""


@pytest.mark.multi
def test_inside_shard_map():
    assert "equal and refused" in run_on_devices(2, "-c", SHARDS)


MESH = """
import json, sys, jax
from jax.sharding import AxisType
import adaptx
from contracts import sharded_program as program
from test_extras import ON

types = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
mesh, found = jax.make_mesh((8,), ("x",), axis_types=(types[sys.argv[1]],)), {}
with jax.set_mesh(mesh):
    for name, options in ((name, ON[name]) for name in sys.argv[2:]):
        try:
            found[name] = program.check(adaptx.adam(0.1, **{**program.ENGINE, **options}), mesh, "f32")
        except Exception as error:
            found[name] = [f"{type(error).__name__}: {error}"[:600]]
print(json.dumps(found))
"""


@pytest.mark.multi
@pytest.mark.parametrize(
    ("kind", "names"),
    [("explicit", ("agc", "noise", "count", "all")), pytest.param("auto", tuple(ON), marks=SLOW),
     pytest.param("explicit", tuple(ON), marks=SLOW)], ids=str,
)  # fmt: skip
def test_sharded_is_unsharded(kind: str, names: tuple[str, ...]):
    """Noise too: it is drawn by the place in the whole leaf."""
    complaints = json.loads(run_on_devices(8, "-c", MESH, kind, *names).splitlines()[-1])
    assert complaints == {name: [] for name in names}
