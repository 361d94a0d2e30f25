"""The model of `adaptx plan`: a tree of shapes from an example's name, the headers of an .npz file, or a function."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from adaptx.engine.tree import Leaves, dtype_of, is_none, is_trained, take_apart

from ..functions import current_folder_importable, imported
from ..words import InputError, cause, check_name, meant, reading
from .shapes import EXAMPLES

DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}


def model(source: str, dtype: str | None) -> Leaves:
    """The leaves of a model, each a ShapeDtypeStruct, None where a leaf holds no numbers.

    Args:
        source: a name among EXAMPLES, the path of an .npz file, or "module:function".
        dtype: "f32", "bf16" or "f16" for all leaves that are trained; None for their own (float64 counts as what jax
            would make of it: float32, unless jax_enable_x64 is set).
    Raises:
        InputError: no such model, a file or function that gives none, or a tree without a floating array.
    """
    if dtype is not None:
        check_name("dtype", dtype, DTYPES)
    if source in EXAMPLES:
        tree: PyTree = EXAMPLES[source]()
    elif source.lower().endswith(".npz"):
        tree = _headers(Path(source))
    elif ":" in source:
        tree = _called(source)
    else:
        raise InputError(
            f"{source}: there is no such model{meant(source, EXAMPLES)}; expected one of {', '.join(EXAMPLES)}, "
            "an .npz file, or module:function."
        )
    tree = jax.tree.map(lambda x: _shape(x, dtype), tree, is_leaf=is_none)
    try:
        leaves = take_apart(tree, any_trained=bool(jax.tree.leaves(tree)))
    except TypeError as error:
        raise InputError(f"{source}: {error}") from error
    if not leaves.trained:
        raise InputError(f"{source}: the tree holds no floating array among {len(leaves.all)} leaves; give parameters.")
    if not any(np.prod(p.shape) for p in leaves.arrays):
        raise InputError(f"{source}: every array is empty; give parameters with at least one element.")
    return leaves


def _shape(leaf: object, dtype: str | None) -> jax.ShapeDtypeStruct | None:
    own = dtype_of(leaf)
    if own is None:
        return None
    shape = getattr(leaf, "shape", ())
    return jax.ShapeDtypeStruct(shape, DTYPES[dtype] if dtype is not None and is_trained(leaf) else own)


def _headers(path: Path) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes in an .npz file, from the headers of its arrays alone."""
    try:
        with reading(path, path), zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _header(archive, name) for name in names}
    except (zipfile.BadZipFile, ValueError, EOFError, RuntimeError, NotImplementedError) as error:
        remedy = "write one with numpy.savez(file, **arrays)"
        raise InputError(f"{path}: not an .npz archive of plain arrays ({cause(error)}); {remedy}.") from error


def _header(archive: zipfile.ZipFile, name: str) -> jax.ShapeDtypeStruct:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise ValueError(f"array {name.removesuffix('.npy')!r} has format version {version}")
        shape, _, dtype = read[version](file)
    if dtype.kind not in "buifc":
        hint = "; numpy writes bfloat16 so, which float32 and --dtype bf16 can stand for" if dtype.kind == "V" else ""
        raise ValueError(f"array {name.removesuffix('.npy')!r} is {dtype}, not numbers{hint}")
    return jax.ShapeDtypeStruct(shape, dtype)


def _called(source: str) -> PyTree:
    """What a function of no arguments returns, shapes in place of arrays."""
    name, _, path = source.partition(":")
    if not name or not path:
        raise InputError(f"{source}: expected module:function, as models:init for a function init in models.py.")
    with current_folder_importable():
        function = imported(source, name, path)
        try:
            return _abstract(function)
        except jax.errors.JAXTypeError:
            pass  # it looks at values of arrays, so it has to be run
        except Exception as error:
            raise InputError(_raised(source, error)) from error
        try:
            return function()
        except Exception as error:
            raise InputError(_raised(source, error)) from error


def _raised(source: str, error: Exception) -> str:
    return f"{source} raised {cause(error)}; expected a function without arguments that returns a parameter tree."


def _abstract(function: Callable[[], PyTree]) -> PyTree:
    """The tree of function() with tracing in place of computing; what is not a traced array comes as it is."""
    held: list[tuple[list[object], Callable[[list], PyTree]]] = []

    def arrays() -> list[jax.Array | None]:
        leaves, treedef = jax.tree.flatten(function(), is_leaf=is_none)
        held.append(([None if isinstance(x, jax.Array) else x for x in leaves], treedef.unflatten))
        return [x if isinstance(x, jax.Array) else None for x in leaves]

    traced = jax.eval_shape(arrays)
    others, rebuild = held[-1]
    return rebuild([b if a is None else a for a, b in zip(traced, others, strict=True)])
