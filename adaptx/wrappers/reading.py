"""Which parameters to evaluate or save, wherever the state of a wrapper lies."""

import jax
import optax
from jaxtyping import Array, PyTree

from ..engine.optimizer import Optimizer
from ..engine.route import Route, refuse_other_state
from ..engine.state import column, refuse_what_is_no_state
from ..engine.tree import Leaves, as_arrays, take_apart
from .schedule_free import average_of, fine_of
from .wrapper import Iterates, Wrapper

KINDS = (Iterates, optax.contrib.ScheduleFreeState)
NONE_BETTER = ("shield", "sam", "grokfast", "trac")  # families of wrappers that keep no better parameters


def eval_params(opt: object, state: PyTree, params: PyTree) -> PyTree:
    """The parameters to evaluate or save, for any optimizer: params themselves unless it keeps better ones.

    The state may be that of an optax.chain, of MultiSteps or of a partition around a wrapper. Of wrappers in one
    another the outermost answers.

    Args:
        opt: the optimizer: adaptx's, or any optax transformation.
        state: its state.
        params: the parameters it trains.

    Raises:
        TypeError: where state is not that of an optimizer.
        ValueError: where two wrappers keep better parameters for one leaf, or the state is that of other parameters.
    """
    if not isinstance(opt, optax.GradientTransformation | optax.MultiSteps):
        hint = "call the constructor" if callable(opt) else "pass the optimizer"
        raise TypeError(f"eval_params takes (opt, state, params), got {type(opt).__name__} first; {hint}.")
    leaves = take_apart(params, any_trained=False)
    if isinstance(opt, Optimizer):
        refuse_what_is_no_state(state)
    if isinstance(opt, Route):
        refuse_other_state(state)
    if isinstance(opt, Wrapper):
        opt.rows(state, leaves)
    out: list[PyTree] = [None] * len(leaves.trained)
    keepers = _outermost(state)
    if not keepers:
        return params
    for found in keepers:
        for i, better in enumerate(_better(found, leaves, params)):
            if better is not None and out[i] is not None:
                raise ValueError(
                    f"two wrappers in this state keep better parameters for '{leaves.paths[i]}'; pass the state of the "
                    "one that is meant."
                )
            out[i] = better if better is not None else out[i]
    ps = as_arrays(leaves.arrays)
    return leaves.join([p if x is None else x for x, p in zip(out, ps, strict=True)], lambda leaf: leaf)


def _outermost(state: PyTree) -> list[PyTree]:
    """The states that keep better parameters, not those inside one another."""
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, KINDS))
    out = []
    for node in nodes:
        if isinstance(node, Iterates) and next(iter(node.made_by)).startswith(NONE_BETTER):
            out += _outermost(node.inner)
        elif isinstance(node, KINDS):
            out.append(node)
    return out


def _better(found: PyTree, leaves: Leaves, params: PyTree) -> list[Array | None]:
    """The better parameters of every trained leaf, None where this state is not about it."""
    if not isinstance(found, Iterates):
        return leaves.column(optax.contrib.schedule_free_eval_params(found, params))
    columns = {name: column(f"'{name}'", tree, leaves) for name, tree in found.iterates.items()}
    ps = as_arrays(leaves.arrays)
    # of a leaf that optax.masked hides there is a MaskedNode in place of an array
    here = [isinstance(x, jax.Array) for x in next(iter(columns.values()))]
    rows = [{name: x[i] for name, x in columns.items()} for i in range(len(ps))]
    return [_value(found, row, p) if there else None for row, p, there in zip(rows, ps, here, strict=True)]


def _value(found: Iterates, row: dict[str, PyTree], p: Array) -> Array:
    if "schedule_free" in found.made_by:
        (y,) = fine_of([row], [p])
        return average_of(y, row["z"], found.scalars["b"]).astype(p.dtype)
    (better,) = row.values()
    return better.astype(p.dtype)
