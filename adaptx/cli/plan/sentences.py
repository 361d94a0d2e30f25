"""The sentences under the tables of `adaptx plan`, and the same as data."""

from adaptx.engine.transformation import Transformation

from ..words import seconds, size
from .budget import SHARDING, Budget, Leaf


def stored(leaf: Leaf) -> str:
    """How the slots of a leaf are stored, and why not narrowly."""
    kinds = list(dict.fromkeys(leaf.cost.storage.values()))
    pairs = ", ".join(f"{name} {kind}" for name, kind in leaf.cost.storage.items())
    words = (kinds[0] if len(kinds) == 1 else pairs) if kinds else "no slots"
    return words + (f": {leaf.why}" if leaf.why and kinds else "")


def notes(plan: Budget, bandwidth: float | None) -> list[str]:
    """The floor of a step, and what the numbers mean."""
    where = f" on each of {plan.shards} devices" if plan.shards > 1 else ""
    lines = [
        f"One step moves at least {size(plan.traffic)}{where}: parameters and state read and written, gradients read "
        f"({plan.whole_traffic / plan.elements:.2f} B per parameter"
        + (f"; {size(plan.whole_traffic)} with nothing split or replicated)." if where else ").")
    ]
    if bandwidth is not None:
        lines.append(f"At {bandwidth:g} GB/s that takes at least {seconds(plan.traffic / bandwidth / 1e9)}.")
    last = "Gradients have the parameters' dtype. Activations are not counted. 1 GB is 10⁹ bytes."
    return [*lines, *_caveats(plan), last]


def _caveats(plan: Budget) -> list[str]:
    lines = []
    if plan.shards > 1:
        whole = [leaf for leaf in plan.leaves if leaf.split is None]
        lines.append(f"Devices: {SHARDING} ({len(whole)} of {len(plan.leaves)} leaves are).")
    excluded: dict[str, int] = {}
    for leaf in plan.leaves:
        if leaf.why:
            excluded[leaf.why] = excluded.get(leaf.why, 0) + 1
    why = "; ".join(f"{count} ({reason})" for reason, count in excluded.items())
    if why:
        lines.append(f"Leaves whose slots stay f32: {why}, of {len(plan.leaves)}.")
    if any(leaf.cost.in_words for leaf in plan.leaves):
        lines.append("Two narrow slots share words: their bytes stand under the first.")
    for opt in plan.opts:
        if opt.options.storage != "f32" and not opt.rule.slots():
            lines.append(f"{opt.rule.name} keeps no slots, so that the storage changes nothing.")
    wide = all(leaf.cost.dtype in ("float32", "float64") for leaf in plan.leaves)
    for rounding in dict.fromkeys(opt.options.rounding for opt in plan.opts):
        if rounding != "nearest" and wide:
            lines.append(f"No parameter is narrower than f32, so that rounding={rounding} changes nothing.")
    if plan.untrained:
        lines.append(f"Not trained, because not floating, and not counted: {plan.untrained} leaves.")
    return lines


def as_json(source: str, opt: Transformation, plan: Budget, bandwidth: float | None) -> dict[str, object]:
    """Everything, in bytes and seconds."""
    return {
        "model": source,
        "optimizer": repr(opt),
        "parameters": plan.elements,
        "devices": plan.shards,
        "sharding": SHARDING if plan.shards > 1 else None,
        "parts": {part.name: {"kind": part.kind, "bytes": part.size, "device": part.local} for part in plan.parts},
        "step": {
            "bytes": plan.whole_traffic,
            "bytes_per_parameter": plan.whole_traffic / plan.elements,
            "device": plan.traffic,
            "seconds": None if bandwidth is None else plan.traffic / bandwidth / 1e9,
        },
        "leaves": [
            {
                "path": leaf.cost.path, "group": leaf.cost.group or None,
                "shape": list(leaf.cost.shape), "dtype": leaf.cost.dtype,
                "parameter": leaf.cost.parameter, "gradient": leaf.cost.gradient, "state": leaf.cost.state,
                "storage": leaf.cost.storage, "excluded": leaf.why or None, "split_axis": leaf.split,
                "device": leaf.local,
            }
            for leaf in plan.leaves
        ],
    }  # fmt: skip
