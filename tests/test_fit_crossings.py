"""fit across what optimizers are made of, to the bit: by hand, interrupted, watched."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import controllers as c
from runs import P, X, Y, fresh, loss, same

# what orbax leaves behind where it cannot read
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
STEPS, SIZE = 11, 8
NARROW = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), P)
WRAPPERS = {
    "bare": lambda opt: opt,
    "averaged": lambda opt: adaptx.averaged(opt, decay={"short": 0.5, "long": 0.9}),
    "schedule_free": adaptx.schedule_free,
    "lookahead": lambda opt: adaptx.lookahead(opt, k=2),
    "shield": lambda opt: adaptx.shield(opt, block=2),
    "sam": adaptx.sam,
    "trac": adaptx.trac,
    "grokfast": adaptx.grokfast,
    "watched": lambda opt: adaptx.watched(opt, 3, 4),
    "chained": lambda opt: optax.chain(optax.clip_by_global_norm(0.5), opt),
    "several steps": lambda opt: optax.MultiSteps(opt, 2),
}
STORED = [(s, r) for s in ("f32", "bf16", "int8") for r in ("nearest", "stochastic", "kahan", "master")]
CELLS = [pytest.param(w, *pair, id=f"{w}-{'-'.join(pair)}") for w in WRAPPERS for pair in STORED]
OPTIONS = {
    "packed": adaptx.adam(0.05, layout="packed"),
    "guarded": adaptx.adam(0.05, skip_nonfinite=True, max_norm=0.5, telemetry=True),
    "decayed": adaptx.adamw(0.05, weight_decay=0.1, decay_mask="matrices", cautious="mean"),
    "noisy": adaptx.sgd(0.05, noise=1e-3),
    "scheduled": adaptx.adam(c.prodigy() * adaptx.schedules.cosine_decay_schedule(1.0, STEPS), b1=lambda t: 0.9),
    "leaf by leaf": adaptx.sgd(c.hypergradient(0.05, scope="leaf")),
    "frozen": adaptx.route({"w": adaptx.adam(0.05), "b": adaptx.freeze()}, {"w": "w", "b": "b"}),
    "recipe": adaptx.recipes.tabular(STEPS),
    "optax": optax.adam(0.05),
    "optax, if finite": optax.apply_if_finite(optax.adam(0.05), 3),
}


def made(wrapper, storage, rounding):
    b1 = 0.0 if wrapper == "schedule_free" else 0.9  # which takes the place of momentum
    return WRAPPERS[wrapper](adaptx.adam(0.05, b1, storage=storage, storage_exclude=0, rounding=rounding))


def batches():
    """The minibatches that fit takes of arrays, by its documentation."""
    for t in range(STEPS):
        rows = np.random.default_rng((0, t // 3)).permutation(24)[t % 3 * SIZE :][:SIZE]
        yield X[rows], Y[rows]


def drawn(p, x, y, rng):
    return loss(p, x * jax.random.bernoulli(rng, 0.8, x.shape), y)


def fit(opt, p, steps=STEPS, loss_fn=loss, **options):
    return adaptx.fit(loss_fn, opt, p, (X, Y), steps=steps, batch_size=SIZE, progress=False, **options)


def by_hand(opt, p, **options):
    step, p = adaptx.train_step(loss, opt, **options), fresh(p)
    state = opt.init(p)
    for x, y in batches():
        p, state, _ = step(p, state, x, y)
    return p, state


@pytest.mark.parametrize(("wrapper", "storage", "rounding"), CELLS)
def test_fit_is_the_loop_by_hand_in_every_storage(wrapper, storage, rounding):
    opt = made(wrapper, storage, rounding)
    assert same(fit(opt, NARROW)[:2], by_hand(opt, NARROW))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_fit_is_the_loop_by_hand_under_every_option(name, accumulate):
    assert same(fit(OPTIONS[name], P, accumulate=accumulate)[:2], by_hand(OPTIONS[name], P, accumulate=accumulate))


@pytest.mark.parametrize(("wrapper", "storage", "rounding"), CELLS)
def test_an_interrupted_training_ends_the_same_in_every_storage(wrapper, storage, rounding, tmp_path):
    opt = made(wrapper, storage, rounding)
    options = {"loss_fn": drawn, "accumulate": 2, "eval_fn": lambda p: {"x": jnp.sum(p["b"])}, "eval_every": 4}
    whole = fit(opt, NARROW, **options)
    fit(opt, NARROW, 5, checkpoint=tmp_path, **options)
    again = fit(opt, NARROW, checkpoint=tmp_path, **options)
    assert same(again[:2], whole[:2])
    assert list(again.history) == list(whole.history)
    assert again.history["loss"].tolist() == whole.history["loss"].tolist()


@pytest.mark.parametrize(("wrapper", "storage", "rounding"), CELLS)
def test_watching_changes_nothing_by_update(wrapper, storage, rounding):
    opt = made(wrapper, storage, rounding)
    opt = opt.gradient_transformation() if isinstance(opt, optax.MultiSteps) else opt

    def trained(opt):
        @jax.jit
        def step(p, state, x, y):
            value, grads = jax.value_and_grad(loss)(p, x, y)
            updates, state = opt.update(grads, state, p, value=value, grad_fn=lambda q: jax.grad(loss)(q, x, y))
            return optax.apply_updates(p, updates), state

        p, state = NARROW, opt.init(NARROW)
        for x, y in batches():
            p, state = step(p, state, x, y)
        return p, state

    (p, state), (q, seen) = trained(opt), trained(adaptx.watched(opt, 2, 4))
    assert same((p, state), (q, seen.inner))
    assert adaptx.layers(seen).steps.tolist() == ([0, 2, 4] if wrapper == "several steps" else [4, 6, 8, 10])
