"""Wrong calls that would fail deep inside: each says in one sentence what was wrong and what to write instead."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import adaptx
from adaptx import controllers as c
from adaptx import schedules

P = {"layer": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}}
X = jnp.ones(3)
LR = jnp.array([0.1, 0.2])
A, S = adaptx.adam, adaptx.sgd
ROUTE = adaptx.route({"a": A(), "f": adaptx.freeze()}, by={"w$": "a"}, default="f")
AGAIN = "make the state with this optimizer's init(params), or carry it over with adaptx.convert."


def loss(p, *batch):
    return jnp.sum(p["layer"]["w"] ** 2)


class Unhashable:
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __call__(self, p):
        return loss(p)


def step(opt, p: Any = P, **extra):
    return opt.step(p, opt.init(p), p, **extra)


def carried(old, new, **extra):
    """A step of one optimizer with the state of another."""
    return new.step(P, old.init(P), P, **extra)


def trained(loss_fn, *batch, **keywords):
    opt, p = S(), jax.tree.map(jnp.array, P)
    return adaptx.train_step(loss_fn, opt, **keywords)(p, opt.init(p), *batch)


def reused():
    p, train = jax.tree.map(jnp.array, P), adaptx.train_step(loss, S())
    state = S().init(p)
    train(p, state)
    return train(p, state)


def routed(groups=None, by: Any = None, **more):
    return step(adaptx.route(groups or {"a": A()}, by={"": "a"} if by is None else by, **more))


class Wrong(NamedTuple):
    do: Callable[[], object]
    kind: type[Exception]
    says: str  # the message; … stands for anything


WRONG = {
    # constructors
    "controller_class": Wrong(lambda: A(c.prodigy), TypeError,
        "learning_rate must be a number or a schedule, got the class Prodigy; call it: prodigy(…)."),
    "controller_function": Wrong(lambda: A(c.ldog), TypeError,
        "learning_rate must be a number or a schedule, got the function ldog; call it: ldog(…)."),
    "lr": Wrong(lambda: A(lr=0.1), TypeError,
        "adam() has no option 'lr', expected learning_rate, b1, … or an engine option …; did you mean learning_rate?"),
    "betas": Wrong(lambda: A(betas=(0.9, 0.99)), TypeError,
        "adam() has no option 'betas', expected learning_rate, b1, … or an engine option …; did you mean b1 and b2?"),
    "momentum_of_sgd": Wrong(lambda: S(momentum=0.9), TypeError,
        "sgd() has no option 'momentum', expected learning_rate or an engine option …; did you mean adaptx.momentum?"),
    "momentum_of_muon": Wrong(lambda: adaptx.muon(momentum=0.9), TypeError, "…; did you mean decay?"),
    "misspelt": Wrong(lambda: A(wieght_decay=0.1), TypeError, "adam() has no option …; did you mean weight_decay?"),
    "no_rate": Wrong(lambda: A(None), TypeError, "adam needs a learning_rate: expected a number, …, got None; …"),
    "rate_of_lars": Wrong(lambda: adaptx.lars(-1), ValueError, "learning_rate must lie in [0, inf), got -1; choose…"),
    "pair": Wrong(lambda: adaptx.lamb(norm_bounds=3), TypeError,
        "norm_bounds must be a tuple of numbers, got 3 (int); pass a tuple."),
    "three": Wrong(lambda: adaptx.muon(coefficients=(1, 2)), ValueError,
        "coefficients must be 3 numbers, got 2: (1, 2); pass that many."),
    "shield_twice": Wrong(lambda: adaptx.shield(adaptx.shield(S())), TypeError,
        "shield takes an optimizer, got one that has a shield already; one is enough."),
    "telemetry": Wrong(lambda: A(telemetry=3), ValueError, "telemetry must be one of 'grad_norm', …, got 3; choose…"),
    "axis": Wrong(lambda: A(axis_name=3), TypeError,
        "axis_name must be a mesh axis or a tuple of them, got 3; pass their names."),
    "axis_outside": Wrong(lambda: step(A(axis_name="data")), ValueError,
        "axis_name=('data',) names no mesh axis here, expected a step inside jax.shard_map over them; call …"),
    "mask": Wrong(lambda: A(decay_mask=lambda p: True), TypeError,
        "decay_mask must be a function of two arguments, (path, leaf), got '<lambda>' (…); write lambda path, leaf: …"),
    "mask_gives_array": Wrong(lambda: step(adaptx.adamw(decay_mask=lambda path, p: p > 0)), TypeError,
        "decay_mask at 'layer/b' must be True or False, got …; return one bool for the leaf."),
    "scale_tree": Wrong(lambda: step(A(lr_scale={"layer": {"w": 2.0}})), ValueError,
        "lr_scale must be …, or a tree like the parameters ['layer/b', 'layer/w'], got ['layer/w']; give …"),
    # a batch of optimizers
    "batch": Wrong(lambda: step(A(LR)), ValueError,
        "learning_rate has shape (2,): this is a batch of 2 optimizers, …, expected scalars; map …with jax.vmap."),
    "batch_of_b1": Wrong(lambda: step(A(b1=LR)), ValueError, "learning_rate has shape (2,): this is a batch of 2 …"),
    "batch_of_controllers": Wrong(lambda: step(A(c.prodigy(d0=LR))), ValueError, "learning_rate has shape (2,): …"),
    "batch_of_averages": Wrong(lambda: step(adaptx.averaged(optax.sgd(0.1), LR)), ValueError, "decay has shape …"),
    # schedules
    "schedule_class": Wrong(lambda: A(float), TypeError, "learning_rate must be …, got the class float; call it: …"),
    "schedule_uncalled": Wrong(lambda: A(schedules.linear_schedule), TypeError,
        "learning_rate must be …, got the function linear_schedule; call it: linear_schedule(…)."),
    "schedule_of_optax": Wrong(lambda: step(A(optax.constant_schedule)), TypeError,
        "the schedule of learning_rate must give one real number for a step, got function from …; call it first."),
    "schedule_arguments": Wrong(lambda: schedules.linear_schedule(1.0), TypeError,
        "linear_schedule: missing a required argument: …; its arguments are init_value, end_value, …"),
    "schedule_array": Wrong(lambda: step(A(b1=lambda t: X)), TypeError,
        "the schedule of b1 must give one real number for a step, got float32 of shape (3,) from …; return a scalar."),
    "schedule_text": Wrong(lambda: step(A(b1=lambda t: "x")), TypeError, "the schedule of b1 must …, got str from …"),
    "schedule_bool": Wrong(lambda: step(A(lambda t: t > 3)), TypeError, "the schedule …, got bool of shape () from …"),
    "schedule_range": Wrong(lambda: step(A(b1=lambda t: 1.0)), ValueError,
        "the schedule of b1 gave 1, expected a number in [0, 1); mend it."),
    # states of something else
    "state_controller": Wrong(lambda: carried(A(c.dog()), A(c.prodigy())), ValueError,
        "state belongs to adam and dog, but this optimizer is adam and prodigy; " + AGAIN),
    "state_constant": Wrong(lambda: carried(A(c.dog()), A()), ValueError,
        "state belongs to adam and dog, but this optimizer is adam; " + AGAIN),
    "state_scope": Wrong(lambda: carried(S(c.dog()), S(c.ldog())), ValueError,
        "the scalar 'distance' of the state has shape (), expected (2,) for dog with scope='leaf' …; " + AGAIN),
    "state_wrapper": Wrong(lambda: carried(adaptx.averaged(S()), adaptx.lookahead(S())), ValueError,
        "state belongs to averaged, but this wrapper is lookahead; " + AGAIN),
    "state_of_wrapper": Wrong(lambda: carried(adaptx.averaged(A()), A()), TypeError,
        "state must be the State that opt.init(params) returned, got that of averaged; pass …"),
    "state_for_wrapper": Wrong(lambda: carried(A(), adaptx.averaged(A())), TypeError,
        "state must be what averaged(…).init(params) returned, got that of adam; pass …"),
    "state_of_route": Wrong(lambda: carried(ROUTE, A()), TypeError, "state must be …, got that of a route; pass …"),
    "state_for_route": Wrong(lambda: carried(A(), ROUTE), TypeError, "state must be …, got that of adam; pass …"),
    "state_groups": Wrong(lambda: carried(adaptx.route({"b": A()}, by={"": "b"}), ROUTE), ValueError,
        "state has the groups 'b', but this route trains 'a'; …"),
    "leaf_to_packed": Wrong(lambda: carried(A(), A(layout="packed")), ValueError,
        "slot 'm' of the state has the tree ['layer/b', 'layer/w'], expected the joined …; " + AGAIN),
    "packed_to_leaf": Wrong(lambda: carried(A(layout="packed"), A()), ValueError,
        "slot 'm' of the state has the tree ['float32[small]'], expected that of the parameters, …; " + AGAIN),
    "state_and_params_swapped": Wrong(lambda: A().step(P, P, A().init(P)), TypeError, "state must be …, got dict; …"),
    "reset_of_nothing": Wrong(lambda: A().reset(None, P), TypeError, "state must be …, got NoneType; …"),
    # train_step
    "loss_dict": Wrong(lambda: trained(lambda p: {"loss": loss(p)}), TypeError,
        "loss_fn must return a real scalar array, got dict; compute it with jax.numpy from params, …"),
    "loss_text": Wrong(lambda: trained(lambda p: "low"), TypeError, "loss_fn must return …, got str; compute …"),
    "loss_float": Wrong(lambda: trained(lambda p: 1.0), TypeError,
        "loss_fn must return a real scalar array, got float, which cannot depend on params; …"),
    "loss_numpy": Wrong(lambda: trained(lambda p: np.float32(1)), TypeError, "…, which cannot depend on params; …"),
    "loss_vector": Wrong(lambda: trained(lambda p: p["layer"]["b"]), TypeError,
        "loss_fn must return a real scalar, got shape (3,) and dtype float32; take the mean of the batch."),
    "loss_without_aux": Wrong(lambda: trained(loss, has_aux=True), TypeError,
        "loss_fn must return (loss, aux) because has_aux=True, got an array; return a pair."),
    "loss_unhashable": Wrong(lambda: trained(Unhashable()), TypeError,
        "loss_fn must be hashable, …, got a Unhashable that is not; pass a plain function that calls it."),
    "batch_by_name": Wrong(lambda: adaptx.train_step(loss, S())(P, S().init(P), x=X), TypeError,
        "a training step takes (params, state, *batch), got the keyword 'x'; pass the batch by position, …"),
    "batch_missing": Wrong(lambda: trained(lambda p, x: loss(p)), TypeError,
        "loss_fn is called as loss_fn(params, *batch), got 0 batch arguments, which it … (…'x'); pass as many …"),
    "donated": Wrong(reused, RuntimeError,
        "the buffers of params were donated to an earlier step and are gone; go on with what it returned."),
    "extra": Wrong(lambda: adaptx.train_step(loss, S(), extra={"h": 3}), TypeError,
        "extra must be {name: function of (params, *batch)}, got {'h': 3}; pass functions, not their results."),
    # step and update
    "vaule": Wrong(lambda: step(A(), vaule=1.0), TypeError,
        "step got the argument 'vaule', expected one of grad, grad_fn, key, value, value_fn; did you mean value=?"),
    "vaule_for_shield": Wrong(lambda: step(adaptx.shield(S()), vaule=1.0), ValueError,
        "shield needs the scalar loss, got vaule; pass value=loss to update or step."),
    "muon_of_vector": Wrong(lambda: step(adaptx.muon(adamw=False)), ValueError,
        "muon takes arrays with 2 to 5 axes, but parameter 'layer/b' has shape (3,); give that leaf … adaptx.route."),
    "no_gradients": Wrong(lambda: A().step(None, A().init(P), P), ValueError,
        "gradients are None: expected a tree like the parameters; pass jax.grad's output for them."),
    "no_params": Wrong(lambda: A().step(P, A().init(P), None), TypeError,
        "params are None: expected the tree of arrays that is trained; pass the parameters."),
    "nothing_to_train": Wrong(lambda: A().init({"n": jnp.arange(3), "none": None}), TypeError,
        "no parameter can be trained: expected floating arrays, but 'n' is int32 …; convert with jnp.asarray(x, …)."),
    "update_alone": Wrong(lambda: adaptx.adamw().update(P, A().init(P)), ValueError,
        "update(grads, state) was called without params, which weight_decay needs; call update(grads, state, params)."),
    "update_of_wrapper": Wrong(lambda: ROUTE.update(P, ROUTE.init(P)), ValueError,
        "update(grads, state) was called without params, by whose paths …; call update(grads, state, params)."),
    # routes
    "group_unknown": Wrong(lambda: routed(by={"w": "z"}), ValueError,
        "route: by names the group 'z', expected one of ['a']; correct it."),
    "group_unknown_of_function": Wrong(lambda: routed(by=lambda path, p: "z"), ValueError,
        "route: parameter 'layer/b' is sent to 'z', expected one of 'a'; name its group in by=, or …default=."),
    "group_is_a_list": Wrong(lambda: routed(by=lambda path, p: ["a"]), ValueError, "route: … is sent to ['a'], …"),
    "no_default": Wrong(lambda: routed(by={"w": "a"}), ValueError,
        "route: parameter 'layer/b' has no group, expected one of 'a'; name its group in by=, or …default=."),
    "pattern_hits_nothing": Wrong(lambda: routed(by={"kernel": "a"}, default="a"), ValueError,
        "by: the pattern 'kernel' matches none of the parameters ['layer/b', 'layer/w']; correct or remove it."),
    "whole_option": Wrong(lambda: routed({"a": A(max_norm=1.0)}), ValueError,
        "route: group 'a' has max_norm=1.0, which decides over the whole tree; give it to route."),
    "wrapper_in_route": Wrong(lambda: routed({"a": adaptx.averaged(A())}), TypeError,
        "route: group 'a' must be an adaptx optimizer, …, got Averaged; put the wrapper around the whole route."),
    "freeze_uncalled": Wrong(lambda: routed({"a": adaptx.freeze}), TypeError, "…'freeze', which was not called; …"),
    "by_text": Wrong(lambda: routed(by="a"), TypeError, "route: by must be …, got 'a'; pass one of these."),
    # replace, eval_params, read, pack
    "replace_unknown": Wrong(lambda: A().replace(lr=1.0), TypeError,
        "adam.replace() has no option 'lr', …; did you mean learning_rate?"),
    "replace_range": Wrong(lambda: A().replace(b1=2.0), ValueError, "b1 must lie in [0, 1), got 2; choose …"),
    "replace_controller": Wrong(lambda: adaptx.lars().replace(learning_rate=c.dog()), TypeError,
        "lars's learning_rate must be a number or a schedule, …, got dog; use momentum or adam with that controller."),
    "replace_bare": Wrong(lambda: adaptx.ema(0.9).replace(learning_rate=1.0), TypeError,
        "scale_by_rule.replace() has no option 'learning_rate', …"),
    "eval_swapped": Wrong(lambda: adaptx.eval_params(A(), P, A().init(P)), TypeError, "state must be …, got dict; …"),
    "eval_no_optimizer": Wrong(lambda: adaptx.eval_params(adaptx.adam, A().init(P), P), TypeError,
        "eval_params takes (opt, state, params), got function first; call the constructor."),
    "eval_other_params": Wrong(lambda: adaptx.eval_params(o := adaptx.averaged(A()), o.init(P), {"q": X}), ValueError,
        "'average' of the state has the tree ['layer/b', 'layer/w'], expected that of the parameters, ['q']; …"),
    "read_index": Wrong(lambda: adaptx.read((A().init(P), A().init(P)), "step", 5), ValueError,
        "2 optimizers in this state have 'step', got index=5; pass a smaller one."),
    "unpack_text": Wrong(lambda: adaptx.pack(P)[1]("flat"), TypeError, "unpack takes …, got str; pass an array."),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_says_what_to_write_instead(name: str):
    wrong = WRONG[name]
    with pytest.raises(wrong.kind) as caught:
        wrong.do()
    said = str(caught.value)
    pattern = ".*".join(re.escape(part) for part in wrong.says.split("…"))
    assert re.fullmatch(pattern, said.replace("…", "")), said
    assert "\n" not in said
    assert not re.search(r"PyTreeDef|Tracer|ShapedArray", said), "no jax internals"


def test_taken_as_meant():
    """What other libraries, and design.md, let one write."""
    off = A(telemetry=None, weight_decay=None, max_norm=None, lr_scale=None, decay_mask=None)
    assert off == A()
    assert A(storage="int8", storage_exclude=["w"]) == A(storage="int8", storage_exclude=("w",))
    step(A(storage="int8", storage_exclude=["w"]))
