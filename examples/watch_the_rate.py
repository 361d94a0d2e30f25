"""Watch the learning rate: five controllers on one problem, each with the rate it used at every step, as a picture.

    python examples/watch_the_rate.py [FOLDER]     (needs matplotlib: pip install 'adaptx[race]')

All five start from the same weights and see the same batches. Whatever rate a controller uses, `adaptx.read(state,
"learning_rate")` tells it, and `train_epoch` stacks it over the steps beside the loss.
"""

import sys
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax

import adaptx

matplotlib.use("agg")
from matplotlib import pyplot as plt

c = adaptx.controllers
STEPS, BATCH = 600, 64
CONTROLLED = {  # name: optimizer; the first two start from rates that are far too small or too large
    "hypergradient, from 1e-5": adaptx.sgd(c.hypergradient(1e-5)),
    "shielded hypergradient, from 30": adaptx.shield(adaptx.sgd(c.hypergradient(30.0))),
    "Mechanic": adaptx.sgd(c.mechanic()),
    "Polyak": adaptx.sgd(c.polyak(max_lr=10.0)),
    "distance over gradients": adaptx.sgd(c.dog()),
}
COLORS = ("#332288", "#cc6677", "#999933", "#117733", "#0077bb")  # Paul Tol's, apart under color blindness


def init(key):
    k1, k2 = jax.random.split(key)
    return {
        "w1": jax.random.normal(k1, (10, 32)) * (2 / 10) ** 0.5,
        "b1": jnp.zeros(32),
        "w2": jax.random.normal(k2, (32, 2)) * (1 / 32) ** 0.5,
        "b2": jnp.zeros(2),
    }


def loss(params, x, y):
    """Mean cross entropy of a 10-32-2 network: x (batch, 10), y (batch,)."""
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
    logits = hidden @ params["w2"] + params["b2"]
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))


def train(opt):
    """The loss and the learning rate of every step."""
    x = jax.random.normal(jax.random.key(1), (STEPS, BATCH, 10))
    y = (x[..., 0] * x[..., 1] > 0).astype(jnp.int32)  # no line separates the classes
    params = init(jax.random.key(0))
    _, _, metrics = adaptx.train_epoch(loss, opt)(params, opt.init(params), x, y)
    return np.asarray(metrics["loss"]), np.asarray(metrics["learning_rate"])


def smooth(values):
    """An average over about 30 steps, without bias at the start."""
    return np.asarray(adaptx.ema(1 - 1 / 30).over(values))


def draw(courses, path):
    """Rates above, losses below, each color named once."""
    style = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#ececef"}
    with plt.rc_context(style):
        figure, (above, below) = plt.subplots(2, 1, figsize=(8, 7), sharex=True, layout="constrained")
        for (name, (losses, rates)), color in zip(courses.items(), COLORS, strict=True):
            above.plot(np.arange(1, STEPS + 1), np.where(rates > 0, rates, np.nan), color=color, lw=1.5, label=name)
            below.plot(np.arange(1, STEPS + 1), smooth(np.minimum(losses, 10.0)), color=color, lw=1.5)
        above.set(yscale="log", ylabel="learning rate used", title="Five controllers of SGD, one problem")
        below.set(yscale="log", ylabel="loss (nats, smoothed)", xlabel="step", xlim=(1, STEPS))
        above.legend(frameon=False, ncols=2, fontsize=9, loc="lower right")
        figure.savefig(path, dpi=120)
        plt.close(figure)


def main():
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="adaptx-"))
    folder.mkdir(parents=True, exist_ok=True)
    courses = {name: train(opt) for name, opt in CONTROLLED.items()}
    for name, (losses, rates) in courses.items():
        print(f"{name:32s} rate {rates[0]:8.2e} -> {rates[-50:].mean():8.2e}   loss {losses[-50:].mean():.3f}")
        assert losses[-50:].mean() < 0.5 < losses[0]
    draw(courses, folder / "rates.png")
    print(f"wrote {folder / 'rates.png'}")


if __name__ == "__main__":
    main()
