"""Checkpoints read back: the newest that is whole, checked against what was written and against what is wanted."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .checkpoints import FORMAT, Checkpoints, Named, Saved, numbered, orbax, seal
from .digest import digests
from .history import History, Series

# in messages of libraries about what is no fault of the checkpoint, which is not to be set aside for it
ELSEWHERE = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "Permission denied", "Too many open files", "Cannot allocate")


MARKS = ("about", "arrays", "history", "_CHECKPOINT_METADATA")  # what lies in a checkpoint


class DamagedError(ValueError):
    """A checkpoint that is not what was written."""


def newest(where: Checkpoints, wanted: Named) -> Saved | None:
    """The newest whole checkpoint for arrays like those that are wanted, as they are sharded; None where there is none.

    One that is damaged is set aside, under another name, with a warning that says so.

    Raises:
        ValueError: where the newest whole one has other arrays, or all are damaged.
    """
    ocp = orbax()
    if not where.folder.is_dir():
        return None
    with ocp.CheckpointManager(where.folder, options=ocp.CheckpointManagerOptions(create=False)) as manager:
        steps = sorted(manager.all_steps(), reverse=True)  # what was cut off while it was written is none of these
    for step in steps:
        refuse_others_folder(where, step)
    for step in steps:
        try:
            return read(where, step, wanted)
        except DamagedError as error:
            aside = where.folder / f"damaged-{step}"
            (where.folder / f"{step}").rename(unused(aside))
            warnings.warn(f"checkpoint {step} of {where.folder} is damaged ({error}); it is kept as {aside.name}, and "
                          "the one before it is used.", stacklevel=5)  # fmt: skip
    if steps:
        raise ValueError(f"all checkpoints of {where.folder} are damaged; name another folder to begin anew.")
    return None


def refuse_others_folder(where: Checkpoints, step: int) -> None:
    """Raise ValueError for a folder that is named as a checkpoint is, but is none: nobody may rename or delete it."""
    inside = {x.name for x in (where.folder / f"{step}").iterdir()}
    if inside and inside.isdisjoint(MARKS):
        raise ValueError(
            f"checkpoint={str(where.folder)!r} has a folder {step} that is no checkpoint; name one for them alone."
        )


def unused(path: Path) -> Path:
    """The path, or with a number behind it where something is there already."""
    tried, i = path, 1
    while tried.exists():
        tried, i = path.with_name(f"{path.name}-{i}"), i + 1
    return tried


def read(where: Checkpoints, step: int, wanted: Named) -> Saved:
    """The checkpoint of a step.

    Raises:
        DamagedError: where it is not what was written.
        ValueError: where it holds other arrays than are wanted.
    """
    ocp = orbax()
    wanted = {name: x for name, x in wanted.items() if np.size(x)}
    with ocp.CheckpointManager(where.folder, options=ocp.CheckpointManagerOptions(create=False)) as manager:
        args = ocp.args
        about = _tried(lambda: manager.restore(step, args=args.Composite(about=args.JsonRestore())))["about"]
        if not isinstance(about, dict) or about.get("seal") != seal({k: x for k, x in about.items() if k != "seal"}):
            raise DamagedError("what is told about it was changed")
        if about["format"] > FORMAT:
            raise ValueError(
                f"checkpoint {step} of {where.folder} is of format {about['format']}, expected {FORMAT} or less; it "
                "was written by a later adaptx: upgrade, or name another folder."
            )
        refuse_others(where, step, about["arrays"], wanted)
        past = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype, _) in about["history"].items()}
        found = _tried(lambda: manager.restore(step, args=args.Composite(
            arrays=args.StandardRestore(numbered({name: like(wanted[name]) for name in about["arrays"]})),
            history=args.StandardRestore(numbered(past)),
        )))  # fmt: skip
    arrays = checked(about["arrays"], found["arrays"])
    past_arrays = {name: np.asarray(x) for name, x in found["history"].items()}
    history = unflat(checked(about["history"], past_arrays))
    return Saved(about["step"], arrays, history, about["position"], about["facts"])


def like(x: Any) -> jax.ShapeDtypeStruct:
    """What orbax is to restore: an array as it is sharded."""
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None))


def _tried(restore: Any) -> Any:
    try:
        return restore()
    except MemoryError:
        raise
    except Exception as error:  # whatever a library makes of a file that is cut off
        if any(word in str(error) for word in ELSEWHERE):
            raise
        raise DamagedError(
            f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        ) from error


def checked(about: Mapping[str, Sequence[Any]], found: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays by name, as they were written."""
    arrays = {name: found[f"{i}"] for i, name in enumerate(about)}
    for (name, (*_, digest)), came in zip(about.items(), digests(list(arrays.values())), strict=True):
        if came != digest:
            raise DamagedError(f"'{name}' is not what was written")
    return arrays


def refuse_others(where: Checkpoints, step: int, about: Mapping[str, Sequence[Any]], wanted: Named) -> None:
    """Raise ValueError where a checkpoint holds other arrays, or of another shape or dtype."""
    words = f"checkpoint {step} of {where.folder} is of another training"
    remedy = (
        "name another folder to begin anew, or read it with the optimizer that wrote it, carry the state over with "
        "adaptx.convert and pass that as state="
    )
    missing, unexpected = [x for x in wanted if x not in about], [x for x in about if x not in wanted]
    if missing or unexpected:
        both = (("it lacks", missing), ("it has in addition", unexpected))
        told = [f"{verb} {_few(names)}" for verb, names in both if names]
        raise ValueError(f"{words}: {' and '.join(told)}; {remedy}.")
    for name, x in wanted.items():
        shape, dtype, _ = about[name]
        if tuple(shape) != np.shape(x) or dtype != np.dtype(x.dtype).name:
            raise ValueError(
                f"{words}: '{name}' is {dtype} of shape {tuple(shape)} there, expected {np.dtype(x.dtype).name} of "
                f"shape {np.shape(x)}; {remedy}."
            )


def _few(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def refuse_other_facts(where: Checkpoints, saved: Saved, mine: Mapping[str, Any]) -> None:
    """Raise ValueError where a training that goes on would see other data than the one that was saved."""
    for name, x in mine.items():
        if saved.facts.get(name) != x:
            raise ValueError(
                f"checkpoint {saved.step} of {where.folder} was written with {name}={saved.facts.get(name)!r}, got "
                f"{x!r}; pass that, or name another folder to begin anew."
            )


def warn_of_another(where: Checkpoints, saved: Saved, opt: str) -> None:
    """Say so where a training goes on under another optimizer than it was saved with, such as another rate."""
    then = saved.facts.get("optimizer", "")
    if then and opt and then != opt:
        warnings.warn(
            f"checkpoint {saved.step} of {where.folder} was written with {then}, and the training goes on with {opt}; "
            "if that is not meant, pass the first.", stacklevel=5
        )  # fmt: skip


def unflat(arrays: Named) -> History:
    """The inverse of flat."""
    names = dict.fromkeys(name.rpartition(":")[0] for name in arrays)
    return History({x: Series(*(np.asarray(arrays[f"{x}:{part}"]) for part in Series._fields)) for x in names})
