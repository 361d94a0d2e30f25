"""Any number may be a schedule, and be replaced: the values set by hand, shown in metrics, without a compilation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chex import (
    assert_max_traces,
    assert_trees_all_close,
    clear_trace_counter,
)

import adaptx
from adaptx import controllers as c
from steps import INIT, STEP, G, P, extra

VALUES = (0.1, 0.2, 0.05)


def schedule(step):
    return jnp.asarray(VALUES)[jnp.minimum(step, 2)]


def wrapped(wrap, name, **more):
    return lambda x: wrap(adaptx.sgd(0.1), **{**more, name: x})


NUMBERS = {
    "b1": lambda x: adaptx.adam(0.1, b1=x),
    "eps": lambda x: adaptx.adam(0.1, eps=x),
    "weight_decay": lambda x: adaptx.adamw(0.1, weight_decay=x),
    "max_norm": lambda x: adaptx.sgd(0.1, max_norm=x),
    "max_leaf_norm": lambda x: adaptx.sgd(0.1, max_leaf_norm=x),
    "agc": lambda x: adaptx.sgd(0.1, agc=x),
    "noise": lambda x: adaptx.sgd(0.1, noise=x),
    "noise_decay": lambda x: adaptx.sgd(0.1, noise=0.1, noise_decay=x),
    "clip_update_rms": lambda x: adaptx.adam(0.1, clip_update_rms=x),
    "max_rate": lambda x: adaptx.adamw(0.1, decay_mode="corrected", max_rate=x),
    "momentum": lambda x: adaptx.rmsprop(0.1, momentum=x),
    "dog.base": lambda x: adaptx.sgd(c.dog(base=x, reps_rel=0.1)),
    "prodigy.d_coef": lambda x: adaptx.adam(c.prodigy(d_coef=x, d0=1e-2)),
    "trustratio.coefficient": lambda x: adaptx.lars(0.1, coefficient=x),
    "lr_scale['w']": lambda x: adaptx.sgd(0.1, lr_scale={"w": x, "b": 1.0}),
    "lr_scale of a function": lambda x: adaptx.sgd(0.1, lr_scale=lambda path, leaf: x),
    "averaged.decay": wrapped(adaptx.averaged, "decay"),
    "lookahead.alpha": wrapped(adaptx.lookahead, "alpha", k=1),
    "schedule_free.b": wrapped(adaptx.schedule_free, "b"),
    "shield.factor": wrapped(adaptx.shield, "factor"),
    "grokfast.alpha": wrapped(adaptx.grokfast, "alpha"),
    "grokfast.lamb": wrapped(adaptx.grokfast, "lamb"),
    "trac.s_init": wrapped(adaptx.trac, "s_init"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_scheduled_number_is_the_one_set_by_hand(name):
    opt, hands = NUMBERS[name](schedule), [NUMBERS[name](value) for value in VALUES]
    (p, state), (q, other) = (P, INIT(opt, P)), (P, INIT(hands[0], P))
    for hand, value in zip(hands, VALUES, strict=True):
        p, state = STEP(opt, G, state, p, extra(opt))
        q, other = STEP(hand, G, other, q, extra(hand))
        if "function" not in name:
            assert float(adaptx.read(state, name)) == pytest.approx(value)
    pairs = [(p, q), (adaptx.eval_params(opt, state, p), adaptx.eval_params(hand, other, q))]
    for got, want in pairs:
        assert_trees_all_close(got, want, rtol=1e-5, atol=1e-7)


def test_schedules_multiply():
    cosine = adaptx.schedules.cosine_decay_schedule(0.1, 10)
    for product in (cosine * 2, 2 * cosine, cosine * adaptx.schedules.constant_schedule(2.0), cosine * (lambda t: 2.0)):
        np.testing.assert_allclose(product(jnp.arange(5)), 2 * cosine(jnp.arange(5)), rtol=1e-6)
        hash(adaptx.sgd(product))
    assert isinstance(cosine * c.prodigy(), c.prodigy)


@pytest.mark.parametrize("name", ["adam", "lars", "lamb"])
def test_replace_keeps_the_name_and_the_compilation(name):
    opt, changes = getattr(adaptx, name)(0.1), {"decay": 0.5, "eps": 0.1} if name == "lars" else {"b1": 0.5, "eps": 0.1}
    clear_trace_counter()
    step = jax.jit(assert_max_traces(lambda opt, s: opt.step(G, s, P), 1))
    outs = [step(x, opt.init(P))[0]["w"] for x in (opt, opt.replace(learning_rate=0.2), opt.replace(**changes))]
    assert not np.array_equal(outs[0], outs[1])
    assert not np.array_equal(outs[0], outs[2])
    assert repr(opt.replace(learning_rate=0.2)).startswith(f"{name}(learning_rate=0.2, ")
    assert opt.replace(learning_rate=0.2).replace(learning_rate=0.1) == opt
    with pytest.raises(TypeError, match="expected learning_rate" if name == "lars" else "did you mean b1 and b2"):
        opt.replace(betas=(0.9, 0.99))
