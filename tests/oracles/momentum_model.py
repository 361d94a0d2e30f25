"""Oracle of MoMo and MoMo-Adam: a Polyak step for a model of the loss built from averages."""

import numpy as np

from .controllers import Problem, Trace, Tree, dot, each, mix, value_at, zeros


def _denominator(v: Tree, correction: float, eps: float) -> Tree:
    """√(v / correction) + ε."""
    return each(lambda v: np.sqrt(v / correction) + eps, v)


def momo(
    problem: Problem,
    x: Tree,
    steps: int,
    lr=1.0,
    b1: float = 0.9,
    b2: float | None = None,
    eps: float = 1e-8,
    lower_bound: float = 0.0,
    weight_decay: float = 0.0,
    adapt_lower_bound: bool = False,
    bias_correction: bool = False,
    proximal: bool = True,
) -> Trace:
    """MoMo (b2 None) and MoMo-Adam (b2 given); `rate` is τ, extra["lower_bound"] the bound after the step.

        m, f̄, γ ← averages with b1 of g, f(x), ⟨g, x⟩; ρ = 1 − b1ᵗ, D = √(v / (1 − b2ᵗ)) + ε          MoMo-Adam
        MoMo: D = 1; without bias_correction m, f̄, γ start at their first values and ρ = 1
        w = 1 + lr λ
        τ = min(lr / ρ, [w (f̄ − ρ f*) + ⟨m, x⟩ − w γ]₊ / ‖m‖²_{D⁻¹})
        x ← (x − τ m / D) / w               proximal decay; proximal=False: x ← (1 − lr λ) x − τ m / D
        adapt_lower_bound: before τ, where w f̄ + ⟨m, x⟩ − w γ =: a < w ρ f*, f* ← max(a / (2 w ρ), the first bound);
            after it f* ← max((f̄ + ⟨m, x⟩ − γ − τ ‖m‖²_{D⁻¹} / 2) / ρ, the first bound)

    Schaipp, Ohana, Eickenberg, Defazio & Gower, "MoMo: momentum models for adaptive learning rates", 2023,
    arXiv:2305.07583.
    """
    debias = bias_correction or b2 is not None
    m, v, f, gamma, bound = zeros(x), zeros(x), 0.0, 0.0, lower_bound
    params, rates, bounds = [], [], []
    for t in range(steps):
        loss, g = problem(t, x)
        alpha = value_at(lr, t)
        b = 0.0 if t == 0 and not debias else b1
        rho = 1 - b1 ** (t + 1) if debias else 1.0
        m = mix(b, m, 1 - b, g)
        f, gamma = b * f + (1 - b) * loss, b * gamma + (1 - b) * dot(g, x)
        scale = each(np.ones_like, x)
        if b2 is not None:
            v = mix(b2, v, 1 - b2, each(np.square, g))
            scale = _denominator(v, 1 - b2 ** (t + 1), eps)
        u = each(np.divide, m, scale)
        size, inner, w = dot(m, u), dot(m, x), 1 + alpha * weight_decay
        attainable = w * f + inner - w * gamma
        if adapt_lower_bound and attainable < w * rho * bound:
            bound = max(attainable / (2 * w * rho), lower_bound)
        tau = min(alpha / rho, max(attainable - w * rho * bound, 0.0) / size) if size > 0 else 0.0
        if adapt_lower_bound:
            bound = max((f + inner - gamma - tau * size / 2) / rho, lower_bound)
        x = mix(1 / w, x, -tau / w, u) if proximal else mix(1 - alpha * weight_decay, x, -tau, u)
        params.append(x), rates.append(tau), bounds.append(bound)
    return Trace(params, np.asarray(rates), {"lower_bound": np.asarray(bounds)})
