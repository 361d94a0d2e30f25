"""Writes the measured tables of the README from benchmarks/results/*.json, so that no number is typed in.

python benchmarks/readme.py            # rewrites README.md between its <!-- table: name --> marks
python benchmarks/readme.py --check    # exit status 1 where the README differs from the results
"""

import argparse
import json
import math
import re
import sys
from collections import Counter
from typing import Any

from processes import ROOT, ranged
from target_tables import at_least, interval

RESULTS = ROOT / "benchmarks" / "results"


def markdown(header: list[str], rows: list[list[Any]]) -> str:
    """A markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine(result: dict[str, Any]) -> str:
    """The line that says where the numbers below were measured, and in how many processes."""
    m = result["machine"]
    several = f"; median (least–largest) of {result['processes']} fresh processes" if "processes" in result else ""
    return f"Measured with jax {m['jax']} on {m['device']} ({m['cores']} cores){several}."


def pair(mine: float | None, theirs: float | None, form: str) -> str:
    """Ours, and optax's in brackets."""
    return " ".join(x.format("-" if y is None else format(y, form)) for x, y in (("{}", mine), ("({})", theirs)))


def step_time(result: dict[str, Any]) -> str:
    """Bytes, temporaries and step time against optax and torch."""
    header = ["tree", "optimizer", "B accessed per parameter (optax)", "floor", "temporary B per parameter (optax)",
              "step ÷ optax", "step ÷ torch fused", "trace + compile ÷ optax"]  # fmt: skip
    rows = []
    for r in result["results"]:
        mine, theirs = r["programs"]["adaptx"], r["programs"]["optax"]
        bytes_, temporary = "bytes_accessed_per_parameter", "temporary_bytes_per_parameter"
        rows.append([
            r["tree"], r["row"], pair(mine[bytes_], theirs[bytes_], ".1f"), f"{r['floor_bytes_per_parameter']:g}",
            pair(mine[temporary], theirs[temporary], ".2f"), ranged(r["step_ratio"]["optax"]),
            ranged(r["step_ratio"].get("torch")), ranged(r["trace_and_compile_ratio"]),
        ])  # fmt: skip
    return f"{machine(result)}\n\n{markdown(header, rows)}"


def step_time_catalogue(result: dict[str, Any]) -> str:
    """State, temporaries and step time of the catalogue against optax and torch."""
    header = ["optimizer", "state B per parameter (optax)", "temporary B per parameter (optax)",
              "B accessed per parameter (optax)", "step ÷ optax", "step ÷ torch",
              "trace + compile ÷ optax"]  # fmt: skip
    rows, most = [], max(r["parameters"] for r in result["results"])
    for r in result["results"]:
        mine, theirs = r["programs"]["adaptx"], r["programs"]["optax"]
        name = r["row"] + (f" (beside {r['beside']})" if r["beside"] else "" if r["same"] else "†")
        name += "" if r["parameters"] == most else f", {r['parameters'] / 1e6:.0f} M parameters"
        counts = (
            pair(mine[x], theirs[x], form)
            for x, form in (("state_bytes_per_parameter", ".2f"), ("temporary_bytes_per_parameter", ".2f"),
                            ("bytes_accessed_per_parameter", ".1f"))
        )  # fmt: skip
        rows.append([name, *counts, ranged(r["step_ratio"]["optax"]), ranged(r["step_ratio"].get("torch")),
                     ranged(r["trace_and_compile_ratio"])])  # fmt: skip
    notes = f"{most / 1e6:.0f} M parameters where no other number is given. † Another convention, the same work."
    return f"{machine(result)} {notes}\n\n{markdown(header, rows)}"


def compile_time(*results: dict[str, Any]) -> str:
    """Operations and traces, then tracing, compiling and steps without jit against optax; a table for each jax."""
    header = ["optimizer", "leaves", "operations (optax)", "B accessed per parameter (optax)",
              "trace + lower ÷ optax", "trace + compile ÷ optax", "step without jit ÷ optax"]  # fmt: skip
    parts = []
    for result in results:
        rows = []
        for r in result["results"]:
            mine, theirs = r["programs"]["adaptx"], r["programs"]["optax"]
            bytes_ = "bytes_accessed_per_parameter"
            timed = (r.get(x, {}).get("ratio") for x in ("trace_and_lower", "trace_and_compile", "eager"))
            rows.append([
                r["row"], r["leaves"], pair(mine["compiled_operations"], theirs["compiled_operations"], "d"),
                pair(mine[bytes_], theirs[bytes_], ".1f"), *map(ranged, timed),
            ])  # fmt: skip
        wanted = [
            [t["what"], t["wanted"], ranged(t["value"]), "yes" if t["met"] else "**no**"] for t in result["targets"]
        ]
        parts += [machine(result), markdown(header, rows), markdown(["target", "wanted", "measured", "met"], wanted)]
    return "\n\n".join(parts)


def before_after(*results: dict[str, Any]) -> str:
    """What differs in count, and all times, from the checkout that was compared; a table for each jax."""
    parts = []
    for result in results:
        counted = [r for r in result["results"] if not isinstance(r["ratio"], dict)]
        differ = [r for r in counted if f"{r['before']:.3g}" != f"{r['after']:.3g}"]
        rows = [
            [r["what"], f"{r['before']:.3g}", f"{r['after']:.3g}",
             ranged(r["ratio"]) if isinstance(r["ratio"], dict) else "-" if r["ratio"] is None else f"{r['ratio']:.2f}"]
            for r in (*differ, *(r for r in result["results"] if isinstance(r["ratio"], dict)))
        ]  # fmt: skip
        equal = (
            f"{len(counted) - len(differ)} of {len(counted)} counts are equal to three digits; the others come first."
        )
        parts += [f"{machine(result)} {equal}", markdown(["what", "before", "after", "after ÷ before"], rows)]
    return "\n\n".join(parts)


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
    """Bytes of state, temporaries and traffic of Adam by storage, then times."""

    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [
        [
            r["tree"], r["method"], cell(r.get("state_bytes_per_parameter"), ".2f"),
            cell(r.get("temporary_bytes_per_parameter"), ".3f"), cell(r.get("bytes_accessed_per_parameter"), ".1f"),
            ranged(r["step_ratio_to_optax"]), ranged(r["step_ratio_to_torch"]), ranged(r["fraction_of_triad"]),
        ]
        for r in result["results"]
    ]  # fmt: skip
    header = ["tree", "Adam", "state B/parameter", "temporaries B", "accessed B", "step ÷ optax f32",
              "step ÷ torch fused", "of triad"]  # fmt: skip
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
    """Many small leaves: leaf by leaf, packed in the step, packed from the start."""
    rows = [
        [way, result["programs"][way]["compiled_operations"],
         *(ranged(ratios[x]) for x in ("trace_and_lower_s", "compile_s", "step_ms"))]
        for way, ratios in result["ratios"].items()
    ]  # fmt: skip
    header = [f"Adam, {result['leaves']} small leaves", "operations", "trace + lower ÷ optax", "compile ÷ optax",
              "step ÷ optax"]  # fmt: skip
    return f"{machine(result)}\n\n{markdown(header, rows)}"


def verdict(row: dict[str, Any]) -> str:
    """What a significant difference means."""
    return (" (slower)" if row["ratio"] > 1 else " (faster)") if row["significant"] else ""


def steps_to_target(result: dict[str, Any]) -> str:
    """Steps and seconds to the loss that a tuned AdamW ends with, fewest steps first; of tasks with more than AdamW."""
    rows, members = [], Counter(r["task"] for r in result["results"])
    for r in sorted(result["results"], key=lambda r: (r["task"], r["ratio"])):
        if members[r["task"]] == 1:
            continue
        shown = "-" if r["p"] is None else f"{r['p']:.2g}" if r["p"] else "< 1e-300"
        p = f"{shown}{verdict(r)}"
        seconds = at_least(r["seconds_ratio"], r["reached"] < r["seeds"])
        loss = "diverged" if r["final_loss"] is None else f"{r['final_loss']:.4f}"
        rows.append([
            r["task"], r["optimizer"], f"{r['rate']:.2g}{'*' if r['on_edge'] else ''}", f"{r['decay']:g}", loss,
            interval(r), p, f"{r['step_ratio']:.2f}", seconds,
        ])  # fmt: skip
    header = ["task", "optimizer", "rate", "decay", "loss after the budget", "steps ÷ adamw (95 %)", "p",
              "time of a step ÷ adamw", "seconds ÷ adamw"]  # fmt: skip
    given = result["settings"]
    budgets = ", ".join(f"{given['seeds'][task]} seeds and {n} steps of {task}" for task, n in given["steps"].items())
    notes = (
        f"Trained: {budgets}. * The best rate lies on the edge of the grid. p is that of a "
        "two-sided z-test of the steps; slower or faster is what stays below 0.05 after Bonferroni's correction. "
        "A seed has reached it when its loss is AdamW's of the same seed at the end of the budget; one that has not "
        f"after {given['overrun']:g} budgets counts with those, so that the ratio is at least (≥) that."
    )
    return f"{machine(result)} {notes}\n\n{markdown(header, rows)}"


def noisy_quadratic(result: dict[str, Any]) -> str:
    """How many pairs of optimizer and controller were tried, and which end above their start."""
    rows = result["results"]
    over: dict[str, list[str]] = {}
    for row in rows:
        if row.get("diverges"):
            end = "not finite" if row["ratio"] is None else f"{row['ratio']:.3g}×"
            over.setdefault(row["controller"], []).append(f"`{row['optimizer']}` {end}")
    order = [name for name in dict.fromkeys(row["controller"] for row in rows) if name in over]
    refused, above = sum("refused" in row for row in rows), sum(map(len, over.values()))
    alone = sum(row["controller"] == "constant" for row in rows)
    tried = f"{len(rows) - alone} pairs and {alone} optimizers alone tried"
    cells = [[f"`{name}`", len(over[name]), ", ".join(over[name])] for name in order]
    header = ["controller", "optimizers", "final ÷ first loss, the worst of "
              f"{result['settings']['seeds']} seeds"]  # fmt: skip
    return f"{tried}, {refused} refused, {above} end above their start.\n\n{markdown(header, cells)}"


def equations(result: dict[str, Any]) -> str:
    """The length of rules, beside optax's functions for the same."""
    rows = []
    for r in result["results"]:
        mine, theirs = r["adaptx"], r["optax"] or {}
        rows.append([r["rule"], *(pair(mine[x], theirs.get(x), "d") for x in ("lines", "step_lines", "tokens"))])
    totals = [
        [name, one["rules"], *(f"{one[x]['median']:g}, {one[x]['maximum']}" for x in ("lines", "step_lines", "tokens"))]
        for name, one in result["summary"].items()
    ]
    parts = [markdown(["median, maximum", "rules", "lines", "of the step", "tokens"], totals)]
    parts.append(f"<details><summary>Every rule (optax {result['optax']})</summary>")
    header = ["rule", "lines (optax)", "of the step (optax)", "tokens (optax)"]
    return "\n\n".join([*parts, markdown(header, rows), "</details>"])


def recipes(result: dict[str, Any]) -> str:
    """What recipes gain over plain AdamW."""
    header = ["recipe", "measured", "steps", "at its defaults ÷ AdamW at 1e-3", "both at the best of six rates"]
    rows = [
        [f"`{r['recipe']}`", r["what"], r["steps"], *(
            f"{r[how]['ratio']:.2f} ± {r[how]['ratio'] * r[how]['error']:.2f}" for how in ("default", "tuned")
        )] for r in result["rows"]
    ]  # fmt: skip
    seeds = ranged_of([r["seeds"] for r in result["rows"]])
    return f"{machine(result)} {seeds} seeds.\n\n{markdown(header, rows)}"


def ranged_of(counts: list[int]) -> str:
    """One number, or the least and the largest."""
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"


def find_lr(result: dict[str, Any]) -> str:
    """How far the suggestions of a range test are from the best rates."""
    header = [
        "task",
        "optimizer",
        "suggested rate",
        "best of the grid",
        "held-out loss ÷ best (least–largest)",
    ]
    rows = []
    for r in result["rows"]:
        suggested, best = (math.exp(sum(map(math.log, r[key])) / len(r[key])) for key in ("suggestions", "best"))
        ratios = r["ratios"]
        told = f"{sum(ratios) / len(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        rows.append([r["task"], r["optimizer"], f"{suggested:.2g}", f"{best:.2g}", told])
    return f"{machine(result)} {len(result['rows'][0]['ratios'])} seeds.\n\n{markdown(header, rows)}"


TABLES = {
    "step_time": step_time, "compile_time": compile_time, "before_after": before_after, "sweep": sweep,
    "memory": memory, "memory_torch": memory, "precision": precision, "layout": layout, "lr_free": lr_free,
    "step_time_catalogue": step_time_catalogue, "equations": equations, "steps_to_target": steps_to_target,
    "noisy_quadratic": noisy_quadratic, "recipes": recipes, "find_lr": find_lr,
}  # fmt: skip
BY_JAX = ("compile_time", "before_after")  # a file of results for each version of jax


def filled(text: str) -> str:
    """The README with every table made again; where there are no results, it says so."""
    for name, make in TABLES.items():
        paths = sorted(RESULTS.glob(f"{name}_jax*.json" if name in BY_JAX else f"{name}.json"))
        table = make(*(json.loads(path.read_text("utf-8")) for path in paths)) if paths else "Not measured yet."
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
