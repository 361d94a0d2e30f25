"""Optimizers whose rule requires the Hessian's diagonal, for tests that have gradients alone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from adaptx.engine.optimizer import Optimizer


def hessian_of(grads: Any) -> Any:
    """What the oracles take for the Hessian's diagonal where the gradients are these (`oracles.hessian_of`)."""

    def one(g):
        if getattr(g, "dtype", None) == jax.dtypes.float0:
            return None
        g = jnp.asarray(g)
        wide = g.astype(jnp.promote_types(g.dtype, jnp.float32))  # in f16 it may be out of range
        return 1.5 * jnp.abs(wide) + wide

    return jax.tree.map(one, grads)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Given(Optimizer):
    """An optimizer that makes of every gradient what its rule requires besides, unless it is given."""

    @property
    def requires(self) -> frozenset[str]:
        return self.controller.requires

    def _advanced(self, grads, state, leaves, extra, *, fused):
        extra = {**{name: hessian_of(grads) for name in self.rule.requires}, **extra}
        return super()._advanced(grads, state, leaves, extra, fused=fused)


def given(opt: Optimizer) -> Optimizer:
    """opt, or where its rule requires something, the same with that made of its gradients."""
    if not opt.rule.requires:
        return opt
    assert opt.rule.requires == {"hessian"}
    return Given(*[getattr(opt, field.name) for field in dataclasses.fields(opt)])
