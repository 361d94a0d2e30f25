"""Steps of any optimizer on two small leaves, compiled once for all that differ in numbers alone."""

import jax
import jax.numpy as jnp

P = {"w": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "b": jnp.linspace(0.5, 1.0, 4)}
G = jax.tree.map(lambda x: jnp.cos(3 * x) + 0.5, P)


def extra(opt, value=1.0):
    return {"value": jnp.float32(value)} if opt.requires else {}


INIT = jax.jit(lambda opt, p: opt.init(p))
STEP = jax.jit(lambda opt, g, s, p, more: opt.step(g, s, p, **more))
UPDATE = jax.jit(lambda opt, g, s, p, more: opt.update(g, s, p, **more))


def stepped(opt, grads, params=P, state=None):
    """(parameters, state) after steps over a list of gradients; what differs in numbers shares a compilation."""
    state = INIT(opt, params) if state is None else state
    for g in grads:
        params, state = STEP(opt, g, state, params, extra(opt))
    return params, state
