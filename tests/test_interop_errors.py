"""What cannot be carried over is refused in one sentence: the place, what was expected, what came, the remedy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
import pytest

import adaptx

P = {"w": jnp.ones((4, 3)), "b": jnp.ones(3)}
CUBE = {"w": jnp.ones((5, 3, 4))}


class Refusal(NamedTuple):
    name: str
    call: Callable[[], Any]
    error: type[Exception]
    words: tuple[str, ...]


def into(opt: Any, tx: Any, params: Any = P, made_on: Any = None, **given: Any) -> Callable[[], Any]:
    return lambda: adaptx.from_optax(opt, tx.init(params if made_on is None else made_on), params, **given)


def out(opt: Any, tx: Any) -> Callable[[], Any]:
    return lambda: adaptx.to_optax(opt, opt.init(P), P, tx.init(P))


# fmt: off
OPTAX = [
    Refusal("route", into(adaptx.route({"a": adaptx.sgd(0.1)}, by=lambda path, p: "a"), optax.sgd(0.1)), TypeError,
            ("from_optax", "one rule", "Route", "on its own")),
    Refusal("wrapper", into(adaptx.averaged(adaptx.adam()), optax.adam(0.1)), TypeError, ("one rule", "Averaged")),
    Refusal("optax_optimizer", lambda: adaptx.from_optax(optax.adam(0.1), optax.adam(0.1).init(P), P), TypeError,
            ("adaptx optimizer", "GradientTransformation")),
    Refusal("controller", into(adaptx.adam(adaptx.controllers.prodigy()), optax.adam(0.1)), TypeError,
            ("learning rate of adam", "prodigy", "number or a schedule", "start anew")),
    Refusal("unknown_rule", into(adaptx.ema(0.9), optax.ema(0.9)), ValueError,
            ("average", "expected one of adafactor")),
    Refusal("other_rule", into(adaptx.adam(), optax.sgd(0.1, 0.9)), ValueError,
            ("expected one ScaleByAdamState", "found 0", "TraceState", "same flags")),
    Refusal("two_of_them", into(adaptx.adam(), optax.chain(optax.adam(0.1), optax.adam(0.1))), ValueError,
            ("found 2",)),
    Refusal("other_flag", into(adaptx.rmsprop(centered=True), optax.rmsprop(0.1)), ValueError,
            ("ScaleByRStdDevState", "ScaleByRmsState")),
    Refusal("no_state", lambda: adaptx.from_optax(adaptx.adam(), optax.adam(0.1), P), ValueError,
            ("expected one ScaleByAdamState", "GradientTransformation")),
    Refusal("more_memory", into(adaptx.sgd(), optax.sgd(0.1, 0.9)), ValueError,
            ("holds TraceState", "sgd has no slot", "pass only the part")),
    Refusal("multi_steps", into(adaptx.adam(), optax.MultiSteps(optax.adam(0.1), 2)), ValueError,
            ("ScaleByAdamState", "MultiStepsState")),
    Refusal("other_tree", into(adaptx.adam(), optax.adam(0.1), P, {"w": P["w"]}), ValueError,
            ("ScaleByAdamState.mu", "tree", "made for")),
    Refusal("other_shape", into(adaptx.adam(), optax.adam(0.1), P, {"w": P["w"].T, "b": P["b"]}), ValueError,
            ("ScaleByAdamState.mu", "'w'", "(3, 4)", "expected (4, 3)")),
    Refusal("masked_leaf", into(adaptx.adam(), optax.masked(optax.adam(0.1), {"w": True, "b": False})), ValueError,
            ("'b'", "None", "expected (3,)")),
    Refusal("not_counted", into(adaptx.momentum(lambda t: 0.1), optax.sgd(0.1, 0.9)), ValueError,
            ("learning_rate is a schedule", "counts no steps", "step=")),
    Refusal("counted_too_few", into(adaptx.adam(), optax.adam(0.1), step=-1), ValueError, ("step is -1", "0 updates")),
    Refusal("amsgrad", into(adaptx.adam(amsgrad=True), optax.amsgrad(0.1)), ValueError, ("maximum", "debias=False")),
    Refusal("uncorrected", into(adaptx.adam(debias=False), optax.adam(0.1)), ValueError, ("debias=True",)),
    Refusal("adafactor_mean", into(adaptx.adafactor(b1=0.9), optax.adafactor(0.1, momentum=0.9)), ValueError,
            ("b1=None",)),
    Refusal("adafactor_momentum", into(adaptx.adafactor(), optax.adafactor(0.1, 1, momentum=0.9)), ValueError,
            ("EmaState",)),
    Refusal("adafactor_axes", into(adaptx.adafactor(), optax.adafactor(0.1, 1), CUBE), ValueError,
            ("'w'", "(5, 3, 4)", "2 and 0", "last two")),
    Refusal("adafactor_factored", into(adaptx.adafactor(), optax.adafactor(0.1)), ValueError,
            ("'w'", "FactoredState.v_", "same settings")),
    Refusal("rmsprop_scheduled_rate",
            into(adaptx.rmsprop(lambda t: 0.1, momentum=0.9), optax.rmsprop(0.1, momentum=0.9)),
            ValueError, ("learning_rate", "one number")),
    Refusal("rmsprop_rate_of_zero", into(adaptx.rmsprop(0.0, momentum=0.9), optax.rmsprop(0.1, momentum=0.9)),
            ValueError, ("learning_rate", "other than 0")),
    Refusal("all_dampened", into(adaptx.momentum(dampening=1.0), optax.sgd(0.1, 0.9)), ValueError,
            ("dampening", "other than 1")),
    Refusal("early_muon", lambda: adaptx.from_optax(adaptx.muon(adamw=False),
            optax.contrib.muon(0.1).init({"w": P["w"]}), {"w": P["w"]}), ValueError,
            ("315", "got 0", "nesterov=False")),
    Refusal("out_other_template", out(adaptx.adam(), optax.sgd(0.1, 0.9)), ValueError,
            ("to_optax", "ScaleByAdamState")),
    Refusal("out_no_state", lambda: adaptx.to_optax(adaptx.adam(), (), P, optax.adam(0.1).init(P)), TypeError,
            ("State",)),
    Refusal("out_other_state", lambda: adaptx.to_optax(adaptx.adam(), adaptx.sgd().init(P), P, optax.adam(0.1).init(P)),
            ValueError, ("belongs to sgd",)),
    Refusal("out_other_shape", lambda: adaptx.to_optax(adaptx.adam(), adaptx.adam().init(P), P,
            optax.adam(0.1).init({"w": P["w"].T, "b": P["b"]})), ValueError, ("to_optax", "'w'", "(3, 4)", "(4, 3)")),
]
# fmt: on


def check(case: Refusal) -> None:
    with pytest.raises(case.error) as caught:
        case.call()
    text = str(caught.value)
    for word in case.words:
        assert word in text, f"{word!r} is not in: {text}"
    assert "; " in text
    assert text.endswith(".")


@pytest.mark.parametrize("case", OPTAX, ids=lambda c: c.name)
def test_optax_refusals(case: Refusal):
    check(case)


def peer(kind: str, steps: int = 1, shapes: Any = ((3,), (4, 3)), skipped: int = 0, **given: Any) -> Any:
    """A torch optimizer after some steps, by default on parameters like P in the order of the tree."""
    torch = pytest.importorskip("torch")
    tensors = [torch.nn.Parameter(torch.ones(shape)) for shape in shapes]
    optimizer = getattr(torch.optim, kind)(tensors, **given)
    for step in range(steps):
        for x in tensors:
            x.grad = torch.ones_like(x)
        if step < skipped:
            tensors[0].grad = None
        optimizer.step()
    return optimizer


def taken(opt: Any, *args: Any, names: Any = None, params: Any = P, step: Any = None, **given: Any):
    return lambda: adaptx.from_torch(opt, peer(*args, **given).state_dict(), params, names, step)


def given_to(opt: Any, *args: Any, **given: Any):
    return lambda: adaptx.to_torch(opt, opt.init(P), P, peer(*args, **given))


# fmt: off
TORCH = [
    Refusal("no_dict", lambda: adaptx.from_torch(adaptx.adam(), peer("Adam"), P), TypeError, ("Adam", "state_dict()")),
    Refusal("controller", taken(adaptx.adam(adaptx.controllers.prodigy()), "Adam"), TypeError, ("prodigy", "torch")),
    Refusal("no_lion", taken(adaptx.lion(), "SGD"), ValueError, ("torch", "lion", "expected one of adafactor")),
    Refusal("other_rule", taken(adaptx.adam(), "SGD", momentum=0.9), ValueError,
            ("momentum_buffer", "'b'", "exp_avg", "same flags")),
    Refusal("nadam", taken(adaptx.adam(), "NAdam"), ValueError, ("mu_product", "expected exp_avg")),
    Refusal("other_flag", taken(adaptx.adam(amsgrad=True), "Adam"), ValueError, ("amsgrad is False", "expected True")),
    Refusal("nesterov", taken(adaptx.momentum(), "SGD", momentum=0.9, nesterov=True), ValueError,
            ("nesterov is True",)),
    Refusal("maximize", taken(adaptx.adam(), "Adam", maximize=True), ValueError, ("maximize is True",)),
    Refusal("momentum", taken(adaptx.sgd(), "SGD", momentum=0.9), ValueError, ("momentum is 0.9", "expected none")),
    Refusal("no_momentum", taken(adaptx.momentum(), "SGD"), ValueError, ("momentum is 0", "expected one")),
    Refusal("adam_nesterov", taken(adaptx.adam(nesterov=True), "Adam"), ValueError, ("never looks ahead",)),
    Refusal("rmsprop_debias", taken(adaptx.rmsprop(debias=True), "RMSprop"), ValueError, ("debias=False",)),
    Refusal("adafactor_mean", taken(adaptx.adafactor(b1=0.9), "Adafactor"), ValueError, ("b1=None",)),
    Refusal("adafactor_unfactored", taken(adaptx.adafactor(min_dim_size_to_factor=9), "Adafactor"), ValueError,
            ("'w'", "row_var", "expected step, variance")),
    Refusal("fewer", taken(adaptx.adam(), "Adam", shapes=((3,),)), ValueError, ("1 parameters", "2 trained", "b, w")),
    Refusal("transposed", taken(adaptx.adam(), "Adam", shapes=((3,), (3, 4))), ValueError,
            ("exp_avg", "'w'", "(3, 4)", "(4, 3)")),
    Refusal("names", taken(adaptx.adam(), "Adam", names=["b", "q"]), ValueError, ("names", "b, w", "b, q", "'q'")),
    Refusal("name_twice", taken(adaptx.adam(), "Adam", names=["b", "b"]), ValueError, ("names", "b, b")),
    Refusal("fresh", taken(adaptx.adam(), "Adam", 0), ValueError, ("keeps nothing", "'b'", "had a gradient")),
    Refusal("uneven", taken(adaptx.adam(), "Adam", 3, skipped=1), ValueError, ("'b' took 2", "'w' took 3")),
    Refusal("not_counted", taken(adaptx.sgd(lambda t: 0.1), "SGD"), ValueError, ("schedule", "step=")),
    Refusal("out_other", given_to(adaptx.adam(), "SGD"), TypeError, ("Adam or AdamW", "got SGD")),
    Refusal("out_dict", lambda: adaptx.to_torch(adaptx.adam(), adaptx.adam().init(P), P, {}), TypeError, ("got dict",)),
    Refusal("out_flag", given_to(adaptx.adam(), "Adam", amsgrad=True), ValueError, ("to_torch", "amsgrad is True")),
    Refusal("out_shape", given_to(adaptx.adam(), "Adam", shapes=((3,), (3, 4))), ValueError, ("'w'", "(4, 3)")),
    Refusal("out_fewer", given_to(adaptx.adam(), "Adam", shapes=((3,),)), ValueError, ("1 parameters",)),
]
# fmt: on


@pytest.mark.parametrize("case", TORCH, ids=lambda c: c.name)
def test_torch_refusals(case: Refusal):
    check(case)
