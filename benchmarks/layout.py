"""Many small leaves: one array per leaf, leaves stacked by shape, leaves packed into one array, and a packed model.

    python benchmarks/layout.py [--quick] [--leaves 400] [--output FILE]

Adam with parameters and state donated. `packed model` is adaptx.pack: the parameters themselves are one vector.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from harness import RESULTS, headline, interleaved, median, progress, seconds, table, write

import adaptx

SHAPES = [(64,), (16, 32), (128,), (32, 32), (256,)]


def steps() -> dict[str, tuple[Any, Any]]:
    """{way: (make (params, state, grads) of a tree, step function)}."""
    opt, theirs = adaptx.adam(1e-3), optax.adam(1e-3)
    stacked, packed = (adaptx.adam(1e-3, layout=layout) for layout in ("stacked", "packed"))

    def flat(tree):
        return adaptx.pack(tree)[0]

    def optax_step(params, state, grads):
        updates, state = theirs.update(grads, state)
        return optax.apply_updates(params, updates), state

    return {
        "leaf": (lambda p: (p, opt.init(p), p), lambda p, s, g: opt.step(g, s, p)),
        "stacked": (lambda p: (p, stacked.init(p), p), lambda p, s, g: stacked.step(g, s, p)),
        "packed": (lambda p: (p, packed.init(p), p), lambda p, s, g: packed.step(g, s, p)),
        "packed model": (lambda p: (flat(p), opt.init(flat(p)), flat(p)), lambda p, s, g: opt.step(g, s, p)),
        "optax": (lambda p: (p, theirs.init(p), p), optax_step),
    }


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 leaves: a check, not a measurement")
    parser.add_argument("--leaves", type=int, help="how many leaves of five shapes (400)")
    parser.add_argument("--samples", type=int, default=30, help="timings of a step")
    parser.add_argument("--output", type=Path, help="the JSON file")
    given = parser.parse_args()
    count = given.leaves or (20 if given.quick else 400)
    tree = {f"l{i}": jnp.ones(SHAPES[i % len(SHAPES)]) for i in range(count)}
    rows: dict[str, dict[str, Any]] = {}
    calls = {}
    for way, (make, step) in steps().items():
        progress(way)
        jax.clear_caches()
        made = make(jax.tree.map(jnp.array, tree))
        made = jax.tree.map(jnp.array, made)
        found: dict[str, Any] = {}
        function = jax.jit(step, donate_argnums=(0, 1))
        lower = seconds(lambda f=function, m=made, out=found: out.update(lowered=f.lower(*m)))
        compiling = seconds(lambda out=found: out.update(compiled=out["lowered"].compile()))
        rows[way] = {"trace_and_lower_s": lower, "compile_s": compiling}
        calls[way] = stepper(found["compiled"], made)
    for way, taken in interleaved(calls, given.samples).items():
        rows[way]["step_ms"] = 1e3 * median(taken)
    print(f"{headline()}; {count} leaves of {len(SHAPES)} shapes")
    print(
        table(["way", "trace + lower s", "compile s", "step ms"], [[way, *row.values()] for way, row in rows.items()])
    )
    output = given.output or RESULTS / ("layout_quick.json" if given.quick else "layout.json")
    write(output, {"quick": given.quick, "leaves": count, "ways": rows})


def stepper(compiled: Any, made: Any) -> Any:
    """A call that takes one step, carrying parameters and state."""
    carried = list(made)

    def call() -> Any:
        carried[0], carried[1] = compiled(*carried)
        return carried[0]

    return call


if __name__ == "__main__":
    main()
