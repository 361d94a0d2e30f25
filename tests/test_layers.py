"""Imports point down the layers; rules and controllers see only the nouns and the verbs; oracles see neither."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "adaptx"
LAYERS = [
    "values checks fields base control numerics sharded bits decompositions matrices factors orthogonal",
    "rules controllers schedules schedule_value",
    "engine",
    "optimizers wrappers conversion conversion_checks interop",
    "training drawing plots recipes",
    "cli",
    "__init__ __main__",
]
RANK = {name: i for i, names in enumerate(LAYERS) for name in names.split()}
USERS = ("cli", "__main__")  # these use the package as its users do: import adaptx


def sources(*under: str) -> list[Path]:
    """The Python files of the package, or of some of its folders, as paths relative to the package."""
    every = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))
    return [p for p in every if not under or (p.parts[0] in under and p.name != "__init__.py")]


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Every name that a file imports from within the package, such as ("engine", "tree")."""
    here = path.with_suffix("").parts
    for node in ast.walk(ast.parse((PACKAGE / path).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            for alias in node.names:
                tail = tuple((node.module or alias.name).split("."))
                yield here[: len(here) - node.level] + tail
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "adaptx":
            yield tuple((node.module or "").split(".")[1:]) or ("__init__",)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "adaptx":
                    yield tuple(alias.name.split(".")[1:]) or ("__init__",)


@pytest.mark.parametrize("path", sources(), ids=str)
def test_imports_point_down(path: Path):
    layer = path.with_suffix("").parts[0]
    for there in imported(path):
        if there == ("__init__",) and layer in USERS:
            continue
        assert RANK[there[0]] <= RANK[layer], f"{path} imports up: {'.'.join(there)}"


@pytest.mark.parametrize("path", sources("rules", "controllers"), ids=str)
def test_rules_and_controllers_import_only_the_ground_floor(path: Path):
    for there in imported(path):
        assert there[0] in LAYERS[0].split(), f"{path} imports {'.'.join(there)}; share it in {LAYERS[0]}"


@pytest.mark.parametrize("path", sources("rules"), ids=str)
def test_rules_never_cast_nor_see_trees(path: Path):
    tree = ast.parse((PACKAGE / path).read_text("utf-8"))
    words = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)} | {
        a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names
    }
    assert not words & {"astype", "tree", "tree_util", "float32", "float64", "bfloat16", "float16"}


def test_every_file_belongs_to_a_layer():
    assert {p.with_suffix("").parts[0] for p in sources()} <= set(RANK)


def test_oracles_are_independent():
    for path in (ROOT / "tests" / "oracles").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & {"adaptx", "jax", "optax"}, path.name


def test_only_the_command_line_imports_the_extras():
    """And the bar of a training and its pictures, where they are there."""
    extras = {"sklearn", "matplotlib", "typer", "rich", "jinja2", "equinox", "torch"}
    theirs = {Path(name) for name in ("__main__.py", "training/progress.py", "drawing.py", "plots.py")}
    for path in sources():
        if path.parts[0] in USERS or path in theirs:
            continue
        for node in ast.walk(ast.parse((PACKAGE / path).read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {n.split(".")[0] for n in names} & extras, path
