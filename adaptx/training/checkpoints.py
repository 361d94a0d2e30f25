"""Checkpoints of a training, kept by orbax: written in the background, renamed when whole, checked when read."""

import contextlib
import importlib
import json
import os
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import whole
from .digest import digests
from .history import History, Series

FORMAT = 1  # of what is saved: later versions of adaptx read this one too
Named = Mapping[str, Any]  # arrays by name


@dataclass(frozen=True)
class Checkpoints:
    """Where, how often and how many; as `checkpoints` makes it."""

    folder: Path
    every: int = 1000  # ≥ 1, steps
    keep: int = 3  # ≥ 1, the newest

    def __post_init__(self) -> None:
        if not isinstance(self.folder, (str, os.PathLike)):
            raise TypeError(f"checkpoint must be a folder, got {type(self.folder).__name__}; pass a path.")
        object.__setattr__(self, "folder", Path(self.folder).absolute())
        whole("every", self.every, 1)
        whole("keep", self.keep, 1)
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"checkpoint={str(self.folder)!r} is a file, expected a folder; name another.")


def checkpoints(folder: str | os.PathLike, every: int = 1000, keep: int = 3) -> Checkpoints:
    """What `checkpoint=` of `fit` takes where a folder does not say enough.

    Args:
        folder: where; made if it is not there. A training that finds checkpoints in it goes on from the newest, and one
            that is at its end there is returned without a step.
        every: ≥ 1, steps between two of them; the last step and an interruption are saved as well.
        keep: ≥ 1, how many of the newest are kept.
    """
    return Checkpoints(folder, every, keep)  # pyright: ignore[reportArgumentType]


class Saved(NamedTuple):
    """A training as it was after some steps."""

    step: int
    arrays: Named  # "params/w", "state/slots/m/w"
    history: History
    position: Any  # of the data, as JSON has it
    facts: Mapping[str, Any]  # what must be the same when the training goes on, as JSON has it


def orbax() -> Any:
    """The library.

    Raises:
        ModuleNotFoundError: where it is not installed.
    """
    try:
        return importlib.import_module("orbax.checkpoint")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("checkpoints need orbax-checkpoint: pip install 'adaptx[train]'.") from error


class Keeper:
    """Saves while a training runs; what cannot be written is said in a warning, and the training goes on."""

    def __init__(self, where: Checkpoints):
        self._ocp, self.where = orbax(), where
        try:
            where.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"checkpoint={str(where.folder)!r} cannot be made ({error}); name another folder.") from error
        options = self._ocp.CheckpointManagerOptions(max_to_keep=where.keep, cleanup_tmp_directories=True)
        self._manager = self._ocp.CheckpointManager(where.folder, options=options)

    def save(self, saved: Saved) -> None:
        """Begin to write; returns when the arrays may change."""
        with self._warned():
            self._save(saved)

    def _save(self, saved: Saved) -> None:
        if self._manager.latest_step() == saved.step:
            return
        args = self._ocp.args
        arrays = {name: x for name, x in saved.arrays.items() if np.size(x)}  # orbax keeps no empty ones
        past = flat(saved.history)
        about = {
            "format": FORMAT, "step": saved.step, "position": saved.position, "facts": dict(saved.facts),
            "arrays": listed(arrays), "history": listed(past),
        }  # fmt: skip
        self._manager.save(saved.step, args=args.Composite(
            arrays=args.StandardSave(numbered(arrays)), history=args.StandardSave(numbered(past)),
            about=args.JsonSave({**about, "seal": seal(about)}),
        ))  # fmt: skip

    def close(self) -> None:
        """Wait until everything is written."""
        with self._warned():
            self._manager.wait_until_finished()
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # said already
            self._manager.close()

    @contextlib.contextmanager
    def _warned(self) -> Iterator[None]:
        """A disk that is full costs a checkpoint, not the training: those that were written before remain."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            whole = ", ".join(map(str, self._manager.all_steps())) or "none"
            said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            warnings.warn(
                f"a checkpoint could not be written to {self.where.folder} ({said}); the training goes on, and the "
                f"whole checkpoints there are {whole}: make room, or name another folder.", stacklevel=6
            )  # fmt: skip


def flat(history: History) -> dict[str, np.ndarray]:
    """The arrays of a history: "loss:steps", "loss:values", …"""
    return {f"{name}:{part}": getattr(history.series(name), part) for name in history for part in Series._fields}


def listed(arrays: Named) -> dict[str, list[Any]]:
    """Shape, dtype and digest of every array, by name, in order."""
    every = zip(arrays.items(), digests(list(arrays.values())), strict=True)
    return {name: [list(np.shape(x)), np.dtype(x.dtype).name, digest] for (name, x), digest in every}


def numbered(arrays: Named) -> dict[str, Any]:
    """The arrays under names that any file system takes; one that is no name where there is none."""
    return {f"{i}": x for i, x in enumerate(arrays.values())} or {"none": np.zeros(1)}


def seal(about: Mapping[str, Any]) -> int:
    """A checksum of what is told about a checkpoint."""
    return zlib.crc32(json.dumps(about, sort_keys=True).encode())
