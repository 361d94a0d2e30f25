"""The problems of lr_free.py: four bundled data sets, each with a linear model and with a small perceptron.

All problems of one model are padded to one shape, so that one vmapped program trains on all of them. A padded input is
always 0 and a padded output is masked, so their weights start at 0, have gradient 0 and stay 0: no norm, sum or
direction that an optimizer or a controller forms is changed by the padding.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

NAMES = ("breast_cancer", "digits", "wine", "diabetes")
MODELS = ("linear", "mlp")
FEATURES, HIDDEN, OUTPUTS, ROWS = 64, 32, 10, 1797  # the largest of the four; HIDDEN is ours
RIDGE = 1e-3  # of ½ RIDGE ‖params‖², in every loss: without it separable classes have f* = 0 at infinity
ABSENT = -1e9  # logit of a class that a problem does not have


class Problem(NamedTuple):
    """One data set, padded; all rows are training rows. Inputs (and the target of diabetes) are standardized."""

    x: Any  # (ROWS, FEATURES)
    y: Any  # (ROWS,) int class, 0 for a regression
    target: Any  # (ROWS,) of a regression, 0 for classes
    weight: Any  # (ROWS,) 1 / rows, 0 at padded rows
    active: Any  # (OUTPUTS,) bool: outputs that are trained; the reference class of the logistic model is not
    offset: Any  # (OUTPUTS,) logit of the others: 0 for the reference class, ABSENT for the rest
    features: Any  # number of inputs
    regression: Any  # bool


@lru_cache
def problems() -> Problem:
    """The four data sets, stacked along axis 0 in the order of NAMES."""
    return Problem(*(np.stack(column) for column in zip(*map(load, NAMES), strict=True)))


def load(name: str) -> Problem:
    """One data set from scikit-learn."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    spread = x.std(0)
    x = (x - x.mean(0)) / np.where(spread > 0, spread, 1)
    rows, features = x.shape
    regression = name == "diabetes"
    classes = 1 if regression else len(np.unique(y))
    target = (y - y.mean()) / y.std() if regression else np.zeros(rows)
    active = np.arange(OUTPUTS) < (classes if classes != 2 else 1)  # two classes: logistic, class 1 the reference
    offset = np.where(np.arange(OUTPUTS) < classes, 0.0, ABSENT)
    more = (0, ROWS - rows)
    return Problem(
        np.pad(x, (more, (0, FEATURES - features))).astype(np.float32),
        np.pad(np.zeros(rows, int) if regression else y, more).astype(np.int32),
        np.pad(target, more).astype(np.float32),
        np.pad(np.full(rows, 1 / rows), more).astype(np.float32),
        active, offset.astype(np.float32), np.float32(features), np.bool_(regression),
    )  # fmt: skip


def row_counts() -> list[int]:
    """Number of rows of each data set."""
    return [int(np.sum(weight > 0)) for weight in problems().weight]


def init(model: str, key: jax.Array, problem: Problem) -> dict[str, jax.Array]:
    """Zeros for the linear model; He's normal weights for the perceptron, zero where padded."""
    if model == "linear":
        return {"w": jnp.zeros((FEATURES, OUTPUTS)), "b": jnp.zeros(OUTPUTS)}
    first, second = jax.random.split(key)
    there = (jnp.arange(FEATURES) < problem.features)[:, None]
    return {
        "w1": there * jnp.sqrt(2 / problem.features) * jax.random.normal(first, (FEATURES, HIDDEN)),
        "b1": jnp.zeros(HIDDEN),
        "w2": problem.active * jnp.sqrt(1 / HIDDEN) * jax.random.normal(second, (HIDDEN, OUTPUTS)),
        "b2": jnp.zeros(OUTPUTS),
    }


def losses(params: dict[str, jax.Array], problem: Problem, rows: Any) -> jax.Array:
    """The loss of each row: cross entropy in nats, or half the squared error."""
    x = problem.x[rows]
    if "w" in params:
        z = x @ params["w"] + params["b"]
    else:
        z = jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    logits = jnp.where(problem.active, z, problem.offset)
    entropy = jax.nn.logsumexp(logits, -1) - jnp.take_along_axis(logits, problem.y[rows][:, None], -1)[:, 0]
    error = jnp.where(problem.regression, z[:, 0] - problem.target[rows], 0)  # 0 inside, so that it cannot overflow
    return jnp.where(problem.regression, 0.5 * error**2, entropy)


def ridge(params: dict[str, jax.Array]) -> jax.Array:
    """½ RIDGE ‖params‖², which makes the linear problems strongly convex."""
    return 0.5 * RIDGE * sum(jnp.sum(p * p) for p in params.values())


def batch_loss(params: dict[str, jax.Array], problem: Problem, rows: Any) -> jax.Array:
    """Mean loss of a minibatch."""
    return jnp.mean(losses(params, problem, rows)) + ridge(params)


def full_loss(params: dict[str, jax.Array], problem: Problem) -> jax.Array:
    """Mean loss of all rows of the data set: the f of the tables."""
    return jnp.sum(problem.weight * losses(params, problem, slice(None))) + ridge(params)


def batches(seeds: int, steps: int, size: int, shuffled: bool) -> np.ndarray:
    """Row numbers (problems, seeds, steps, size): drawn independently, or in a new random order every epoch."""

    def one(rows: int, seed: int) -> np.ndarray:
        generator, drawn = np.random.default_rng(seed), steps * size
        if not shuffled:
            return generator.integers(0, rows, (steps, size))
        order = np.concatenate([generator.permutation(rows) for _ in range(-(-drawn // rows))])
        return order[:drawn].reshape(steps, size)

    return np.stack([[one(rows, seed) for seed in range(seeds)] for rows in row_counts()]).astype(np.int32)


def start_losses(model: str, seeds: int) -> np.ndarray:
    """f₀, (problems, seeds)."""

    def one(key, problem):
        return full_loss(init(model, key, problem), problem)

    keys = jax.vmap(jax.random.key)(jnp.arange(seeds))
    everything = jax.vmap(jax.vmap(one, (0, None)), (None, 0))
    return np.asarray(jax.jit(everything)(keys, jax.tree.map(jnp.asarray, problems())), np.float64)


def least_losses(model: str, iterations: int) -> np.ndarray:
    """The least full loss that L-BFGS finds in float64 from the start of seed 0, (problems,).

    For the linear models, which are strongly convex, that is f*. For the perceptrons it is an upper bound of it.
    """
    found = []
    with jax.enable_x64(True):
        value_and_grad = jax.jit(jax.value_and_grad(full_loss))
        for index in range(len(NAMES)):
            problem = jax.tree.map(lambda x, i=index: jnp.asarray(x[i]), problems())
            problem = problem._replace(**{n: jnp.asarray(getattr(problem, n), jnp.float64)
                                          for n in ("x", "target", "weight", "offset")})  # fmt: skip
            params = init(model, jax.random.key(0), problem)
            flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda p: p.astype(jnp.float64), params))
            result = minimize(partial(_flat, value_and_grad, unravel, problem), np.asarray(flat), jac=True,
                              method="L-BFGS-B", options={"maxiter": iterations, "maxfun": 2 * iterations,
                                                          "ftol": 1e-15, "gtol": 1e-9})  # fmt: skip
            found.append(float(result.fun))
    return np.array(found)


def _flat(value_and_grad: Any, unravel: Any, problem: Problem, x: np.ndarray) -> tuple[float, np.ndarray]:
    """The loss and its gradient on a flat vector."""
    value, gradient = value_and_grad(unravel(jnp.asarray(x)), problem)
    return float(value), np.asarray(jax.flatten_util.ravel_pytree(gradient)[0], np.float64)
