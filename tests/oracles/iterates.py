"""Oracles of the wrappers that keep a second sequence of parameters, and of the layer-wise trust ratio."""

from math import inf
from typing import NamedTuple

import numpy as np

from .controllers import Problem, Rule, Tree, base, each, mix, value_at, zeros


class Iterates(NamedTuple):
    """params[t]: where step t+1 takes its gradient; evaluated[t]: the parameters to evaluate after step t."""

    params: list[Tree]
    evaluated: list[Tree]
    rate: np.ndarray  # (steps,) the rate each step used


def schedule_free(
    problem: Problem,
    x: Tree,
    steps: int,
    rule: Rule | None = None,
    lr: float = 1.0,
    b1: float = 0.9,
    warmup_steps: int = 0,
    weight_decay: float = 0.0,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
) -> Iterates:
    """Schedule-free learning over a base rule without momentum, step k counted from 1.

        γ_k = lr · min(1, k / warmup_steps)                                         never 0, not even at the first step
        g at y = (1 − β) z + β x,  d = rule(g) + λ y                                eq. 1; the decay is taken at y
        z ← z − γ_k d                                                               eq. 2
        w = k^r · (max_{i≤k} γ_i)^power,  c = w / Σ w  (0 where Σ w = 0)
        x ← (1 − c) x + c z                                                         eq. 3; x is what is evaluated

    Defazio et al., "The road less scheduled", 2024, arXiv:2405.15682.
    """
    rule, y, z = rule or base(), x, x
    largest, weights = 0.0, 0.0
    params, evaluated, rates = [], [], []
    for k in range(1, steps + 1):
        _, g = problem(k - 1, y)
        rate = lr * min(1.0, k / warmup_steps) if warmup_steps else lr
        largest = max(largest, rate)
        weight = float(k) ** r * largest**weight_lr_power
        weights += weight
        c = weight / weights if weights > 0 else 0.0
        z = mix(1, z, -rate, mix(1, rule(g), weight_decay, y))
        x = mix(1 - c, x, c, z)
        y = mix(b1, x, 1 - b1, z)
        params.append(y), evaluated.append(x), rates.append(rate)
    return Iterates(params, evaluated, np.asarray(rates))


def lookahead(
    problem: Problem,
    x: Tree,
    steps: int,
    rule: Rule | None = None,
    lr=0.1,
    period: int = 5,
    alpha: float = 0.5,
) -> Iterates:
    """Lookahead: every `period` steps φ ← φ + α (θ − φ) and θ ← φ; φ, the slow weights, is what is evaluated.

    Zhang, Lucas, Hinton & Ba, "Lookahead optimizer: k steps forward, 1 step back", 2019, arXiv:1907.08610, Algorithm 1.
    The base rule keeps its moments through a synchronization.
    """
    rule, slow = rule or base(), x
    params, evaluated, rates = [], [], []
    for t in range(steps):
        _, g = problem(t, x)
        rate = value_at(lr, t)
        x = mix(1, x, -rate, rule(g))
        if (t + 1) % period == 0:
            x = slow = mix(1 - alpha, slow, alpha, x)
        params.append(x), evaluated.append(slow), rates.append(rate)
    return Iterates(params, evaluated, np.asarray(rates))


def exponential_average(params: list[Tree], decay: float, debias: bool = True) -> list[Tree]:
    """a ← decay a + (1 − decay) x from a = 0 over the parameters AFTER each step, divided by 1 − decayᵗ if debias."""
    a, averages = zeros(params[0]), []
    for t, x in enumerate(params, start=1):
        a = mix(decay, a, 1 - decay, x)
        averages.append(mix(1 / (1 - decay**t if debias else 1.0), a, 0, x))
    return averages


def polynomial_average(params: list[Tree], gamma: float = 8.0) -> list[Tree]:
    """a_t = (1 − w) a_{t−1} + w x_t, w = (1 + γ) / (t + γ), t from 1: a_1 = x_1; what DoG is to be combined with.

    Shamir & Zhang, "Stochastic gradient descent for non-smooth optimization", 2013, arXiv:1212.1824; γ = 8 as in
    Ivgi et al. 2023, arXiv:2302.12022.
    """
    a, averages = params[0], []
    for t, x in enumerate(params, start=1):
        w = (1 + gamma) / (t + gamma)
        a = mix(1 - w, a, w, x)
        averages.append(a)
    return averages


def trust_ratio(
    p: np.ndarray,
    u: np.ndarray,
    coefficient: float = 1.0,
    eps: float = 0.0,
    norm_bounds: tuple = (0.0, inf),
    ratio_bounds: tuple = (0.0, inf),
) -> float:
    """q = clip(coefficient · φ(‖p‖) / (‖u‖ + ε), ratio_bounds), φ(z) = clip(z, norm_bounds); 1 where ‖p‖ or ‖u‖ is 0.

    φ: You et al. 2019, arXiv:1904.00962; ratio_bounds (a, 1): Fong et al. 2020, arXiv:2011.13584 (LAMBC).
    """
    p_norm, u_norm = np.linalg.norm(p), np.linalg.norm(u)
    if p_norm == 0 or u_norm == 0:
        return 1.0
    return float(np.clip(coefficient * np.clip(p_norm, *norm_bounds) / (u_norm + eps), *ratio_bounds))


def lars(
    problem: Problem,
    x: Tree,
    steps: int,
    lr=0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    coefficient: float = 1e-3,
    eps: float = 0.0,
    clip: bool = False,
    rate_inside: bool = False,
) -> tuple[list[Tree], list[dict[str, float]]]:
    """LARS, the parameters and the trust ratios by step.

        u = g + λ x,  q = trust_ratio(x, u, coefficient, ε); clip, the LARC variant: q ← min(q / lr, 1)
        b ← μ b + q u,  x ← x − lr b       rate_inside, as in the paper and optax: b ← μ b + lr q u,  x ← x − b

    You, Gitman & Ginsburg, "Large batch training of convolutional networks", 2017, arXiv:1708.03888, Algorithm 1,
    which divides by ‖g‖ + λ ‖x‖ instead of ‖g + λ x‖.
    """
    b, params, ratios = zeros(x), [], []
    for t in range(steps):
        _, g = problem(t, x)
        rate = value_at(lr, t)
        u = mix(1, g, weight_decay, x)
        q = each(lambda x, u: trust_ratio(x, u, coefficient, eps), x, u)
        q = {name: min(value / rate, 1.0) for name, value in q.items()} if clip else q
        inside, outside = (rate, 1.0) if rate_inside else (1.0, rate)
        b = mix(momentum, b, inside, each(np.multiply, q, u))
        x = mix(1, x, -outside, b)
        params.append(x), ratios.append(q)
    return params, ratios


def lamb(
    problem: Problem, x: Tree, steps: int, lr=1e-2, weight_decay: float = 0.0, rule: Rule | None = None, **options
) -> tuple[list[Tree], list[dict[str, float]]]:
    """LAMB: u = d + λ x with Adam's direction d (ε = 1e-6), x ← x − lr q u, q = trust_ratio(x, u, **options).

    You et al., "Large batch optimization for deep learning", 2019, arXiv:1904.00962, Algorithm 2.
    """
    rule, params, ratios = rule or base("adam", eps=1e-6), [], []
    for t in range(steps):
        _, g = problem(t, x)
        u = mix(1, rule(g), weight_decay, x)
        q = each(lambda x, u: trust_ratio(x, u, **options), x, u)
        x = mix(1, x, -value_at(lr, t), each(np.multiply, q, u))
        params.append(x), ratios.append(q)
    return params, ratios
