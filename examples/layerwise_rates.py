"""Another learning rate for every layer, and weight decay on the matrices only.

    python examples/layerwise_rates.py

A pretrained body is fine-tuned slowly, a fresh head quickly: `lr_scale` maps a regex on the parameter's path to a
factor (the first match counts, the rest have 1), and 0 freezes. `decay_mask="matrices"` leaves biases undecayed.
"""

import jax
import jax.numpy as jnp

import adaptx

LEARNING_RATE, DECAY, STEPS = 0.01, 0.1, 100


def init(key):
    """embed (8, 16), body w (16, 16) and b (16,), head w (16, 1) and b (1,)."""
    k1, k2, k3 = jax.random.split(key, 3)
    return {
        "embed": jax.random.normal(k1, (8, 16)) / 8**0.5,
        "body": {"w": jax.random.normal(k2, (16, 16)) / 4, "b": jnp.full(16, 0.1)},
        "head": {"w": jax.random.normal(k3, (16, 1)) / 4, "b": jnp.full(1, 0.1)},
    }


def loss(params, x, y):
    """Mean squared error: x (128, 8), y (128, 1)."""
    hidden = jnp.tanh(x @ params["embed"])  # (128, 16)
    hidden = jnp.tanh(hidden @ params["body"]["w"] + params["body"]["b"])  # (128, 16)
    return jnp.mean((hidden @ params["head"]["w"] + params["head"]["b"] - y) ** 2)


def main():
    k_params, k_data = jax.random.split(jax.random.key(0))
    x = jax.random.normal(k_data, (128, 8))
    y = jnp.tanh(x[:, :1] - x[:, 1:2])
    opt = adaptx.adamw(
        LEARNING_RATE,
        weight_decay=DECAY,
        decay_mask="matrices",
        lr_scale={"^embed": 0.0, "^body/": 0.1},  # frozen; a tenth; the head has 1
    )
    start = init(k_params)
    # Adam's first step is lr·sign(gradient), plus lr·decay·p where a leaf decays: both show at once
    after_one, _ = opt.step(jax.grad(loss)(start, x, y), opt.init(start), start)
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b), after_one, start)
    for path, factor in {"embed": 0.0, "body": 0.1, "head": 1.0}.items():
        largest = max(float(m.max()) for m in jax.tree.leaves(moved[path]))
        print(f"{path:6s} factor {factor:3.1f}: first step of at most {largest:.6f}")
        assert factor * LEARNING_RATE * 0.99 <= largest <= factor * LEARNING_RATE * 1.2
    assert jnp.allclose(moved["body"]["b"], 0.1 * LEARNING_RATE, rtol=1e-3)  # a bias: no decay on top

    epoch = adaptx.train_epoch(loss, opt)
    batches = [jnp.broadcast_to(a, (STEPS, *a.shape)) for a in (x, y)]  # the full batch, 100 times
    params, _, metrics = epoch(jax.tree.map(jnp.copy, start), opt.init(start), *batches)
    print(f"loss {metrics['loss'][0]:.4f} -> {metrics['loss'][-1]:.4f} in {STEPS} steps, the embedding untouched")
    assert jnp.array_equal(params["embed"], start["embed"])
    assert metrics["loss"][-1] < 0.2 * metrics["loss"][0]


if __name__ == "__main__":
    main()
