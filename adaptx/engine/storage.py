"""How the slots of one array lie in memory between steps.

    "f32"     as they are computed (f64 beside f64 parameters)                                     4 bytes a slot
    "bf16"    rounded stochastically; two slots share one 32-bit word                              2 bytes a slot
    "int8"    a tiny float in a byte, relative to a bound per block of 256; two share 16 bits      1.02 bytes a slot

A shelf is the storage of one leaf. It encodes the slots after the rule advanced them and decodes what it stored; the
direction is read off the decoded slots, so that no full-precision copy of a coded slot outlives the step.

What is stored lies under entries named after slots. Two slots of one shape share a word, under the name of the first;
under that of the second lie the bounds of both in int8, in bf16 nothing. A slot that is coded alone has its bound under
'name.bound'. Leaves that are excluded from narrow storage keep every slot in f32 under its own name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, DTypeLike

from ..bits import counter_bits, mix
from ..numerics import capped
from ..sharded import filled, sharded_as
from ..values import Scalar
from . import codecs

NAMES = ("f32", "bf16", "int8")

Slots = dict[str, Array]
Stored = dict[str, Array | None]  # entry -> what lies there, None where there is nothing
Move = Callable[[Slots, Sequence[Array]], Slots]  # (slots, arrays of the leaf) -> slots after this step
Foresee = Callable[[Slots, Array], Slots]  # (bounds before, of the gradient) -> bounds of the slots after this step


class Group(NamedTuple):
    """One or two slots of a leaf that lie together."""

    kind: str  # among NAMES
    names: tuple[str, ...]
    signed: tuple[bool, ...]  # whether each takes both signs
    shape: tuple[int, ...] | None  # of a slot that has its own, else None

    @property
    def bound(self) -> str:
        """The entry its bounds lie under."""
        return self.names[1] if len(self.names) == 2 else f"{self.names[0]}.bound"


@dataclass(frozen=True)
class Shelf:
    """The storage of one leaf."""

    groups: tuple[Group, ...]  # of the slots that this leaf has
    entries: tuple[str, ...]  # of every leaf of the optimizer; this one may have nothing under some
    sparse: tuple[str, ...]  # those under which some leaves have something and others nothing
    by_element: bool  # whether the rule may see the slots in another shape, as blocks

    @property
    def narrow(self) -> bool:
        """Whether a slot is not kept as it is computed."""
        return any(group.kind != "f32" for group in self.groups)

    @property
    def blocked(self) -> bool:
        """Whether the rule sees the leaf by blocks, the shape in which codes and bounds are computed."""
        return self.by_element and any(group.kind == "int8" for group in self.groups)

    def kinds(self) -> dict[str, str]:
        """The storage of every slot."""
        return {name: group.kind for group in self.groups for name in group.names}

    def init(self, initial: Callable[[str], Scalar | Array | None], p: Array, dtype: DTypeLike) -> Stored:
        """The stored form of fresh slots of leaf p, every element initial(name), or initial(name) with its own shape.

        A number is coded once, and is its own bound: a compiler would code a whole constant array element by element.
        """
        out: Stored = dict.fromkeys(self.entries)
        for group in self.groups:
            wide = dtype if group.kind == "f32" else jnp.float32
            firsts = [jnp.asarray(initial(name), wide) for name in group.names]
            own, like = group.shape is not None, p if group.shape is None else firsts[0]
            if group.kind == "f32":
                out[group.names[0]] = jnp.array(firsts[0]) if own else filled(like, firsts[0], dtype)
                continue
            parts = [_blocks(group, x) if own else jnp.reshape(x, (1, 1)) for x in firsts]
            bounds = [codecs.block_bound(x) for x in parts] if group.kind == "int8" else []
            code = _encode(group, parts, bounds, jnp.full(parts[0].shape, 0x8000, jnp.uint32))  # rounded to nearest
            out[group.names[0]] = _natural(group, code, like.shape) if own else filled(like, code[0, 0], code.dtype)
            if bounds:
                first = codecs.blocked(like)[..., 0]  # one element a block, where the block lies
                every = bounds if own else [filled(first, b[0], jnp.float32) for b in bounds]
                out[group.bound] = _packed(every, like.shape)
        return out

    def advance(
        self, stored: Stored, arrays: Sequence[Array], move: Move, foresee: Foresee | None, clock: tuple[Array, Array]
    ) -> Stored:
        """The stored form of the slots after move(slots, arrays).

        Args:
            stored: as before.
            arrays: of the leaf's shape, what `move` looks at, the gradient first.
            move: the rule's step.
            foresee: how bounds move, where larger gradients never make smaller slots; else they are read off the slots.
            clock: (a number above 0 that the compiler does not know, the salt of the random bits).
        """
        shape, dtype = arrays[0].shape, arrays[0].dtype
        view = codecs.blocked if self.blocked else _as_it_is
        seen = [view(x) for x in arrays]
        held = {group.names[0]: view(_there(stored[group.names[0]])) for group in self.groups}
        old = self._bounds(stored, shape)

        def moved() -> Slots:
            # decoded here, and again for whoever reads the old slots, so that no decoded copy has to be handed over
            return move(self._decoded(held, old, dtype), seen)

        if not self.narrow:
            return self._stored(moved(), {}, stored, shape)
        if not old:
            return self._stored(
                _fenced(lambda: self._coded(moved(), {}, dtype, clock[1]), held, clock[0]), {}, stored, shape
            )
        if foresee is None or not self.blocked:
            slots = moved()
            # beside the slots themselves, what is not finite can be passed over
            single = {name: x.astype(jnp.float32) for name, x in self._by_blocks(slots).items()}
            tops = {n: codecs.block_bound(jnp.where(jnp.isfinite(x), x, 0)) for n, x in single.items()}
            bounds = _sound(tops, old)
            return self._stored(self._coded(slots, bounds, dtype, clock[1]), bounds, stored, shape)
        bounds = _sound(foresee(old, codecs.block_bound(seen[0].astype(jnp.float32))), old)
        # The conditional keeps the compiler from fusing the encoding into the direction too, which would do it twice.
        # Its predicate is always true, which the compiler does not know.
        codes = lax.cond(clock[0] > 0, lambda: self._coded(moved(), bounds, dtype, clock[1]), lambda: held)
        return self._stored(codes, bounds, stored, shape)

    def decode(self, stored: Stored, shape: tuple[int, ...], dtype: DTypeLike) -> Slots:
        """The slots a stored form stands for, in the arithmetic dtype."""
        view = codecs.blocked if self.blocked else _as_it_is
        held = {group.names[0]: view(_there(stored[group.names[0]])) for group in self.groups}
        slots = self._decoded(held, self._bounds(stored, shape), dtype)
        return {name: codecs.unblocked(x, shape) for name, x in slots.items()} if self.blocked else slots

    def _bounds(self, stored: Stored, shape: tuple[int, ...]) -> Slots:
        """The bounds of every coded slot, one a block."""
        out: Slots = {}
        for group in self.groups:
            if group.kind == "int8":
                both = _there(stored[group.bound])
                parts = [both] if len(group.names) == 1 else [both[..., 0], both[..., 1]]
                like = codecs.bound_shape(shape if group.shape is None else group.shape)
                out |= {name: x.reshape(like) for name, x in zip(group.names, parts, strict=True)}
        return out

    def _by_blocks(self, slots: Slots) -> Slots:
        """The coded slots as blocks."""
        coded = [(group, name) for group in self.groups if group.kind == "int8" for name in group.names]
        return {name: slots[name] if self.blocked else _blocks(group, slots[name]) for group, name in coded}

    def _coded(self, slots: Slots, bounds: Slots, dtype: DTypeLike, salt: Array) -> Slots:
        """What lies under the first name of every group, in the shape the slots are in."""
        out: Slots = {}
        bits: dict[tuple[int, ...], Array] = {}  # drawn once for all groups of a shape
        for n, group in enumerate(self.groups):
            first = slots[group.names[0]]
            if group.kind == "f32":
                out[group.names[0]] = first.astype(dtype)
                continue
            if first.shape not in bits:
                bits[first.shape] = counter_bits(first.shape, salt)
            dice = bits[first.shape] if n == 0 else mix(bits[first.shape] ^ jnp.uint32(n))
            parts, turned = [slots[name].astype(jnp.float32) for name in group.names], group.kind == "int8"
            if turned and not self.blocked:
                parts, dice = [_blocks(group, x) for x in parts], codecs.blocked(dice)
            code = _encode(group, parts, [bounds[name] for name in group.names if name in bounds], dice)
            out[group.names[0]] = _natural(group, code, first.shape) if turned and not self.blocked else code
        return out

    def _decoded(self, held: Slots, bounds: Slots, dtype: DTypeLike) -> Slots:
        """The inverse of `_coded`."""
        out: Slots = {}
        for group in self.groups:
            array = held[group.names[0]]
            if group.kind == "f32":
                out[group.names[0]] = array.astype(dtype)
                continue
            apart = group.kind == "int8" and not self.blocked
            word = (codecs.blocked(array) if apart else array).astype(jnp.uint32)
            shift, mask = (16, 0xFFFF) if group.kind == "bf16" else (8, 0xFF)
            halves = (word & jnp.uint32(mask), word >> shift)
            for name, signed, half in zip(group.names, group.signed, halves, strict=False):
                slot = _decode(half, bounds.get(name), signed).astype(dtype)
                out[name] = sharded_as(codecs.unblocked(slot, array.shape), array) if apart else slot
        return out

    def _stored(self, codes: Slots, bounds: Slots, old: Stored, shape: tuple[int, ...]) -> Stored:
        """The stored form from what lies under the first names, in the shape the slots were in, and the bounds."""
        out: Stored = dict.fromkeys(self.entries)
        for group in self.groups:
            first = codes[group.names[0]]
            whole = codecs.unblocked(first, shape) if self.blocked else first
            out[group.names[0]] = sharded_as(whole, _there(old[group.names[0]]))
            if group.kind == "int8":
                like = shape if group.shape is None else group.shape
                packed = _packed([bounds[name] for name in group.names], like)
                out[group.bound] = sharded_as(packed, _there(old[group.bound]))
        return out


def _as_it_is(x: Array) -> Array:
    return x


def _there(x: Array | None) -> Array:
    assert x is not None, "states are checked before they get here"
    return x


def _blocks(group: Group, x: Array) -> Array:
    return codecs.blocked(x) if group.kind == "int8" else x


def _natural(group: Group, x: Array, shape: tuple[int, ...]) -> Array:
    return codecs.unblocked(x, shape) if group.kind == "int8" else x


def _packed(bounds: list[Array], shape: tuple[int, ...]) -> Array:
    """A group's bounds as they lie in memory: of the leaf's rank, so that its sharding fits, two along a last axis."""
    rank = max(len(shape), 1)
    bounds = [x.reshape(*x.shape, *[1] * (rank - x.ndim)) for x in bounds]
    return bounds[0] if len(bounds) == 1 else jnp.stack(bounds, -1)


def _sound(bounds: Slots, old: Slots) -> Slots:
    """Bounds that codes can be relative to: not inf, and as before where NaN."""
    return {name: jnp.where(jnp.isnan(bounds[name]), old[name], capped(bounds[name])) for name in old}


def _fenced(make: Callable[[], Slots], held: Slots, t: Array) -> Slots:
    """make(), kept apart from what reads it: a compiler that computes it again there has to copy what it overwrites."""
    if jax.__version_info__ >= (0, 11):
        return lax.optimization_barrier(make())
    return lax.cond(t > 0, make, lambda: held)  # always true, which the compiler does not know: it drops barriers


def _encode(group: Group, parts: list[Array], bounds: list[Array], dice: Array) -> Array:
    """One or two slots (f32) as words, rounded stochastically.

    One draw for both slots of a word: where a second moment is rounded up, so is the first, and the noise of their
    ratio, which is the step, is smaller than with two draws.
    """
    dice = dice & jnp.uint32(0xFFFF)
    if group.kind == "bf16":
        halves, (shift, narrow, wide) = [codecs.bf16_half(x, dice) for x in parts], (16, jnp.uint16, jnp.uint32)
    else:
        shift, narrow, wide = 8, jnp.uint8, jnp.uint16
        rows = zip(parts, bounds, group.signed, strict=True)
        halves = [codecs.to_code(x, codecs.base_of(b, signed)[..., None], dice, signed) for x, b, signed in rows]
    return (halves[0] | (halves[1] << shift)).astype(wide) if len(halves) == 2 else halves[0].astype(narrow)


def _decode(half: Array, bound: Array | None, signed: bool) -> Array:
    """The f32 slot of one half of a word."""
    if bound is None:
        return codecs.from_bf16_half(half)
    return codecs.from_code(half, codecs.base_of(bound, signed)[..., None], signed)


@lru_cache(maxsize=4096)
def stored_type(shelf: Shelf, shape: tuple[int, ...], dtype: DTypeLike) -> dict[str, tuple | None]:
    """(shape, dtype) of what lies under every entry of one leaf, None where nothing does."""
    shapes = {name: group.shape for group in shelf.groups for name in group.names}

    def initial(name: str) -> Scalar | Array | None:
        own = shapes[name]
        return 0.0 if own is None else jnp.zeros(own, jnp.float32)

    made = jax.eval_shape(lambda: shelf.init(initial, jnp.zeros(shape, dtype), dtype))
    return {name: None if x is None else (x.shape, np.dtype(x.dtype)) for name, x in made.items()}


def salt(step: Array, leaf: Scalar) -> Array:
    """The counter-hash salt of one leaf at one step."""
    return mix(
        step.astype(jnp.uint32) * jnp.uint32(0x85EBCA6B) + jnp.asarray(leaf, jnp.uint32) * jnp.uint32(0xC2B2AE35)
    )
