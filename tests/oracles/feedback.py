"""Oracles of the controllers that react to loss or gradients: threshold, plateau, hypergradients, Polyak, L4."""

from math import exp, inf

import numpy as np

from .controllers import Problem, Rule, Trace, Tree, base, dot, each, mix, norm, run, value_at, zeros


def threshold(
    problem: Problem,
    x: Tree,
    steps: int,
    low: float,
    high: float,
    tau: float,
    scope: str = "global",
    rule: Rule | None = None,
) -> Trace:
    """η = low where |g| > τ, else high; |g|: magnitude of an element, or Euclidean norm of a leaf or of all."""

    def rate_of(t, loss, g, d, x):
        if scope == "element":
            return each(lambda g: np.where(np.abs(g) > tau, low, high), g)
        if scope == "leaf":
            return each(lambda g: low if np.linalg.norm(g) > tau else high, g)
        return low if norm(g) > tau else high

    return run(problem, x, steps, rule or base(), rate_of)


def plateau_scale(
    losses: list[float],
    factor: float = 0.1,
    patience: int = 10,
    cooldown: int = 0,
    rtol: float = 1e-4,
    atol: float = 0.0,
    window: int = 1,
    min_scale: float = 0.0,
    strict: bool = False,
) -> np.ndarray:
    """The scale of the rate after each loss has been seen.

        every `window` losses, ℓ = their mean:
        improved = ℓ < (1 − rtol) · best − atol;  then best ← ℓ, bad ← 0, else bad ← bad + 1
        cooling: bad ← 0 and one less to cool;  otherwise, bad = patience (strict: bad > patience):
            scale ← max(factor · scale, min_scale), bad ← 0, cool for `cooldown` windows

    Not strict is optax.contrib.reduce_on_plateau, strict is torch's ReduceLROnPlateau (one window later). A NaN mean
    compares false: a bad window, which leaves best as it was.
    """
    best, bad, cooling, scale, seen = inf, 0, 0, 1.0, []
    scales = []
    for loss in losses:
        seen.append(loss)
        if len(seen) == window:
            mean, seen = float(np.mean(seen)), []
            improved = mean < (1 - rtol) * best - atol
            best, bad = (mean, 0) if improved else (best, bad + 1)
            if cooling > 0:
                cooling, bad = cooling - 1, 0
            elif bad == patience + strict:
                scale, bad, cooling = max(factor * scale, min_scale), 0, cooldown
        scales.append(scale)
    return np.asarray(scales)


def plateau(problem: Problem, x: Tree, steps: int, lr=0.1, rule: Rule | None = None, **options) -> Trace:
    """η_t = lr_t · scale_t, the scale having seen the loss of step t; options as in `plateau_scale`."""
    losses: list[float] = []

    def rate_of(t, loss, g, d, x):
        losses.append(loss)
        return value_at(lr, t) * float(plateau_scale(losses, **options)[-1])

    return run(problem, x, steps, rule or base(), rate_of)


def hypergradient(
    problem: Problem,
    x: Tree,
    steps: int,
    lr: float,
    mode: str = "multiplicative",
    hyper_lr: float = 0.1,
    decrease: float = 1.0,
    low: float = 0.0,
    high: float = inf,
    min_scale: float = 0.0,
    per_leaf: bool = False,
    rule: Rule | None = None,
) -> Trace:
    """The rate follows the derivative of the loss with respect to the rate of the step before.

        h = ⟨g_t, d_{t−1}⟩, d_{−1} = 0
        additive:        η_t = η_{t−1} + β h
        multiplicative:  c = h / (‖g_t‖ ‖d_{t−1}‖), 0 where a norm is 0;  η_t = η_{t−1} exp(β c), β · decrease if c < 0
        then η_t is clipped to [low, high], then to min_scale times the largest η so far or more, and step t uses it;
        per_leaf keeps one η for each leaf.

    Baydin et al., "Online learning rate adaptation with hypergradient descent", 2018, arXiv:1703.04782 (additive; their
    code's Adam has ε before the bias correction, which makes d of Adam differ by less than ε).
    """
    groups = [[name] for name in x] if per_leaf else [list(x)]
    rates, previous = [lr] * len(groups), {"d": zeros(x)}
    largest = [lr] * len(groups)

    def advance(i: int, g: Tree, d: Tree) -> float:
        rate = rates[i]
        h, size = dot(g, d), norm(g) * norm(d)
        if mode == "additive":
            rate = rate + hyper_lr * h
        elif size > 0:
            rate = rate * exp(hyper_lr * (h / size) * (decrease if h < 0 else 1.0))
        rate = min(max(rate, low, min_scale * largest[i]), high)
        largest[i] = max(rate, largest[i])
        return rate

    def rate_of(t, loss, g, d, x):
        found = {}
        for i, names in enumerate(groups):
            rates[i] = advance(i, {n: g[n] for n in names}, {n: previous["d"][n] for n in names})
            found |= dict.fromkeys(names, rates[i])
        previous["d"] = d
        return found if per_leaf else rates[0]

    return run(problem, x, steps, rule or base(), rate_of)


def polyak(
    problem: Problem,
    x: Tree,
    steps: int,
    f_min: float = 0.0,
    c: float = 1.0,
    max_lr: float = inf,
    eps: float = 0.0,
    smooth: float | None = None,
    rule: Rule | None = None,
) -> Trace:
    """The stochastic Polyak step.

        SPS      η = [f − f*]₊ / (c ⟨g, d⟩ + ε), 0 where the denominator is not positive
        SPS_max  η = min(η, max_lr)
        smooth   max_lr of step t is smooth · η_{t−1}, and max_lr itself at the first step: the authors' γ^{b/n}

    With SGD ⟨g, d⟩ is ‖g‖². Loizou, Vaswani, Laradji & Lacoste-Julien, 2020, arXiv:2002.10542: c = 1/2 in their
    experiments, c = 1 in optax.
    """
    state = {"cap": max_lr}

    def rate_of(t, loss, g, d, x):
        size = c * dot(g, d) + eps
        rate = min(max(loss - f_min, 0.0) / size, state["cap"]) if size > 0 else 0.0
        if smooth is not None and rate > 0:
            state["cap"] = smooth * rate
        return rate

    return run(problem, x, steps, rule or base(), rate_of)


def l4(
    problem: Problem,
    x: Tree,
    steps: int,
    alpha: float = 0.15,
    gamma: float = 0.9,
    gamma0: float = 0.75,
    forget: float = 1000.0,
    eps: float = 1e-12,
    gradient_decay: float = 0.9,
    rule: Rule | None = None,
) -> Trace:
    """L4: a fixed fraction of the step that would bring the linearized loss down to what is thought attainable.

        L_min = γ₀ f_0 at the first step, min(L_min, f_t) after
        ĝ = bias-corrected average of g with gradient_decay (0: g itself),  d = the base rule's direction
        η = α (f_t − γ L_min) / (⟨ĝ, d⟩ + ε)
        L_min ← (1 + 1/forget) L_min

    Rolinek & Martius, "L4: practical loss-based stepsize adaptation", 2018, arXiv:1802.05074, Algorithm 1.
    """
    state: dict = {"least": None, "average": zeros(x)}

    def rate_of(t, loss, g, d, x):
        least = gamma0 * loss if state["least"] is None else min(state["least"], loss)
        b = gradient_decay
        state["average"] = mix(b, state["average"], 1 - b, g)
        slope = dot(state["average"], d) / (1 - b ** (t + 1))
        state["least"] = least * (1 + 1 / forget)
        return alpha * (loss - gamma * least) / (slope + eps)

    return run(problem, x, steps, rule or base("adam", eps=1e-4), rate_of)
