"""The engine options by name, as every optimizer takes them, and what is said of a name that is none."""

import difflib
from collections.abc import Callable, Mapping
from typing import TypedDict

from jaxtyping import Array, PyTree

from ..values import Scalar

DECAY_MODES = ("decoupled", "l2", "independent", "corrected")
TELEMETRY = ("grad_norm", "update_norm", "param_norm")
PATTERNED = ("decay_mask", "lr_scale", "storage_exclude")  # options that take path patterns
WHOLE = ("max_norm", "skip_nonfinite", "telemetry", "axis_name")  # options of the whole tree, not of a group
# what other libraries call it: names here, of which those that the optimizer has are meant
KNOWN_AS = {
    "lr": ("learning_rate",), "step_size": ("learning_rate",), "betas": ("b1", "b2"), "beta1": ("b1",),
    "beta2": ("b2",), "beta": ("b1", "decay"), "momentum": ("b1", "decay"), "alpha": ("decay",), "rho": ("decay",),
    "decay": ("b1", "b2"), "epsilon": ("eps",), "wd": ("weight_decay",), "ns_steps": ("steps",),
    "clip_norm": ("max_norm",), "max_grad_norm": ("max_norm",), "mask": ("decay_mask",), "mu_dtype": ("storage",),
    "trust_coefficient": ("coefficient",), "clipnorm": ("max_leaf_norm",), "caution": ("cautious",),
    "use_gc": ("centralize",), "gradient_noise": ("noise",), "max_lr": ("max_rate",), "clipping": ("agc",),
}  # fmt: skip
ELSEWHERE = {"momentum": "adaptx.momentum", "nesterov": "adaptx.momentum", "amsgrad": "adaptx.adam"}


class EngineOptions(TypedDict, total=False):
    """Keyword options of every optimizer.

    Weight decay and the length of steps:

    weight_decay: coefficient λ ≥ 0 or a schedule; off at 0.
    decay_mode: "decoupled" (default) p ← p − lr·(d + λp); "l2" g ← g + λp before the rule; "independent"
        p ← p − lr·d − λp; "corrected" p ← p − lr·(d + (lr/max_rate)·λp), which is AdamC (arXiv:2506.02285): its author
        has it for layers that a normalization follows (decay_mask, or a route).
    max_rate: the largest rate of the schedule, > 0; only for "corrected", and not needed there where the rate is a
        number.
    decay_mask: which leaves decay: "matrices" (two axes or more, and not named like a bias or a norm), a regex searched
        in the path, a function of (path, leaf), or a tree of bools; all by default.
    cautious_decay: decay only where d has the parameter's sign, or either is 0; off by default. Its equation too is in
        `engine/extras.py`.
    lr_scale: factor ≥ 0 on the displacement per leaf, independent decay aside: a tree, {path regex: factor} (the first
        match counts, the rest have 1), or a function of (path, leaf).

    Gradients and directions, off by default; equations of all but the first in `engine/extras.py`:

    max_norm: global-norm clipping of the gradients, > 0, the norm in f32 or, where gradients are, f64.
    max_leaf_norm: the same leaf by leaf.
    agc: each unit's gradient has at most this share of its weights' norm (0.01 in the paper).
    noise: the variance η of Gaussian noise on the gradients, divided by (1 + t)**noise_decay.
    noise_decay: ≥ 0, 0.55 by default.
    noise_seed: 0 (default), 1, …
    centralize: gradients of matrices and kernels minus their mean over what feeds a unit, the units lying on the "last"
        axis (as in flax) or the "first".
    cautious: d only where it has the gradient's sign, rescaled by nothing ("mask"), one over the share that is left
        ("mean"), or n/(left + 1) ("count").
    clip_update_rms: d and decoupled decay divided by the RMS of the gradient in the rule's metric over this, where that
        is more than 1 (StableAdamW, 1 there).

    State and what is shown:

    storage: "f32" (default), "bf16" or "int8", or one of these by slot ({"m": "bf16"}).
    storage_exclude: leaves that stay f32: a least number of elements, 4096 by default, a path regex, or a tuple of
        these; 0 for none.
    layout: "leaf" (default) or "packed".
    rounding: how bf16 and f16 parameters take an update: "nearest" (default), "stochastic", "kahan" (a compensation
        array in the state) or "master" (an f32 copy in the state, which goes on by itself: what else moves the
        parameters, such as a later link of a chain, does not reach it).
    skip_nonfinite: leave everything as it was on a step whose gradients, their squares or the rule's other arguments
        are not finite; off by default.
    telemetry: True or names among grad_norm, update_norm, param_norm, to be found in `adaptx.metrics`; off by default.
    axis_name: inside `jax.shard_map`, the mesh axes along which parameters are split, for norms and controllers' sums.
    """

    weight_decay: Scalar | None
    decay_mode: str
    decay_mask: str | Callable[[str, Array], bool] | PyTree | None
    max_rate: Scalar | None
    cautious_decay: bool
    lr_scale: Mapping[str, Scalar] | Callable[[str, Array], Scalar] | PyTree | None
    storage: str | Mapping[str, str]
    storage_exclude: int | str | tuple[int | str, ...]
    layout: str
    max_norm: Scalar | None
    max_leaf_norm: Scalar | None
    agc: Scalar | None
    noise: Scalar | None
    noise_decay: Scalar
    noise_seed: int
    centralize: str | None
    cautious: str | None
    clip_update_rms: Scalar | None
    skip_nonfinite: bool
    rounding: str
    telemetry: bool | str | tuple[str, ...] | None
    axis_name: str | tuple[str, ...] | None


def flat(given: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """The keywords of **engine as optax.inject_hyperparams hands them over: one mapping, what it overrides beside."""
    return {**given.get("engine", {}), **{name: value for name, value in given.items() if name != "engine"}}


def refuse_unknown(who: str, given: Mapping[str, object], own: tuple[str, ...] = ()) -> None:
    """Raise TypeError for a keyword that is no engine option, naming the nearest that is."""
    valid = tuple(EngineOptions.__annotations__)
    for name in given:
        if name not in valid:
            every = (*own, *valid)
            meant = [x for x in KNOWN_AS.get(name, ()) if x in every] or difflib.get_close_matches(name, every, 1)
            near = " and ".join(meant) or ELSEWHERE.get(name)
            hint = f"did you mean {near}?" if near else "remove it."
            expected = f"{', '.join(own)} or an engine option" if own else "an engine option"
            raise TypeError(f"{who} has no option {name!r}, expected {expected} ({', '.join(valid)}); {hint}")
