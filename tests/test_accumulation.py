"""Micro-batches: a step on them is the step on the whole batch, for every optimizer, controller and guard."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import controllers, optimizers
from adaptx.training import step as module
from adaptx.training.trees import split
from cases import LATER
from runs import XS, YS, P, X, Y, fresh, loss, required

SAME = 1e-6  # f32 sums in another order
MASK = np.random.default_rng(1).random(24) < 0.6
FIRST = ("adam", "lion", "muon", "soap", "adafactor", "sophia", "psgd_kron", "adopt")  # of the fast suite


def trained(opt, k, *, loss_fn=loss, steps=range(3), p=P, xs=XS, **options):
    """Steps with k micro-batches, after one on a whole batch: the first bases of splus and soap are of one gradient,
    in which all but the diagonal is rounding."""
    first, then = (adaptx.train_step(loss_fn, opt, accumulate=n, **required(opt), **options) for n in (1, k))
    p, out = fresh(p), {}
    state = opt.init(p)
    for t in steps:
        p, state, out = (then if t else first)(p, state, xs[t], YS[t])
    return p, state, out


def close(a, b, rtol=SAME):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol), a, b)


@pytest.mark.parametrize("k", [2, 4, 5, 24])
def test_the_mean_is_that_of_the_whole_batch(k):
    """Also where k does not divide the 24 rows: 5 micro-batches are four of 5 rows and one of 4."""
    p, _, out = adaptx.train_step(loss, adaptx.sgd(1.0), accumulate=k)(fresh(), adaptx.sgd(1.0).init(P), X, Y)
    close(jax.tree.map(jnp.subtract, fresh(), p), jax.grad(loss)(P, X, Y))
    np.testing.assert_allclose(out["loss"], loss(P, X, Y), rtol=SAME)


def lowered(*options) -> str:
    opt = adaptx.adam(0.1)
    structure, given = module.prepared(loss, opt, False, None, *options)
    arrays, rest = split(fresh())
    return module._step.lower(structure, rest, given, arrays, opt.init(P), X, Y).as_text()


def test_one_micro_batch_is_the_same_program():
    assert lowered(1, None, None) == lowered(adaptx.micro_batches(1, weight=lambda x, y: x.sum()), None, None)
    assert "while" not in lowered(1, None, None)
    assert "while" in lowered(2, None, None)


@pytest.mark.parametrize("name", [x if x in FIRST else pytest.param(x, marks=LATER) for x in optimizers.ALL])
def test_every_optimizer_moves_as_on_the_whole_batch(name):
    opt = optimizers.ALL[name]()
    (p, s, _), (q, t, _) = trained(opt, 1), trained(opt, 4)
    close(q, p)
    assert jax.tree.structure(s) == jax.tree.structure(t)


@pytest.mark.parametrize("name", controllers.ALL)
def test_every_controller_moves_as_on_the_whole_batch(name):
    """It is told the mean loss, and sees the mean gradient."""
    opt = adaptx.adam(controllers.ALL[name](0.1))
    (p, _, one), (q, _, four) = trained(opt, 1), trained(opt, 4)
    close(q, p, 1e-5)
    np.testing.assert_allclose(four["learning_rate"], one["learning_rate"], rtol=1e-5)
    np.testing.assert_allclose(four["loss"], one["loss"], rtol=SAME)


def masked(p, x, y, mask):
    rows = jnp.mean((x @ p["w"] + p["b"] - y) ** 2, -1)
    return jnp.sum(rows * mask) / jnp.sum(mask)


def test_weights_are_what_the_loss_is_a_mean_over():
    """Tokens that count, of which the micro-batches have different numbers; by rows the mean is another."""
    steps = [
        adaptx.train_step(masked, adaptx.sgd(1.0), accumulate=k)
        for k in (1, adaptx.micro_batches(4, weight=lambda x, y, mask: mask.sum()), 4)
    ]
    whole, weighed, by_rows = (step(fresh(), adaptx.sgd(1.0).init(P), X, Y, MASK) for step in steps)
    close(weighed[0], whole[0])
    np.testing.assert_allclose(weighed[2]["loss"], whole[2]["loss"], rtol=SAME)
    assert abs(by_rows[2]["loss"] - whole[2]["loss"]) > 1e-3


BAD = X.copy()
BAD[2] = np.nan  # a row of micro-batch 2 of 4


@pytest.mark.parametrize("opt", [adaptx.adam(0.1, skip_nonfinite=True), adaptx.adam(0.1)], ids=["skips", "does not"])
def test_a_bad_micro_batch_skips_the_step_or_is_left_out(opt):
    p, _, out = adaptx.train_step(loss, opt, accumulate=4)(fresh(), opt.init(P), BAD, Y)
    assert np.isnan(out["loss"])
    if opt.options.skip_nonfinite:
        close(p, fresh(), 0)
        assert out["skipped"] == 1
    else:
        assert np.isnan(p["w"]).any()
    left = adaptx.micro_batches(4, leave_out_nonfinite=True)
    q, _, out = adaptx.train_step(loss, opt, accumulate=left)(fresh(), opt.init(P), BAD, Y)
    rest = np.arange(24) % 4 != 2
    want, _, wanted = adaptx.train_step(loss, opt)(fresh(), opt.init(P), X[rest], Y[rest])
    close(q, want)
    np.testing.assert_allclose(out["loss"], wanted["loss"], rtol=SAME)
    assert out["left_out"] == 0.25


def test_where_all_are_bad_nothing_is_made_up():
    left = adaptx.micro_batches(2, leave_out_nonfinite=True)
    opt = adaptx.adam(0.1, skip_nonfinite=True)
    p, _, out = adaptx.train_step(loss, opt, accumulate=left)(fresh(), opt.init(P), np.full_like(X, np.nan), Y)
    close(p, fresh(), 0)
    assert (out["left_out"], out["skipped"]) == (1, 1)


def test_sums_are_f32_whatever_the_parameters_are():
    """Gradients (1 + i/128)/8, whose sum over 24 micro-batches bf16 would round seven bits off."""
    p, opt = {"w": jnp.zeros(8, jnp.bfloat16)}, adaptx.sgd(1.0, telemetry=True)
    x = (1 + np.arange(24, dtype=np.float32) / 128)[:, None] * np.ones(8, np.float32)
    step = adaptx.train_step(lambda p, x: jnp.mean(x.astype(jnp.bfloat16) * p["w"]), opt, accumulate=24)
    _, _, out = step(p, opt.init(p), x)
    np.testing.assert_allclose(out["grad_norm"], np.linalg.norm(x.mean(0) / 8), rtol=SAME)


def test_aux_is_stacked():
    def with_aux(p, x, y):
        return loss(p, x, y), {"rows": jnp.float32(len(x)), "first": x[0, 0]}

    opt = adaptx.sgd(0.1)
    _, _, out = adaptx.train_step(with_aux, opt, has_aux=True, accumulate=5)(fresh(), opt.init(P), X, Y)
    assert out["aux"]["rows"].tolist() == [5, 5, 5, 5, 4]
    np.testing.assert_array_equal(out["aux"]["first"], [X[0, 0], X[1, 0], X[2, 0], X[3, 0], X[20, 0]])
    whole = lambda p, x, y: (loss(p, x, y), x)  # noqa: E731
    with pytest.raises(ValueError, match=r"aux of the micro-batches.*shape \(5, 5\).*shape \(4, 5\)"):
        adaptx.train_step(whole, opt, has_aux=True, accumulate=5)(fresh(), opt.init(P), X, Y)


def test_every_micro_batch_and_step_draws_for_itself():
    def drawn(p, x, y, rng):
        return loss(p, x, y), jax.random.uniform(rng)

    opt = adaptx.sgd(0.1)

    def draws(k, seed):
        step, p, state, out = (
            adaptx.train_step(drawn, opt, has_aux=True, accumulate=k, rng=seed),
            fresh(),
            opt.init(P),
            [],
        )
        for _ in range(2):
            p, state, more = step(p, state, X, Y)
            out.append(np.atleast_1d(more["aux"]))
        return np.concatenate(out)

    every = np.concatenate([draws(1, 0), draws(4, 0), draws(4, 1)])
    assert len(set(every.tolist())) == len(every) == 18
    np.testing.assert_array_equal(draws(4, 0), draws(4, jax.random.key(0)))
    want = jax.random.uniform(jax.random.fold_in(jax.random.key(0), 1))
    np.testing.assert_array_equal(draws(1, 0)[1], want)


def test_the_second_gradient_is_of_all_micro_batches():
    opt = adaptx.sam(adaptx.adam(0.1), 0.2)
    close(trained(opt, 4)[0], trained(opt, 1)[0])


def test_estimates_are_means_over_micro_batches():
    opt = adaptx.adahessian(0.1)
    step = adaptx.train_step(loss, opt, extra={"hessian": adaptx.hutchinson(loss)}, accumulate=4)
    p, _, _ = step(fresh(), opt.init(P), X, Y)
    assert np.isfinite(p["w"]).all()
    assert float(jnp.linalg.norm(p["w"] - P["w"])) > 0


@pytest.mark.parametrize("opt", [optax.adam(0.1), optax.chain(optax.clip_by_global_norm(0.1), adaptx.adam(0.1))])
def test_optimizers_of_optax_too(opt):
    close(trained_by_optax(opt, 4), trained_by_optax(opt, 1))


def trained_by_optax(opt, k):
    step, p = adaptx.train_step(loss, opt, accumulate=k), fresh()
    state = opt.init(p)
    for t in range(3):
        p, state, _ = step(p, state, XS[t], YS[t])
    return p


def test_a_micro_batch_of_padding_alone_is_left_out():
    def masked(p, x, mask, y):
        return jnp.sum(mask * (x @ p["w"] - y) ** 2) / jnp.sum(mask)

    mask = np.ones((24, 1), np.float32)
    mask[::2] = 0  # the first of two micro-batches
    opt = adaptx.sgd(0.1)
    ends = []
    for more in (1, adaptx.micro_batches(2, lambda x, mask, y: mask.sum())):
        p, _, out = adaptx.train_step(masked, opt, accumulate=more)(fresh(), opt.init(P), X, mask, Y)
        ends.append((out["loss"], p["w"]))
    for want, came in zip(*ends, strict=True):
        np.testing.assert_allclose(came, want, rtol=1e-5, atol=1e-6)


def test_doubles_are_summed_as_doubles(x64):
    p, x, y = ({k: np.float64(a) for k, a in P.items()}, np.float64(X), np.float64(Y))
    opt, grads = adaptx.sgd(1.0), jax.grad(loss)(p, x, y)
    q, _, _ = adaptx.train_step(loss, opt, accumulate=7)(fresh(p), opt.init(p), x, y)
    for name in p:
        np.testing.assert_allclose(p[name] - q[name], grads[name], rtol=1e-12, atol=1e-14)


def test_multi_steps_around_an_optimizer_takes_a_step_in_k():
    """optax's own accumulation: gradients of whole calls, in the parameters' dtype."""
    inner = adaptx.adam(0.1)
    opt = optax.MultiSteps(inner, 2)
    step, p = adaptx.train_step(loss, opt), fresh()
    state = opt.init(p)
    for t in range(4):
        p, state, _ = step(p, state, XS[t], YS[t])
    q, its = fresh(), inner.init(P)
    for t in (0, 2):
        grads = [jax.grad(loss)(q, XS[i], YS[i]) for i in (t, t + 1)]
        q, its = inner.step(jax.tree.map(lambda a, b: (a + b) / 2, *grads), its, q)
    close(p, q)


def test_an_epoch_accumulates_too():
    opt = adaptx.adam(0.1)
    p, _, out = adaptx.train_epoch(loss, opt, accumulate=4)(fresh(), opt.init(P), XS, YS)
    q, _, want = adaptx.train_epoch(loss, opt)(fresh(), opt.init(P), XS, YS)
    close(p, q)
    np.testing.assert_allclose(out["loss"], want["loss"], rtol=SAME)


A = adaptx.adam(0.1)
WRONG = {
    "no number": (lambda: adaptx.train_step(loss, A, accumulate=2.0), TypeError, "accumulate must be a number of"),
    "zero": (lambda: adaptx.train_step(loss, A, accumulate=0), ValueError, "accumulate must be an integer ≥ 1, got 0"),
    "more than rows": (lambda: adaptx.train_step(loss, A, accumulate=25)(fresh(), A.init(P), X, Y), ValueError,
                       "accumulate=25 splits every array .* at least 25, got 24 rows"),
    "rows differ": (lambda: adaptx.train_step(loss, A, accumulate=2)(fresh(), A.init(P), X, Y[:4]), ValueError,
                    r"got first axes \[4, 24\]"),
    "no rows": (lambda: adaptx.train_step(lambda p, c: c * p["w"].sum(), A, accumulate=2)(fresh(), A.init(P), 1.0),
                ValueError, "got no rows"),
    "weight no function": (lambda: adaptx.micro_batches(2, weight=3), TypeError, "weight must be a function"),
    "weight no number": (lambda: adaptx.train_step(loss, A, accumulate=adaptx.micro_batches(2, weight=lambda x, y: x))(
        fresh(), A.init(P), X, Y), TypeError, "weight must return one number, got float32 of shape"),
    "a flag": (lambda: adaptx.micro_batches(2, leave_out_nonfinite=1), TypeError, "must be True or False"),
    "rng": (lambda: adaptx.train_step(loss, A, rng="0"), TypeError, "rng must be a seed ≥ 0 or a random key"),
    "no argument rng": (lambda: adaptx.train_step(loss, A, rng=0)(fresh(), A.init(P), X, Y), TypeError,
                        "with rng=key, got 2 batch arguments"),
    "no step number": (lambda: adaptx.train_step(lambda p, rng: p["w"].sum(), optax.sgd(0.1), rng=0)(
        fresh(), optax.sgd(0.1).init(P)), TypeError, "rng= draws by the number of the step"),
    "sharding": (lambda: adaptx.train_step(loss, A, sharding=3), TypeError, "must be .of params, of the state"),
    "no sharding": (lambda: adaptx.train_step(loss, A, sharding=("data", None)), TypeError, "holds a str"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_refused(name):
    do, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        do()
