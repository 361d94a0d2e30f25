"""The optimizers: a rule, a learning rate and the engine options, a few lines each."""

from typing import Unpack

from . import controllers, rules
from .base import Rule
from .engine.optimizer import Optimizer, Rate, build, open_rate
from .engine.options import EngineOptions, flat
from .values import Scalar


def sgd(learning_rate: Rate = 1e-2, **engine: Unpack[EngineOptions]) -> Optimizer:
    """Stochastic gradient descent: p ← p − lr·g. Engine options: see `EngineOptions`.

    Robbins & Monro, 1951, doi:10.1214/aoms/1177729586.
    """
    return build("sgd", rules.Sgd(), learning_rate, engine)


def momentum(
    learning_rate: Rate = 1e-2,
    decay: Scalar = 0.9,
    dampening: Scalar = 0.0,
    nesterov: bool = False,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Momentum: v ← γv + (1 − τ)g, p ← p − lr·v; Nesterov: p ← p − lr·((1 − τ)g + γv).

    Args:
        learning_rate: ≥ 0, a schedule, or an array for a batch.
        decay: γ in [0, 1).
        dampening: τ in [0, 1]; τ = γ gives the averaged form.
        nesterov: look one step ahead.
        **engine: see `EngineOptions`.

    Polyak, 1964, doi:10.1016/0041-5553(64)90137-5.
    """
    return build("momentum", rules.Momentum(decay, dampening, nesterov), learning_rate, engine)


def adagrad(
    learning_rate: Rate = 1e-2,
    eps: Scalar = 1e-8,
    eps_in_sqrt: bool = True,
    initial_accumulator: Scalar = 0.0,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """AdaGrad: h ← h + g², p ← p − lr·g/√(h + ε), or g/(√h + ε) with eps_in_sqrt=False.

    Args:
        learning_rate: ≥ 0, a schedule, or an array for a batch.
        eps: ε ≥ 0, in units of g² inside the root, of g outside.
        eps_in_sqrt: where ε stands.
        initial_accumulator: h₀ ≥ 0.
        **engine: see `EngineOptions`.

    Duchi, Hazan & Singer, 2011, JMLR 12.
    """
    return build("adagrad", rules.Adagrad(eps, initial_accumulator, eps_in_sqrt), learning_rate, engine)


def rmsprop(
    learning_rate: Rate = 1e-3,
    decay: Scalar = 0.9,
    eps: Scalar = 1e-8,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Scalar = 0.0,
    debias: bool = False,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """RMSProp: v ← βv + (1 − β)g², n = g/√(v + ε), p ← p − lr·n; with momentum b ← μb + n, p ← p − lr·b.

    Args:
        learning_rate: ≥ 0, a schedule, or an array for a batch.
        decay: β in [0, 1).
        eps: ε ≥ 0, in units of g² inside the root, of g outside.
        eps_in_sqrt: n = g/√(v + ε), or g/(√v + ε).
        centered: subtract the squared mean gradient from v.
        momentum: μ in [0, 1); 0 keeps no buffer. The learning rate stays outside the buffer.
        debias: divide the averages by 1 − βᵗ.
        **engine: see `EngineOptions`.

    Tieleman & Hinton, 2012; centered: Graves, 2013, arXiv:1308.0850.
    """
    return build("rmsprop", rules.Rmsprop(decay, eps, momentum, eps_in_sqrt, centered, debias), learning_rate, engine)


def adam(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    debias: bool = True,
    amsgrad: bool = False,
    nesterov: bool = False,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Adam: m ← β₁m + (1 − β₁)g, v ← β₂v + (1 − β₂)g², p ← p − lr·m̂/(√v̂ + ε).

    Args:
        learning_rate: ≥ 0, a schedule, or an array for a batch.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g, outside the root and after the bias correction.
        debias: divide the moments by 1 − βᵗ.
        amsgrad: use the largest second moment so far (of the uncorrected one, as torch does).
        nesterov: Dozat's look-ahead with constant β₁.
        **engine: see `EngineOptions`.

    Kingma & Ba, 2015, arXiv:1412.6980; amsgrad: Reddi et al., 2018, arXiv:1904.09237; nesterov: Dozat, 2016.
    """
    return build("adam", rules.Adam(b1, b2, eps, debias, amsgrad, nesterov), learning_rate, engine)


def adamw(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    debias: bool = True,
    amsgrad: bool = False,
    nesterov: bool = False,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Adam with decoupled weight decay λ = 0.01: p ← p − lr·(m̂/(√v̂ + ε) + λp). Arguments as in `adam`.

    Loshchilov & Hutter, "Decoupled weight decay regularization", 2019, arXiv:1711.05101 (as torch scales it: by lr).
    """
    options = {"weight_decay": 1e-2, **flat(engine)}
    return build("adamw", rules.Adam(b1, b2, eps, debias, amsgrad, nesterov), learning_rate, options)


def lion(learning_rate: Rate = 1e-4, b1: Scalar = 0.9, b2: Scalar = 0.99, **engine: Unpack[EngineOptions]) -> Optimizer:
    """Lion: p ← p − lr·sign(β₁m + (1 − β₁)g), then m ← β₂m + (1 − β₂)g.

    Args:
        learning_rate: ≥ 0, a schedule or a controller; three to ten times smaller than Adam's.
        b1: β₁ in [0, 1), of the step.
        b2: β₂ in [0, 1), of the mean.
        **engine: see `EngineOptions`; weight_decay three to ten times larger than AdamW's.

    Chen et al., 2023, arXiv:2302.06675.
    """
    return build("lion", rules.Lion(b1, b2), learning_rate, engine)


def adafactor(
    learning_rate: Rate = 1e-2,
    decay_rate: Scalar = 0.8,
    eps1: Scalar = 1e-30,
    eps2: Scalar = 1e-3,
    clip_threshold: Scalar = 1.0,
    b1: Scalar | None = None,
    min_dim_size_to_factor: int = 1,
    scale_parameter: bool = True,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Adafactor: Adam's second moment of a matrix as a row and a column, steps relative to the parameter's size.

    Args:
        learning_rate: ≥ 0, a schedule or a controller; the paper's is `lambda t: min(1e-2, 1/sqrt(t + 1))`.
        decay_rate: c > 0; the second moment's decay is 1 − t^(−c).
        eps1: ε₁ ≥ 0, in units of g².
        eps2: ε₂ ≥ 0, the least size of a parameter, in its units.
        clip_threshold: > 0, the largest root mean square of an update before the parameter's size multiplies it.
        b1: of a mean of the updates, in [0, 1); None for none.
        min_dim_size_to_factor: ≥ 1; matrices with a shorter axis keep their second moment whole.
        scale_parameter: multiply steps by the root mean square of the parameter.
        **engine: see `EngineOptions`.

    Shazeer & Stern, 2018, arXiv:1804.04235.
    """
    rule = rules.Adafactor(decay_rate, eps1, eps2, clip_threshold, b1, min_dim_size_to_factor, scale_parameter)
    return build("adafactor", rule, learning_rate, engine)


def muon(
    learning_rate: Rate = 0.02,
    decay: Scalar = 0.95,
    eps: Scalar = 1e-7,
    coefficients: tuple[Scalar, ...] = (3.4445, -4.7750, 2.0315),
    nesterov: bool = True,
    steps: int = 5,
    scale: str = "spectral",
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Muon: momentum made orthogonal. For matrices, and stacks of them, alone: the rest goes elsewhere by `route`.

    Args:
        learning_rate: ≥ 0, a schedule or a controller.
        decay: μ of the mean gradient, in [0, 1).
        eps: ε ≥ 0, in units of the Frobenius norm.
        coefficients: a, b and c of the Newton-Schulz iteration.
        nesterov: look one step ahead.
        steps: of the iteration, ≥ 1.
        scale: "spectral", √max(1, rows/columns), or "rms", 0.2·√max(rows, columns), which Adam's rates fit.
        **engine: see `EngineOptions`.

    Jordan et al., 2024; Liu et al., 2025, arXiv:2502.16982.
    """
    return build("muon", rules.Muon(decay, eps, coefficients, nesterov, steps, scale), learning_rate, engine)


def lars(
    learning_rate: Rate = 1e-2,
    decay: Scalar = 0.9,
    nesterov: bool = False,
    coefficient: Scalar = 1e-3,
    eps: Scalar = 0.0,
    max_ratio: Scalar | None = None,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """LARS: momentum on gradients scaled, leaf by leaf, by coefficient·‖p‖/(‖g + λp‖ + ε); weight decay λ is l2.

    Args:
        learning_rate: a number ≥ 0 or a schedule.
        decay: γ of the momentum, in [0, 1).
        nesterov: look one step ahead.
        coefficient: > 0.
        eps: ε ≥ 0, in units of g.
        max_ratio: > 0, makes the rate min(ratio, max_ratio · learning_rate) (LARC's clipping is 1); None for none.
        **engine: see `EngineOptions`.

    You, Gitman & Ginsburg, 2017, arXiv:1708.03888.
    """
    controller = controllers.trust_ratio(
        open_rate("lars", learning_rate), coefficient, eps, None, max_ratio, before=True
    )
    options = {"decay_mode": "l2", **flat(engine)}
    rule = rules.Momentum(decay, 0.0, nesterov)
    return build("lars", rule, controller, options, ("decay", "nesterov"), ("coefficient", "eps", "max_ratio"))


def lamb(
    learning_rate: Rate = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-6,
    norm_bounds: tuple[Scalar, Scalar] | None = None,
    max_ratio: Scalar | None = None,
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """LAMB: Adam's direction with weight decay, scaled leaf by leaf by φ(‖p‖)/‖d‖.

    Args:
        learning_rate: a number ≥ 0 or a schedule.
        b1: β₁ in [0, 1).
        b2: β₂ in [0, 1).
        eps: ε ≥ 0, in units of g.
        norm_bounds: (low, high) that φ clips ‖p‖ to; None for φ(z) = z.
        max_ratio: bound on the ratio (LAMBC); None for none.
        **engine: see `EngineOptions`.

    You et al., 2020, arXiv:1904.00962, Algorithm 2; max_ratio: Fong et al., 2020, arXiv:2011.13584.
    """
    controller = controllers.trust_ratio(open_rate("lamb", learning_rate), 1.0, 0.0, norm_bounds, max_ratio)
    rule = rules.Adam(b1, b2, eps)
    return build("lamb", rule, controller, engine, ("b1", "b2", "eps"), ("norm_bounds", "max_ratio"))


def scale_by_rule(rule: Rule, **engine: Unpack[EngineOptions]) -> Optimizer:
    """A rule as a link of an optax.chain: gradients in, directions d out, neither scaled by a rate nor negated.

    Args:
        rule: an instance from `adaptx.rules`, or your own.
        **engine: see `EngineOptions` (weight decay enters as d + λp, or before the rule; there is no rate for it to be
            independent of).

    Its `step` adds d, so it ascends.

    Raises:
        TypeError: if rule is not a Rule instance.
    """
    if not isinstance(rule, Rule):
        hint = "; call the class" if isinstance(rule, type) and issubclass(rule, Rule) else ""
        raise TypeError(f"scale_by_rule takes a Rule, such as adaptx.rules.Adam(), got {rule!r}{hint}.")
    return build("scale_by_rule", rule, None, engine, bare=True)


def ema(decay: Scalar, debias: bool = True) -> Optimizer:
    """An exponential average as an optax transformation: m ← βm + (1 − β)x, out m/(1 − βᵗ), or m with debias=False.

    `ema(0.9).over(values)` averages a plain sequence along its first axis.

    Args:
        decay: β in [0, 1).
        debias: divide by 1 − βᵗ, so that the first value comes out as it went in.
    """
    return scale_by_rule(rules.Average(decay, debias))


def bias_correction(decay: Scalar) -> Optimizer:
    """An optax transformation that divides step t's updates by 1 − βᵗ (t from 1), to 3e-7 relative in f32.

    Args:
        decay: β in [0, 1).
    """
    return scale_by_rule(rules.BiasCorrection(decay))


ALL = {
    "sgd": sgd,
    "momentum": momentum,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adamw,
    "lion": lion,
    "adafactor": adafactor,
    "muon": muon,
    "lars": lars,
    "lamb": lamb,
}
