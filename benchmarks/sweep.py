"""64 learning rates: one vmapped program of adaptx against the ways an optax user would run them, end to end.

    python benchmarks/sweep.py [--quick]

Every way trains the same small network from the same start on the same batches with Adam, and is timed from empty
caches to the last loss, compilation included. Prints a table and writes benchmarks/results/sweep.json.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from harness import RESULTS, headline, median, progress, seconds, table, write
from jax import lax

import adaptx

FEATURES, HIDDEN, CLASSES, BATCH = 64, 32, 10, 128


def data(steps: int) -> tuple[jax.Array, jax.Array]:
    """Batches (steps, batch, features) and their labels (steps, batch), labelled by a fixed random network."""
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (steps, BATCH, FEATURES))
    w1 = jax.random.normal(keys[1], (FEATURES, HIDDEN)) / FEATURES**0.5
    w2 = jax.random.normal(keys[2], (HIDDEN, CLASSES)) / HIDDEN**0.5
    return x, jnp.argmax(jnp.tanh(x @ w1) @ w2, axis=-1)


def start() -> dict[str, jax.Array]:
    """The parameters every run starts from."""
    keys = jax.random.split(jax.random.key(1), 2)
    return {
        "w1": jax.random.normal(keys[0], (FEATURES, HIDDEN)) / FEATURES**0.5,
        "b1": jnp.zeros(HIDDEN),
        "w2": jax.random.normal(keys[1], (HIDDEN, CLASSES)) / HIDDEN**0.5,
        "b2": jnp.zeros(CLASSES),
    }


def loss(params: dict[str, jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean cross entropy of the two-layer network."""
    logits = jnp.tanh(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def train(opt: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """The loss on the last batch after one pass over the batches, with any optax-compatible optimizer."""

    def body(carry, batch):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params, *batch)
        if isinstance(opt, adaptx.Optimizer):
            return opt.step(grads, state, params), value
        updates, state = opt.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    params = start()
    (params, _), _ = lax.scan(body, (params, opt.init(params)), (x, y))
    return loss(params, x[-1], y[-1])


def adaptx_vmap(rates: np.ndarray, x: jax.Array, y: jax.Array) -> jax.Array:
    """One program: the optimizer is a value, so a batch of optimizers is mapped over."""
    return jax.jit(jax.vmap(train, in_axes=(0, None, None)))(adaptx.adam(jnp.asarray(rates)), x, y)


def optax_each(rates: np.ndarray, x: jax.Array, y: jax.Array) -> jax.Array:
    """The documented way: an optimizer per rate, closed over, so a compilation per rate."""
    return jnp.stack([jax.jit(lambda x, y, lr=lr: train(optax.adam(float(lr)), x, y))(x, y) for lr in rates])


def optax_argument(rates: np.ndarray, x: jax.Array, y: jax.Array) -> jax.Array:
    """The rate as an argument of the jitted training: one compilation, 64 runs."""
    run = jax.jit(lambda lr, x, y: train(optax.adam(lr), x, y))
    return jnp.stack([run(lr, x, y) for lr in rates])


def optax_inject(rates: np.ndarray, x: jax.Array, y: jax.Array) -> jax.Array:
    """optax.inject_hyperparams, which keeps the rate in the state: one compilation, 64 runs."""
    run = jax.jit(lambda lr, x, y: train(optax.inject_hyperparams(optax.adam)(learning_rate=lr), x, y))
    return jnp.stack([run(lr, x, y) for lr in rates])


def optax_vmap(rates: np.ndarray, x: jax.Array, y: jax.Array) -> jax.Array:
    """The rate as an argument, and vmap over it: what an optax user who builds the optimizer inside the map gets."""
    return jax.jit(jax.vmap(lambda lr, x, y: train(optax.adam(lr), x, y), in_axes=(0, None, None)))(rates, x, y)


WAYS: dict[str, Callable[..., jax.Array]] = {
    "adaptx, vmap of the optimizer": adaptx_vmap,
    "optax, one jit per rate": optax_each,
    "optax, rate as jit argument": optax_argument,
    "optax, inject_hyperparams": optax_inject,
    "optax, vmap over the rate": optax_vmap,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four rates, 20 steps: a check, not a measurement")
    parser.add_argument("--rates", type=int, help="how many learning rates (64)")
    parser.add_argument("--steps", type=int, help="training steps of each (300)")
    parser.add_argument("--repeats", type=int, help="end-to-end timings of every way (3)")
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    for name, full, quick in (("rates", 64, 4), ("steps", 300, 20), ("repeats", 3, 1)):
        setattr(given, name, getattr(given, name) or (quick if given.quick else full))
    given.output = given.output or RESULTS / ("sweep_quick.json" if given.quick else "sweep.json")
    return given


def main() -> None:
    """Measures, prints, writes."""
    given = arguments()
    x, y = data(given.steps)
    rates = np.geomspace(1e-5, 1e-1, given.rates, dtype=np.float32)
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    losses: dict[str, Any] = {}
    progress("warming up")  # the process's first compilation pays for loading the compiler
    jax.block_until_ready(adaptx_vmap(rates[:1], x[:1], y[:1]))
    for repeat in range(given.repeats):
        for name, way in WAYS.items():
            progress(f"[{repeat + 1}/{given.repeats}] {name}")
            jax.clear_caches()
            taken[name].append(seconds(lambda way=way, name=name: losses.update({name: way(rates, x, y)})))
    reference = np.asarray(losses["optax, one jit per rate"])
    mine = median(taken["adaptx, vmap of the optimizer"])
    ways = {
        name: {
            "seconds": median(times),
            "ratio_to_adaptx": median(times) / mine,
            "largest_loss_difference": float(np.max(np.abs(np.asarray(losses[name]) - reference))),
            "median_loss_difference": float(np.median(np.abs(np.asarray(losses[name]) - reference))),
        }
        for name, times in taken.items()
    }
    print(f"{headline()}; {given.rates} learning rates, {given.steps} steps each")
    header = ["way", "seconds", "x adaptx", "max |loss - optax|", "median"]
    print(table(header, [[name, *values.values()] for name, values in ways.items()]))
    write(given.output, {"quick": given.quick, "rates": given.rates, "steps": given.steps, "repeats": given.repeats,
                         "ways": ways, "best_rate": float(rates[int(np.nanargmin(reference))])})  # fmt: skip


if __name__ == "__main__":
    main()
