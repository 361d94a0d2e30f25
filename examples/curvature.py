"""Sophia on a small classifier: momentum divided by a light estimate of the curvature, refreshed every ten steps.

    python examples/curvature.py

Once by `train_epoch`, which computes the estimate at the steps that need one; once by hand, as it is done where a
training loop is one's own: ten lines, one `lax.cond`. Both take the same steps.
"""

import jax
import jax.numpy as jnp
import numpy as np

import adaptx

STEPS, BATCH, EVERY = 300, 32, 10


def data(seed=0):
    """Two interleaved spirals, STEPS batches: x (STEPS, BATCH, 2), y (STEPS, BATCH)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (STEPS, BATCH))
    t = rng.uniform(0.5, 2.5, y.shape)
    angle = 2 * t + np.pi * y
    return np.stack([t * np.cos(angle), t * np.sin(angle)], -1).astype(np.float32), y


def init(key):
    """w1 (2, 32), b1 (32,), w2 (32, 2), b2 (2,)."""
    k1, k2 = jax.random.split(key)
    w1, w2 = jax.random.normal(k1, (2, 32)), jax.random.normal(k2, (32, 2)) / 32**0.5
    return {"w1": w1, "b1": jnp.zeros(32), "w2": w2, "b2": jnp.zeros(2)}


def loss(p, x, y):
    """Mean cross entropy: x (batch, 2), y (batch,)."""
    logits = jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], -1))


def by_hand(opt, estimate, params, state, xs, ys):
    """The same training in a loop of one's own."""

    def step(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, *batch)

        def refreshed():
            key = jax.random.fold_in(jax.random.key(0), state.step)
            return opt.step(grads, state, params, hessian=estimate(params, key, *batch))

        def kept():
            return opt.step(grads, state, params, hessian=None)

        return jax.lax.cond(state.step % EVERY == 0, refreshed, kept), value

    return jax.jit(lambda *carry: jax.lax.scan(step, carry, (xs, ys)))(params, state)


def main():
    xs, ys = data()
    opt = adaptx.sophia(0.01, gamma=0.05)
    estimate = adaptx.hutchinson(loss, every=EVERY)

    params = init(jax.random.key(1))
    (mine, _), _ = by_hand(opt, estimate, params, opt.init(params), jnp.asarray(xs), jnp.asarray(ys))

    epoch = adaptx.train_epoch(loss, opt, extra={"hessian": estimate})
    params, _, metrics = epoch(params, opt.init(params), xs, ys)
    for t in (0, 50, 100, STEPS - 1):
        print(f"step {t:3d}   loss {metrics['loss'][t]:.4f}")
    apart = max(float(jnp.max(jnp.abs(params[k] - mine[k]))) for k in params)
    print(f"by hand: at most {apart:.1e} away")
    assert apart < 1e-3
    assert metrics["loss"][-1] < 0.1 * metrics["loss"][0]


if __name__ == "__main__":
    main()
