"""Which parameters to evaluate or save, wherever the state of a wrapper lies."""

from collections.abc import Mapping

import jax
import optax
from jaxtyping import Array, PyTree

from ..engine.optimizer import Optimizer
from ..engine.route import Route
from ..engine.routed import refuse_other_state
from ..engine.state import column, refuse_what_is_no_state
from ..engine.tree import Leaves, as_arrays, take_apart
from ..values import Scalar, is_concrete
from .schedule_free import average_of, fine_of
from .wrapper import Iterates, Wrapper

KINDS = (Iterates, optax.contrib.ScheduleFreeState)
NONE_BETTER = ("shield", "sam", "grokfast", "trac", "watched")  # families of wrappers that keep no better parameters


def eval_params(opt: object, state: PyTree, params: PyTree, horizon: str | Scalar | None = None) -> PyTree:
    """The parameters to evaluate or save, for any optimizer: params themselves unless it keeps better ones.

    The state may be that of an optax.chain, of MultiSteps or of a partition around a wrapper. Of wrappers in one
    another the outermost answers.

    Args:
        opt: the optimizer: adaptx's, or any optax transformation.
        state: its state.
        params: the parameters it trains.
        horizon: which of several averages, by its name, or the number it was given by; None where there is one.

    Raises:
        TypeError: where state is not that of an optimizer.
        ValueError: where two wrappers keep better parameters for one leaf, or the state is that of other parameters;
            where the horizon is not that of an average, or there are several and none is named.
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
        if horizon is not None:
            raise ValueError(f"eval_params: horizon={horizon!r}, but this state holds no average; leave it out.")
        return params
    for found in keepers:
        for i, better in enumerate(_better(found, leaves, params, horizon)):
            if better is not None and out[i] is not None:
                raise ValueError(
                    f"two wrappers in this state keep better parameters for '{leaves.paths[i]}'; pass the state of the "
                    "one that is meant."
                )
            out[i] = better if better is not None else out[i]
    ps = as_arrays(leaves.arrays)
    return leaves.join([p if x is None else x for x, p in zip(out, ps, strict=True)], lambda leaf: leaf)


def horizons(state: PyTree) -> tuple[str, ...]:
    """The names of the averages of which `eval_params` must be told one; none where there are not several.

    Raises:
        ValueError: where averages of parts of the tree share no name, so that none can be told.
    """
    kept = [tuple(name.partition(".")[2] for name in getattr(x, "iterates", {})) for x in _outermost(state)]
    several = [names for names in kept if any(names)]
    if not several:
        return ()
    shared = tuple(name for name in several[0] if all(name in names for names in kept))
    if not shared:
        told = "; ".join(", ".join(map(repr, names)) for names in several)
        raise ValueError(f"averages of parts of the tree share no horizon ({told}); give all of them the same names.")
    return shared


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


def _better(found: PyTree, leaves: Leaves, params: PyTree, horizon: str | Scalar | None) -> list[Array | None]:
    """The better parameters of every trained leaf, None where this state is not about it."""
    which = _which(found, horizon)
    if not isinstance(found, Iterates):
        return leaves.column(optax.contrib.schedule_free_eval_params(found, params))
    columns = {name: column(f"'{name}'", tree, leaves) for name, tree in found.iterates.items()}
    ps = as_arrays(leaves.arrays)
    # of a leaf that optax.masked hides there is a MaskedNode in place of an array
    here = [isinstance(x, jax.Array) for x in next(iter(columns.values()))]
    rows = [{name: x[i] for name, x in columns.items()} for i in range(len(ps))]
    return [_value(found, row, p, which) if there else None for row, p, there in zip(rows, ps, here, strict=True)]


def _value(found: Iterates, row: dict[str, PyTree], p: Array, which: str) -> Array:
    if "schedule_free" in found.made_by:
        (y,) = fine_of([row], [p])
        return average_of(y, row["z"], found.scalars["b"]).astype(p.dtype)
    return row[which].astype(p.dtype)


def _which(found: PyTree, horizon: str | Scalar | None) -> str:
    """The name under which the wanted average is kept.

    Raises:
        ValueError: where there is none of this horizon, or several.
    """
    kept = {name.partition(".")[2]: name for name in getattr(found, "iterates", {})}
    names = ", ".join(repr(name) for name in kept if name)
    if horizon is None:
        if names:
            raise ValueError(f"eval_params: this state holds the averages {names}; say which with horizon=….")
        return next(iter(kept.values()), "")
    if not names:
        raise ValueError(f"eval_params: horizon={horizon!r}, but this state holds one average only; leave it out.")
    (name,) = named("horizon", (horizon,)) if not isinstance(horizon, str) else (horizon,)
    if name not in kept or not name:
        raise ValueError(f"eval_params: horizon={horizon!r} is none of the averages {names}; pass one of these.")
    return kept[name]


def named(what: str, given: PyTree) -> dict[str, Scalar]:
    """Several numbers by name; those of a tuple are named by their value.

    Raises:
        TypeError: for a number without a value to be named by, or a name that is none.
        ValueError: for none at all, or one twice.
    """
    if isinstance(given, Mapping):
        wrong = [name for name in given if not isinstance(name, str) or not name]
        if wrong:
            raise TypeError(f"{what}: names are text, got {wrong[0]!r}; write {{'short': …, 'long': …}}.")
        pairs = list(given.items())
    else:
        hidden = [x for x in given if not is_concrete(x)]
        if hidden:
            raise TypeError(f"{what}: {hidden[0]!r} has no value to be named by; give it a name, {{name: number}}.")
        pairs = [(f"{float(x):g}", x) for x in given]
    if not pairs or len(dict(pairs)) < len(pairs):
        raise ValueError(f"{what} must be several different numbers, got {given!r}; pass some, each once.")
    return dict(pairs)
