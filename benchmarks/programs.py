"""A step as a program: cold compilation, what the compiled program says of itself, and steps taken in turns."""

import gc
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import rivals
import trees
from harness import interleaved, median, seconds

IDLE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast")  # entries of a program that do no work
OPERATION = re.compile(r" = .*?[\]})] ([a-z][a-z0-9-]*)\(")


def cold_compile(opt: Any, tree: trees.Tree) -> tuple[dict[str, float], Any]:
    """Seconds to trace, lower and compile a step with empty caches, and the compiled step."""
    state = jax.eval_shape(opt.init, tree)
    jax.clear_caches()
    gc.collect()
    found: dict[str, Any] = {}
    function = rivals.jitted(opt)
    times = {
        "trace_s": seconds(lambda: found.update(traced=function.trace(tree, state, tree))),
        "lower_s": seconds(lambda: found.update(lowered=found["traced"].lower())),
        "compile_s": seconds(lambda: found.update(compiled=found["lowered"].compile())),
    }
    lowered = times["trace_s"] + times["lower_s"]
    return times | {"trace_and_lower_s": lowered, "trace_and_compile_s": sum(times.values())}, found["compiled"]


def counts(compiled: Any, parameters: int) -> dict[str, Any]:
    """Operations, temporaries and accessed bytes of a compiled step, by the compiler's own account."""
    costs = compiled.cost_analysis() or {}
    costs = costs[0] if isinstance(costs, list) else costs
    memory, accessed = compiled.memory_analysis(), costs.get("bytes accessed")
    temporary = None if memory is None else memory.temp_size_in_bytes
    return {
        "compiled_operations": entry_operations(compiled.as_text() or ""),
        "temporary_bytes": temporary,
        "temporary_bytes_per_parameter": None if temporary is None else temporary / parameters,
        "bytes_accessed_per_parameter": None if accessed is None else accessed / parameters,
    }


def entry_operations(text: str) -> int:
    """How many operations the entry computation runs one after another: a fusion is one, whatever it holds."""
    entry = text[text.find("\nENTRY ") :].partition("\n}")[0]
    found = [OPERATION.search(line) for line in entry.splitlines()[2:]]
    return sum(match is not None and match[1] not in IDLE for match in found)


class Stepper:
    """A compiled step that carries its own parameters and state from call to call."""

    def __init__(self, compiled: Any, params: Any, state: Any, grads: Any):
        self.compiled, self.params, self.state, self.grads = compiled, params, state, grads

    def __call__(self, steps: int) -> Any:
        for _ in range(steps):
            self.params, self.state = self.compiled(self.params, self.state, self.grads)
        return self.params


class Triad:
    """The in-place triad, as a stepper."""

    def __init__(self, elements: int):
        self.compiled, (self.x, self.y) = rivals.triad(elements)

    def __call__(self, steps: int) -> Any:
        for _ in range(steps):
            self.x = self.compiled(self.x, self.y)
        return self.x


def state_bytes(opt: Any, tree: trees.Tree) -> int:
    """Bytes of a fresh state's arrays."""
    made = jax.eval_shape(opt.init, tree)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(made))


def start(tree: trees.Tree) -> tuple[Any, Any]:
    """(parameters, gradients) of a tree."""
    return trees.filled(tree, jax.random.key(0), 0.02), trees.filled(tree, jax.random.key(1), 0.01)


def stepper(compiled: Any, opt: Any, params: Any, grads: Any) -> Stepper:
    """A stepper with arrays of its own: gradients too, or the second to run finds them in the cache."""
    copy = partial(jax.tree.map, partial(jnp.array, copy=True))
    return Stepper(compiled, copy(params), copy(opt.init(params)), copy(grads))


def step_ms(
    calls: dict[str, Any], samples: int, least: float, order: int, period: int = 1, warm: int = 2
) -> tuple[dict[str, float], int]:
    """(median milliseconds of a step of every stepper, taken in turns; steps each took in all).

    A timing shorter than `least` seconds takes several steps, so that the clock and the dispatch do not count, and a
    multiple of `period`, so that what happens once in so many steps happens equally often in every timing. Twice `warm`
    steps come before.
    """
    for call in calls.values():
        seconds(lambda call=call: call(warm))
    slowest = max(seconds(lambda call=call: call(warm)) / warm for call in calls.values())
    steps = period * -(-max(1, min(200, round(least / slowest))) // period)
    turns = {name: lambda call=call: call(steps) for name, call in calls.items()}
    taken = interleaved(turns, samples, order)
    return {name: 1e3 * median(times) / steps for name, times in taken.items()}, 2 * warm + steps * samples
