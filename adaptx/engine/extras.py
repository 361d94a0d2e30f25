"""What may be done around a rule, one array at a time: engine options that are off unless asked for.

Before the rule, on the gradient as the global norm leaves it, in this order:

    agc             G ← G·min(1, λ max(‖W‖, 10⁻³)/‖G‖), unit by unit     Brock et al. 2021, arXiv:2102.06171, equation 3
    max_leaf_norm   g ← g·min(1, c/‖g‖)
    noise           g ← g + N(0, η/(1 + t)^γ), t = 0 first              Neelakantan et al. 2015, arXiv:1511.06807
                    g ← g + λp, if decay_mode="l2"
    centralize      G ← G − the mean of what feeds a unit                Yong et al. 2020, arXiv:2004.01461

After it:

    cautious        d ← d·1[d g > 0]·rescale                             Liang et al. 2024, arXiv:2411.16085
    cautious_decay  d ← d + λp·1[d p ≥ 0]                                Chen et al. 2025, arXiv:2510.12402
    clip_update_rms d ← d/max(1, RMS(ρ)/c), ρ the rule's `surprise`      Wortsman et al. 2023, arXiv:2304.13013

A mask compares d with the g that the rule sees. clip_update_rms divides d after decoupled decay was added, which is the
paper's division of the rate.
Controllers see what comes out, the g of the first block and the d of the second.
Rescale: 1 for "mask", 1/max(mean of the mask, 10⁻³) for "mean" (the authors' AdamW), n/(kept + 1) for "count" (the
paper, the authors' Lion). A unit's weights are what agc's authors take: over axis 0 of two or three axes, all but the
last of more, a whole vector.
Departs from the papers in: signs are compared, because the product of two small numbers is 0; no 10⁻⁶ below ‖G‖ in agc.
"""

from collections.abc import Mapping

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, DTypeLike, PyTree

from ..bits import mix, normals
from ..checks import flag, number, one_of, whole
from ..numerics import capped, root, showing
from ..values import Scalar, is_concrete, static, value_class
from .norms import global_norm, summed_over, varies

RESCALES = ("mask", "mean", "count")
UNITS = ("last", "first")  # the axis along which the units lie that a matrix or a kernel feeds
LEAST_WEIGHTS = 1e-3  # ‖W‖ is taken to be at least this: what starts at 0 must learn
LEAST_KEPT = 1e-3  # the mean of a mask too
DECAY = 0.55  # γ


@value_class
class Extras:
    """Engine options that change the gradient or the direction of one array; None or False is off."""

    agc: Scalar | None = None  # λ > 0
    max_leaf_norm: Scalar | None = None  # c > 0, units of g
    clip_update_rms: Scalar | None = None  # c > 0
    noise: Scalar | None = None  # η ≥ 0, units of g²
    noise_decay: Scalar | None = None  # γ ≥ 0, with noise only
    noise_seed: int = static(default=0)
    centralize: str | None = static(default=None)
    cautious: str | None = static(default=None)
    cautious_decay: bool = static(default=False)
    axes: tuple[str, ...] = static(default=())  # within a step: manual mesh axes along which arrays may be split

    def given(self) -> dict[str, PyTree]:
        """The keyword arguments that make these options."""
        return {
            "agc": self.agc, "max_leaf_norm": self.max_leaf_norm, "noise": 0.0 if self.noise is None else self.noise,
            "noise_decay": DECAY if self.noise_decay is None else self.noise_decay, "noise_seed": self.noise_seed,
            "centralize": self.centralize, "cautious": self.cautious, "cautious_decay": self.cautious_decay,
            "clip_update_rms": self.clip_update_rms,
        }  # fmt: skip

    @property
    def summed(self) -> str | None:
        """The first option that is on and adds up over a leaf."""
        norms = {"max_leaf_norm": self.max_leaf_norm, "clip_update_rms": self.clip_update_rms}
        scale = f"cautious={self.cautious!r}" if self.cautious in ("mean", "count") else None
        return next((name for name, value in norms.items() if value is not None), scale)

    @property
    def placed(self) -> str | None:
        """The first option that is on and sees where in a leaf an entry lies."""
        values = {"agc": self.agc, "centralize": self.centralize, "noise": self.noise}
        return next((name for name, value in values.items() if value is not None), None)

    @property
    def whole_leaf(self) -> str | None:
        """The first option that is on and looks at more of a leaf than an entry."""
        return self.summed or next((name for name in ("agc", "centralize") if getattr(self, name) is not None), None)

    def gradient(self, g: Array, x: Array, step: Array, salt: Array) -> Array:
        """The gradient of parameter x, clipped and with noise; salt is that of this step and leaf."""
        if self.agc is not None and g.size:
            g = bounded(g, unit_norm(g), self.agc * jnp.maximum(unit_norm(x), LEAST_WEIGHTS))
        if self.max_leaf_norm is not None:
            g = bounded(g, global_norm([g], self.axes), self.max_leaf_norm)
        if self.noise is not None and self.noise_decay is not None:
            size = root(self.noise * step.astype(g.dtype) ** -self.noise_decay)
            seed = mix(salt ^ jnp.uint32(self.noise_seed + 0x51ED270B & 0xFFFFFFFF))
            g = g + size * normals(g.shape, seed, g.dtype)
        return g

    def centred(self, g: Array) -> Array:
        """g without its mean over what feeds one unit; g itself where it is a vector."""
        if self.centralize is None or g.ndim < 2 or not g.size:
            return g
        units = g.ndim - 1 if self.centralize == "last" else 0
        axes = tuple(axis for axis in range(g.ndim) if axis != units)
        # divided before it is added: the sum of large numbers may be out of range
        return g - jnp.sum(g * (g.shape[units] / g.size), axes, keepdims=True)

    def masked(self, d: Array, g: Array) -> Array:
        """d where it has the sign of g; NaN stays."""
        if self.cautious is None:
            return d
        mask = (((d > 0) & (g > 0)) | ((d < 0) & (g < 0))).astype(d.dtype)
        scale = mask
        if self.cautious != "mask":
            kept, count = self._total(d, jnp.sum(mask)), self._count(d)
            least = jnp.maximum(kept / count, LEAST_KEPT) if self.cautious == "mean" else (kept + 1) / count
            scale = mask / least
        return showing(d * scale, d)  # XLA makes a choice of the product, and NaN would be masked away

    def decaying(self, d: Array, x: Array) -> Array:
        """x, where decay takes it."""
        if not self.cautious_decay:
            return x
        return x * (((d >= 0) & (x >= 0)) | ((d <= 0) & (x <= 0))).astype(x.dtype)

    def shortened(self, d: Array, surprise: Array) -> Array:
        """d, divided by how much the gradient surprises its rule, if it does by more than it may."""
        rms = global_norm([surprise], self.axes) / self._count(d) ** 0.5
        over = rms > self.clip_update_rms  # NaN is not: it shows where it is
        return d / jnp.where(over, rms / self.clip_update_rms, 1)

    def _total(self, like: Array, x: Array) -> Array:
        """A sum over one array's entries here, over all devices that hold parts of it."""
        return summed_over(self.axes, x) if self.axes and varies(like, self.axes) else x

    def _count(self, like: Array) -> Scalar:
        return max(float(like.size), 1.0) * (lax.psum(1, self.axes) if self.axes and varies(like, self.axes) else 1)


def bounded(g: Array, norm: Array, most: Scalar) -> Array:
    """g·min(1, most/norm), for norms that g is broadcast against; a norm that is NaN changes nothing.

    In two factors where the norm is large: XLA divides by multiplying, and one over it may be no normal number.
    """
    over, limit, power = norm > most, *_powers(g.dtype)
    first = jnp.where(over & (norm > limit), 1 / power, 1).astype(g.dtype)
    return g * first * (jnp.where(over, most, 1) / jnp.where(over, norm * first, 1)).astype(g.dtype)


def unit_norm(x: Array) -> Array:
    """The norm of each unit's weights, at any scale: finite where they are."""
    axes = None if jnp.squeeze(x).ndim < 2 else 0 if x.ndim < 4 else tuple(range(x.ndim - 1))
    most, (limit, power) = jnp.max(jnp.abs(x), axes, keepdims=True), _powers(x.dtype)
    scale = jnp.where(most > limit, 1 / power, jnp.where(most < 1 / limit, power, 1)).astype(x.dtype)
    length = root(jnp.sum((x * scale) ** 2, axes, keepdims=True))
    return jnp.where(length < jnp.inf, capped(length * (1 / scale)), length)


def _powers(dtype: DTypeLike) -> tuple[float, float]:
    """(what is large: a million of its squares are in range, the power of two that brings any number below that)."""
    most = int(jnp.finfo(dtype).maxexp)
    return 2.0 ** int(0.3 * most), 2.0 ** int(0.6 * most)


def extras(given: Mapping[str, PyTree], layout: str, decay_mode: str) -> Extras | None:
    """The options among keyword arguments; None where all are off.

    Raises:
        TypeError: for a value of the wrong kind.
        ValueError: for a value out of range, or options that exclude each other.
    """
    made = Extras(
        **{name: _positive(name, given.get(name)) for name in ("agc", "max_leaf_norm", "clip_update_rms")},
        **_noise(given),
        centralize=_name("centralize", given.get("centralize"), UNITS),
        cautious=_name("cautious", given.get("cautious"), RESCALES),
        cautious_decay=flag("cautious_decay", given.get("cautious_decay", False)),
    )
    if layout == "packed" and made.whole_leaf:
        raise ValueError(f"{made.whole_leaf} looks at a whole leaf, but layout='packed' joins leaves; use 'leaf'.")
    if decay_mode == "l2" and made.cautious_decay:
        raise ValueError(
            "cautious_decay compares decay with the direction, but decay_mode='l2' puts it into the gradient before "
            "there is one; use 'decoupled', 'corrected' or 'independent'."
        )
    return None if made == Extras() else made


def _positive(name: str, value: Scalar) -> Scalar | None:
    return None if value is None else number(name, value, 0.0, open_low=True)


def _name(option: str, value: str | None, valid: tuple[str, ...]) -> str | None:
    return None if value is None else one_of(option, value, valid)


def _noise(given: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """η, γ and the seed, in canonical form; the last two mean nothing without the first."""
    variance, seed = given.get("noise"), whole("noise_seed", given.get("noise_seed", 0), 0)
    if seed >= 2**32:
        raise ValueError(f"noise_seed must be below 2**32, of which seeds are taken modulo, got {seed}; take another.")
    decay = number("noise_decay", given.get("noise_decay", DECAY), 0.0)
    variance = None if variance is None else number("noise", variance, 0.0)
    if variance is not None and not (is_concrete(variance) and float(variance) == 0.0):
        return {"noise": variance, "noise_decay": decay, "noise_seed": seed}
    for name, value, plain in (("noise_decay", decay, DECAY), ("noise_seed", seed, 0)):
        if not is_concrete(value) or value != plain:
            raise ValueError(f"{name}={value!r} is that of noise, which is off; give noise too, or remove it.")
    return {}
