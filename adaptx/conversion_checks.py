"""What `convert` refuses: slots that would be read as something else than they are."""

import jax.numpy as jnp
from jaxtyping import Array

from .base import Rule
from .engine.optimizer import Optimizer
from .engine.shelves import own_shape
from .engine.tree import Leaves, as_arrays


def refuse_other_meanings(old: Rule, new: Rule, slots: dict[str, Array | None]) -> None:
    """Raise ValueError where a slot stood for something else, or would be new and its bias corrected for another age.

    A slot may be of the same shape and yet be a sum where the new settings have a mean.
    """
    was, now, mine = old.means(), new.means(), new.slots()
    for name in slots:
        if name in mine and was.get(name) != now.get(name):
            raise ValueError(
                f"convert: slot '{name}' of {new.name} is {was.get(name)} in the state, but {now.get(name)} as new has "
                "it; keep the setting that decides it, or begin with new.init(params)."
            )
    for name in new.aged():
        if name in mine and name not in slots:
            raise ValueError(
                f"convert: slot '{name}' of {new.name} would be new, while its bias is corrected for all steps that "
                "the other slots saw; keep the setting that decides it, or begin with new.init(params)."
            )


def refuse_other_forms(opt: Optimizer, leaves: Leaves, slots: list[dict[str, Array | None]]) -> None:
    """Raise ValueError where a parameter has other slots under the same rule: factored in one, whole in the other.

    Or of another shape, or without those that others are relative to, as a basis in which a second moment lies.
    """
    declared = opt.rule.slots()
    for path, p, row in zip(leaves.paths, as_arrays(leaves.arrays), slots, strict=True):
        if not row:
            continue
        shapes = {name: jnp.shape(p) for name in declared if opt.rule.initial(name, p) is not None}
        shapes |= {name: own_shape(opt.rule, name, p) for name in shapes if declared[name].own}
        came = {name: x.shape for name, x in row.items() if x is not None}
        lost = {name for name in shapes if name in row and name not in came}
        gone = {name for name in came if name in declared and name not in shapes and declared[name].exact}
        if lost or gone:
            raise ValueError(
                f"convert: parameter '{path}' has the slots {', '.join(sorted(came))} in the state, but "
                f"{', '.join(sorted(shapes))} under {opt.rule.name} as new has it; keep the setting that decides it."
            )
        for name in shapes:
            if name in came and came[name] != shapes[name]:
                raise ValueError(
                    f"convert: slot '{name}' of parameter '{path}' has shape {came[name]} in the state, but "
                    f"{shapes[name]} under {opt.rule.name} as new has it; keep the setting that decides it."
                )
