"""The engine options every optimizer takes, checked once, and their resolution leaf by leaf."""

import difflib
from collections.abc import Callable, Mapping
from typing import TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree
from jaxtyping import Array, PyTree

from ..values import Scalar, flag, is_concrete, number, one_of, static, value_class, whole
from .choices import Patterns, as_patterns, by_leaf, compiled, hits, is_function, mask_of
from .extras import Extras, extras
from .packing import LAYOUTS
from .rounding import POLICIES
from .shelves import SMALL, Setting, storage
from .tree import Frozen, Leaves, is_none

DECAY_MODES = ("decoupled", "l2", "independent", "corrected")
TELEMETRY = ("grad_norm", "update_norm", "param_norm")
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


@value_class
class Options:
    """The options in canonical form."""

    weight_decay: Scalar | None
    lr_scale: Patterns | ArrayTree | None
    max_norm: Scalar | None
    factor: Scalar | None = None  # on every displacement; a wrapper's, not an option
    max_rate: Scalar | None = None
    extras: Extras | None = None
    lr_scale_function: Callable[[str, Array], Scalar] | None = static(default=None)
    decay_mode: str = static(default="decoupled")
    decay_mask: str | Callable[[str, Array], bool] | Frozen | None = static(default=None)
    storage: Setting = static(default="f32")
    storage_exclude: tuple[int | str, ...] = static(default=(SMALL,))
    layout: str = static(default="leaf")
    skip_nonfinite: bool = static(default=False)
    rounding: str = static(default="nearest")
    telemetry: tuple[str, ...] = static(default=())
    axis_name: tuple[str, ...] = static(default=())

    @property
    def metric_names(self) -> tuple[str, ...]:
        """What is measured of the whole tree at every step."""
        clipped = ("grad_norm",) if self.max_norm is not None and "grad_norm" not in self.telemetry else ()
        return clipped + self.telemetry + ("skipped", "skipped_in_a_row") * self.skip_nonfinite

    def given(self) -> dict[str, PyTree]:
        """The keyword arguments that make these options."""
        return {
            "weight_decay": 0.0 if self.weight_decay is None else self.weight_decay, "decay_mode": self.decay_mode,
            "max_rate": self.max_rate, **(self.extras or Extras()).given(),
            "decay_mask": self.decay_mask.tree if isinstance(self.decay_mask, Frozen) else self.decay_mask,
            "lr_scale": self.lr_scale_function or self.lr_scale, "max_norm": self.max_norm,
            "storage": dict(self.storage) if isinstance(self.storage, tuple) else self.storage,
            "storage_exclude": self.storage_exclude, "layout": self.layout, "rounding": self.rounding,
            "skip_nonfinite": self.skip_nonfinite, "telemetry": self.telemetry, "axis_name": self.axis_name,
        }  # fmt: skip

    def changed(self, usual: Mapping[str, PyTree] | None = None) -> list[str]:
        """The options that differ from their defaults, or those that are usual here, as name=value."""
        plain = options("", usual or {}).given()
        given = {**self.given(), "decay_mask": self.decay_mask}
        differs = (name for name, x in given.items() if isinstance(x, (jax.Array, np.ndarray)) or x != plain[name])
        return [f"{name}={given[name]!r}" for name in differs]

    def decay(self, rate: Scalar) -> Scalar | None:
        """λ, in units of the rate: what multiplies p in the bracket with d."""
        if self.weight_decay is None or self.decay_mode != "corrected" or self.max_rate is None:
            return self.weight_decay
        return self.weight_decay * (rate / self.max_rate)

    def decayed(self, leaves: Leaves) -> list[bool]:
        """Whether weight decay applies, for every trained leaf."""
        if self.weight_decay is None:
            return [False] * len(leaves.trained)
        mask = self.decay_mask.tree if isinstance(self.decay_mask, Frozen) else self.decay_mask
        return mask_of("decay_mask", mask, leaves)

    def excluded(self, leaves: Leaves) -> list[bool]:
        """Whether a leaf keeps f32 slots whatever the storage, by the size of the whole leaf and by its path."""
        if self.storage == "f32":
            return [True] * len(leaves.trained)
        parts, least = self.storage_exclude, self.least_narrow or 0
        named = set().union(*(hits("storage_exclude", part, leaves) for part in parts if isinstance(part, str)))
        return [jnp.size(p) < least or i in named for i, p in enumerate(leaves.arrays)]

    @property
    def least_narrow(self) -> int | None:
        """The fewest elements that are stored narrow; None where no leaf is excluded."""
        least = max((part for part in self.storage_exclude if not isinstance(part, str)), default=0)
        return least if least > 0 or any(isinstance(part, str) for part in self.storage_exclude) else None

    def scales(self, leaves: Leaves) -> list[Scalar] | None:
        """The factor on the displacement of every trained leaf, None where none is set."""
        if self.lr_scale is None and self.lr_scale_function is None:
            return None if self.factor is None else [self.factor] * len(leaves.trained)
        if self.lr_scale_function is not None:
            pairs = zip(leaves.paths, leaves.arrays, strict=True)
            found = [_scale(path, self.lr_scale_function(path, p)) for path, p in pairs]
        else:
            found = by_leaf("lr_scale", self.lr_scale, leaves, 1.0)
        return found if self.factor is None else [self.factor * x for x in found]


def options(who: str, given: Mapping[str, PyTree]) -> Options:
    """Options from keyword arguments.

    Raises:
        TypeError: for an unknown option, listing the valid ones, or a value of the wrong kind.
        ValueError: for a value out of range or an unknown name.
    """
    given = flat(given)
    refuse_unknown(who, given)
    scale, most, decay = given.get("lr_scale"), given.get("max_norm"), given.get("weight_decay")
    function = is_function("lr_scale", scale)
    mode = one_of("decay_mode", given.get("decay_mode", "decoupled"), DECAY_MODES)
    layout = one_of("layout", given.get("layout", "leaf"), LAYOUTS)
    return Options(
        weight_decay=None if decay is None else _off_at_zero(number("weight_decay", decay, 0.0)),
        lr_scale=None if function or scale is None else _scales(scale),
        max_norm=None if most is None else number("max_norm", most, 0.0, open_low=True),
        lr_scale_function=scale if function else None,
        max_rate=_max_rate(given.get("max_rate"), mode),
        extras=extras(given, layout, mode),
        decay_mode=mode,
        decay_mask=mask("decay_mask", given.get("decay_mask")),
        storage=storage(given.get("storage", "f32")),
        storage_exclude=_exclusions(given.get("storage_exclude", SMALL)),
        layout=layout,
        skip_nonfinite=flag("skip_nonfinite", given.get("skip_nonfinite", False)),
        rounding=one_of("rounding", given.get("rounding", "nearest"), POLICIES),
        telemetry=_telemetry(given.get("telemetry")),
        axis_name=_axes(given.get("axis_name")),
    )


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


def _off_at_zero(value: Scalar) -> Scalar | None:
    return None if is_concrete(value) and float(value) == 0.0 else value


def _max_rate(value: Scalar, mode: str) -> Scalar | None:
    if value is not None and mode != "corrected":
        raise ValueError(f"max_rate belongs to decay_mode='corrected', got it with {mode!r}; set that, or remove it.")
    return None if value is None else number("max_rate", value, 0.0, open_low=True)


def _scale(path: str, value: Scalar) -> Scalar:
    checked = number(f"lr_scale at '{path}'", value, 0.0)
    if getattr(checked, "ndim", 0):
        raise TypeError(f"lr_scale at '{path}' must be one number, got shape {checked.shape}; return a scalar.")
    return checked


def _scales(scale: PyTree) -> Patterns | PyTree:
    if isinstance(scale, Patterns):
        return scale
    if isinstance(scale, Mapping) and all(isinstance(k, str) and is_number(v) for k, v in scale.items()):
        return as_patterns(scale, [number(f"lr_scale[{k!r}]", v, 0.0) for k, v in scale.items()])
    return jax.tree.map(lambda x: x if x is None else number("lr_scale", x, 0.0), scale, is_leaf=is_none)


def mask(what: str, given: PyTree) -> str | Callable[[str, Array], bool] | Frozen | None:
    """A choice of leaves in canonical form, for `choices.mask_of`."""
    if given is None or isinstance(given, str):
        if given is not None and given != "matrices":
            compiled(what, given)
        return given
    if is_function(what, given):
        return given
    return Frozen(jax.tree.map(lambda x: x if x is None else flag(what, x), given, is_leaf=is_none))


def _telemetry(given: bool | str | tuple[str, ...] | None) -> tuple[str, ...]:
    if given is None or isinstance(given, bool):
        return TELEMETRY if given else ()
    names = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    return tuple(dict.fromkeys(one_of("telemetry", name, TELEMETRY) for name in names))


def _exclusions(given: PyTree) -> tuple[int | str, ...]:
    parts = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    for part in parts:
        if isinstance(part, str):
            compiled("storage_exclude", part)
        else:
            whole("storage_exclude", part, 0)
    return parts


def _axes(given: PyTree) -> tuple[str, ...]:
    axes = () if given is None else tuple(given) if isinstance(given, (tuple, list)) else (given,)
    for axis in axes:
        if not isinstance(axis, str) or not axis:
            raise TypeError(f"axis_name must be a mesh axis or a tuple of them, got {given!r}; pass their names.")
    return axes


def is_number(x: object) -> bool:
    """Whether x is a number, an array of numbers or a schedule, rather than a tree."""
    return isinstance(x, (int, float)) or hasattr(x, "dtype") or callable(x)
