"""Sharpness-aware minimization: the gradient of a point uphill."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from ..engine import rounding
from ..engine.choices import mask_of
from ..engine.leaf import arithmetic
from ..engine.norms import global_norm, refuse_local
from ..engine.storage import salt
from ..engine.transformation import Transformation
from ..engine.tree import Frozen, as_arrays, gradients
from ..numerics import divide
from ..values import Scalar, static, value_class
from .gradients import Call, Changed, OnGradients
from .wrapper import Iterates


@value_class
class Sam(OnGradients):
    """Sharpness-aware minimization: the optimizer inside steps on the gradient of a point uphill, from where it was.

        e = ρ T² g / ‖T g‖                 g the gradient at p, ‖·‖ over all parameters; 0 where g is
        g' = ∇f(p + e)                     of the same batch: `grad_fn`, which the training step passes
        p ← the optimizer's step from p on g'

    T = 1, or adaptive T = |p| + η, element by element: a neighbourhood that does not change when weights are scaled.
    Foret, Kleiner, Mobahi & Neyshabur, "Sharpness-aware minimization for efficiently improving generalization", 2020,
    arXiv:2010.01412, Algorithm 1 (p = 2); adaptive: Kwon, Kim, Park & Choi, "ASAM: adaptive sharpness-aware
    minimization for scale-invariant learning of deep neural networks", 2021, arXiv:2102.11600, Algorithm 1.
    The loss that controllers and a shield are told is the one at p. A gradient costs twice as much. p + e is rounded
    stochastically to the dtype of narrow parameters: to nearest, most of e would be lost. No array is kept.
    Departs from the papers in: no constant is added to the norm (the authors' programs add 1e-16, others 1e-12).
    """

    inner: Transformation
    rho: Scalar = 0.05  # ρ > 0; of p's unit, or without one if adaptive
    eta: Scalar | None = None  # η ≥ 0, units of p; None where it is not adaptive
    adaptive: PyTree = static(default=False)  # False, or which leaves have T = |p| + η, as decay_mask has it
    family = "sam"

    @property
    def requires(self) -> frozenset[str]:
        """Names of the extra arguments that update and step must be given."""
        return self.inner.requires | {"grad_fn"}

    def fresh(self, p: Array, narrow: bool) -> dict[str, Array | None]:
        """Nothing."""
        return {}

    def seen(self, mine: PyTree, call: Call) -> Changed:
        """The gradients uphill.

        Raises:
            ValueError: where no function gives them.
            TypeError: where grad_fn is no function.
        """
        leaves, grad_fn = call.leaves, call.extra.get("grad_fn")
        if grad_fn is None:
            raise ValueError(
                "sam takes a second gradient at another point, which needs grad_fn, a function of params; train with "
                "adaptx.train_step, or pass grad_fn= to update or step."
            )
        if not callable(grad_fn):
            raise TypeError(f"grad_fn must be a function of params, got {type(grad_fn).__name__}; pass jax.grad(loss).")
        ps = as_arrays(leaves.arrays)
        refuse_local(self.axis_name, ps, "sam's norm")
        mask = self.adaptive.tree if isinstance(self.adaptive, Frozen) else self.adaptive
        wide = [False] * len(ps) if mask is False else mask_of("adaptive", None if mask is True else mask, leaves)
        structure = self.axis_name, tuple(wide), leaves.trained
        points = _uphill(mine, *structure, ps, call.gs, call.scalars["t"])
        second = gradients(grad_fn(leaves.join(points, lambda leaf: leaf)), leaves, "second gradient")
        extra = {name: x for name, x in call.extra.items() if name != "grad_fn"}
        return Changed(second, call.rows, call.scalars, extra)


def takes_second(state: PyTree) -> bool:
    """Whether a state is of an optimizer that takes a second gradient, wherever its own state lies."""
    nodes = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Iterates))
    its = [x for x in nodes if isinstance(x, Iterates)]
    return any(Sam.family in x.made_by or takes_second(x.inner) for x in its)


@partial(jax.jit, static_argnums=(1, 2, 3))
def _uphill(
    sam: Sam,
    axis_name: tuple[str, ...],
    adaptive: tuple[bool, ...],
    places: tuple[int, ...],
    ps: list[Array],
    gs: list[Array | None],
    t: Array,
) -> list[Array]:
    """p + e of every leaf; p where there is no gradient."""

    def unit(xs: list[Array | None]) -> list[Array | None]:
        norm = global_norm([x for x in xs if x is not None], axis_name)
        return [None if x is None else divide(x, norm.astype(x.dtype)) for x in xs]

    fine = [p.astype(arithmetic(p)) for p in ps]
    eta = 0.0 if sam.eta is None else sam.eta
    sizes = [jnp.abs(x) + jnp.asarray(eta, x.dtype) if wide else None for x, wide in zip(fine, adaptive, strict=True)]

    def sized(xs: list[Array | None]) -> list[Array | None]:
        return [x if x is None or size is None else size * x for x, size in zip(xs, sizes, strict=True)]

    es = unit([None if g is None else g.astype(x.dtype) for g, x in zip(gs, fine, strict=True)])
    if any(adaptive):
        es = sized(unit(sized(es)))
    out = []
    for p, x, e, place in zip(ps, fine, es, places, strict=True):
        up = x if e is None else x + jnp.asarray(sam.rho, x.dtype) * e
        out.append(rounding.closed("stochastic", up, p, salt(t, jnp.uint32(place)))[0])
    return out
