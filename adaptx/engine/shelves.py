"""Which storage the slots of a leaf have: the setting of the optimizer, what is excluded, what lies together."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Rule, Slot
from ..checks import one_of
from .storage import NAMES, Group, Shelf

SMALL = 4096  # slots with fewer elements stay f32 unless storage_exclude says otherwise
Setting = str | tuple[tuple[str, str], ...]  # a storage name for all slots, or (slot, name) pairs


def storage(given: object) -> Setting:
    """A storage setting in canonical form.

    Raises:
        ValueError: for an unknown name, listing the valid ones.
    """
    if not isinstance(given, Mapping):
        return one_of("storage", given, NAMES)
    return tuple(sorted((str(slot), one_of(f"storage[{slot!r}]", name, NAMES)) for slot, name in given.items()))


def shelf(setting: Setting, rule: Rule, p: jax.ShapeDtypeStruct | None, excluded: bool, least: int | None) -> Shelf:
    """The storage of a leaf of p's shape under a canonical setting.

    Args:
        setting: what `storage` returned.
        rule: the rule whose slots they are.
        p: the leaf; None where only the names of entries are wanted.
        excluded: whether it stays f32 by its size or path.
        least: the fewest elements of a slot that is stored narrow, None where no leaf of the optimizer is excluded.

    Raises:
        ValueError: where the setting names a slot the rule lacks.
    """
    slots = rule.slots()
    kinds = dict(setting) if isinstance(setting, tuple) else dict.fromkeys(slots, setting)
    for name in kinds:
        if name not in slots:
            raise ValueError(
                f"storage names the slot {name!r}, but {rule.name} keeps {', '.join(slots) or 'no slots'}; name one of "
                "these."
            )
    for name, kind in kinds.items() if isinstance(setting, tuple) else ():
        if slots[name].exact and kind != "f32":
            raise ValueError(
                f"storage[{name!r}]: expected 'f32', as what {rule.name} makes of this slot forgives no rounding, got "
                f"{kind!r}; leave it out."
            )
    groups, entries, sparse = [], [], []
    for names, kind in _neighbors(slots, kinds):
        exact = slots[names[0]].exact
        bound = [f"{names[0]}.bound"] if len(names) == 1 and kind == "int8" and not exact else []
        second = names[1:] if kind != "bf16" or least is not None else ()
        entries += [names[0], *second, *bound]
        sparse += [*bound, *(second if kind == "bf16" else ())] if least is not None else []
        own = slots[names[0]].own
        shape = own_shape(rule, names[0], p) if own else None
        if own and shape is None:
            continue
        small = shape is not None and least is not None and int(np.prod(shape)) < least
        narrow = kind != "f32" and not excluded and not small and not exact
        signed = [slots[name].signed for name in names]
        if narrow:
            groups.append(Group(kind, names, tuple(signed), shape))
        else:
            groups += [Group("f32", (name,), (both,), shape) for name, both in zip(names, signed, strict=True)]
    by_element = rule.pointwise and not any(slot.own for slot in slots.values())
    return Shelf(tuple(groups), tuple(entries), tuple(sparse), by_element)


def own_shape(rule: Rule, name: str, p: jax.ShapeDtypeStruct | None) -> tuple[int, ...] | None:
    """The shape of a slot that has its own; None where this leaf has none."""

    def initial(p):
        first = rule.initial(name, p)
        return None if first is None else jnp.asarray(first)

    made = None if p is None else jax.eval_shape(initial, p)
    return None if made is None else made.shape


def _neighbors(slots: dict[str, Slot], kinds: dict[str, str]) -> list[tuple[tuple[str, ...], str]]:
    """Slots that lie together, and their storage: neighbors of one narrow storage like the parameter, two by two."""
    out: list[tuple[tuple[str, ...], str]] = []
    for name, slot in slots.items():
        kind, last = kinds.get(name, "f32"), out[-1] if out else ((), "")
        single = len(last[0]) == 1 and not slots[last[0][0]].own and not slots[last[0][0]].exact
        pairs = kind != "f32" and not slot.own and not slot.exact and last[1] == kind and single
        if pairs:
            out[-1] = ((*last[0], name), kind)
        else:
            out.append(((name,), kind))
    return out
