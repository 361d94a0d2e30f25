"""A function of the user's, by its name: module:function."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxtyping import PyTree

from .words import InputError, cause, meant


def imported(source: str, name: str, path: str) -> Callable[[], PyTree]:
    """The function `path` of the module `name`; source is what the sentences name.

    Raises:
        InputError: no such module, or no function of that name in it.
    """
    try:
        found: object = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        where = f"looked in {Path.cwd()} and the installed packages"
        raise InputError(f"{source}: the module {name!r} cannot be imported ({cause(error)}); {where}.") from error
    for part in path.split("."):
        if not hasattr(found, part):
            public = [x for x in dir(found) if not x.startswith("_")]
            raise InputError(f"{source}: there is no {part!r} in {name}{meant(part, public)}; check the name.")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{source}: expected a function, got {type(found).__name__}; wrap it in one.")
    return found


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Modules of the current folder can be imported inside."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
