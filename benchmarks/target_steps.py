"""A training step of steps_to_target.py: the optimizers at a point of the grid, and how long a step takes."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from harness import interleaved, median
from target_tables import BASE
from target_tasks import OUTER, Task

import adaptx
from adaptx import optimizers
from adaptx.cli.registries import default_rate

# AdamW with shorter memories too: where training is short, part of what others gain may be that
SHORT = {"adamw_b1_half": partial(adaptx.adamw, b1=0.5), "adamw_b2_095": partial(adaptx.adamw, b2=0.95)}
MAKERS: dict[str, Callable[..., Any]] = {**optimizers.ALL, **SHORT}
RACING = tuple(name for name, make in MAKERS.items() if make().requires <= {"value"})  # by gradients and loss
TIMED = 5  # timings of a step, each of three steps


def built(name: str, rate: Any, decay: Any, warmup: int) -> Any:
    """The optimizer at a rate that is constant after the warmup; matrices within for those that are for matrices.

    Its rate and that of the adamw which then has the rest are equal multiples of their defaults.
    """
    make = MAKERS[name]
    decayed = {"weight_decay": decay, "decay_mode": "independent"}
    options: dict[str, Any] = dict(decayed)

    def warm(factor: float) -> Callable[[jax.Array], jax.Array]:
        return lambda step: factor * rate * jnp.minimum(1.0, (step + 1) / warmup)

    beside = warm(default_rate(adaptx.adamw) / default_rate(make))
    takes = inspect.signature(make).parameters
    if "output" in takes:
        options["output"] = "columns"  # of x W, as both networks have it
    if "adamw" in takes:  # it routes by itself
        return make(warm(1.0), hidden=inner, adamw={"learning_rate": beside, **decayed}, **options)
    opt = make(warm(1.0), **options)
    if all(opt.rule.expects(shape) is None for shape in ((2, 2), (2,))):
        return opt
    rest = adaptx.adamw(beside, **decayed)
    return adaptx.route({"inner": opt, "rest": rest}, by=lambda path, leaf: "inner" if inner(path, leaf) else "rest")


def inner(path: str, leaf: Any) -> bool:
    """Whether a leaf is a matrix inside the network."""
    return leaf.ndim == 2 and path.split("/")[0] not in OUTER


def one_step(task: Task, opt: Any, key: jax.Array, t: jax.Array, carry: Any) -> Any:
    """(parameters, state) after a step of training."""
    params, state = carry
    value, grads = jax.value_and_grad(task.loss)(params, *task.batch(jax.random.fold_in(key, t)))
    return opt.step(grads, state, params, value=value)


class Stepping:
    """Training steps of one run, to be timed."""

    def __init__(self, task: Task, name: str, point: dict[str, Any]):
        opt, key = built(name, point["rate"], point["decay"], 1), jax.random.key(0)
        params = task.init(key)
        self.carry = jax.tree.map(lambda x: jnp.array(x, copy=True), (params, opt.init(params)))
        self.step, self.t = jax.jit(partial(one_step, task, opt, key), donate_argnums=1), 0

    def __call__(self, steps: int = 3) -> Any:
        for _ in range(steps):
            self.carry, self.t = self.step(jnp.uint32(self.t), self.carry), self.t + 1
        return self.carry


def timed(task: Task, name: str, point: dict[str, Any], base: dict[str, Any]) -> dict[str, float]:
    """Seconds of a training step, and over those of the base, which takes turns with it."""
    calls = {BASE: Stepping(task, BASE, base), **({} if name == BASE else {name: Stepping(task, name, point)})}
    for call in calls.values():
        jax.block_until_ready(call())
    taken = {who: median(times) / 3 for who, times in interleaved(calls, TIMED).items()}
    return {"step_seconds": taken[name], "step_ratio": taken[name] / taken[BASE]}
