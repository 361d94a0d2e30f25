"""A schedule as a value: made by a named constructor, it compares, hashes and shows by its arguments.

`valued` makes such constructors; `product` is here because `*` needs it.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .checks import number
from .control import Controller

P = ParamSpec("P")
Number = float | jax.Array
Curve = Callable[[jax.Array], jax.Array]
_BUILDERS: dict[str, Callable[..., Callable[..., Any]]] = {}


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """A schedule as a value: the name of its constructor and every argument, defaults included.

    Calling it with a step (int, array of any shape, or traced) gives the learning rate of that step in the default
    float type (float32, or float64 when x64 is on). Arguments that cannot be hashed, such as JAX arrays and traced
    values, compare by identity.
    """

    name: str
    arguments: tuple[tuple[str, Any], ...]

    def __call__(self, step: ArrayLike) -> jax.Array:
        """The value at `step` (≥ 0); an array of steps gives an array of the same shape."""
        steps, schedule = jnp.asarray(step), self._build()
        # optax mixes integer steps with float hyperparameters, which strict promotion would refuse
        with jax.numpy_dtype_promotion("standard"):
            values = jax.vmap(schedule)(steps.ravel()) if steps.ndim else schedule(steps)
        return jnp.asarray(values, dtype=jnp.result_type(float)).reshape(steps.shape)

    def _build(self) -> Callable[..., Any]:
        return _BUILDERS[self.name](**{name: _thaw(value) for name, value in self.arguments})

    def _key(self) -> tuple[Any, ...]:
        return self.name, tuple((name, _key(value)) for name, value in self.arguments)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Schedule) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __mul__(self, other: "Number | Curve") -> "Schedule":
        """The product with a number or another schedule, step by step: see `product`."""
        return NotImplemented if isinstance(other, Controller) else product(self, other)

    __rmul__ = __mul__

    def __repr__(self) -> str:
        if self.name == "product":
            return " * ".join(repr(value) for _, value in self.arguments)
        defaults = inspect.signature(_BUILDERS[self.name]).parameters
        shown = ((name, value) for name, value in self.arguments if _key(value) != _key(defaults[name].default))
        return f"{self.name}({', '.join(f'{name}={_thaw(value)!r}' for name, value in shown)})"


class _Items(tuple):
    """A mapping frozen to its sorted items, remembered as such so that it can be given back as a dict."""


def _freeze(value: Any) -> Any:
    """Mappings and sequences as tuples, which nobody can change after the schedule was made."""
    if isinstance(value, Mapping):
        return _Items((key, _freeze(value[key])) for key in sorted(value))
    return tuple(_freeze(item) for item in value) if isinstance(value, (list, tuple, Iterator)) else value


def _thaw(value: Any) -> Any:
    if isinstance(value, _Items):
        return {key: _thaw(item) for key, item in value}
    return [_thaw(item) for item in value] if isinstance(value, tuple) else value


def _key(value: Any) -> Any:
    """What an argument contributes to equality and hash: itself, or its identity where it has no hash (arrays)."""
    if isinstance(value, tuple):
        return type(value).__name__, tuple(_key(item) for item in value)
    try:
        hash(value)
    except TypeError:
        return "identity", id(value)
    return value


def valued(build: Callable[P, Callable[..., Any]]) -> Callable[P, Schedule]:
    """A constructor with the signature and docstring of `build` that gives a `Schedule` instead of a closure."""
    name, signature = build.__name__, inspect.signature(build)
    _BUILDERS[name] = build

    @functools.wraps(build)
    def construct(*args: P.args, **kwargs: P.kwargs) -> Schedule:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{name}: {error}; its arguments are {', '.join(signature.parameters)}.") from error
        bound.apply_defaults()
        schedule = Schedule(name, tuple((key, _freeze(value)) for key, value in bound.arguments.items()))
        schedule._build()  # so that wrong arguments are refused here, not at the first step
        return schedule

    construct.__module__ = "adaptx.schedules"  # where users find it
    return construct


@valued
def product(first: Number | Curve, second: Number | Curve) -> Curve:
    """The product of two schedules, or of a schedule and a number; what `schedule * schedule` gives.

        lr_t = first(t) · second(t)

    Raises TypeError for anything else.
    """
    for name, factor in (("first", first), ("second", second)):
        number(name, factor)
    return lambda t: _at(first, t) * _at(second, t)


def _at(factor: Number | Curve, t: jax.Array) -> jax.Array:
    return factor(t) if callable(factor) else jnp.asarray(factor)


def values_at(schedule: Callable[[Any], Any], steps: np.ndarray) -> np.ndarray:
    """A schedule's values at whole steps (n,), in one program where it is a function of arrays."""
    try:
        return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(steps)), np.float64)
    except (TypeError, ValueError):  # a function of Python's numbers, which says itself what is wrong with it
        return np.array([float(schedule(int(t))) for t in steps])
