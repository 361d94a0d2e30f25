"""Misuse: each is refused with one sentence that names the place, what was expected, what came, and the remedy."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import adaptx
from adaptx.base import Rule

P = {"layer": {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}}
X = jnp.ones(3)
ADAM, SGD = adaptx.adam(1e-3), adaptx.sgd(0.1)
BF16 = adaptx.adam(storage="bf16", storage_exclude=0)
STATE = ADAM.init(P)


def step(opt, params=P, grads=P):
    """One step from fresh state."""
    return opt.step(grads, opt.init(params), params)


class Half(Rule):
    """A rule that forgot its direction."""

    def advance(self, g, s, p, k):
        return s


@dataclass(frozen=True)
class Misuse:
    name: str
    do: Callable[[], object]
    kind: type[Exception]
    words: tuple[str, ...]  # place, expected, came, remedy


MISUSES = [
    # hyperparameters
    Misuse("negative_rate", lambda: adaptx.adam(-1.0), ValueError, ("learning_rate", "[0, inf)", "-1", "choose")),
    Misuse("nan_rate", lambda: adaptx.sgd(float("nan")), ValueError, ("learning_rate", "[0, inf)", "nan", "choose")),
    Misuse("one_negative_rate_of_a_batch", lambda: adaptx.adam(jnp.array([0.1, -3.0])), ValueError,
           ("learning_rate", "-3")),
    Misuse("rate_is_text", lambda: adaptx.adam("fast"), TypeError, ("learning_rate", "real number", "'fast'", "float")),
    Misuse("rate_is_bool", lambda: adaptx.adam(True), TypeError, ("learning_rate", "real number", "True", "float")),
    Misuse("rate_is_complex", lambda: adaptx.adam(jnp.ones((), jnp.complex64)), TypeError,
           ("learning_rate", "real", "complex64")),
    Misuse("b1_is_one", lambda: adaptx.adam(b1=1.0), ValueError, ("b1", "[0, 1)", "got 1", "choose")),
    Misuse("b2_above_one", lambda: adaptx.adamw(b2=1.5), ValueError, ("b2", "[0, 1)", "1.5", "choose")),
    Misuse("decay_negative", lambda: adaptx.momentum(decay=-0.1), ValueError, ("decay", "[0, 1)", "-0.1", "choose")),
    Misuse("dampening", lambda: adaptx.momentum(dampening=2), ValueError, ("dampening", "[0, 1]", "2", "choose")),
    Misuse("eps_negative", lambda: adaptx.rmsprop(eps=-1e-8), ValueError, ("eps", "[0, inf)", "-1e-08", "choose")),
    Misuse("accumulator", lambda: adaptx.adagrad(initial_accumulator=-1), ValueError,
           ("initial_accumulator", "[0, inf)", "-1")),
    Misuse("flag_is_number", lambda: adaptx.adam(debias=1), TypeError, ("debias", "True or False", "1", "int")),
    Misuse("flag_is_array", lambda: adaptx.momentum(nesterov=jnp.array(True)), TypeError,
           ("nesterov", "True or False", "plain bool")),
    Misuse("momentum_is_bool", lambda: adaptx.rmsprop(momentum=True), TypeError, ("momentum", "real number", "True")),
    # engine options
    Misuse("unknown_option", lambda: adaptx.adam(weight_dcay=0.1), TypeError,
           ("adam()", "'weight_dcay'", "weight_decay", "decay_mask", "storage", "telemetry")),
    Misuse("unknown_storage", lambda: adaptx.adam(storage="int7"), ValueError,
           ("storage", "'f32'", "'bf16'", "'int7'", "choose")),
    Misuse("unknown_layout", lambda: adaptx.adam(layout="heap"), ValueError, ("layout", "'leaf'", "'heap'", "choose")),
    Misuse("unknown_mode", lambda: adaptx.adam(decay_mode="L2"), ValueError,
           ("decay_mode", "'decoupled'", "'l2'", "'L2'", "choose")),
    Misuse("unknown_metric", lambda: adaptx.adam(telemetry="norm"), ValueError,
           ("telemetry", "'grad_norm'", "'norm'", "choose")),
    Misuse("weight_decay_negative", lambda: adaptx.adamw(weight_decay=-1), ValueError,
           ("weight_decay", "[0, inf)", "-1")),
    Misuse("max_norm_zero", lambda: adaptx.adam(max_norm=0), ValueError, ("max_norm", "(0, inf)", "0", "choose")),
    Misuse("skip_is_number", lambda: adaptx.adam(skip_nonfinite=1), TypeError,
           ("skip_nonfinite", "True or False", "1")),
    Misuse("mask_regex", lambda: adaptx.adamw(decay_mask="("), ValueError,
           ("decay_mask", "'('", "regular expression", "correct")),
    Misuse("mask_hits_nothing", lambda: step(adaptx.adamw(decay_mask="kernel")), ValueError,
           ("decay_mask", "'kernel'", "layer/w", "correct")),
    Misuse("mask_tree", lambda: step(adaptx.adamw(decay_mask={"w": True})), ValueError,
           ("decay_mask", "tree like the parameters", "'w'", "give")),
    Misuse("mask_of_numbers", lambda: adaptx.adamw(decay_mask={"w": 1.0}), TypeError,
           ("decay_mask", "True or False", "1.0")),
    Misuse("scale_hits_nothing", lambda: step(adaptx.adam(lr_scale={"head": 2.0})), ValueError,
           ("lr_scale", "'head'", "layer/b", "correct")),
    Misuse("scale_negative", lambda: adaptx.adam(lr_scale={"w": -2.0}), ValueError,
           ("lr_scale", "'w'", "-2", "choose")),
    Misuse("scale_function", lambda: step(adaptx.adam(lr_scale=lambda path, p: -1.0)), ValueError,
           ("lr_scale", "layer/b", "-1")),
    Misuse("batch_shapes", lambda: adaptx.adam(jnp.ones(2), eps=jnp.ones(3)), ValueError,
           ("broadcast", "(2,)", "(3,)", "give")),
    Misuse("batch_unmapped", lambda: step(adaptx.adam(jnp.ones(4))), ValueError,
           ("(4,)", "batch of 4", "scalar", "jax.vmap")),
    # trees
    Misuse("gradient_missing", lambda: step(ADAM, grads={"layer": {"w": P["layer"]["w"]}}), ValueError,
           ("lack", "layer/b", "expected", "got", "jax.grad")),
    Misuse("gradient_foreign", lambda: step(ADAM, grads={**P, "head": X}), ValueError,
           ("head", "parameters lack", "jax.grad")),
    Misuse("gradient_list", lambda: step(ADAM, grads=[X]), ValueError, ("expected the tree", "got", "jax.grad")),
    Misuse("gradient_shape", lambda: step(ADAM, grads={"layer": {"w": jnp.ones((3, 2)), "b": X}}), ValueError,
           ("gradient 'layer/w'", "(3, 2)", "(2, 3)", "jax.grad")),
    Misuse("gradient_int", lambda: step(ADAM, grads={"layer": {"w": jnp.ones((2, 3), int), "b": X}}), TypeError,
           ("gradient 'layer/w'", "int32", "floating", "jax.grad")),
    Misuse("gradient_complex", lambda: step(SGD, X, X + 0j), TypeError, ("gradient", "complex64", "real")),
    Misuse("params_int", lambda: ADAM.init({"n": jnp.arange(3)}), TypeError, ("'n'", "int32", "floating", "float32")),
    Misuse("params_python_int", lambda: ADAM.init(100), TypeError, ("int", "floating", "float32")),
    Misuse("params_complex", lambda: ADAM.init({"z": jnp.ones(2, jnp.complex64)}), TypeError,
           ("'z'", "complex64", "real", "split_real_and_imaginary")),
    Misuse("no_params", lambda: adaptx.adamw().update(P, STATE), ValueError,
           ("params", "weight_decay", "update(grads, state, params)")),
    Misuse("state_of_optax", lambda: ADAM.step(P, (), P), TypeError, ("state", "opt.init(params)", "tuple", "pass")),
    Misuse("state_of_another_rule", lambda: SGD.step(P, STATE, P), ValueError,
           ("state belongs to adam", "this optimizer is sgd", "init(params)", "adaptx.convert")),
    Misuse("state_of_other_params", lambda: ADAM.step({"a": X}, STATE, {"a": X}), ValueError,
           ("slot 'm'", "parameters", "init(params)")),
    Misuse("state_of_other_shapes", lambda: ADAM.step({"a": X}, ADAM.init({"a": jnp.ones(4)}), {"a": X}), ValueError,
           ("slot 'm'", "'a'", "(4,)", "(3,)", "init")),
    Misuse("state_of_other_storage", lambda: ADAM.step(P, BF16.init(P), P), ValueError,
           ("slots ['m']", "['m', 'v']", "init(params)", "adaptx.convert")),
    Misuse("state_of_other_exclusion", lambda: adaptx.adam(storage="bf16").step(P, BF16.init(P), P), ValueError,
           ("slots ['m']", "['m', 'v']", "init(params)", "adaptx.convert")),
    # reading, pieces, training
    Misuse("read_unknown", lambda: adaptx.read(STATE, "lr"), KeyError, ("'lr'", "step", "learning_rate")),
    Misuse("read_unmeasured", lambda: adaptx.read(STATE, "grad_norm"), KeyError, ("'grad_norm'", "telemetry")),
    Misuse("read_nothing", lambda: adaptx.read({"a": 1}, "step"), TypeError, ("no adaptx state", "dict", "pass")),
    Misuse("read_twice", lambda: adaptx.read((STATE, STATE), "step"), ValueError,
           ("2 optimizers", "'step'", "index=0")),
    Misuse("metrics_of_nothing", lambda: adaptx.metrics(()), TypeError, ("no adaptx state", "tuple", "pass")),
    Misuse("rule_class", lambda: adaptx.scale_by_rule(adaptx.rules.Adam), TypeError,
           ("scale_by_rule", "Rule", "call the class")),
    Misuse("rule_without_direction", Half, TypeError, ("Half", "direction")),
    Misuse("ema_of_one", lambda: adaptx.ema(1.0), ValueError, ("decay", "[0, 1)", "got 1", "choose")),
    Misuse("loss_is_a_number", lambda: adaptx.train_step(3.0, ADAM), TypeError, ("loss_fn", "float", "pass")),
    Misuse("opt_is_a_string", lambda: adaptx.train_step(jnp.sum, "adam"), TypeError,
           ("opt", "str", "adaptx.adam", "pass")),
]  # fmt: skip


@pytest.mark.parametrize("m", MISUSES, ids=lambda m: m.name)
def test_refused_with_a_sentence(m: Misuse):
    with pytest.raises(m.kind) as caught:
        m.do()
    said = str(caught.value.args[0])
    assert [w for w in m.words if w not in said] == [], said
    assert "\n" not in said, "one sentence"


def test_refused_at_trace_time():
    """The check happens while tracing: nothing is compiled or run first, and a passing check costs no operation."""
    with pytest.raises(ValueError, match="layer/w"):
        jax.eval_shape(step, ADAM, P, {"layer": {"w": jnp.ones((3, 2)), "b": X}})


def test_extra_arguments_are_taken():
    """What other links of a chain need may be passed to any optimizer; an open-loop rate needs nothing."""
    assert ADAM.requires == frozenset()
    got = ADAM.step(P, STATE, P, value=jnp.float32(1.0))
    np.testing.assert_array_equal(got[0]["layer"]["w"], step(ADAM)[0]["layer"]["w"])
