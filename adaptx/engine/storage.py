"""How the slots of one array lie in memory between steps.

    "f32"     as they are computed (f64 beside f64 parameters)                                     4 bytes a slot
    "bf16"    rounded stochastically; two slots share one 32-bit word                              2 bytes a slot
    "int8"    a tiny float in a byte, relative to a bound per block of 256; two share 16 bits      1.02 bytes a slot

A shelf is the storage of one leaf. It encodes the slots after the rule advanced them and decodes what it stored; the
direction is read off the decoded slots, so that no full-precision copy of a coded slot outlives the step. Slots that
share a word lie under the name of the first; the second's place holds None, or its bounds alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from ..base import Clock, Rule
from ..numerics import counter_bits, mix
from ..values import is_traced, one_of
from . import codecs

NAMES = ("f32", "bf16", "int8")
SMALL = 4096  # leaves with fewer elements stay f32 unless storage_exclude says otherwise


class Coded(NamedTuple):
    """A slot in int8 storage."""

    codes: Array | None  # uint8, or uint16 with the next slot's code in the high byte; None for that next slot
    bound: Array  # f32, (…, blocks): no element of the block is larger in magnitude


# (slots, gradient of signed slots, of unsigned slots, p) -> slots
Advance = Callable[[dict[str, Array], Array, Array, Array], dict[str, Array]]
Group = tuple[tuple[str, bool], ...]  # one or two slots: (name, whether it takes both signs)


@dataclass(frozen=True)
class Shelf:
    """The storage of one leaf: per slot in use (name, whether it takes both signs, storage name)."""

    slots: tuple[tuple[str, bool, str], ...]

    @property
    def coded(self) -> bool:
        """Whether a slot is in int8."""
        return any(kind == "int8" for *_, kind in self.slots)

    def groups(self) -> list[tuple[str, Group]]:
        """(storage name, slots) of what lies together: neighbors of one narrow storage, two by two."""
        out: list[tuple[str, Group]] = []
        for name, signed, kind in self.slots:
            if out and out[-1][0] == kind != "f32" and len(out[-1][1]) == 1:
                out[-1] = (kind, (*out[-1][1], (name, signed)))
            else:
                out.append((kind, ((name, signed),)))
        return out

    def init(self, initial: Callable[[str], Any], p: Any, dtype: Any) -> dict[str, Any]:
        """The stored form of fresh slots of leaf p, every element initial(name)."""
        if all(kind == "f32" for *_, kind in self.slots):
            return {name: fresh(p, initial(name), dtype) for name, *_ in self.slots}
        slots = {name: fresh(p, initial(name), jnp.float32) for name, *_ in self.slots}
        view, back = self._view(slots[self.slots[0][0]].shape)
        slots = {name: view(slot) for name, slot in slots.items()}
        bounds = {name: codecs.block_bound(slots[name]) for name, _, kind in self.slots if kind == "int8"}
        half = jnp.full(next(iter(slots.values())).shape, 0x8000, jnp.uint32)  # round to nearest
        return self._shelved(self._encode(slots, bounds, dtype, half), bounds, back)

    def advance(
        self, rule: Rule, run: Advance, stored: dict, signed: Array, unsigned: Array, x: Array, k: Clock, salt: Any
    ) -> dict[str, Any]:
        """The stored form of the slots after run(slots, signed, unsigned, x)."""
        dtype = x.dtype
        view, back = self._view(x.shape)
        s, p = view(signed), view(x)
        u = s if unsigned is signed else view(unsigned)
        held = {key: view(value) for key, value in self._arrays(stored).items()}
        old = {name: stored[name].bound for name, _, kind in self.slots if kind == "int8"}

        def code(bounds: dict[str, Array], slots: dict[str, Array]) -> dict[str, Array]:
            return self._encode(slots, bounds, dtype, counter_bits(s.shape, salt) if self._narrow() else None)

        def moved() -> dict[str, Array]:
            # decoded here, and again for whoever reads the old slots, so that no decoded copy has to be handed over
            return run(self._decode(held, old, dtype), s, u, p)

        if not self.coded:
            arrays = code({}, moved()) if not self._narrow() else fenced(lambda: code({}, moved()), held, k.t)
            return self._shelved(arrays, {}, back)
        bounds = self._bounds(rule, old, s, u, k) if rule.foreseeable(len(old) == len(self.slots)) else None
        if bounds is None:
            slots = moved()
            # beside the slots themselves, what is not finite can be passed over
            bounds = {n: codecs.block_bound(jnp.where(jnp.isfinite(slots[n]), slots[n], 0)) for n in old}
            return self._shelved(code(bounds, slots), bounds, back)
        # The conditional keeps the compiler from fusing the encoding into the direction too, which would do it twice.
        # Bounds that are not finite would make every code of their block meaningless: then all stays as it was.
        sound = jnp.all(jnp.asarray([jnp.all(b < jnp.inf) for b in bounds.values()]))
        kept = {name: jnp.where(sound, bounds[name], old[name]) for name in old}
        return self._shelved(lax.cond(sound, lambda: code(kept, moved()), lambda: held), kept, back)

    def decode(self, stored: dict[str, Any], shape: tuple[int, ...], dtype: Any) -> dict[str, Array]:
        """The slots a stored form stands for, in the arithmetic dtype."""
        view, back = self._view(shape)
        bounds = {name: stored[name].bound for name, _, kind in self.slots if kind == "int8"}
        held = {key: view(value) for key, value in self._arrays(stored).items()}
        return {name: back(slot) for name, slot in self._decode(held, bounds, dtype).items()}

    def _view(self, shape: tuple[int, ...]) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        """(to the shape arithmetic is done in, back): by blocks where a slot is coded, as it is elsewhere."""
        if not self.coded:
            return lambda x: x, lambda x: x
        return codecs.blocked, lambda x: codecs.unblocked(x, shape)

    def _narrow(self) -> bool:
        return any(kind != "f32" for *_, kind in self.slots)

    def _bounds(self, rule: Rule, old: dict, s: Array, u: Array, k: Clock) -> dict[str, Array]:
        """Bounds of the advanced slots from those before and each block's largest gradient, without the slots."""
        k = Clock(*(jnp.asarray(x, jnp.float32) for x in k))
        tops = codecs.block_bound(s.astype(jnp.float32))
        others = tops if u is s else codecs.block_bound(u.astype(jnp.float32))
        rule = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), rule)
        zero = jnp.zeros_like(tops)
        given = rule.Slots(**{name: old.get(name, zero) for name in rule.slot_kinds()})
        signed, unsigned = rule.bound(tops, given, k), rule.bound(others, given, k)
        return {
            name: getattr(signed if takes_both else unsigned, name) for name, takes_both, _ in self.slots if name in old
        }

    def _arrays(self, stored: dict[str, Any]) -> dict[str, Array]:
        """What lies under the first slot of every group: arrays of the leaf's shape."""
        firsts = {group[0][0]: kind for kind, group in self.groups()}
        return {name: stored[name].codes if kind == "int8" else stored[name] for name, kind in firsts.items()}

    def _shelved(self, arrays: dict[str, Array], bounds: dict[str, Array], back: Callable) -> dict[str, Any]:
        """The stored form from the arrays of the groups, still in the view, and the bounds."""
        out: dict[str, Any] = {}
        for name, _, kind in self.slots:
            array = back(arrays[name]) if name in arrays else None
            out[name] = Coded(array, bounds[name]) if kind == "int8" else array
        return out

    def _encode(self, slots: dict, bounds: dict, dtype: Any, bits: Any) -> dict[str, Array]:
        out = {}
        for n, (kind, group) in enumerate(self.groups()):
            name = group[0][0]
            if kind == "f32":
                out[name] = slots[name].astype(dtype)
                continue
            dice = bits if n == 0 else mix(bits ^ jnp.uint32(n))
            # one draw for both slots of a word: where a second moment is rounded up, so is the first, and the noise of
            # their ratio, which is the step, is smaller than with two draws
            dice = dice & jnp.uint32(0xFFFF)
            parts = [
                encoded(slots[name].astype(jnp.float32), bounds.get(name), dice, signed, kind) for name, signed in group
            ]
            shift, narrow, wide = (16, jnp.uint16, jnp.uint32) if kind == "bf16" else (8, jnp.uint8, jnp.uint16)
            out[name] = (parts[0] | (parts[1] << shift)).astype(wide) if len(parts) == 2 else parts[0].astype(narrow)
        return out

    def _decode(self, arrays: dict[str, Array], bounds: dict[str, Array], dtype: Any) -> dict[str, Array]:
        out = {}
        for kind, group in self.groups():
            array = arrays[group[0][0]]
            if kind == "f32":
                out[group[0][0]] = array.astype(dtype)
                continue
            shift, mask = (16, 0xFFFF) if kind == "bf16" else (8, 0xFF)
            word = array.astype(jnp.uint32)
            for (name, signed), part in zip(group, (word & jnp.uint32(mask), word >> shift), strict=False):
                out[name] = decoded(part, bounds.get(name), signed, kind).astype(dtype)
        return out


def fenced(make: Callable[[], dict], held: dict, t: Any) -> dict[str, Array]:
    """make(), kept apart from what reads it: a compiler that computes it again there has to copy what it overwrites."""
    if jax.__version_info__ >= (0, 11):
        return lax.optimization_barrier(make())
    return lax.cond(t > 0, make, lambda: held)  # always true, which the compiler does not know: it drops barriers


def encoded(x: Array, bound: Any, dice: Array, signed: bool, kind: str) -> Array:
    """x (f32) as bf16 bits or a code, in the low bits of words."""
    if kind == "bf16":
        return codecs.bf16_half(x, dice)
    return codecs.to_code(x, codecs.base_of(bound, signed)[..., None], dice, signed)


def decoded(part: Array, bound: Any, signed: bool, kind: str) -> Array:
    """The inverse of encoded."""
    if kind == "bf16":
        return codecs.from_bf16_half(part)
    return codecs.from_code(part, codecs.base_of(bound, signed)[..., None], signed)


@lru_cache(maxsize=4096)
def stored_type(shelf: Shelf, shape: tuple[int, ...], dtype: Any) -> Any:
    """(shape, dtype) of every array in the stored form of one leaf."""
    made = jax.eval_shape(lambda: shelf.init(lambda _: 0.0, jnp.zeros(shape, dtype), dtype))
    return jax.tree.map(lambda x: (x.shape, np.dtype(x.dtype)), made)


def storage(given: Any) -> tuple[tuple[str, str], ...] | str:
    """A storage setting in canonical form: a name for all slots, or (slot, name) pairs.

    Raises:
        ValueError: for an unknown name, listing the valid ones.
    """
    if not isinstance(given, Mapping):
        return one_of("storage", given, NAMES)
    return tuple(sorted((str(slot), one_of(f"storage[{slot!r}]", name, NAMES)) for slot, name in given.items()))


def shelf(setting: Any, rule: Rule, excluded: bool) -> Shelf:
    """The storage of one leaf under a canonical setting.

    Raises:
        ValueError: where the setting names a slot the rule lacks.
    """
    kinds = rule.slot_kinds()
    by_slot = dict(setting) if isinstance(setting, tuple) else dict.fromkeys(kinds, setting)
    for name in by_slot:
        if name not in kinds:
            raise ValueError(
                f"storage names the slot {name!r}, but {type(rule).__name__.lower()} keeps "
                f"{', '.join(kinds) or 'no slots'}; name one of these."
            )
    chosen: Any = ((name, signed, "f32" if excluded else by_slot.get(name, "f32")) for name, signed in kinds.items())
    return Shelf(tuple(chosen))


def salt(step: Array, leaf: Any) -> Array:
    """The counter-hash salt of one leaf at one step."""
    return mix(
        step.astype(jnp.uint32) * jnp.uint32(0x85EBCA6B) + jnp.asarray(leaf, jnp.uint32) * jnp.uint32(0xC2B2AE35)
    )


def fresh(p: Any, value: Any, dtype: Any) -> Array:
    """A new slot like leaf p, every element `value`, laid out over devices as p is; never a view of p."""
    slot = jnp.full_like(p, value, dtype)
    if is_traced(p):
        # under jit a constant is not tied to p's sharding and would come out replicated; a select on p is
        slot = jnp.where(p == p, slot, slot)
    return slot
