"""What adaptx.fit does, in ten lines of train_step: the same steps, to the rounding of sums in another order."""

import jax
import jax.numpy as jnp
import numpy as np

import adaptx


def loss(params, x, y):
    """Mean squared error of a linear model."""
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def trained(loss, opt, params, data, steps, batch_size):
    """`steps` steps on minibatches, all rows in another order in every epoch."""
    step, state, rows = adaptx.train_step(loss, opt), opt.init(params), len(data[0])
    per_epoch = rows // batch_size
    for t in range(steps):
        order = np.random.default_rng((0, t // per_epoch)).permutation(rows)
        batch = order[t % per_epoch * batch_size :][:batch_size]
        params, state, metrics = step(params, state, *(x[batch] for x in data))
    return params, state, metrics


x = np.random.default_rng(1).normal(size=(1000, 10)).astype(np.float32)
y = x @ np.arange(10, dtype=np.float32)
start = {"w": jnp.zeros(10), "b": jnp.zeros(())}
opt = adaptx.adam(0.1)

fitted = adaptx.fit(loss, opt, start, (x, y), steps=100, batch_size=50)
params, state, metrics = trained(loss, opt, jax.tree.map(jnp.copy, start), (x, y), 100, 50)
print("loss by fit", fitted.history["loss"][-1], "and by steps", float(metrics["loss"]))
apart = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), fitted.params, params)
print("largest difference of the parameters:", apart)
