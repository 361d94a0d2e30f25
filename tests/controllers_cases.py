"""What the tests of controllers share: the golden problem as a JAX loop, and every controller over every rule."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import adaptx
from adaptx import controllers, rules
from adaptx.engine.optimizer import build
from given import given
from golden import controller_rows as rows

LEAF_RATES = ("ldog", "trust_ratio")  # default instances whose rate is one per leaf


def over(rule: str, rate: Any, **engine: Any) -> adaptx.Optimizer:
    """The optimizer of a registered rule with its default hyperparameters."""
    return given(build(rule, rules.ALL[rule](), rate, engine))


def problem(x: Any, y: Any) -> Callable:
    """loss(params) of the golden least squares on one minibatch, or on all (leading axes are averaged over)."""

    def loss(p):
        residual = x @ p["w"] + p["b"] - y
        return 0.5 * jnp.sum(residual**2) / (residual.size / residual.shape[-1])

    return loss


class Run(NamedTuple):
    """What a loop did, entry t belongs to step t counted from 0."""

    params: np.ndarray  # (steps, entries), b before w
    rate: np.ndarray  # (steps,), as adaptx.metrics shows it
    metrics: dict[str, np.ndarray]
    scalars: dict[str, np.ndarray]  # the controller's, in their own precision
    last: Any  # (params, state)


def closed_loop(opt: adaptx.Optimizer, steps: int, *, scale: float = 1.0, full: bool = False, dtype: Any = None) -> Run:
    """opt on the golden problem for some steps, as one scan; float64 unless dtype says otherwise."""
    start = {name: jnp.asarray(value, dtype) for name, value in rows.START.items()}
    return loop_of(opt, start, *data(steps, full, dtype), scale=scale)


def data(steps: int, full: bool = False, dtype: Any = None) -> tuple[jax.Array, jax.Array]:
    """Inputs and targets of every step; full: those of all steps, without noise, at every step."""
    x = np.broadcast_to(rows.X.reshape(1, -1, 6), (steps, rows.X.size // 6, 6)) if full else rows.X[:steps]
    y = x @ rows.SOLUTION["w"] + rows.SOLUTION["b"] if full else rows.Y[:steps]
    return jnp.asarray(x, dtype), jnp.asarray(y, dtype)


def loop_of(opt: adaptx.Optimizer, start: dict, xs: Any, ys: Any, *, scale: float = 1.0) -> Run:
    """opt from start over stacked minibatches, the loss scaled."""

    def body(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(lambda p: scale * problem(*batch)(p))(params)
        params, state = opt.step(grads, state, params, value=value)
        return (params, state), (params, state.metrics, state.control.scalars)

    @jax.jit
    def train(params, batches):
        return jax.lax.scan(body, (params, opt.init(params)), batches)

    last, (params, metrics, scalars) = jax.tree.map(np.asarray, train(start, (xs, ys)))
    flat = np.concatenate([params[name].reshape(len(xs), -1) for name in rows.SHAPES], axis=1)
    return Run(flat, metrics["learning_rate"], metrics, scalars, last)


def deviation(got: np.ndarray, want: np.ndarray) -> float:
    """Largest error relative to the largest entry; NaN if anything is."""
    assert got.shape == want.shape
    return float(np.max(np.abs(got - want)) / np.max(np.abs(want)))


def kept(history: np.ndarray) -> np.ndarray:
    """The steps of a history that the golden file keeps."""
    return np.stack([history[t - 1] for t in rows.SAVED if t <= len(history)])


PAIRS = [(c, r) for c in controllers.ALL for r in rules.ALL]
