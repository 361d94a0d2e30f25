"""torch's state dicts, read and made. torch itself is never imported: its tensors make their own kind.

adaptx                    torch.optim       keeps, for every parameter                          slots
sgd                       SGD               nothing
momentum                  SGD               momentum_buffer                                     v
adagrad                   Adagrad           step, sum                                           h
rmsprop                   RMSprop           step, square_avg [grad_avg] [momentum_buffer]       v [a] [b]
adam, adamw               Adam, AdamW       step, exp_avg, exp_avg_sq [max_exp_avg_sq]          m, v [h]
adafactor                 Adafactor         step, row_var (…, rows, 1), col_var (…, 1, columns) r, q
                                            or variance                                         v
muon                      Muon              momentum_buffer                                     m
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree

from .. import rules
from ..base import Rule, State
from ..engine.optimizer import Optimizer
from ..engine.tree import Leaves, take_apart
from .slots import Numbers, counts, fitting, put_in, refuse_other_shape, shapes, taken_out


class Peer(NamedTuple):
    """What torch calls a rule."""

    classes: tuple[str, ...]
    keys: dict[str, str]  # slot -> its name
    counts: bool = True  # whether every parameter has a step


KNOWN: dict[type[Rule], Peer] = {
    rules.Sgd: Peer(("SGD",), {}, counts=False),
    rules.Momentum: Peer(("SGD",), {"v": "momentum_buffer"}, counts=False),
    rules.Adagrad: Peer(("Adagrad",), {"h": "sum"}),
    rules.Rmsprop: Peer(("RMSprop",), {"v": "square_avg", "a": "grad_avg", "b": "momentum_buffer"}),
    rules.Adam: Peer(("Adam", "AdamW"), {"m": "exp_avg", "v": "exp_avg_sq", "h": "max_exp_avg_sq"}),
    rules.Adafactor: Peer(("Adafactor",), {"r": "row_var", "q": "col_var", "v": "variance"}),
    rules.Muon: Peer(("Muon",), {"m": "momentum_buffer"}, counts=False),
}


def from_torch(
    opt: Optimizer,
    state_dict: dict[str, PyTree],
    params: PyTree,
    names: Sequence[str] | None = None,
    step: int | None = None,
) -> State:
    """The adaptx state that goes on where a torch optimizer stands: SGD, Adagrad, RMSprop, Adam(W), Adafactor, Muon.

    The next step is torch's, to 1e-6 relative in f32, where both optimizers have the same hyperparameters:

        SGD(lr, momentum, dampening, wd)   momentum(lr, momentum, dampening, weight_decay=wd, decay_mode="l2")
        Adagrad(lr, lr_decay, wd, h₀, eps) adagrad(lambda t: lr / (1 + t·lr_decay), eps, eps_in_sqrt=False)
        RMSprop(lr, alpha, eps, …)         rmsprop(lr, alpha, eps, eps_in_sqrt=False, …)
        Adam, AdamW                        adam with decay_mode="l2", adamw; torch has no debias=False nor nesterov
        Adafactor(lr, eps=(eps1, eps2))    adafactor(lambda t: min(lr, 1/√(t + 1)), −beta2_decay, 0.0, eps2, d), as
                                           no mean square is below eps1; decay is weight_decay=lr·wd, "independent"
        Muon(lr, adjust_lr_fn="original")  muon(lr, adamw=False, output="rows"); "match_rms_adamw" is scale="rms". torch
                                           iterates in bf16: slots agree to 1e-6, steps to 5e-2

    Slots become f32 (f64 beside f64 parameters) and then what opt's storage makes of them; what rounding keeps is
    fresh. Weights that a layer keeps transposed are yours to transpose, in parameters and state alike.

    Args:
        opt: the adaptx optimizer that goes on; no controller, wrapper or route.
        state_dict: what torch_optimizer.state_dict() returns.
        params: the parameters at this point.
        names: the path of the leaf that each torch parameter is, in torch's order, such as ["layers/0/w", …]; None
            where torch's order is that of the tree, whose dicts are sorted by key.
        step: updates taken, for schedules; None for what torch counts, or 0 where it counts nothing.

    Raises:
        TypeError: for an optimizer that is no plain one, or what is no state dict.
        ValueError: for another rule's state, other parameters or names, parameters that torch took different numbers of
            steps on, and where torch's rule is another equation.
    """
    peer, leaves = _peer("from_torch", opt), take_apart(params)
    if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= set(state_dict):
        raise TypeError(
            "from_torch takes a dict with 'state' and 'param_groups', got "
            f"{f'one with {sorted(state_dict)}' if isinstance(state_dict, dict) else type(state_dict).__name__}; pass "
            "what torch_optimizer.state_dict() returns."
        )
    _refuse_other_flags("from_torch", opt.rule, state_dict["param_groups"])
    order = _order("from_torch", [x for group in state_dict["param_groups"] for x in group["params"]], leaves, names)
    slots: dict[str, list] = {name: [None] * len(order) for name in opt.rule.slots()}
    steps: dict[int, str] = {}
    for i, key in enumerate(order):
        path, entry = leaves.paths[i], state_dict["state"].get(key, {})
        expected = shapes(opt.rule, leaves.arrays[i])
        _refuse_other_entries(opt.rule, peer, path, entry, expected)
        if peer.counts:
            steps[int(entry["step"])] = path
        for name, shape in expected.items():
            x = _as_numpy(entry[peer.keys[name]])
            refuse_other_shape("from_torch", peer.keys[name], path, x, _torch_shape(name, shape))
            slots[name][i] = x.reshape(shape)
    if len(steps) > 1:
        (a, first), (b, second) = list(steps.items())[:2]
        raise ValueError(
            f"from_torch: parameter '{first}' took {a} steps and '{second}' took {b}, expected one number for all; "
            "give them optimizers of their own."
        )
    taken, t = counts("from_torch", opt, next(iter(steps), None), [], step)
    return put_in(opt, leaves, Numbers(taken, t, slots))


def to_torch(
    opt: Optimizer, state: State, params: PyTree, torch_optimizer: PyTree, names: Sequence[str] | None = None
) -> dict[str, PyTree]:
    """A dict for torch_optimizer.load_state_dict with the numbers of an adaptx state: the inverse of `from_torch`.

    Slots are decoded, and take the dtype and device of torch's parameters. torch's own hyperparameters stay. Master
    copies and compensations, which torch has none of, stay behind.

    Args:
        opt: the adaptx optimizer that the state belongs to.
        state: its state.
        params: the parameters at this point.
        torch_optimizer: the torch optimizer that goes on; it is not changed.
        names: as in `from_torch`.

    Raises:
        TypeError: for an optimizer that is no plain one, a state that is not adaptx's, another torch optimizer.
        ValueError: for a state of another optimizer, other parameters or names, and where torch's rule is another
            equation.
    """
    peer, leaves = _peer("to_torch", opt), take_apart(params)
    kinds = [kind.__name__ for kind in type(torch_optimizer).__mro__]
    if not set(kinds) & set(peer.classes) or not hasattr(torch_optimizer, "param_groups"):
        raise TypeError(
            f"to_torch: the torch optimizer for {opt.rule.name} is {' or '.join(peer.classes)}, got {kinds[0]}; pass "
            "the torch optimizer that will load the state."
        )
    groups = torch_optimizer.state_dict()["param_groups"]
    _refuse_other_flags("to_torch", opt.rule, groups)
    numbers = taken_out(opt, state, leaves)
    tensors = [x for group in torch_optimizer.param_groups for x in group["params"]]
    keys = [x for group in groups for x in group["params"]]
    made: dict[Hashable, dict[str, PyTree]] = {}
    for i, (key, like) in enumerate(_order("to_torch", list(zip(keys, tensors, strict=True)), leaves, names)):
        p = leaves.arrays[i]
        refuse_other_shape("to_torch", "torch's value", leaves.paths[i], like.detach(), np.shape(p))
        entry = {"step": like.new_zeros((), device="cpu").float() + float(numbers.t)} if peer.counts else {}
        for name, column in numbers.slots.items():
            x = column[i]
            if x is not None:
                entry[peer.keys[name]] = like.new_tensor(np.asarray(x).reshape(_torch_shape(name, x.shape)))
        made[key] = entry
    return {"state": {key: made[key] for key in keys if made[key]}, "param_groups": groups}


def _peer(who: str, opt: object) -> Peer:
    """What torch calls the optimizer's rule."""
    rule, what = fitting(who, opt, "torch", KNOWN), None
    if isinstance(rule, rules.Adam) and (rule.nesterov or not rule.debias):
        what = "torch's Adam always corrects the bias and never looks ahead, expected debias=True and nesterov=False"
    elif isinstance(rule, rules.Rmsprop) and rule.debias:
        what = "torch's RMSprop never corrects the bias, expected debias=False"
    elif isinstance(rule, rules.Adafactor) and (rule.b1 is not None or not rule.scale_parameter):
        what = "torch's Adafactor has no mean of updates and always scales by the parameter, expected b1=None and "
        what += "scale_parameter=True"
    if what is not None:
        raise ValueError(f"{who}: {what}, got {rule!r}; start anew with opt.init(params).")
    return KNOWN[type(rule)]


def _refuse_other_flags(who: str, rule: Rule, groups: Sequence[dict[str, PyTree]]) -> None:
    """Raise ValueError where a flag of torch's optimizer is not the rule's."""
    flags = {"maximize": False}
    flags |= {name: getattr(rule, name) for name in ("nesterov", "centered", "amsgrad") if hasattr(rule, name)}
    if isinstance(rule, rules.Sgd | rules.Momentum | rules.Rmsprop):
        flags["momentum"] = isinstance(rule, rules.Momentum) or "b" in rule.slots()
    for name, mine in flags.items():
        for came in (group[name] for group in groups if name in group):
            if bool(came) != mine:
                wanted = f"{'one' if mine else 'none'}, for {rule!r}" if name == "momentum" else f"{mine}, for {rule!r}"
                raise ValueError(f"{who}: {name} is {came} in torch's optimizer, expected {wanted}; make both alike.")


def _order(who: str, given: list[PyTree], leaves: Leaves, names: Sequence[str] | None) -> list[PyTree]:
    """torch's parameters in the order of the trained leaves."""
    paths = leaves.paths
    if len(given) != len(paths):
        raise ValueError(
            f"{who}: torch's optimizer has {len(given)} parameters, expected the {len(paths)} trained leaves "
            f"{', '.join(paths)}; pass the parameters it trains."
        )
    if names is None:
        return given
    if sorted(names) != sorted(paths):
        odd = sorted(set(names) ^ set(paths)) or sorted(names)
        raise ValueError(
            f"{who}: names must hold the path of every trained leaf once, {', '.join(paths)}, got {', '.join(names)}; "
            f"mend {odd[0]!r}."
        )
    where = dict(zip(names, given, strict=True))
    return [where[path] for path in paths]


def _refuse_other_entries(
    rule: Rule, peer: Peer, path: str, entry: dict[str, PyTree], slots: dict[str, PyTree]
) -> None:
    """Raise ValueError where torch keeps something else for a parameter than the rule does."""
    wanted = {peer.keys[name] for name in slots} | ({"step"} if peer.counts else set())
    came = {name for name, x in entry.items() if x is not None}
    if came != wanted:
        raise ValueError(
            f"from_torch: torch keeps {', '.join(sorted(came)) or 'nothing'} for parameter '{path}', expected "
            f"{', '.join(sorted(wanted)) or 'nothing'} for {rule!r}; pass the state of the same optimizer with the "
            "same flags, after a step in which every parameter had a gradient."
        )


def _torch_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which torch keeps a slot."""
    if name == "r":
        return (*shape, 1)
    return (*shape[:-1], 1, shape[-1]) if name == "q" else shape


def _as_numpy(x: PyTree) -> np.ndarray:
    """A tensor of any dtype and device as float64, which loses nothing; what is no tensor as it is."""
    return x.detach().cpu().double().numpy() if hasattr(x, "detach") else np.asarray(x)
