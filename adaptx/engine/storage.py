"""How the slots of one array lie in memory between steps.

A storage encodes the slots of one leaf after the rule advanced them and decodes what it stored; the direction is read
off the decoded slots, so that no full-precision copy outlives the step. `f32` keeps them as they are (f64 for f64
parameters), `bf16` rounds stochastically: nearest rounding would freeze a second moment, whose steps of (1 − b₂)·v lie
below half an ulp.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from ..numerics import counter_bits, mix
from ..values import is_traced, value_class

Slots = dict[str, Array]


def round_to_bf16(x: Array, bits: Array) -> Array:
    """x (f32) rounded stochastically to bf16 by 16 random bits: unbiased; inf and NaN stay, the largest never wraps."""
    word = lax.bitcast_convert_type(x, jnp.uint32)
    # the magnitude is in the low 31 bits whatever the sign, so adding below the cut rounds away from zero
    magnitude = word & jnp.uint32(0x7FFFFFFF)
    raised = jnp.minimum(magnitude + (bits & jnp.uint32(0xFFFF)), jnp.uint32(0x7F7FFFFF))
    quiet = jnp.where(magnitude > jnp.uint32(0x7F800000), magnitude | jnp.uint32(0x00400000), magnitude)
    magnitude = jnp.where(magnitude < jnp.uint32(0x7F800000), raised, quiet)  # a NaN's payload must survive the cut
    half = ((word & jnp.uint32(0x80000000)) | magnitude) >> 16
    return lax.bitcast_convert_type(half.astype(jnp.uint16), jnp.bfloat16)


@value_class
class F32:
    """Slots as they are computed: f32, or f64 for f64 parameters."""

    name: ClassVar[str] = "f32"

    def init(self, slot: Array) -> Array:
        """The stored form of a fresh slot."""
        return slot

    def encode(self, slots: Slots, signed: Mapping[str, bool], dtype: Any, salt: Any) -> Slots:
        """The stored form of one leaf's slots."""
        del signed, salt
        return {name: slot.astype(dtype) for name, slot in slots.items()}

    def decode(self, stored: Slots, dtype: Any) -> Slots:
        """The slots a stored form stands for, in the arithmetic dtype."""
        return {name: slot.astype(dtype) for name, slot in stored.items()}


@value_class
class BF16:
    """Every slot in bfloat16, rounded stochastically: 2 bytes a slot."""

    name: ClassVar[str] = "bf16"

    def init(self, slot: Array) -> Array:
        """The stored form of a fresh slot."""
        return slot.astype(jnp.bfloat16)

    def encode(self, slots: Slots, signed: Mapping[str, bool], dtype: Any, salt: Any) -> Slots:
        """The stored form of one leaf's slots."""
        del signed, dtype
        return {
            name: round_to_bf16(slot.astype(jnp.float32), counter_bits(slot.shape, mix(salt + jnp.uint32(7 * i + 1))))
            for i, (name, slot) in enumerate(slots.items())
        }

    def decode(self, stored: Slots, dtype: Any) -> Slots:
        """The slots a stored form stands for, in the arithmetic dtype."""
        widen = jnp.uint32(16)
        halves = {name: lax.bitcast_convert_type(x, jnp.uint16).astype(jnp.uint32) for name, x in stored.items()}
        return {name: lax.bitcast_convert_type(x << widen, jnp.float32).astype(dtype) for name, x in halves.items()}


Storage = F32 | BF16
ALL: dict[str, type[Storage]] = {"f32": F32, "bf16": BF16}


def storage(name: str) -> Storage:
    """The storage of a name.

    Raises:
        ValueError: for an unknown name, listing the valid ones.
    """
    if not isinstance(name, str) or name not in ALL:
        raise ValueError(f"storage must be one of {', '.join(map(repr, ALL))}, got {name!r}; choose one of these.")
    return ALL[name]()


def salt(step: Array, leaf: int) -> Array:
    """The counter-hash salt of one leaf at one step."""
    return mix(step.astype(jnp.uint32) * jnp.uint32(0x85EBCA6B) + jnp.uint32(leaf * 0xC2B2AE35 % 2**32))


def fresh(p: Any, value: Any, dtype: Any) -> Array:
    """A new slot like leaf p, every element `value`, laid out over devices as p is; never a view of p."""
    slot = jnp.full_like(p, value, dtype)
    if is_traced(p):
        # under jit a constant is not tied to p's sharding and would come out replicated; a select on p is
        slot = jnp.where(p == p, slot, slot)
    return slot
