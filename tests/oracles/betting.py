"""Oracles of the methods that bet on the gradients: Mechanic and COCOB."""

import numpy as np

from .controllers import Problem, Rule, Trace, Tree, base, dot, each, mix, norm, value_at, zeros

BETAS = tuple(1 - 0.1**i for i in range(1, 7))


def mechanic(
    problem: Problem,
    x: Tree,
    steps: int,
    rule: Rule | None = None,
    lr=1.0,
    decay: float = 0.01,
    betas: tuple = BETAS,
    s_init: float = 1e-8,
    eps: float = 1e-8,
    clipped: bool = False,
) -> Trace:
    """Mechanic, with the offset recomputed; `rate` is Σ s after the step, which is what the step used.

        S = Σ s,  Δ = (x_0 − x) / (S + ε)                                           sign: descent is x_0 − S Δ
        h = ⟨Δ, g + λ S ‖g‖ y / (‖y‖ + ε)⟩    y = x − lr d as the authors' PyTorch code has it, y = x when clipped
        paper:    m ← max(β m, |h|),      v ← β² v + h²,  r ← [β r + s h]₊
        clipped:  h_c = clip(h, ±m) with the old m;  m ← max(β m, |h| + ε),  v ← β² v + h²,  r ← β r + s h_c
        s = (s_init m / n + [r]₊) / (√v + ε)                                        Algorithm 1
        x ← x_0 − [Σ s]₊ (Δ + lr d)

    paper starts at s = 0, m = 1e-6; clipped, which the authors added later, at s = s_init each, m = 0: its first S is
    n · s_init. Cutkosky, Defazio & Mehta, "Mechanic: a learning rate tuner", 2023, arXiv:2306.00144.
    """
    rule, b, n = rule or base(), np.asarray(betas), len(betas)
    x0, r, v = x, np.zeros(n), np.zeros(n)
    m, s = (np.zeros(n), np.full(n, s_init)) if clipped else (np.full(n, 1e-6), np.zeros(n))
    params, rates = [], []
    for t in range(steps):
        _, g = problem(t, x)
        d, rate = rule(g), value_at(lr, t)
        scale = 1 / (s.sum() + eps)
        offset = mix(scale, x0, -scale, x)
        y = x if clipped else mix(1, x, -rate, d)
        weight = decay * s.sum() * norm(g) / (norm(y) + eps)
        h = dot(offset, mix(1, g, weight, y))
        bounded = np.clip(h, -m, m) if clipped else h
        m = np.maximum(b * m, abs(h) + (eps if clipped else 0.0))
        v = b**2 * v + h**2
        r = b * r + s * bounded
        r = r if clipped else np.maximum(r, 0.0)
        s = (s_init * m / n + np.maximum(r, 0.0)) / (np.sqrt(v) + eps)
        total = max(s.sum(), 0.0)
        x = mix(1, x0, -total, mix(1, offset, rate, d))
        params.append(x), rates.append(total)
    return Trace(params, np.asarray(rates), {})


def cocob(problem: Problem, x: Tree, steps: int, alpha: float = 100.0, eps: float = 1e-8) -> Trace:
    """COCOB, a bet on every element.

        L ← max(L, |g|) from ε,  G ← G + |g|,  R ← [R − g (x − x_0)]₊,  θ ← θ − g    Algorithm 2
        x ← x_0 + θ / (L · max(G + L, α L)) · (L + R)

    Orabona & Tommasi, "Training deep networks without learning rates through coin betting", 2017, arXiv:1705.07795.
    The `rate` of the trace is NaN: there is none.
    """
    x0, total, magnitude, reward = x, zeros(x), zeros(x), zeros(x)
    largest = each(lambda x: np.full_like(x, eps), x)
    params = []
    for t in range(steps):
        _, g = problem(t, x)
        largest = each(lambda a, g: np.maximum(a, np.abs(g)), largest, g)
        magnitude = each(lambda a, g: a + np.abs(g), magnitude, g)
        reward = each(lambda r, g, x, x0: np.maximum(r - g * (x - x0), 0.0), reward, g, x, x0)
        total = each(np.subtract, total, g)
        fraction = each(lambda c, a, s: c / (a * np.maximum(s + a, alpha * a)), total, largest, magnitude)
        x = each(lambda x0, f, a, r: x0 + f * (a + r), x0, fraction, largest, reward)
        params.append(x)
    return Trace(params, np.full(steps, np.nan), {})
