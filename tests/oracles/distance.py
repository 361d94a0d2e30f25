"""Oracles of the methods that estimate the distance to the solution: DoG, DoWG, D-Adaptation, Prodigy."""

from math import inf, sqrt

import numpy as np

from .controllers import Problem, Rule, Trace, Tree, base, dot, each, l1, mix, run, value_at, zeros


def dog(
    problem: Problem,
    x: Tree,
    steps: int,
    rule: Rule | None = None,
    lr: float = 1.0,
    reps_rel: float = 1e-6,
    eps: float = 1e-8,
    per_leaf: bool = False,
) -> Trace:
    """DoG, and L-DoG with per_leaf.

        r̄_t = max(r_ε, max_{i≤t} ‖x_i − x_0‖),  r_ε = reps_rel · (1 + ‖x_0‖)
        G_t = ε + Σ_{i≤t} ‖g_i‖²                                                    this step's gradient included
        η_t = lr · r̄_t / √G_t

    Over another base rule the direction takes the place of g in G. L-DoG is the same on each leaf by itself.
    Ivgi, Hinder & Carmon, "DoG is SGD's best friend", 2023, arXiv:2302.12022.
    """
    x0 = x
    groups = [[name] for name in x] if per_leaf else [list(x)]

    def pick(tree: Tree, names: list[str]) -> Tree:
        return {name: tree[name] for name in names}

    def distance(x: Tree, names: list[str]) -> float:
        gap = pick(each(np.subtract, x, x0), names)
        return sqrt(dot(gap, gap))

    r = [reps_rel * (1 + sqrt(dot(pick(x0, names), pick(x0, names)))) for names in groups]
    total = [eps] * len(groups)

    def rate_of(t, loss, g, d, x):
        rates = {}
        for i, names in enumerate(groups):
            r[i] = max(r[i], distance(x, names))
            total[i] += dot(pick(d, names), pick(d, names))
            rates |= dict.fromkeys(names, lr * r[i] / sqrt(total[i]))
        return rates if per_leaf else next(iter(rates.values()))

    return run(problem, x, steps, rule or base(), rate_of)


def dowg(
    problem: Problem, x: Tree, steps: int, rule: Rule | None = None, lr: float = 1.0, eps: float = 1e-4, r0_sq=None
) -> Trace:
    """DoWG.

        r̄²_t = max(r̄²_{t−1}, ‖x_t − x_0‖²), starting from ε                        Algorithm 1
        v_t = v_{t−1} + r̄²_t ‖g_t‖²
        η_t = lr · r̄²_t / (√v_t + ε)    ε where the authors' code has it

    Khaled, Mishchenko & Jin, "DoWG unleashed", 2023, arXiv:2305.16284.
    """
    x0 = x
    state = {"r2": eps if r0_sq is None else r0_sq, "v": 0.0}

    def rate_of(t, loss, g, d, x):
        gap = each(np.subtract, x, x0)
        state["r2"] = max(state["r2"], dot(gap, gap))
        state["v"] += state["r2"] * dot(d, d)
        return lr * state["r2"] / (sqrt(state["v"]) + eps)

    return run(problem, x, steps, rule or base(), rate_of)


def _scaled(m: Tree, v: Tree, eps: float) -> Tree:
    """m / (√v + ε)."""
    return each(lambda m, v: m / (np.sqrt(v) + eps), m, v)


def _correction(t: int, b1: float, b2: float, on: bool) -> float:
    """√(1 − β₂ᵗ) / (1 − β₁ᵗ) at the step counted from 1: Adam's bias correction moved into the rate."""
    return sqrt(1 - b2 ** (t + 1)) / (1 - b1 ** (t + 1)) if on else 1.0


def prodigy_adam(
    problem: Problem,
    x: Tree,
    steps: int,
    lr=1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    b3: float | None = None,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decouple: bool = True,
    use_bias_correction: bool = False,
    safeguard_warmup: bool = False,
    d0: float = 1e-6,
    d_coef: float = 1.0,
    growth_rate: float = inf,
    eps_uses_new_d: bool = True,
) -> Trace:
    """Prodigy, the paper's Adam version; `rate` is λ_k, extra["d"] the estimate after the step.

        λ_k = d_k γ_k c_k,  c_k = 1 or Adam's bias correction
        r ← β₃ r + (d_k/d₀) λ_k ⟨g_k, x_0 − x_k⟩
        s ← β₃ s + (d_k/d₀) λ_k g_k       (safeguard_warmup: d_k in place of λ_k)
        m ← β₁ m + (1 − β₁) d_k g_k,  v ← β₂ v + (1 − β₂) d_k² g_k²
        d_{k+1} = max(d_k, d_coef · r / ‖s‖₁)
        x ← x − λ_k (m / (√v + d ε) + λ x)    paper: d = d_k; the authors' code: d = d_{k+1} (eps_uses_new_d)

    growth_rate caps d_{k+1} ≤ growth_rate · d_k, except for the first increase away from d₀, which is free.
    Mishchenko & Defazio, "Prodigy: an expeditiously adaptive parameter-free learner", 2023, arXiv:2306.06101.
    """
    b3 = sqrt(b2) if b3 is None else b3
    x0, m, v, s = x, zeros(x), zeros(x), zeros(x)
    d, d_max, r = d0, d0, 0.0
    params, rates, ds = [], [], []
    for t in range(steps):
        _, g = problem(t, x)
        rate = d * value_at(lr, t) * _correction(t, b1, b2, use_bias_correction)
        g = g if decouple else mix(1, g, weight_decay, x)
        r_new = b3 * r + (d / d0) * rate * dot(g, each(np.subtract, x0, x))
        s = mix(b3, s, d / d0 * (d if safeguard_warmup else rate), g)
        m = mix(b1, m, (1 - b1) * d, g)
        v = mix(b2, v, (1 - b2) * d**2, each(np.square, g))
        d_old, size = d, l1(s)
        if size > 0:  # nothing but zero gradients so far: the step, and r, stay as they were
            d_max = max(d_max, d_coef * r_new / size)
            d, r = min(d_max, (d_max if d == d0 else d) * growth_rate), r_new
            shrink = 1 - weight_decay * rate if decouple else 1.0
            x = mix(shrink, x, -rate, _scaled(m, v, eps * (d if eps_uses_new_d else d_old)))
        params.append(x), rates.append(rate), ds.append(d)
    return Trace(params, np.asarray(rates), {"d": np.asarray(ds)})


def dadapt_adam(
    problem: Problem,
    x: Tree,
    steps: int,
    lr=1.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decouple: bool = False,
    use_bias_correction: bool = False,
    d0: float = 1e-6,
    growth_rate: float = inf,
) -> Trace:
    """D-Adaptation, the paper's Adam version; `rate` is λ_k, extra["d"] the estimate after the step.

        λ_k = d_k γ_k c_k,  c_k = 1 or Adam's bias correction
        n ← √β₂ n + (1 − √β₂) λ_k ⟨g_k, s_k / (√v_k + ε)⟩    s_k, v_k from BEFORE this gradient
        m ← β₁ m + (1 − β₁) λ_k g_k,  v ← β₂ v + (1 − β₂) g_k²        the rate sits inside m and not in v
        s ← √β₂ s + (1 − √β₂) λ_k g_k
        d_{k+1} = max(d_k, min(n / ((1 − √β₂) ‖s‖₁), growth_rate · d_k))
        x ← x − m / (√v + ε) − λ_k λ x

    Defazio & Mishchenko, "Learning-rate-free learning by D-Adaptation", 2023, arXiv:2301.07733.
    """
    root = sqrt(b2)
    m, v, s = zeros(x), zeros(x), zeros(x)
    d, n = d0, 0.0
    params, rates, ds = [], [], []
    for t in range(steps):
        _, g = problem(t, x)
        rate = d * value_at(lr, t) * _correction(t, b1, b2, use_bias_correction)
        g = g if decouple else mix(1, g, weight_decay, x)
        gain = rate * dot(g, _scaled(s, v, eps))
        m = mix(b1, m, (1 - b1) * rate, g)
        v = mix(b2, v, 1 - b2, each(np.square, g))
        s = mix(root, s, (1 - root) * rate, g)
        size = l1(s)
        if size > 0:
            n = root * n + (1 - root) * gain
            d = max(d, min(n / ((1 - root) * size), d * growth_rate))
            shrink = 1 - weight_decay * rate if decouple else 1.0
            x = mix(shrink, x, -1, _scaled(m, v, eps))
        params.append(x), rates.append(rate), ds.append(d)
    return Trace(params, np.asarray(rates), {"d": np.asarray(ds)})


def dadapt_sgd(
    problem: Problem,
    x: Tree,
    steps: int,
    lr=1.0,
    momentum: float = 0.0,
    d0: float = 1e-6,
    growth_rate: float = inf,
    factor: float = 2.0,
) -> Trace:
    """D-Adaptation with SGD in the primal-averaging form of momentum; extra["d"] is the estimate after the step.

        λ_k = d_k γ_k / ‖g_0‖
        n ← n + λ_k ⟨g_k, s_k⟩,  s ← s + λ_k g_k
        d_{k+1} = max(d_k, min(factor · n / ‖s‖, growth_rate · d_k))
        z = x_0 − s,  x ← μ x + (1 − μ) z

    Only factor 1 is a lower bound of ‖x_0 − x*‖ by convexity; the authors' code uses 2.
    Defazio & Mishchenko, 2023, arXiv:2301.07733.
    """
    x0, s, d, n, scale = x, zeros(x), d0, 0.0, None
    params, rates, ds = [], [], []
    for t in range(steps):
        _, g = problem(t, x)
        scale = scale or sqrt(dot(g, g))
        rate = d * value_at(lr, t) / scale
        n += rate * dot(g, s)
        s = mix(1, s, rate, g)
        d = max(d, min(factor * n / sqrt(dot(s, s)), d * growth_rate))
        x = mix(momentum, x, 1 - momentum, each(np.subtract, x0, s))
        params.append(x), rates.append(rate), ds.append(d)
    return Trace(params, np.asarray(rates), {"d": np.asarray(ds)})
