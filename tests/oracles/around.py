"""Oracles of the wrappers that change what an optimizer sees or how far it goes: SAM, Grokfast, TRAC."""

from math import factorial, fsum, pi, sqrt

import numpy as np

from .controllers import Problem, Rule, Trace, Tree, base, dot, each, mix, norm, value_at, zeros


def sam(
    problem: Problem,
    x: Tree,
    steps: int,
    rule: Rule | None = None,
    lr=0.1,
    rho: float = 0.05,
    adaptive: tuple[str, ...] = (),
    eta: float = 0.01,
) -> Trace:
    """Sharpness-aware minimization: x ← x − lr rule(∇f(x + e)), with e of length ρ in the norm of T⁻¹.

        e = argmax ⟨g, e⟩ over ‖T⁻¹ e‖ ≤ ρ = ρ T² g / ‖T g‖        T = |x| + η on the leaves `adaptive`, 1 on others

    extra: the loss at x, "loss", and at x + e, "uphill".
    Foret et al. 2020, arXiv:2010.01412, equation 2; Kwon et al. 2021, arXiv:2102.11600, equation 6 with T of section 4.
    """
    rule, params, rates, losses, uphill = rule or base(), [], [], [], []
    for t in range(steps):
        loss, g = problem(t, x)
        size = {name: np.abs(p) + eta if name in adaptive else np.ones_like(p) for name, p in x.items()}
        in_ball = each(np.multiply, size, g)  # the gradient in coordinates of which the ball is round
        length = rho / norm(in_ball) if norm(in_ball) else 0.0
        e = mix(length, each(np.multiply, size, in_ball), 0, x)
        higher, g = problem(t, mix(1, x, 1, e))
        rate = value_at(lr, t)
        x = mix(1, x, -rate, rule(g))
        params.append(x), rates.append(rate), losses.append(loss), uphill.append(higher)
    return Trace(params, np.asarray(rates), {"loss": np.array(losses), "uphill": np.array(uphill)})


def grokfast(
    problem: Problem,
    x: Tree,
    steps: int,
    rule: Rule | None = None,
    lr=0.1,
    alpha: float | None = 0.98,
    lamb: float = 2.0,
    window: int | None = None,
) -> Trace:
    """x ← x − lr rule(g + λ s), s a weighted sum of all gradients so far, written out.

        alpha     s_t = αᵗ⁻¹ g_1 + (1 − α) Σ_{i=2..t} αᵗ⁻ⁱ g_i
        window    s_t = the mean of g_{t−w+1} … g_t, 0 before step w

    Lee et al. 2024, arXiv:2405.20233, Algorithms 1 and 2 and the authors' program.
    """
    rule, seen, params, rates = rule or base(), [], [], []
    for t in range(steps):
        _, g = problem(t, x)
        seen.append(g)
        n = len(seen)
        if window is None:
            weights = [(1.0 if i == 0 else 1 - alpha) * alpha ** (n - 1 - i) for i in range(n)]
        else:
            weights = [float(n >= window and i >= n - window) / window for i in range(n)]
        slow = zeros(x)
        for weight, old in zip(weights, seen, strict=True):
            slow = mix(1, slow, weight, old)
        rate = value_at(lr, t)
        x = mix(1, x, -rate, rule(mix(1, g, lamb, slow)))
        params.append(x), rates.append(rate)
    return Trace(params, np.asarray(rates), {})


FACTORIALS = [factorial(k) for k in range(120)]


def erfi(x: float) -> float:
    """The imaginary error function by its power series, whose terms have one sign."""
    terms = [x * x ** (2 * k) / (FACTORIALS[k] * (2 * k + 1)) for k in range(120)]
    return 2 / sqrt(pi) * fsum(terms)


def trac(
    problem: Problem,
    x: Tree,
    steps: int,
    rule: Rule | None = None,
    lr=0.1,
    weight_decay: float = 0.0,
    betas: tuple[float, ...] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999),
    s_init: float = 1e-8,
    eps: float = 1e-8,
) -> Trace:
    """TRAC: x = x₀ + S Δ, Δ the base optimizer's own path and S = Σ s over the β, each from bets on ⟨g, Δ⟩.

        h_t = ⟨g_t, Δ_t⟩
        σ = Σ_i βᵗ⁻ⁱ(−h_i) + βᵗ ε₀,  v = Σ_i β²⁽ᵗ⁻ⁱ⁾ h_i²                  ε₀ = 1e-8
        s = s_init erfi(σ / (√2 √v + ε)) / erfi(1/√2)
        Δ ← Δ S₊/(S + ε) − lr rule(g)                                    S that of the step before, S₊ = max(S, 0)
        x = x₀ + S₊ Δ

    extra: S after the step.
    Muppidi, Zhang & Yang 2024, arXiv:2405.16642, Algorithms 1 and 2, with Δ as the authors' program recovers it from x.
    """
    rule, start, path, total = rule or base(), x, zeros(x), 0.0
    bets, params, rates, totals = [], [], [], []
    for t in range(steps):
        _, g = problem(t, x)
        path = mix(max(total, 0.0) / (total + eps), path, 0, path)
        bets.append(dot(g, path))
        rate = value_at(lr, t)
        path = mix(1, path, -rate, mix(1, rule(g), weight_decay, x))
        ages = np.arange(len(bets))[::-1]
        total = 0.0
        for beta in betas:
            sigma = beta ** len(bets) * 1e-8 - float(np.sum(beta**ages * bets))
            root = float(np.sqrt(np.sum((beta**ages * bets) ** 2)))
            total += s_init / erfi(1 / sqrt(2)) * erfi(sigma / (sqrt(2) * root + eps))
        x = mix(1, start, max(total, 0.0), path)
        params.append(x), rates.append(rate), totals.append(total)
    return Trace(params, np.asarray(rates), {"s": np.array(totals)})
