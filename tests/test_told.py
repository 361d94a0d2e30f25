"""What controllers are told: train_step, train_epoch and fit step bit by bit as opt.step with the loss does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx import controllers, optimizers
from adaptx.training.loop import stacked, stretch
from adaptx.training.step import prepared
from adaptx.training.trees import join, split
from cases import LATER
from runs import STEPS, XS, YS, fresh, loss, required, same

READS = [name for name, make in controllers.ALL.items() if "value" in adaptx.sgd(make(0.1)).requires]
WRAPPED = {
    "shield": adaptx.shield(adaptx.adam(0.1)),
    "averaged": adaptx.averaged(adaptx.adam(controllers.polyak()), 0.9),
    "sam": adaptx.sam(adaptx.adam(0.1), 0.1),
    "route": adaptx.route(
        {"w": adaptx.adam(controllers.plateau(0.1)), "b": adaptx.sgd(0.1)}, {"w": "w", "b": "b"}, max_norm=1.0
    ),
    "int8": adaptx.adam(controllers.l4(), storage="int8", rounding="stochastic"),
}
PAIRS = {
    f"{make.__name__} × {name}": make(controllers.ALL[name](0.1))
    for make in (adaptx.sgd, adaptx.adam)
    for name in READS
}
KINDS = {**PAIRS, **WRAPPED}


def by_hand(opt):
    """opt.step with the loss, compiled, step by step."""
    extra = required(opt).get("extra", {})

    @jax.jit
    def step(opt, p, state, x, y):
        value, grads = jax.value_and_grad(loss)(p, x, y)
        more = {name: function(p, x, y) for name, function in extra.items()}
        more |= {"grad_fn": lambda q: jax.grad(loss)(q, x, y)} if "grad_fn" in opt.requires else {}
        return (*opt.step(grads, state, p, value=value, **more), value)

    p, out = fresh(), []
    state = opt.init(p)
    for t in range(STEPS):
        p, state, value = step(opt, p, state, XS[t], YS[t])
        out.append(float(value))
    return p, state, out


def by_train_step(opt):
    step, p, out = adaptx.train_step(loss, opt, **required(opt)), fresh(), []
    state = opt.init(p)
    for t in range(STEPS):
        p, state, shown = step(p, state, XS[t], YS[t])
        out.append(float(shown["loss"]))
    return p, state, out


def by_train_epoch(opt):
    p, state, shown = adaptx.train_epoch(loss, opt, **required(opt))(fresh(), opt.init(fresh()), XS, YS)
    return p, state, shown["loss"].tolist()


def by_fit(opt):
    fitted = adaptx.fit(loss, opt, fresh(), lambda t: (XS[t], YS[t]), steps=STEPS, progress=False, **required(opt))
    return fitted.params, fitted.state, fitted.history["loss"].tolist()


def test_some_controllers_are_told():
    assert {"plateau", "polyak", "l4"} <= set(READS)


@pytest.mark.parametrize("way", [by_train_step, by_train_epoch, by_fit])
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_is_opt_step(kind, way):
    want, got = by_hand(KINDS[kind]), way(KINDS[kind])
    assert got[2] == want[2]
    assert same(got[:2], want[:2])


FEW = ("adam", "muon", "soap", "adafactor", "sophia", "psgd_kron", "adopt", "sm3")


@pytest.mark.parametrize("name", [x if x in FEW else pytest.param(x, marks=LATER) for x in optimizers.ALL])
def test_how_many_steps_go_into_a_dispatch_changes_no_number(name):
    """Nor does it whether the dispatch looks for what is not finite."""
    opt = optimizers.ALL[name]()
    structure, given = prepared(loss, opt, False, required(opt).get("extra"), 1, None, None)
    arrays, rest = split(fresh())

    def run(chunks, guarded):
        now, t = (fresh_arrays(arrays), opt.init(fresh())), 0
        for n in chunks:
            batches = stacked([(XS[i], YS[i]) for i in range(t, t + n)], 4)
            done = stretch(structure, rest, guarded, given, *now, batches, jnp.int32(n))
            now, t = (done.arrays, done.state), t + int(done.taken)
        return join(now[0], rest), now[1]

    first = run((4, 2), True)
    assert same(first, run((1, 3, 1, 1), True))
    assert same(first, run((4, 2), False))
    assert same(first, by_train_step(opt)[:2])


def fresh_arrays(arrays):
    return [x if x is None else jnp.array(np.asarray(x)) for x in arrays]
