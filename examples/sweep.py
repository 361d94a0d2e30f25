"""64 learning rates trained at once: the optimizer is a value, so vmap maps over it. One compilation.

    python examples/sweep.py

`adaptx.adam(rates)` with an array of rates is a batch of optimizers; `jax.vmap(train)` trains one network with each.
"""

import jax
import jax.numpy as jnp

import adaptx

RATES = jnp.geomspace(1e-5, 1.0, 64)
STEPS = 200
compilations = []  # one entry each time Python runs through `train`, that is, each time it is traced


def loss(params, x, y):
    """Mean squared error of a 1-16-1 network: x (64, 1), y (64, 1)."""
    hidden = jnp.tanh(x @ params["w1"] + params["b1"])  # (64, 16)
    return jnp.mean((hidden @ params["w2"] - y) ** 2)


def train(opt, params, x, y):
    """The loss after STEPS steps from params."""
    compilations.append(opt)

    def body(carry, _):
        params, state = carry
        return opt.step(jax.grad(loss)(params, x, y), state, params), None

    (params, _), _ = jax.lax.scan(body, (params, opt.init(params)), length=STEPS)
    return loss(params, x, y)


def main():
    k1, k2 = jax.random.split(jax.random.key(0))
    params = {"w1": jax.random.normal(k1, (1, 16)), "b1": jnp.zeros(16), "w2": jax.random.normal(k2, (16, 1)) / 4}
    x = jnp.linspace(-2, 2, 64)[:, None]  # (64, 1)
    y = jnp.sin(2 * x)  # (64, 1)

    sweep = jax.jit(jax.vmap(train, in_axes=(0, None, None, None)))
    losses = sweep(adaptx.adam(RATES), params, x, y)  # (64,)
    assert len(compilations) == 1

    for rate, value in zip(RATES[::9], losses[::9], strict=True):
        print(f"learning rate {rate:8.5f}   final loss {value:.5f}")
    best = int(jnp.nanargmin(losses))
    print(f"best of 64: learning rate {RATES[best]:.4f}, loss {losses[best]:.5f}; traced {len(compilations)} time")

    middle = 24  # a member of the sweep equals a training of its own
    alone = jax.jit(train)(adaptx.adam(float(RATES[middle])), params, x, y)
    assert jnp.allclose(alone, losses[middle], rtol=1e-3)
    assert 1e-3 < RATES[best] < 1.0
    assert losses[best] < 0.01 < losses[0]


if __name__ == "__main__":
    main()
