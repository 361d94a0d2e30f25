"""Putting an optimizer together from a rule, a learning rate and options."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Controller, Rule
from ..values import Scalar, open_loop
from .optimizer import Optimizer
from .options import EngineOptions, options

Rate = Scalar | Callable[[Any], Any] | Controller


def build(who: str, rule: Rule, learning_rate: Rate | None, given: EngineOptions) -> Optimizer:
    """An optimizer from its parts.

    Where hyperparameters are arrays of one shape, the optimizer is a batch: every number is given that shape, so that
    `jax.vmap(train)(opt)` runs one training per element.

    Raises:
        TypeError, ValueError: for a hyperparameter of the wrong kind or range; the message names it.
    """
    if learning_rate is not None and not isinstance(learning_rate, Controller):
        learning_rate = open_loop("learning_rate", learning_rate)
    return batched(Optimizer(rule, learning_rate, options(f"{who}()", given)))


def batched(opt: Optimizer) -> Optimizer:
    """opt with every number broadcast to the common shape of those that are arrays; opt itself where none is."""
    leaves, treedef = jax.tree.flatten(opt)
    shapes = {np.shape(x) for x in leaves} - {()}
    if not shapes:
        return opt
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise ValueError(
            f"hyperparameters of a batch must broadcast together, got shapes {sorted(shapes)}; give them one shape."
        ) from error
    return treedef.unflatten([jnp.broadcast_to(jnp.asarray(x), shape) for x in leaves])
