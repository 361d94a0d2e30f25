"""Rules for whole matrices; where they take nothing else, AdamW has the rest of the tree."""

from typing import Unpack

from .. import rules
from ..engine.keywords import EngineOptions, flat
from ..engine.optimizer import Optimizer, build
from ..engine.rates import Rate
from ..engine.transformation import Transformation
from ..values import Scalar, is_concrete
from .hidden import Rest, Which, with_adamw

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def muon(
    learning_rate: Rate = 0.02,
    decay: Scalar = 0.95,
    eps: Scalar = 1e-7,
    coefficients: tuple[Scalar, ...] = COEFFICIENTS,
    nesterov: bool = True,
    steps: int = 5,
    scale: str = "spectral",
    view: str = "batch",
    output: str = "columns",
    precision: str = "auto",
    hidden: Which = None,
    adamw: Rest = None,
    **engine: Unpack[EngineOptions],
) -> Transformation:
    """Muon: momentum made orthogonal, for hidden matrices; embeddings, heads, vectors and scalars are AdamW's.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; of the matrices.
        decay: μ of the mean gradient, in [0, 1).
        eps: ε ≥ 0, in units of the Frobenius norm.
        coefficients: a, b and c of the Newton-Schulz iteration.
        nesterov: look one step ahead.
        steps: of the iteration, ≥ 1.
        scale: "spectral", √max(1, rows/columns), or "rms", 0.2·√max(rows, columns), which Adam's rates fit.
        view: of arrays with more than two axes, "batch": the last two are the matrix, those before a batch (layers that
            are scanned over); "first": the first axis against all others, for kernels O×I×H×W (with output="rows") and
            Flax's query, key and value (model, heads, head size); "last": all others against the last, for H×W×I×O and
            Flax's attention outputs (heads, head size, model). A model that has several has a `route` of several.
        output: the side of the matrix that is the layer's output, "columns" (x W: Flax, Haiku, optax's Muon) or "rows"
            (W x: Equinox, torch).
        precision: "auto", products of bf16 operands but on the CPU and for f64; "full", in f32 everywhere.
        hidden: the matrices Muon has, a path regex or a function of (path, leaf) that says True; see `hidden_matrices`.
        adamw: hyperparameters of `adamw` for the rest, with which learning_rate is 3e-4, b1 0.9, b2 0.95, eps 1e-10 and
            weight_decay 0; False for Muon alone, an optimizer of matrices and nothing else. A schedule, controller or
            decay of the matrices is not the rest's: adamw={"learning_rate": schedule, "weight_decay": 0.1}.
        **engine: see `EngineOptions`. Options over the whole tree (max_norm, skip_nonfinite, telemetry, axis_name) hold
            for both. storage (one name, not slot by slot), storage_exclude, rounding and lr_scale hold for the rest too
            unless adamw= names others. All other options are the matrices' own.

    The groups of the state are 'muon' and 'adamw', and `describe(params)` says which leaf is where: a head or an
    embedding that no name tells, Flax's Dense_0, is among the matrices unless hidden= says otherwise.

    When to use it: the hidden matrices of transformers; embeddings, heads and vectors want adamw beside it.

    Jordan et al., 2024; Liu et al., 2025, arXiv:2502.16982.
    """
    rule = rules.Muon(decay, eps, coefficients, nesterov, steps, scale, view, output, precision)
    return with_adamw("muon", rule, learning_rate, engine, hidden, adamw)


def normuon(
    learning_rate: Rate = 0.02,
    decay: Scalar = 0.95,
    b2: Scalar = 0.95,
    eps: Scalar = 1e-7,
    eps2: Scalar = 1e-10,
    coefficients: tuple[Scalar, ...] = COEFFICIENTS,
    nesterov: bool = True,
    steps: int = 5,
    scale: str = "spectral",
    view: str = "batch",
    output: str = "columns",
    precision: str = "auto",
    hidden: Which = None,
    adamw: Rest = None,
    **engine: Unpack[EngineOptions],
) -> Transformation:
    """NorMuon: Muon with every row, a neuron, divided by the root of its mean square over time; AdamW for the rest.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; of the matrices.
        decay: μ of the mean gradient, in [0, 1).
        b2: β₂ in [0, 1), of the rows' mean squares.
        eps: ε ≥ 0, in units of the Frobenius norm.
        eps2: ε ≥ 0 beside the root of a row's mean square, no unit.
        coefficients: a, b and c of the Newton-Schulz iteration.
        nesterov: look one step ahead.
        steps: of the iteration, ≥ 1.
        scale: "spectral", as long as Muon's step; "rms", the paper's, a root mean square of 0.2.
        view: as in `muon`.
        output: as in `muon`; the side whose neurons these are.
        precision: as in `muon`.
        hidden: as in `muon`.
        adamw: as in `muon`.
        **engine: as in `muon`.

    When to use it: as muon, where neurons' steps are to be of one length; one number more for every neuron.

    Li et al., 2025, arXiv:2510.05491.
    """
    rule = rules.Normuon(decay, b2, eps, eps2, coefficients, nesterov, steps, scale, view, output, precision)
    return with_adamw("normuon", rule, learning_rate, engine, hidden, adamw)


def dion(
    learning_rate: Rate = 0.01,
    decay: Scalar = 0.95,
    eps: Scalar = 1e-8,
    rank_fraction: float = 1.0,
    view: str = "batch",
    output: str = "columns",
    hidden: Which = None,
    adamw: Rest = None,
    **engine: Unpack[EngineOptions],
) -> Transformation:
    """Dion: momentum made orthonormal, in all or a share of its directions, what they miss kept; AdamW for the rest.

    Args:
        learning_rate: ≥ 0, a schedule, a controller, or an array for a batch; of the matrices.
        decay: μ of the part of the momentum that a step has used, in [0, 1).
        eps: ε ≥ 0, beside the length of a column, in units of g.
        rank_fraction: directions relative to the shorter side, in (0, 1].
        view: as in `muon`.
        output: as in `muon`.
        hidden: as in `muon`.
        adamw: as in `muon`.
        **engine: as in `muon`.

    When to use it: as muon on matrices split over many devices: products and factors of rank r in place of whole
    iterations.

    Ahn et al., 2025, arXiv:2504.05295.
    """
    rule = rules.Dion(decay, eps, rank_fraction, view, output)
    return with_adamw("dion", rule, learning_rate, engine, hidden, adamw)


def scion(
    learning_rate: Rate = 2**-12,
    decay: Scalar = 0.9,
    norm: str = "spectral",
    radius: Scalar = 50.0,
    eps: Scalar = 1e-7,
    coefficients: tuple[Scalar, ...] = COEFFICIENTS,
    steps: int = 5,
    view: str = "batch",
    output: str = "columns",
    precision: str = "auto",
    **engine: Unpack[EngineOptions],
) -> Optimizer:
    """Scion: the steepest direction in a layer's norm, with weight decay λ = 1, which keeps it in a ball.

    Its authors give the last layer, and a first one with one-hot inputs, the norm "sign" and a radius of 3000:

        route({"hidden": scion(lr), "ends": scion(lr, norm="sign", radius=3000.0)}, by={"embed|head": "ends"}, …)

    Args:
        learning_rate: in [0, 1/weight_decay], a schedule, a controller, or an array for a batch.
        decay: β = 1 − α of the mean gradient, in [0, 1).
        norm: "spectral", "sign", "column" or "row" of matrices; arrays with fewer axes have their root mean square.
        radius: ρ ≥ 0, of the ball, or of the step without weight decay; in units of p.
        eps: ε ≥ 0, in units of g.
        coefficients: a, b and c of the Newton-Schulz iteration.
        steps: of the iteration, ≥ 1.
        view: as in `muon`.
        output: the side of the matrix that is the layer's output, "columns" (x W, embedding tables) or "rows" (W x).
        precision: as in `muon`.
        **engine: see `EngineOptions`. weight_decay=0 is the unconstrained form.

    When to use it: rates that carry over from narrow to wide networks; hidden layers with the norm "spectral", the
    first and the last with "sign".

    Pethick et al., 2025, arXiv:2502.07529.
    """
    pull = flat(engine).get("weight_decay", 1.0)
    if is_concrete(learning_rate) and is_concrete(pull) and learning_rate * pull > 1:
        raise ValueError(
            f"scion: learning_rate must be at most 1 over weight_decay={pull!r}, got {learning_rate!r}: a step is that "
            "share of the way to the ball's edge; take less, or weight_decay=0 for the unconstrained form."
        )
    rule = rules.Scion(decay, norm, radius, eps, coefficients, steps, view, output, precision)
    return build("scion", rule, learning_rate, engine, usual={"weight_decay": 1.0})
