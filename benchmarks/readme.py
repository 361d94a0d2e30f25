"""Writes the measured tables of the README from benchmarks/results/*.json, so that no number is typed in.

python benchmarks/readme.py            # rewrites README.md between its <!-- table: name --> marks
python benchmarks/readme.py --check    # exit status 1 where the README differs from the results
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def markdown(header: list[str], rows: list[list[Any]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine(result: dict[str, Any]) -> str:
    """The line that says where the numbers below were measured."""
    m = result["machine"]
    return f"Measured with jax {m['jax']} on {m['device']} ({m['cores']} cores)."


def step_time(result: dict[str, Any]) -> str:
    """Step time, compile time, temporaries and bytes against optax and torch."""
    header = ["tree", "optimizer", "step ÷ optax", "step ÷ torch fused", "trace + compile ÷ optax",
              "temporaries % (optax)", "B accessed per parameter (optax)", "floor"]  # fmt: skip
    rows = []
    for r in result["results"]:
        mine, theirs = r["programs"]["adaptx"], r["programs"]["optax"]
        torch = r["step_ratio"].get("torch")
        rows.append([
            r["tree"], r["row"], f"{r['step_ratio']['optax']:.2f}", "-" if torch is None else f"{torch:.2f}",
            f"{r['trace_and_compile_ratio']:.2f}",
            f"{100 * mine['temporary_share_of_params']:.1f} ({100 * theirs['temporary_share_of_params']:.1f})",
            f"{mine['bytes_accessed_per_parameter']:.1f} ({theirs['bytes_accessed_per_parameter']:.1f})",
            r["floor_bytes_per_parameter"],
        ])  # fmt: skip
    return f"{machine(result)}\n\n{markdown(header, rows)}"


def sweep(result: dict[str, Any]) -> str:
    """64 learning rates, end to end."""
    rows = [
        [name, f"{way['seconds']:.1f}", f"{way['ratio_to_adaptx']:.1f}", f"{way['median_loss_difference']:.1e}"]
        for name, way in result["ways"].items()
    ]
    header = [f"{result['rates']} rates × {result['steps']} steps", "seconds", "× adaptx", "median loss difference"]
    return f"{machine(result)}\n\n{markdown(header, rows)}"


def lr_free(result: dict[str, Any]) -> str:
    """No learning rate given: robustness to the first rate, and the final loss beside a tuned cosine."""
    targets = [[t["what"], t["wanted"], t["value"], "yes" if t["met"] else "**no**"] for t in result["targets"]]
    robust = {r["method"]: r for r in result["robustness"]}
    rows = []
    for r in result["against_tuned_cosine"]:
        at = None if r["method"].endswith("tuned") else robust.get(r["method"].split(" at ")[0])
        decades = "-" if at is None else f"{at['decades_median']:g} ({at['decades_least']:g})"
        rows.append([r["method"], ratio(r["mean"]["all"]), ratio(r["worst"]["all"]), decades])
    header = ["method, all else at its default", "loss ÷ tuned Adam cosine", "worst problem", "decades (least)"]
    summary = (
        "All methods: final training loss over that of Adam with a tuned cosine, geometric mean of eight problems, and "
        "decades of the first rate (or estimate) within 3× of the best fixed rate's gap"
    )
    parts = [markdown(["target", "wanted", "measured", "met"], targets), f"<details><summary>{summary}</summary>"]
    return "\n\n".join([*parts, markdown(header, rows), "</details>"])


def ratio(value: float | None) -> str:
    """A ratio, or that a run diverged."""
    return "diverged" if value is None else f"{value:.3f}" if value < 100 else f"{value:.1e}"


def memory(result: dict[str, Any]) -> str:
    """Bytes of state, temporaries and traffic of Adam by storage."""

    def cell(value: float | None, form: str = ".2f") -> str:
        return "-" if value is None else format(value, form)

    rows = [
        [
            r["tree"], r["method"], cell(r.get("state_bytes_per_parameter")),
            cell(r.get("temporary_bytes_per_parameter"), ".3f"), cell(r.get("bytes_accessed_per_parameter"), ".1f"),
            cell(r["step_ratio_to_optax"]), cell(r["fraction_of_triad"]),
        ]
        for r in result["results"]
    ]  # fmt: skip
    header = ["tree", "Adam", "state B/parameter", "temporaries B", "accessed B", "step ÷ optax f32", "of triad"]
    return f"{machine(result)}\n\n{markdown(header, rows)}"


def precision(result: dict[str, Any]) -> str:
    """Final loss under every storage and rounding, against f32."""
    rows = [
        [
            r["task"], r["method"], f"{r['seen_mean']:.4f}", f"{100 * r['seen_excess']:+.2f} %",
            f"{100 * r['seen_excess_sd']:.2f} %", "yes" if r["within_target"] else "**no**",
        ]
        for r in result["results"]
    ]  # fmt: skip
    header = ["task", "Adam", "final loss", "above f32", "sd over seeds", f"≤ {100 * result['target']:g} %"]
    return f"{machine(result)} {result['seeds']} seeds.\n\n{markdown(header, rows)}"


def layout(result: dict[str, Any]) -> str:
    """Many small leaves: leaf by leaf, stacked, packed."""
    rows = [
        [way, f"{r['trace_and_lower_s']:.2f}", f"{r['compile_s']:.2f}", f"{r['step_ms']:.2f}"]
        for way, r in result["ways"].items()
    ]
    header = [f"Adam, {result['leaves']} small leaves", "trace + lower s", "compile s", "step ms"]
    return f"{machine(result)}\n\n{markdown(header, rows)}"


TABLES = {
    "step_time": step_time, "sweep": sweep, "memory": memory, "memory_torch": memory, "precision": precision,
    "layout": layout, "lr_free": lr_free,
}  # fmt: skip


def filled(text: str) -> str:
    """The README with every table made again."""
    for name, make in TABLES.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        table = make(json.loads(path.read_text()))
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end of table -->)"
        text = re.sub(pattern, lambda m, table=table: f"{m[1]}{table}\n{m[2]}", text, flags=re.DOTALL)
    return text


def main() -> None:
    """Rewrites or checks the README."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail where something would change")
    check = parser.parse_args().check
    path = ROOT / "README.md"
    old = path.read_text("utf-8")
    new = filled(old)
    if check and new != old:
        sys.exit("README.md differs from benchmarks/results; run python benchmarks/readme.py.")
    path.write_text(new, "utf-8")


if __name__ == "__main__":
    main()
