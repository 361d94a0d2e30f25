"""How long are the equations? Every rule file beside what optax has for the same method.

    python benchmarks/equations.py

A line counts if it holds code: no docstrings, comments, blank lines, and no imports. Of adaptx the whole file of the
rule counts, of optax the functions named in PEERS; and on both sides everything at the top of a module (a state, a
helper) that nothing else in the library uses but what is counted already. So what a library shares among its methods
counts on neither side, and constructors (`adaptx.adam`, `optax.adam`) do not either. adaptx writes up to 120 columns,
optax 80: tokens, which do not depend on that, stand beside the lines. The step alone is `advance` and `direction`
here, `update_fn` there. What our flags cover theirs cover too, and sometimes theirs cover more: optax's Muon has three
ways to precondition.

Counts the installed optax; the same everywhere. Prints a table and writes benchmarks/results/equations.json.
"""

import argparse
import ast
import importlib
import inspect
import io
import statistics
import sys
import tokenize
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import optax
import optax.contrib
from harness import RESULTS, table, write

import adaptx
from adaptx import rules

# the modules of verbs that rules share
SHARED = ("numerics.py", "sharded.py", "bits.py", "decompositions.py", "matrices.py", "orthogonal.py", "factors.py")
# rule -> the optax functions that do the same, in optax or optax.contrib
PEERS = {
    "momentum": ("trace",),
    "adagrad": ("scale_by_rss",),
    "rmsprop": ("scale_by_rms", "scale_by_stddev"),  # plain, centered
    "adam": ("scale_by_adam", "scale_by_amsgrad"),
    "radam": ("scale_by_radam",),
    "adamax": ("scale_by_adamax",),
    "adadelta": ("scale_by_adadelta",),
    "adabelief": ("scale_by_belief",),
    "yogi": ("scale_by_yogi",),
    "adan": ("scale_by_adan",),
    "adopt": ("scale_by_adopt",),
    "ademamix": ("scale_by_ademamix",),
    "simplified_ademamix": ("scale_by_simplified_ademamix",),
    "novograd": ("scale_by_novograd",),
    "lion": ("scale_by_lion",),
    "rprop": ("scale_by_rprop",),
    "adafactor": ("scale_by_factored_rms", "clip_by_block_rms", "scale_by_param_block_rms"),  # clipped, scaled by ‖p‖
    "sm3": ("scale_by_sm3",),
    "muon": ("scale_by_muon",),
    "madgrad": ("scale_by_madgrad",),
    "acprop": ("scale_by_acprop",),
    "galore": ("scale_by_galore",),
    "sophia": ("scale_by_sophia",),
}
STEP = ("advance", "direction", "update_fn", "update")
SKIPPED = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
Definition = ast.FunctionDef | ast.ClassDef


class Counted(NamedTuple):
    """The size of some code."""

    lines: int
    tokens: int
    step_lines: int
    parts: tuple[str, ...]  # what was counted, by name


class Source:
    """The text of a module, its definitions, and who uses them."""

    def __init__(self, text: str):
        self.tree = ast.parse(text)
        self.tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in SKIPPED]
        self.definitions = {node.name: node for node in self.tree.body if isinstance(node, Definition)}
        self.silent = {line for node in silent(self.tree) for line in spanned(node)}  # of docstrings and imports

    def size(self, lines: Iterable[int]) -> tuple[int, int]:
        """(lines, tokens) of code on these lines."""
        wanted = set(lines) - self.silent
        found = [t for t in self.tokens if t.start[0] in wanted]
        return len({line for t in found for line in range(t.start[0], t.end[0] + 1)}), len(found)

    def uses(self, name: str, apart: Iterable[str]) -> bool:
        """Whether anything outside of the definition of a name and of some others mentions it."""
        skipped = [self.definitions[other] for other in (*apart, name) if other in self.definitions]
        return any(name in mentioned(node) for node in self.tree.body if node not in skipped)


@cache
def module_source(name: str) -> Source:
    """That of an importable module."""
    return Source(inspect.getsource(importlib.import_module(name)))


def silent(tree: ast.AST) -> list[ast.stmt]:
    """Docstrings and imports."""
    out: list[ast.stmt] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            out.append(node)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            out.append(node.body[0])
    return out


def spanned(node: ast.stmt) -> range:
    """The lines of a statement, decorators included."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return range(first, (node.end_lineno or node.lineno) + 1)


@cache
def mentioned(node: ast.AST) -> frozenset[str]:
    """The names in some code, those behind a dot too."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return frozenset(names | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)})


def closed(source: Source, start: Iterable[str], elsewhere: Callable[[str], bool]) -> list[str]:
    """The definitions to start from and all those that only they use, by name, in the order of the file."""
    found = set(start)
    while True:
        named = frozenset().union(*(mentioned(source.definitions[name]) for name in found))
        more = {
            name
            for name in (named & set(source.definitions)) - found
            if not source.uses(name, found) and not elsewhere(name)
        }
        if not more:
            return [name for name in source.definitions if name in found]
        found |= more


def step_lines(source: Source, names: Iterable[str]) -> int:
    """The lines of the functions of a step inside some definitions."""
    inside = [n for name in names for n in ast.walk(source.definitions[name]) if isinstance(n, ast.FunctionDef)]
    return sum(source.size(spanned(n))[0] for n in inside if n.name in STEP)


def of_definitions(source: Source, names: list[str]) -> Counted:
    """The size of some definitions of a module."""
    lines, tokens = source.size(line for name in names for line in spanned(source.definitions[name]))
    return Counted(lines, tokens, step_lines(source, names), tuple(names))


def together(parts: list[Counted]) -> Counted:
    """The sum."""
    return Counted(*(sum(column) for column in list(zip(*parts, strict=True))[:3]), sum((p.parts for p in parts), ()))


def ours(name: str, package: dict[Path, Source]) -> Counted:
    """The file of a rule, and what it alone uses of the modules that rules share."""
    path = Path(inspect.getfile(rules.ALL[name]))
    own = package[path]
    lines, tokens = own.size(line for node in own.tree.body for line in spanned(node))
    counted = [Counted(lines, tokens, step_lines(own, own.definitions), (path.name,))]
    for shared in SHARED:
        where = path.parents[1] / shared
        others = [tree.tree for file, tree in package.items() if file not in (path, where)]
        used = [x for x in mentioned(own.tree) if x in package[where].definitions]
        alone = [x for x in used if not package[where].uses(x, ()) and not any(x in mentioned(t) for t in others)]
        if alone:
            mine = closed(package[where], alone, lambda x, o=others: any(x in mentioned(t) for t in o))
            counted.append(of_definitions(package[where], mine))
    return together(counted)


def theirs(names: tuple[str, ...]) -> Counted | None:
    """What optax has of these functions, with what only they use; None where it has none."""
    by_module: dict[str, list[str]] = {}
    for function in filter(None, map(found_in_optax, names)):
        function = inspect.unwrap(function)
        by_module.setdefault(function.__module__, []).append(function.__name__)
    parts = []
    for module, functions in by_module.items():
        source = module_source(module)
        parts.append(of_definitions(source, closed(source, functions, lambda name: False)))
    return together(parts) if parts else None


def found_in_optax(name: str) -> Callable | None:
    """The function of a name in optax or optax.contrib, or in a module of the latter that keeps it to itself."""
    inside = [module for path, module in sys.modules.items() if path.startswith("optax.contrib.")]
    return next((getattr(place, name) for place in (optax, optax.contrib, *inside) if hasattr(place, name)), None)


def counted() -> list[dict[str, Any]]:
    """A row for every rule, in the order of the registry."""
    files = sorted(Path(adaptx.__file__).parent.rglob("*.py"))
    package = {path: Source(path.read_text("utf-8")) for path in files}
    rows = []
    for name in rules.ALL:
        peer = theirs(PEERS[name]) if name in PEERS else None
        rows.append({"rule": name, "adaptx": ours(name, package)._asdict(), "optax": peer and peer._asdict()})
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and maximum of all rules, and of both libraries over those that both have."""
    both = [row for row in rows if row["optax"]]
    parts = {"all rules": ("adaptx", rows), "rules of both": ("adaptx", both), "optax": ("optax", both)}
    return {
        name: {
            key: {
                "median": statistics.median(row[who][key] for row in of),
                "maximum": max(row[who][key] for row in of),
            }
            for key in ("lines", "tokens", "step_lines")
        }
        | {"rules": len(of)}
        for name, (who, of) in parts.items()
    }


def report(rows: list[dict[str, Any]]) -> str:
    """The table on the terminal."""
    header = ["rule", "lines", "optax", "step", "optax", "tokens", "optax", "optax counts"]
    cells = []
    for row in rows:
        pairs = [row[who] and row[who][key] for key in ("lines", "step_lines", "tokens") for who in ("adaptx", "optax")]
        cells.append([row["rule"], *pairs, " ".join(row["optax"]["parts"]) if row["optax"] else ""])
    return table(header, cells)


def main() -> None:
    """Counts, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=RESULTS / "equations.json", help="the JSON file")
    given = parser.parse_args()
    rows = counted()
    found = summary(rows)
    print(report(rows))
    for name, one in found.items():
        print(f"{name}: median {one['lines']['median']:g} lines, at most {one['lines']['maximum']}")
    write(given.output, {"optax": version("optax"), "summary": found, "results": rows})


if __name__ == "__main__":
    main()
