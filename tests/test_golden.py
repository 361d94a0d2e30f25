"""Every golden row: the library against torch.optim and optax in float64 over 50 steps, by `step`; one by `update`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cases import CORE, LATER, plain
from given import given
from golden import compare, inputs
from golden.row import Row
from golden.rows import ROWS


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, np.ndarray]]:
    return {peer: compare.load(peer) for peer in {row.peer for row in ROWS}}


FIRST = {row.constructor: row for row in reversed(ROWS)}.values()  # of every optimizer; the core's by `update` too
# which are the fast ones; the oracles are held to all rows in any case
CELLS = [pytest.param(row, id=f"{row.peer}-{row.name}", marks=() if row in FIRST else LATER) for row in ROWS]


def trainer(row: Row) -> Callable:
    """(params, stacked gradients, learning rate of each step) -> stacked parameters by each of its ways to step."""

    def train(params, grads, rates):
        opt = given(plain(row.constructor)(learning_rate=lambda t: rates[t], **row.rule, **row.engine))

        def by_step(carry, g):
            params, state = opt.step(g, carry[1], carry[0])
            return (params, state), params

        def by_update(carry, g):
            updates, state = opt.update(g, carry[1], carry[0])
            params = optax.apply_updates(carry[0], updates)
            return (params, state), params

        ways = (by_step, by_update) if row in FIRST and row.constructor in CORE else (by_step,)
        return [jax.lax.scan(f, (params, opt.init(params)), grads)[1] for f in ways]

    return jax.jit(train)


def saved(history: dict[str, jax.Array]) -> np.ndarray:
    """Stacked parameters as the golden files hold them; refuses anything that was rounded to float32 on the way."""
    assert all(leaf.dtype == jnp.float64 for leaf in history.values())
    return inputs.saved([{k: np.asarray(leaf[t]) for k, leaf in history.items()} for t in range(inputs.STEPS)])


@pytest.mark.parametrize("row", CELLS)
def test_library_equals_peer(row: Row, golden):
    still = compare.still(row)
    with jax.enable_x64(True):
        train = trainer(row)  # one compilation for the row: its cases differ in numbers alone
        for i, kind in enumerate(row.kinds):
            rates = jnp.asarray(inputs.learning_rates(kind, row.learning_rate))
            for j, scale in enumerate(inputs.SCALES):
                steps = inputs.gradients(scale, row.leaves)
                grads = {k: jnp.stack([jnp.asarray(g[k]) for g in steps]) for k in row.leaves}
                want = golden[row.peer][row.name][i, j]
                params = {k: jnp.asarray(p) for k, p in inputs.parameters(row.leaves).items()}
                for way, history in zip(("step", "update"), train(params, grads, rates), strict=False):
                    got = saved(history)
                    where = f"opt.{way}, {kind} learning rate, gradient scale {scale}"
                    assert compare.excess(got, want, row.rtol, row.leaves) <= 1.0, where
                    assert np.array_equal(got[:, still], want[:, still]), f"{where}: an entry without a gradient moved"
