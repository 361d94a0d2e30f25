"""What is MADGRAD's own: a learning rate that weighs gradients, and the way from where p began."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from cases import slots_of

P = jnp.linspace(-1.0, 1.0, 6)
G = [jnp.cos(3 * P + t) for t in range(6)]
F32 = 1e-5
ULPS = 5e-7  # of parameters up to 1, over some steps


def run(opt, grads=G, p=P, state=None):
    state = opt.init(p) if state is None else state
    for g in grads:
        p, state = opt.step(g, state, p)
    return p, state


def averaged(rates, mu=0.9, eps=1e-6):
    """Algorithm 1 as it stands, with x₀."""
    s = v = np.zeros(6)
    x = x0 = np.asarray(P, np.float64)
    for t, (g, rate) in enumerate(zip(np.asarray(G, np.float64), rates, strict=True), 1):
        s, v = s + (rate + eps) * t**0.5 * g, v + (rate + eps) * t**0.5 * g * g
        x = mu * x + (1 - mu) * (x0 - s / (np.cbrt(v) + eps))
    return x


def test_it_is_the_paper_s_dual_averaging():
    rates = [0.1, 0.05, 0.2, 0.1, 0.01, 0.3]
    p, _ = run(adaptx.madgrad(lambda t: jnp.asarray(rates)[t]))
    np.testing.assert_allclose(p - P, averaged(rates) - np.asarray(P, np.float64), rtol=F32, atol=ULPS)


def test_a_rate_of_zero_moves_nothing_and_is_forgotten():
    """Neither the parameters nor the slots, although eps is added to every other rate; and no 0/0."""
    first, state = run(adaptx.madgrad(0.1), G[:3])
    still, after = run(adaptx.madgrad(0.0), G[3:5], first, state)
    np.testing.assert_array_equal(still, first)
    for a, b in zip(jax.tree.leaves(after.slots), jax.tree.leaves(state.slots), strict=True):
        np.testing.assert_array_equal(a, b)
    moved, _ = run(adaptx.madgrad(0.1), G[5:], still, after)
    assert np.all(np.isfinite(moved))
    assert np.all(moved != still)


def test_eps_of_the_rate_is_eps_unless_it_is_given():
    plain, given, paper = (run(adaptx.madgrad(0.01, eps=1e-2, eps_rate=e))[0] for e in (None, 1e-2, 0.0))
    np.testing.assert_array_equal(plain, given)
    assert np.max(np.abs(paper - plain)) > 1e-3
    assert adaptx.madgrad().replace(eps=0.5).rule.rescaled(8.0).eps == pytest.approx(2.0)
    assert adaptx.madgrad().replace(eps=0.5).rule.rescaled(8.0).eps_rate == 0.5


def test_factors_on_the_displacement_are_factors_on_the_way():
    """They would only slow its start down if p were drawn towards z."""
    whole, _ = run(adaptx.madgrad(0.1))
    half, _ = run(adaptx.madgrad(0.1, lr_scale=lambda path, x: 0.5))
    np.testing.assert_allclose(half - P, 0.5 * (whole - P), rtol=F32, atol=ULPS)


def test_the_way_is_kept_in_narrow_storage_too():
    """d is read off the stored slot: what is rounded off in one step is made up for in the next."""
    grads = [jnp.cos(jnp.linspace(-9, 9, 512) + t / 9) for t in range(60)]
    p = jnp.zeros(512)
    want, _ = run(adaptx.madgrad(0.1), grads, p)
    got, state = run(adaptx.madgrad(0.1, storage="bf16", storage_exclude=0), grads, p)
    assert float(jnp.linalg.norm(got - want)) <= 0.03 * float(jnp.linalg.norm(want))
    (kept,) = slots_of(adaptx.madgrad(storage="bf16", storage_exclude=0), state, p)
    np.testing.assert_allclose(got, -kept["x"], rtol=F32, atol=1e-5)


def test_its_direction_grows_with_the_cube_root_of_the_gradients():
    assert adaptx.rules.Madgrad.degree == Fraction(1, 3)
    opt = adaptx.madgrad(0.1, eps=0.0)
    one, eight = (run(opt, [c * g for g in G])[0] - P for c in (1.0, 8.0))
    np.testing.assert_allclose(eight, 2 * one, rtol=F32, atol=ULPS)
