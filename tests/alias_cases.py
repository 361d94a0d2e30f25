"""What a user of optax expects of any optimizer, tried on ours: a row an optimizer, a column a case.

    python tests/alias_cases.py [NAME ...]

prints the table and exits with 1 where a case failed. The subjects are those on which optax holds its own aliases; the
cases are written from what its documentation promises, and nothing here looks inside an adaptx state.
"""

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax

import adaptx
from adaptx import controllers
from probes import avals, is_like_params

START = {"w": np.array([[-0.5, 0.5], [0.6, -0.4]]), "b": np.array([0.2, 0.8])}
GOAL = {"w": np.array([[1.0, -2.0], [0.5, 1.5]]), "b": np.array([-1.0, 2.0])}
PARABOLA, ROSENBROCK = 400, 6000  # steps
NEAR, NEAR_ROSENBROCK = 0.03, 0.1  # to the minimum, every entry
ONE_STEP = 1e-5  # relative: two programs of one step, hyperparameters as f32 arguments or as constants


def parabola(p):
    return sum(jnp.sum((p[name] - GOAL[name].astype(p[name].dtype)) ** 2) for name in p)


def rosenbrock(p):
    """Of every pair along the last axis; all ones is the minimum."""
    return sum(jnp.sum((1 - x[..., 0]) ** 2 + 100 * (x[..., 1] - x[..., 0] ** 2) ** 2) for x in p.values())


def fading(rate: float, steps: int) -> Callable:
    """Constant for the first half, then down to 0, for those whose steps do not shrink with the gradient."""
    return optax.linear_schedule(rate, 0.0, steps // 2, steps // 2)


@dataclass(frozen=True)
class Entry:
    """An optimizer, and the rates at which it minimizes."""

    make: Callable[[Any], Any]  # rate -> optimizer
    parabola: float = 0.1
    rosenbrock: float = 0.01
    fades: bool = False  # whether the rate goes to 0 on the way


def routed(rate):
    groups = {"matrices": adaptx.muon(rate), "rest": adaptx.adam(rate)}
    return adaptx.route(groups, by={"^w$": "matrices"}, default="rest")


EXACT = {"storage_exclude": 0}  # these parameters are small, and are to be stored narrow all the same
TABLE = {
    "sgd": Entry(adaptx.sgd, 0.1, 1e-3),
    "momentum": Entry(adaptx.momentum, 0.03, 5e-4),
    "nesterov": Entry(lambda rate: adaptx.momentum(rate, nesterov=True), 0.03, 5e-4),
    "adagrad": Entry(adaptx.adagrad, 1.0, 0.5),
    "rmsprop": Entry(adaptx.rmsprop, 0.05, 0.01, fades=True),
    "rmsprop_centered": Entry(
        lambda rate: adaptx.rmsprop(rate, centered=True, momentum=0.9, eps=1e-6), 0.01, 1e-3, True
    ),
    "adam": Entry(adaptx.adam, 0.1, 0.01),
    "adamw": Entry(lambda rate: adaptx.adamw(rate, weight_decay=1e-4), 0.1, 0.01),
    "amsgrad": Entry(lambda rate: adaptx.adam(rate, amsgrad=True), 0.1, 0.05),
    "nadam": Entry(lambda rate: adaptx.adam(rate, nesterov=True), 0.1, 0.01),
    "lion": Entry(adaptx.lion, 0.05, 3e-3, fades=True),
    "lars": Entry(lambda rate: adaptx.lars(rate, coefficient=1.0), 0.02, 1e-3, fades=True),
    "lamb": Entry(adaptx.lamb, 0.05, 3e-3, fades=True),
    "adafactor": Entry(adaptx.adafactor, 0.1, 0.01, fades=True),
    "muon_routed": Entry(routed, 0.05, 0.01, fades=True),
    "adam_bf16": Entry(lambda rate: adaptx.adam(rate, storage="bf16", **EXACT), 0.1, 0.01, fades=True),
    "adam_int8": Entry(lambda rate: adaptx.adam(rate, storage="int8", **EXACT), 0.1, 0.01, fades=True),
    "adam_packed": Entry(lambda rate: adaptx.adam(rate, layout="packed"), 0.1, 0.01),
    "schedule_free": Entry(lambda rate: adaptx.schedule_free(adaptx.adam(rate, b1=0.0)), 0.1, 0.01),
    "lookahead": Entry(lambda rate: adaptx.lookahead(adaptx.adam(rate)), 0.1, 0.01),
    "grokfast": Entry(lambda rate: adaptx.grokfast(adaptx.adam(rate), alpha=0.5), 0.1, 0.01),
    "averaged": Entry(lambda rate: adaptx.averaged(adaptx.adam(rate), 0.9), 0.1, 0.01),
    "prodigy": Entry(lambda rate: adaptx.adam(controllers.prodigy(rate)), 1.0, 1.0),
    "hypergradient": Entry(lambda rate: adaptx.adam(controllers.hypergradient(rate)), 0.02, 1e-3),
}


def start(dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    return {name: jnp.asarray(x, dtype) for name, x in START.items()}


def descend(opt: Any, loss: Callable, params: Any, steps: int) -> tuple[Any, Any]:
    """(parameters to evaluate, state) after some steps through optax's interface, in one program."""

    def body(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = opt.update(grads, state, params, value=value)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def train(params):
        (params, state), _ = jax.lax.scan(body, (params, opt.init(params)), length=steps)
        return adaptx.eval_params(opt, state, params), state

    return train(params)


def minimizes_a_parabola(e: Entry) -> None:
    opt = e.make(fading(e.parabola, PARABOLA) if e.fades else e.parabola)
    chex.assert_trees_all_close(descend(opt, parabola, start(), PARABOLA)[0], GOAL, rtol=0, atol=NEAR)


def minimizes_rosenbrock(e: Entry) -> None:
    opt = e.make(fading(e.rosenbrock, ROSENBROCK) if e.fades else e.rosenbrock)
    found = descend(opt, rosenbrock, start(), ROSENBROCK)[0]
    chex.assert_trees_all_close(found, jax.tree.map(np.ones_like, START), rtol=0, atol=NEAR_ROSENBROCK)


def keeps_dtypes(e: Entry) -> None:
    """Parameters in f32, bf16 or f64: updates like them, and a state that a second step finds as the first one did."""
    for dtype, x64 in ((jnp.float32, False), (jnp.bfloat16, False), (jnp.float64, True)):
        with jax.enable_x64(x64):
            opt, params = e.make(0.01), start(dtype)
            state = jax.eval_shape(opt.init, params)
            step = jax.eval_shape(lambda p, s, opt=opt: opt.update(p, s, p, value=1.0), params, state)
            assert avals(step) == avals((params, state)), dtype
            finest = jnp.float64 if x64 else jnp.float32
            wide = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
            assert all(jnp.finfo(x.dtype).bits <= jnp.finfo(finest).bits for x in wide), dtype
            if dtype != jnp.bfloat16 and "storage" not in repr(opt):  # nothing of the state is coarser than f32
                assert all(jnp.finfo(x.dtype).bits >= 32 for x in wide), dtype


def descends_in_every_dtype(e: Entry) -> None:
    """A tenth of the way in bf16 and in f64 too."""
    for dtype, x64 in ((jnp.bfloat16, False), (jnp.float64, True)):
        with jax.enable_x64(x64):
            params, state = descend(e.make(e.parabola), parabola, start(dtype), PARABOLA // 10)
            chex.assert_trees_all_equal_shapes_and_dtypes(params, start(dtype))
            chex.assert_tree_all_finite((params, state))
            assert parabola(params) < 0.7 * parabola(start(dtype)), dtype


def maps_over_what_is_like_parameters(e: Entry) -> None:
    opt = e.make(0.01)
    state = opt.init(start())
    same = optax.tree_utils.tree_map_params(opt, lambda x: x, state)
    chex.assert_trees_all_equal(same, state)
    other = {"transform_non_params": lambda x: jax.tree.map(lambda _: False, x)}
    marked = optax.tree_utils.tree_map_params(opt, lambda _: True, state, **other)
    assert jax.tree.structure(marked) == jax.tree.structure(state)
    for path, found in jax.tree_util.tree_leaves_with_path(marked):
        assert found == is_like_params(path), jax.tree_util.keystr(path)


def accumulates(e: Entry) -> None:
    """optax.MultiSteps over two halves of a gradient is one step on their mean, and nothing moves in between."""
    opt = e.make(0.01)
    multi = optax.MultiSteps(opt, 2)

    @jax.jit
    def both(params):
        grads = jax.grad(parabola)(params)
        first, second = jax.tree.map(lambda g: 0.5 * g, grads), jax.tree.map(lambda g: 1.5 * g, grads)
        between, state = multi.update(first, multi.init(params), params, value=1.0)
        updates, state = multi.update(second, state, params, value=1.0)
        return between, updates, opt.update(grads, opt.init(params), params, value=1.0)[0], state.gradient_step

    between, updates, at_once, steps = both(start())
    chex.assert_trees_all_equal(between, jax.tree.map(jnp.zeros_like, between))
    chex.assert_trees_all_close(updates, at_once, rtol=ONE_STEP, atol=1e-7)
    assert int(steps) == 1


def takes_its_place_in_a_chain(e: Entry) -> None:
    """Extra arguments that it does not know change nothing, in a chain or outside, and update is step."""
    opt = e.make(0.01)
    assert optax.with_extra_args_support(opt) is opt
    init, update = opt
    chained = optax.chain(optax.identity(), opt, optax.scale(1.0))

    @jax.jit
    def every(params):
        grads, state = jax.grad(parabola)(params), init(params)
        plain, after = update(grads, state, params)
        known, same = opt.update(grads, state, params, value=parabola(params), unheard_of="words")
        linked, (_, inside, _) = chained.update(grads, chained.init(params), params, value=1.0, unheard_of=None)
        stepped, fused = opt.step(grads, state, params)
        applied = optax.apply_updates(params, plain)
        return (plain, after), (known, same), (linked, inside), (applied, after), (stepped, fused)

    plain, known, linked, applied, stepped = every(start())
    chex.assert_trees_all_close(known, plain, rtol=ONE_STEP, atol=1e-7)
    chex.assert_trees_all_close(linked, plain, rtol=ONE_STEP, atol=1e-7)
    chex.assert_trees_all_close(stepped[0], applied[0], rtol=ONE_STEP, atol=1e-7)


def changes_its_rate_without_a_trace(e: Entry) -> None:
    """As an argument of a jitted step, and inside optax.inject_hyperparams, a rate is a number like any other."""
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(opt, state, params):
        updates, state = opt.update(jax.grad(parabola)(params), state, params)
        return updates, state

    slow, fast = e.make(0.01), e.make(0.02)
    params = start()
    first, state = step(slow, slow.init(params), params)
    params = optax.apply_updates(params, first)
    updates, _ = step(fast, state, params)
    rate_is_seen, _ = step(slow, state, params)
    assert max(jax.tree.leaves(jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), updates, rate_is_seen))) > 0

    injected = optax.inject_hyperparams(lambda learning_rate: e.make(learning_rate))(learning_rate=0.01)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def through_optax(state, params):
        return injected.update(jax.grad(parabola)(params), state, params)

    again, outer = through_optax(injected.init(start()), start())
    chex.assert_trees_all_close(again, first, rtol=ONE_STEP, atol=1e-7)
    outer.hyperparams["learning_rate"] = jnp.asarray(0.02, outer.hyperparams["learning_rate"].dtype)
    chex.assert_trees_all_close(through_optax(outer, params)[0], updates, rtol=ONE_STEP, atol=1e-7)


CASES = {
    "parabola": minimizes_a_parabola,
    "rosenbrock": minimizes_rosenbrock,
    "dtypes": keeps_dtypes,
    "descends": descends_in_every_dtype,
    "tree_map_params": maps_over_what_is_like_parameters,
    "accumulation": accumulates,
    "chain": takes_its_place_in_a_chain,
    "rates": changes_its_rate_without_a_trace,
}


def main(names: list[str]) -> int:
    """Print the table; 1 where a case failed."""
    failures = []
    print(f"{'':18s}" + " ".join(f"{case:>15s}" for case in CASES))
    for name in names or TABLE:
        row = []
        for case, check in CASES.items():
            try:
                check(TABLE[name])
                row.append("ok")
            except Exception:
                row.append("FAILED")
                failures.append(f"{name}, {case}:\n{traceback.format_exc(limit=-3)}")
        print(f"{name:18s}" + " ".join(f"{word:>15s}" for word in row), flush=True)
    print("\n".join(failures) or f"{len(names or TABLE)} optimizers, {len(CASES)} cases each: all ok")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
