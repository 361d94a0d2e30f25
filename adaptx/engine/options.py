"""The engine options every optimizer takes, checked once, and their resolution leaf by leaf."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from chex import ArrayTree
from jaxtyping import Array, PyTree

from ..checks import flag, number, one_of, whole
from ..values import Scalar, is_concrete, static, value_class
from .choices import Patterns, as_patterns, by_leaf, compiled, hits, is_function, mask, mask_of
from .extras import Extras, extras
from .keywords import DECAY_MODES, TELEMETRY, flat, refuse_unknown
from .packing import LAYOUTS
from .rounding import POLICIES
from .shelves import SMALL, Setting, storage
from .tree import Frozen, Leaves, is_none


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
        """The options that differ from their defaults, and those that are usual here, as name=value."""
        plain, usual = options("", {}).given(), usual or {}
        given = {**self.given(), "decay_mask": self.decay_mask}
        differs = (
            name
            for name, x in given.items()
            if name in usual or isinstance(x, (jax.Array, np.ndarray)) or x != plain[name]
        )
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
    if isinstance(scale, Mapping) and all(isinstance(k, str) and _is_number(v) for k, v in scale.items()):
        return as_patterns(scale, [number(f"lr_scale[{k!r}]", v, 0.0) for k, v in scale.items()])
    return jax.tree.map(lambda x: x if x is None else number("lr_scale", x, 0.0), scale, is_leaf=is_none)


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


def _is_number(x: object) -> bool:
    """Whether x is a number, an array of numbers or a schedule, rather than a tree."""
    return isinstance(x, (int, float)) or hasattr(x, "dtype") or callable(x)
