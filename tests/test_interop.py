"""States carried over mid-training: the next step is what the other library's would have been."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx

STEPS = 30  # before the state is carried over
NEWTON_SCHULZ = 5e-6  # in place of that for muon: its iteration amplifies the roundings of f32, in f64 it agrees
NEXT_STEP = 1e-6  # relative to the largest element of a leaf's step, f32: the contract
SEVERAL = 10  # times as much after six steps: roundings of two programs add up
F64 = 1e-11  # the same in float64, where only the equations can differ
ALMOST = 1e-7  # optax forms adafactor's decay in f32, and adds muon's ε to the norm of a mean corrected for bias
MATRICES = {
    "hidden": {"w": (9, 3)},
    "out": (4, 12),
}  # well conditioned: the iteration amplifies roundings by 3.4 a turn
SHAPES = {"hidden": {"w": (6, 4), "b": (4,)}, "out": (5, 5), "scale": (), "tall": (3, 7)}


class Pair(NamedTuple):
    """One optimizer as both libraries have it."""

    name: str
    ours: Callable[..., Any]  # engine options -> adaptx optimizer
    theirs: Callable[..., Any]
    shapes: dict = SHAPES
    steps: int = STEPS


def decreasing(step):
    return 0.1 / (1 + 0.1 * step)


def neither_corrected(lr, **given):
    scale = optax.scale_by_amsgrad(bias_correction_mu=False, bias_correction_nu=False, **given)
    return optax.chain(scale, optax.scale_by_learning_rate(lr))


def rms_with_momentum_before_the_rate(lr):
    rms = optax.scale_by_rms(0.95, eps_in_sqrt=False)
    return optax.chain(rms, optax.trace(0.8), optax.scale_by_learning_rate(lr))


def contrib_muon(**given):
    return optax.contrib.muon(0.02, eps=1e-7, consistent_rms=0.2, **given)


# fmt: off
OPTAX = [
    Pair("sgd", lambda **o: adaptx.sgd(decreasing, **o), lambda: optax.sgd(decreasing)),
    Pair("momentum", lambda **o: adaptx.momentum(0.1, 0.9, **o), lambda: optax.sgd(0.1, 0.9)),
    Pair("momentum_nesterov", lambda **o: adaptx.momentum(decreasing, 0.9, nesterov=True, **o),
         lambda: optax.sgd(decreasing, 0.9, nesterov=True)),
    Pair("momentum_dampened", lambda **o: adaptx.momentum(0.1, 0.9, 0.75, **o), lambda: optax.sgd(0.025, 0.9)),
    Pair("adagrad", lambda **o: adaptx.adagrad(0.1, 1e-7, initial_accumulator=0.1, **o), lambda: optax.adagrad(0.1)),
    Pair("rmsprop", lambda **o: adaptx.rmsprop(0.01, 0.95, **o), lambda: optax.rmsprop(0.01, 0.95)),
    Pair("rmsprop_debiased", lambda **o: adaptx.rmsprop(0.01, 0.95, debias=True, **o),
         lambda: optax.rmsprop(0.01, 0.95, bias_correction=True)),
    Pair("rmsprop_centered", lambda **o: adaptx.rmsprop(0.01, 0.95, 1e-4, False, centered=True, **o),
         lambda: optax.rmsprop(0.01, 0.95, 1e-4, eps_in_sqrt=False, centered=True)),
    Pair("rmsprop_momentum", lambda **o: adaptx.rmsprop(0.01, 0.95, centered=True, momentum=0.8, debias=True, **o),
         lambda: optax.rmsprop(0.01, 0.95, centered=True, momentum=0.8, bias_correction=True)),
    Pair("rmsprop_momentum_first", lambda **o: adaptx.rmsprop(decreasing, 0.95, eps_in_sqrt=False, momentum=0.8, **o),
         lambda: rms_with_momentum_before_the_rate(decreasing)),
    Pair("adam", lambda **o: adaptx.adam(0.01, b2=0.95, **o), lambda: optax.adam(0.01, b2=0.95)),
    Pair("adam_nesterov", lambda **o: adaptx.adam(decreasing, b2=0.95, nesterov=True, **o),
         lambda: optax.nadam(decreasing, b2=0.95)),
    Pair("adam_amsgrad", lambda **o: adaptx.adam(0.01, b2=0.95, debias=False, amsgrad=True, **o),
         lambda: neither_corrected(0.01, b2=0.95)),
    Pair("adamw", lambda **o: adaptx.adamw(decreasing, b2=0.95, weight_decay=0.1, **o),
         lambda: optax.adamw(decreasing, b2=0.95, weight_decay=0.1)),
    Pair("lion", lambda **o: adaptx.lion(decreasing, **o), lambda: optax.lion(decreasing, weight_decay=0.0)),
    Pair("adafactor", lambda **o: adaptx.adafactor(decreasing, min_dim_size_to_factor=4, **o),
         lambda: optax.adafactor(decreasing, 4)),
    Pair("muon", lambda **o: adaptx.muon(0.02, nesterov=False, scale="rms", adamw=False, **o),
         lambda: contrib_muon(nesterov=False), MATRICES),
    Pair("muon_nesterov", lambda **o: adaptx.muon(0.02, scale="rms", adamw=False, **o), contrib_muon, MATRICES, 400),
]
# fmt: on


def draw(shapes: Any, seed: int) -> Any:
    """A tree of normal numbers."""
    rng = np.random.default_rng(seed)
    dtype = jnp.result_type(float)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.normal(size=s), dtype), shapes, is_leaf=lambda s: isinstance(s, tuple)
    )


def run(opt: Any, params: Any, state: Any, shapes: Any, seeds: range) -> tuple[Any, Any]:
    """(parameters, state) after steps on the gradients of some seeds."""
    update = jax.jit(opt.update)
    for seed in seeds:
        updates, state = update(draw(shapes, seed), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def difference(a: Any, b: Any) -> float:
    """The largest difference of two trees of steps, relative to the largest element of a leaf."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(
        float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) / float(np.max(np.abs(np.asarray(y)))) for x, y in pairs
    )


def compare(pair: Pair, mine: tuple[Any, Any], other: tuple[Any, Any], params: Any, tolerance: float) -> None:
    """The next step, and six steps more, of two (optimizer, state)s from one point."""
    g = draw(pair.shapes, 999)
    steps = [jax.jit(opt.update)(g, state, params)[0] for opt, state in (mine, other)]
    found = difference(*steps)
    print(f"{pair.name}: {found:.1e}")
    assert found <= tolerance
    ends = [run(opt, params, state, pair.shapes, range(1000, 1006))[0] for opt, state in (mine, other)]
    # of the whole tree: a leaf of one element may come back to where it was
    moved = [jax.flatten_util.ravel_pytree(jax.tree.map(lambda x, p: x - p, end, params))[0] for end in ends]
    assert difference(*moved) <= SEVERAL * tolerance


def every_other(pairs: list, first: int) -> list:
    """All pairs, those in between slow: the other direction of the same pair is not."""
    slow = [() if i % 2 == first else pytest.mark.slow for i in range(len(pairs))]
    return [pytest.param(pair, id=pair.name, marks=mark) for pair, mark in zip(pairs, slow, strict=True)]


def optax_tolerance(pair: Pair) -> float:
    return NEWTON_SCHULZ if "muon" in pair.name else NEXT_STEP


@pytest.mark.parametrize("pair", every_other(OPTAX, 0))
def test_from_optax(pair: Pair):
    opt, tx, start = pair.ours(), pair.theirs(), draw(pair.shapes, 0)
    params, there = run(tx, start, tx.init(start), pair.shapes, range(1, pair.steps + 1))
    compare(pair, (opt, adaptx.from_optax(opt, there, params)), (tx, there), params, optax_tolerance(pair))


@pytest.mark.parametrize("pair", every_other(OPTAX, 1))
def test_to_optax(pair: Pair):
    opt, tx, start = pair.ours(), pair.theirs(), draw(pair.shapes, 0)
    params, here = run(opt, start, opt.init(start), pair.shapes, range(1, pair.steps + 1))
    template = tx.init(start)
    there = adaptx.to_optax(opt, here, params, template)
    kinds = [jax.tree.map(lambda x: (jnp.shape(x), jnp.asarray(x).dtype), state) for state in (there, template)]
    assert kinds[0] == kinds[1]
    compare(pair, (tx, there), (opt, here), params, optax_tolerance(pair))


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
@pytest.mark.parametrize("pair", OPTAX, ids=lambda p: p.name)
def test_optax_in_float64(pair: Pair):
    opt, tx, start = pair.ours(), pair.theirs(), draw(pair.shapes, 0)
    params, there = run(tx, start, tx.init(start), pair.shapes, range(1, pair.steps + 1))
    here = adaptx.from_optax(opt, there, params)
    compare(pair, (opt, here), (tx, there), params, ALMOST if pair.name.startswith(("muon", "adafactor")) else F64)
    back = adaptx.to_optax(opt, here, params, tx.init(start))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-14), back, there)


def torch_next(optimizer: Any, tensors: list, grads: Any) -> list[np.ndarray]:
    """The steps of a torch optimizer for one tree of gradients."""
    torch = pytest.importorskip("torch")
    before = [x.detach().clone() for x in tensors]
    for x, g in zip(tensors, jax.tree.leaves(grads), strict=True):
        x.grad = torch.tensor(np.asarray(g))
    optimizer.step()
    return [(x.detach() - old).numpy() for x, old in zip(tensors, before, strict=True)]


def torch_tensors(params: Any) -> list:
    torch = pytest.importorskip("torch")
    return [torch.nn.Parameter(torch.tensor(np.asarray(p))) for p in jax.tree.leaves(params)]


def torch_rate(start: float, decay: float):
    return lambda t: start / (1 + decay * t)


# fmt: off
TORCH = [
    Pair("sgd", lambda **o: adaptx.sgd(0.1, **o), lambda ps, t: t.SGD(ps, 0.1)),
    Pair("momentum", lambda **o: adaptx.momentum(0.1, 0.9, **o), lambda ps, t: t.SGD(ps, 0.1, 0.9)),
    Pair("momentum_dampened", lambda **o: adaptx.momentum(0.1, 0.9, 0.75, weight_decay=0.1, decay_mode="l2", **o),
         lambda ps, t: t.SGD(ps, 0.1, 0.9, 0.75, weight_decay=0.1)),
    Pair("momentum_nesterov", lambda **o: adaptx.momentum(0.1, 0.9, nesterov=True, **o),
         lambda ps, t: t.SGD(ps, 0.1, 0.9, nesterov=True)),
    Pair("adagrad", lambda **o: adaptx.adagrad(torch_rate(0.1, 0.01), 1e-10, False, **o),
         lambda ps, t: t.Adagrad(ps, 0.1, lr_decay=0.01)),
    Pair("rmsprop", lambda **o: adaptx.rmsprop(0.01, 0.99, eps_in_sqrt=False, **o), lambda ps, t: t.RMSprop(ps, 0.01)),
    Pair("rmsprop_all", lambda **o: adaptx.rmsprop(0.01, 0.9, 1e-4, False, centered=True, momentum=0.8, **o),
         lambda ps, t: t.RMSprop(ps, 0.01, 0.9, 1e-4, centered=True, momentum=0.8)),
    Pair("adam", lambda **o: adaptx.adam(0.01, weight_decay=0.1, decay_mode="l2", **o),
         lambda ps, t: t.Adam(ps, 0.01, weight_decay=0.1)),
    Pair("adam_amsgrad", lambda **o: adaptx.adam(0.01, amsgrad=True, **o),
         lambda ps, t: t.Adam(ps, 0.01, amsgrad=True)),
    Pair("adamw", lambda **o: adaptx.adamw(0.01, **o), lambda ps, t: t.AdamW(ps, 0.01)),
    Pair("adafactor", lambda **o: adaptx.adafactor(lambda k: jnp.minimum(0.1, 1 / jnp.sqrt(k + 1.0)), eps1=0.0, **o),
         lambda ps, t: t.Adafactor(ps, 0.1)),
    Pair("muon", lambda **o: adaptx.muon(0.02, adamw=False, output="rows", **o),
         lambda ps, t: t.Muon(ps, 0.02, weight_decay=0.0), MATRICES),
]
# fmt: on
BF16_ITERATION = 5e-2  # torch's Muon iterates in bf16 and so is off by its roundings; its momentum is not
SHRUNK = 0.01  # torch moves parameters, and its step is their difference: less is lost where p is as small as the step


def torch_at(pair: Pair, start: Any) -> tuple[Any, list]:
    """(torch optimizer, its parameters) after some steps."""
    torch = pytest.importorskip("torch")
    tensors = torch_tensors(start)
    optimizer = pair.theirs(tensors, torch.optim)
    for seed in range(1, pair.steps + 1):
        torch_next(optimizer, tensors, draw(pair.shapes, seed))
    return optimizer, tensors


def as_tree(like: Any, arrays: list) -> Any:
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(x) for x in arrays])


def numbers(state_dict: dict) -> list[dict]:
    """The state of a state dict as NumPy arrays."""
    return [{k: np.asarray(x) for k, x in entry.items() if x is not None} for entry in state_dict["state"].values()]


def compare_torch(pair: Pair, opt: Any, state: Any, optimizer: Any, tensors: list, tolerance: float) -> None:
    """The next step from one point, and what is remembered after it."""
    for x in tensors:
        x.detach().mul_(SHRUNK)
    params = as_tree(draw(pair.shapes, 0), [x.detach().numpy() for x in tensors])
    g = draw(pair.shapes, 999)
    mine, after = jax.jit(opt.update)(g, state, params)
    found = difference(mine, torch_next(optimizer, tensors, g))
    print(f"torch {pair.name}: {found:.1e}")
    assert found <= tolerance
    made = adaptx.to_torch(opt, after, params, optimizer)
    for one, other in zip(numbers(made), numbers(optimizer.state_dict()), strict=True):
        assert set(one) == set(other)
        for key, x in one.items():
            assert x.dtype == other[key].dtype
            np.testing.assert_allclose(x, other[key], rtol=2e-6, atol=1e-7)


def torch_tolerance(pair: Pair, single: float) -> float:
    return BF16_ITERATION if pair.name == "muon" else single


@pytest.mark.usefixtures("x64")
@pytest.mark.slow
@pytest.mark.parametrize("pair", TORCH, ids=lambda p: p.name)
def test_torch_in_float64(pair: Pair):
    """Both ways; equal but for roundings, of f32 numbers in torch's case (an epsilon, a step counter)."""
    optimizer, tensors = torch_at(pair, draw(pair.shapes, 0))
    assert tensors[0].detach().numpy().dtype == np.float64
    opt = pair.ours()
    params = as_tree(draw(pair.shapes, 0), [x.detach().numpy() for x in tensors])
    state = adaptx.from_torch(opt, optimizer.state_dict(), params)
    compare_torch(pair, opt, state, optimizer, tensors, torch_tolerance(pair, F64))


@pytest.mark.parametrize("pair", every_other(TORCH, 1))
def test_from_torch(pair: Pair):
    optimizer, tensors = torch_at(pair, draw(pair.shapes, 0))
    opt = pair.ours()
    params = as_tree(draw(pair.shapes, 0), [x.detach().numpy() for x in tensors])
    state = adaptx.from_torch(opt, optimizer.state_dict(), params)
    compare_torch(pair, opt, state, optimizer, tensors, torch_tolerance(pair, NEXT_STEP))


@pytest.mark.parametrize("pair", every_other(TORCH, 0))
def test_to_torch(pair: Pair):
    torch = pytest.importorskip("torch")
    opt, start = pair.ours(), draw(pair.shapes, 0)
    params, state = run(opt, start, opt.init(start), pair.shapes, range(1, pair.steps + 1))
    tensors = torch_tensors(params)
    optimizer = pair.theirs(tensors, torch.optim)
    optimizer.load_state_dict(adaptx.to_torch(opt, state, params, optimizer))
    compare_torch(pair, opt, state, optimizer, tensors, torch_tolerance(pair, NEXT_STEP))


NESTED = {
    "chain": lambda tx: optax.chain(optax.clip_by_global_norm(1e6), tx),
    "chain_in_chain": lambda tx: optax.chain(optax.chain(optax.identity(), tx), optax.scale(1.0)),
    "named_chain": lambda tx: optax.named_chain(("clip", optax.clip(1e6)), ("rest", tx)),
    "masked": lambda tx: optax.masked(tx, lambda p: jax.tree.map(lambda _: True, p)),
    "partition": lambda tx: optax.partition({"all": tx}, lambda p: jax.tree.map(lambda _: "all", p)),
}


@pytest.mark.parametrize("name", NESTED)
def test_wherever_the_state_lies(name: str):
    tx, opt = NESTED[name](optax.adam(decreasing, b2=0.95)), adaptx.adam(decreasing, b2=0.95)
    start = draw(SHAPES, 0)
    params, there = run(tx, start, tx.init(start), SHAPES, range(1, 10))
    here = adaptx.from_optax(opt, there, params)
    compare(Pair(name, adaptx.adam, optax.adam), (opt, here), (tx, there), params, NEXT_STEP)
    back = adaptx.to_optax(opt, here, params, tx.init(start))
    jax.tree.map(np.testing.assert_array_equal, back, there)


def test_injected_hyperparameters_count_the_steps():
    tx, opt = optax.inject_hyperparams(optax.sgd)(decreasing, momentum=0.9), adaptx.momentum(decreasing, 0.9)
    start = draw(SHAPES, 0)
    params, there = run(tx, start, tx.init(start), SHAPES, range(1, 10))
    here = adaptx.from_optax(opt, there, params)
    assert int(here.step) == 9
    compare(Pair("injected", adaptx.adam, optax.adam), (opt, here), (tx, there), params, NEXT_STEP)
    assert int(adaptx.to_optax(opt, here, params, tx.init(start)).count) == 9


def test_bare_directions():
    tx, opt = optax.scale_by_adam(b2=0.95), adaptx.scale_by_rule(adaptx.rules.Adam(b2=0.95))
    start = draw(SHAPES, 0)
    params, there = run(tx, start, tx.init(start), SHAPES, range(1, 10))
    here = adaptx.from_optax(opt, there, params)
    compare(Pair("bare", adaptx.adam, optax.adam), (opt, here), (tx, there), params, NEXT_STEP)


def test_step_and_clock_of_the_slots_are_apart():
    """Slots that were reset since count from there, schedules from the beginning."""
    opt, params = adaptx.adam(decreasing), draw(SHAPES, 0)
    state = opt.reset(run(opt, params, opt.init(params), SHAPES, range(5))[1], params)
    _, state = run(opt, params, state, SHAPES, range(3))
    tx = optax.adam(decreasing)
    there = adaptx.to_optax(opt, state, params, tx.init(params))
    assert [int(there[0].count), int(there[1].count)] == [3, 8]
    back = adaptx.from_optax(opt, there, params)
    assert [int(back.step), int(back.born)] == [8, 5]
    assert int(adaptx.from_optax(opt, there, params, step=20).step) == 20


BIG = {"a": (64, 80), "b": (70, 64), "bias": (64,)}
WIDTH = {"bf16": 2**-7, "int8": 2**-2}  # the largest relative error of one code, near the largest of a block


STORED = [(name, storage, "leaf") for name in ("adam", "adagrad", "adafactor") for storage in ("f32", "bf16", "int8")]
STORED += [("adam", storage, "packed") for storage in ("f32", "bf16", "int8")] + [("adam", {"m": "int8"}, "leaf")]


FAST = (("adafactor", "int8", "leaf"), ("adam", "bf16", "packed"))


@pytest.mark.parametrize(
    ("name", "storage", "layout"),
    [pytest.param(*cell, id=str(cell), marks=() if cell in FAST else pytest.mark.slow) for cell in STORED],
)
def test_storages_and_layouts(name: str, storage: Any, layout: str):
    """In with the codes a step would make, out as they are decoded; the state is one that a step takes."""
    plain = getattr(adaptx, name)(0.01)
    opt, params = plain.replace(storage=storage, layout=layout), draw(BIG, 0)
    tx = {"adam": optax.adam(0.01), "adagrad": optax.adagrad(0.01), "adafactor": optax.adafactor(0.01, 1)}[name]
    _, there = run(tx, params, tx.init(params), BIG, range(3))
    state = adaptx.from_optax(opt, there, params)
    assert jax.tree.structure(state) == jax.tree.structure(opt.init(params))
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, opt.init(params))
    back = adaptx.to_optax(opt, state, params, tx.init(params))
    if storage == "f32":
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=3e-7), back, there)
    for x, y in zip(jax.tree.leaves(back), jax.tree.leaves(there), strict=True):
        width = max(WIDTH.get(kind, 0.0) for kind in ([storage] if isinstance(storage, str) else storage.values()))
        assert float(jnp.max(jnp.abs(x - y))) <= (width + 1e-6) * float(jnp.max(jnp.abs(y)))
    opt.step(draw(BIG, 7), state, params)


def test_narrow_moments_of_optax_widen_and_come_back():
    tx, opt, params = optax.adam(0.01, mu_dtype=jnp.bfloat16), adaptx.adam(0.01), draw(SHAPES, 0)
    _, there = run(tx, params, tx.init(params), SHAPES, range(5))
    state = adaptx.from_optax(opt, there, params)
    assert {x.dtype for x in jax.tree.leaves(state.slots)} == {jnp.dtype("float32")}
    jax.tree.map(np.testing.assert_array_equal, adaptx.to_optax(opt, state, params, tx.init(params)), there)


def test_narrow_parameters_and_what_rounding_keeps():
    params = jax.tree.map(lambda p: p.astype(jnp.bfloat16), draw(SHAPES, 0))
    tx, opt = optax.adam(0.01), adaptx.adam(0.01, rounding="master")
    state = adaptx.from_optax(opt, tx.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, state, opt.init(params))
    torch = pytest.importorskip("torch")
    tensors = [torch.nn.Parameter(torch.zeros(np.shape(p), dtype=torch.bfloat16)) for p in jax.tree.leaves(params)]
    peer = torch.optim.Adam(tensors)
    _, state = run(opt, params, state, SHAPES, range(300))
    peer.load_state_dict(adaptx.to_torch(opt, state, params, peer))
    entry = peer.state_dict()["state"][0]
    assert entry["exp_avg"].dtype == torch.bfloat16
    assert float(entry["step"]) == 300
    assert int(adaptx.from_torch(opt, peer.state_dict(), params).step) == 300


def test_leaves_that_are_not_trained_are_carried_along():
    params = {"w": jnp.ones((3, 2)), "n": jnp.arange(3), "none": None}
    tx, opt = optax.adam(0.1), adaptx.adam(0.1)
    g = {"w": jnp.ones((3, 2)), "n": jnp.zeros(3, jnp.int32), "none": None}
    state = adaptx.from_optax(opt, tx.init(params), params)
    assert jax.tree.structure(state) == jax.tree.structure(opt.init(params))
    _, state = opt.update(g, state, params)
    there = adaptx.to_optax(opt, state, params, tx.init(params))
    assert jax.tree.structure(there) == jax.tree.structure(tx.init(params))
    np.testing.assert_array_equal(there[0].mu["n"], 0)


def test_no_buffer_is_shared():
    tx, opt, params = optax.adam(0.1), adaptx.adam(0.1), draw(SHAPES, 0)
    there = tx.init(params)
    state = adaptx.from_optax(opt, there, params)
    back = adaptx.to_optax(opt, state, params, there)
    held = [{x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)} for tree in (there, state.slots, back[0].mu)]
    assert not held[0] & held[1]
    assert not held[1] & held[2]


def test_under_jit():
    tx, opt, params = optax.adam(0.1), adaptx.adam(0.1), draw(SHAPES, 0)
    _, there = run(tx, params, tx.init(params), SHAPES, range(5))
    state = jax.jit(lambda s: adaptx.from_optax(opt, s, params))(there)
    jax.tree.map(np.testing.assert_array_equal, state, adaptx.from_optax(opt, there, params))
    back = jax.jit(lambda s: adaptx.to_optax(opt, s, params, tx.init(params)))(state)
    jax.tree.map(np.testing.assert_array_equal, back, there)


def test_torch_names_say_which_leaf_is_which():
    torch = pytest.importorskip("torch")
    params = {"b": jnp.zeros(3), "w": jnp.zeros((3, 3)), "v": jnp.zeros((3, 3))}
    names, opt = ["w", "b", "v"], adaptx.adam()
    tensors = [torch.nn.Parameter(torch.zeros(np.shape(params[name]))) for name in names]
    peer = torch.optim.Adam([{"params": tensors[:2]}, {"params": tensors[2:]}])
    for i, x in enumerate(tensors):
        x.grad = torch.full_like(x, float(i + 1))
    peer.step()
    state = adaptx.from_torch(opt, peer.state_dict(), params, names)
    for i, name in enumerate(names):
        np.testing.assert_allclose(state.slots["m"][name], 0.1 * (i + 1), rtol=1e-6)
    made = adaptx.to_torch(opt, state, params, peer, names)
    for key, entry in peer.state_dict()["state"].items():
        for what, x in entry.items():
            np.testing.assert_array_equal(made["state"][key][what], x)
