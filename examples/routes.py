"""A kernel that is frozen at first and moved by Muon from midway on, the rest by AdamW.

    python examples/routes.py

`adaptx.route` gives every group of leaves an optimizer of its own; clipping is one decision over the whole tree. When
the frozen group gets an optimizer, `adaptx.convert` carries the state over, and says what it had to make up.
"""

import warnings

import jax
import jax.numpy as jnp

import adaptx

STEPS = 100


def init(key):
    """Kernels (16, 32) and (32, 1) with their biases."""
    k1, k2 = jax.random.split(key)
    return {
        "first": {"kernel": jax.random.normal(k1, (16, 32)) / 4, "bias": jnp.zeros(32)},
        "last": {"kernel": jax.random.normal(k2, (32, 1)) / 6, "bias": jnp.zeros(1)},
    }


def loss(params, x, y):
    """Mean squared error: x (512, 16), y (512, 1)."""
    hidden = jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"])  # (512, 32)
    return jnp.mean((hidden @ params["last"]["kernel"] + params["last"]["bias"] - y) ** 2)


def main():
    k_params, k_x, k_teacher = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(k_x, (512, 16))
    y = jnp.tanh(x @ jax.random.normal(k_teacher, (16, 8))).sum(axis=1, keepdims=True)
    groups = {"hidden": adaptx.freeze(), "rest": adaptx.adamw(3e-3)}
    opt = adaptx.route(groups, by={"first/kernel": "hidden"}, default="rest", max_norm=1.0)
    params = init(k_params)
    start = params["first"]["kernel"].copy()
    print(opt.describe(params))

    state = opt.init(params)
    epoch = [jnp.broadcast_to(a, (STEPS, *a.shape)) for a in (x, y)]  # the full batch, 100 times
    params, state, metrics = adaptx.train_epoch(loss, opt)(params, state, *epoch)
    frozen = metrics["loss"][-1]
    print(f"first kernel frozen: loss {metrics['loss'][0]:.3f} -> {frozen:.3f} in {STEPS} steps")
    assert jnp.array_equal(params["first"]["kernel"], start)

    thawed = opt.replace(hidden=adaptx.muon(0.02, adamw=False))  # all of its group
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        state = adaptx.convert(state, opt, thawed, params)
    print(said[0].message)
    params, state, metrics = adaptx.train_epoch(loss, thawed)(params, state, *epoch)
    rate = metrics["hidden/learning_rate"][-1]
    print(f"moved by Muon at {rate:.2f}: loss {metrics['loss'][-1]:.3f} after {STEPS} more")
    assert metrics["loss"][-1] < frozen / 2


if __name__ == "__main__":
    main()
