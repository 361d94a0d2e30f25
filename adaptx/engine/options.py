"""The engine options every optimizer takes, checked once, and their resolution leaf by leaf."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..values import Scalar, flag, is_concrete, number, one_of, static, value_class, whole
from .layout import LAYOUTS
from .rounding import POLICIES
from .storage import SMALL, storage
from .tree import Leaves, is_none
from .value import Frozen

DECAY_MODES = ("decoupled", "l2", "independent")
TELEMETRY = ("grad_norm", "update_norm", "param_norm")
# what "matrices" leaves out although it has two axes or more: biases and scales stacked by a scan over layers
VECTOR_NAMES = re.compile(r"(^|[/_.])(b|bias|biases|scale|gain|offset|beta|gamma|norm)[^/]*$|norm", re.IGNORECASE)


class EngineOptions(TypedDict, total=False):
    """Keyword options of every optimizer.

    weight_decay: coefficient λ ≥ 0, off at 0. decay_mode: "decoupled" p ← p − lr·(d + λp), "l2" g ← g + λp before the
    rule, "independent" p ← p − lr·d − λp. decay_mask: which leaves decay: "matrices" (two axes or more, and not named
    like a bias or a norm), a regex searched in the path, a function of (path, leaf), or a tree of bools.
    lr_scale: factor ≥ 0 on the learning rate per leaf: {path regex: factor} (the first match counts, the rest have 1),
    a function of (path, leaf), or a tree. max_norm: global-norm clipping of the gradients, > 0, in f32.
    storage: "f32", "bf16" or "int8", or one of these by slot ({"m": "bf16"}). storage_exclude: leaves that stay f32: a
    least number of elements, a path regex, or a tuple of these. layout: "leaf", "stacked" or "packed".
    rounding: how bf16 and f16 parameters take an update: "nearest", "stochastic", "kahan" (a compensation array in the
    state) or "master" (an f32 copy in the state). skip_nonfinite: leave everything as it was on a step whose gradients
    are not finite. telemetry: True or names among grad_norm, update_norm, param_norm, to be found in `adaptx.metrics`.
    """

    weight_decay: Scalar
    decay_mode: str
    decay_mask: str | Callable[[str, Any], bool] | PyTree | None
    lr_scale: Mapping[str, Scalar] | Callable[[str, Any], Scalar] | PyTree | None
    storage: str | Mapping[str, str]
    storage_exclude: int | str | tuple[int | str, ...]
    layout: str
    max_norm: Scalar | None
    skip_nonfinite: bool
    rounding: str
    telemetry: bool | tuple[str, ...]


@value_class
class Patterns:
    """Values by path regex, in the order given."""

    values: tuple[Scalar, ...]
    patterns: tuple[str, ...] = static(default=())

    def __repr__(self) -> str:
        return repr(dict(zip(self.patterns, self.values, strict=True)))


@value_class
class Options:
    """The options in canonical form."""

    weight_decay: Scalar | None
    lr_scale: Any  # Patterns, a tree, or None
    max_norm: Scalar | None
    lr_scale_function: Callable[[str, Any], Scalar] | None = static(default=None)
    decay_mode: str = static(default="decoupled")
    decay_mask: Any = static(default=None)
    storage: Any = static(default="f32")  # a name, or (slot, name) pairs
    storage_exclude: tuple[int | str, ...] = static(default=(SMALL,))
    layout: str = static(default="leaf")
    skip_nonfinite: bool = static(default=False)
    rounding: str = static(default="nearest")
    telemetry: tuple[str, ...] = static(default=())

    def metric_names(self, learning_rate: Any) -> list[str]:
        """What an optimizer with these options measures at every step."""
        rate = [] if learning_rate is None else ["learning_rate"]
        clipped = ["grad_norm"] if self.max_norm is not None and "grad_norm" not in self.telemetry else []
        return rate + clipped + list(self.telemetry) + ["skipped", "skipped_in_a_row"] * self.skip_nonfinite

    def changed(self) -> list[str]:
        """The options that differ from their defaults, as name=value."""
        shown = {
            "weight_decay": self.weight_decay, "decay_mode": self.decay_mode, "decay_mask": self.decay_mask,
            "lr_scale": self.lr_scale_function or self.lr_scale, "storage": self.storage, "layout": self.layout,
            "max_norm": self.max_norm, "skip_nonfinite": self.skip_nonfinite, "rounding": self.rounding,
            "telemetry": self.telemetry,
        }  # fmt: skip
        plain = (None, False, (), "decoupled", "f32", "leaf", "nearest")
        return [
            f"{name}={value!r}" for name, value in shown.items() if not any(value is x or x == value for x in plain)
        ]


def options(who: str, given: Mapping[str, Any]) -> Options:
    """Options from keyword arguments.

    Raises:
        TypeError: for an unknown option, listing the valid ones, or a value of the wrong kind.
        ValueError: for a value out of range or an unknown name.
    """
    nested = given.get("engine", {})  # optax.inject_hyperparams hands the keywords of **engine over as one mapping
    given = {**{name: value for name, value in given.items() if name != "engine"}, **nested}
    valid = tuple(EngineOptions.__annotations__)
    for name in given:
        if name not in valid:
            raise TypeError(f"{who} has no option {name!r}; the engine options are {', '.join(valid)}.")
    scale = given.get("lr_scale")
    function = scale if callable(scale) and jax.tree.leaves(scale) == [scale] else None
    bound = given.get("max_norm")
    return Options(
        weight_decay=_off_at_zero(number("weight_decay", given.get("weight_decay", 0.0), 0.0)),
        lr_scale=None if function is not None or scale is None else _scales(scale),
        max_norm=None if bound is None else number("max_norm", bound, 0.0, open_low=True),
        lr_scale_function=function,
        decay_mode=one_of("decay_mode", given.get("decay_mode", "decoupled"), DECAY_MODES),
        decay_mask=_mask(given.get("decay_mask")),
        storage=storage(given.get("storage", "f32")),
        storage_exclude=_exclusions(given.get("storage_exclude", SMALL)),
        layout=one_of("layout", given.get("layout", "leaf"), LAYOUTS),
        skip_nonfinite=flag("skip_nonfinite", given.get("skip_nonfinite", False)),
        rounding=one_of("rounding", given.get("rounding", "nearest"), POLICIES),
        telemetry=_telemetry(given.get("telemetry", ())),
    )


def _off_at_zero(value: Scalar) -> Scalar | None:
    return None if is_concrete(value) and float(value) == 0.0 else value


def _scales(scale: Any) -> Any:
    if isinstance(scale, Mapping) and all(isinstance(k, str) and is_number(v) for k, v in scale.items()):
        for pattern in scale:
            _compiled("lr_scale", pattern)
        values = tuple(number(f"lr_scale[{k!r}]", v, 0.0) for k, v in scale.items())
        return Patterns(values, tuple(scale))
    return jax.tree.map(lambda x: x if x is None else number("lr_scale", x, 0.0), scale, is_leaf=is_none)


def _mask(mask: Any) -> Any:
    if mask is None or isinstance(mask, str):
        if mask is not None and mask != "matrices":
            _compiled("decay_mask", mask)
        return mask
    if callable(mask) and jax.tree.leaves(mask) == [mask]:
        return mask
    return Frozen(jax.tree.map(lambda x: x if x is None else flag("decay_mask", x), mask, is_leaf=is_none))


def _telemetry(given: Any) -> tuple[str, ...]:
    if isinstance(given, bool):
        return TELEMETRY if given else ()
    names = (given,) if isinstance(given, str) else tuple(given)
    return tuple(one_of("telemetry", name, TELEMETRY) for name in dict.fromkeys(names))


def _exclusions(given: Any) -> tuple[int | str, ...]:
    parts = given if isinstance(given, tuple) else (given,)
    for part in parts:
        if isinstance(part, str):
            _compiled("storage_exclude", part)
        else:
            whole("storage_exclude", part, 0)
    return parts


def _compiled(what: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{what}: {pattern!r} is not a regular expression ({error}); correct the pattern.") from error


def is_number(x: Any) -> bool:
    """Whether x is a scalar or an array of numbers, rather than a tree."""
    return isinstance(x, (int, float)) or hasattr(x, "dtype")


def decayed_leaves(mask: Any, leaves: Leaves) -> tuple[bool, ...]:
    """Whether weight decay applies, for every trained leaf."""
    if mask is None:
        return (True,) * len(leaves.trained)
    if mask == "matrices":
        pairs = zip(leaves.paths, leaves.arrays, strict=True)
        return tuple(jnp.ndim(p) >= 2 and not VECTOR_NAMES.search(path) for path, p in pairs)
    if isinstance(mask, str):
        return tuple(i in _hits("decay_mask", mask, leaves) for i in range(len(leaves.trained)))
    if callable(mask):
        return tuple(bool(mask(path, p)) for path, p in zip(leaves.paths, leaves.arrays, strict=True))
    return tuple(bool(x) for x in _like_params("decay_mask", mask.tree, leaves))


def excluded_leaves(exclude: tuple[int | str, ...], leaves: Leaves) -> list[bool]:
    """Whether a leaf keeps f32 slots whatever the storage, by the size of the whole leaf and by its path."""
    least = max((part for part in exclude if not isinstance(part, str)), default=0)
    named = set().union(*(_hits("storage_exclude", part, leaves) for part in exclude if isinstance(part, str)))
    return [jnp.size(p) < least or i in named for i, p in enumerate(leaves.arrays)]


def scale_factors(given: Options, leaves: Leaves) -> tuple[Scalar, ...] | None:
    """The learning-rate factor of every trained leaf, or None where none is set."""
    if given.lr_scale_function is not None:
        pairs = zip(leaves.paths, leaves.arrays, strict=True)
        return tuple(number(f"lr_scale at '{path}'", given.lr_scale_function(path, p), 0.0) for path, p in pairs)
    if given.lr_scale is None:
        return None
    if not isinstance(given.lr_scale, Patterns):
        return tuple(1.0 if x is None else x for x in _like_params("lr_scale", given.lr_scale, leaves))
    factors: list[Scalar] = [1.0] * len(leaves.trained)
    for pattern, value in reversed(list(zip(given.lr_scale.patterns, given.lr_scale.values, strict=True))):
        for i in _hits("lr_scale", pattern, leaves):
            factors[i] = value
    return tuple(factors)


def _hits(what: str, pattern: str, leaves: Leaves) -> set[int]:
    hits = {i for i, path in enumerate(leaves.paths) if re.search(pattern, path)}
    if not hits:
        raise ValueError(
            f"{what}: the pattern {pattern!r} matches none of the parameters {leaves.paths}; correct or remove it."
        )
    return hits


def _like_params(what: str, tree: PyTree, leaves: Leaves) -> list[Any]:
    flat, treedef = jax.tree.flatten(tree, is_leaf=is_none)
    if treedef != leaves.treedef:
        raise ValueError(
            f"{what} must be a path regex, a function of (path, leaf), or a tree like the parameters "
            f"{leaves.treedef}, got {treedef}; give one of these."
        )
    return [flat[i] for i in leaves.trained]
