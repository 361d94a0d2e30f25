"""Float64 NumPy oracles of the classical adaptive-learning-rate rules.

Every oracle is a class on ONE array. Its constructor takes the rule's hyperparameters; `step(g)` takes the gradient of
step t = 1, 2, ... and returns the direction d of `p <- p - learning_rate * d`. Hyperparameters have no unit, except
eps (that of the gradient, or of its square where it stands under the root) and initial_accumulator (of the square).

A ratio 0/0 is 0 by definition: an entry whose gradient has always been zero does not move, for every eps including 0.

Robbins & Monro 1951 (sgd); Polyak 1964 and Nesterov 1983 (momentum); Duchi, Hazan & Singer, JMLR 12, 2011 (adagrad);
Tieleman & Hinton, COURSERA lecture 6.5, 2012, and Graves 2013, arXiv:1308.0850, for the centered form (rmsprop);
Kingma & Ba 2014, arXiv:1412.6980 (adam); Dozat 2016 (its nesterov); Reddi, Kale & Kumar 2018, arXiv:1904.09237 (its
amsgrad); Loshchilov & Hutter 2017, arXiv:1711.05101 (adamw).
"""

from collections.abc import Sequence

import numpy as np


def bias_correction(decay: float, t: float) -> np.float64:
    """Sum of the weights of an exponential average after t >= 1 steps from zero, 1 - decay^t, for 0 <= decay < 1.

    Evaluated as -expm1(t log1p(-(1 - decay))): exact to rounding where 1 - decay^t would cancel.
    """
    with np.errstate(divide="ignore"):  # decay = 0: log 0 = -inf, and -expm1(-inf) = 1 is right
        return -np.expm1(t * np.log1p(-(1.0 - np.float64(decay))))


def ema(values: Sequence | np.ndarray, decay: float, debias: bool = True) -> np.ndarray:
    """Exponential averages of a sequence: m <- decay m + (1 - decay) x from m = 0; debias divides by 1 - decay^t."""
    averages = []
    m = np.zeros_like(np.asarray(values[0], np.float64))
    for t, x in enumerate(values, start=1):
        m = decay * m + (1.0 - decay) * np.asarray(x, np.float64)
        averages.append(m / bias_correction(decay, t) if debias else m)
    return np.stack(averages)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Numerator over denominator, 0 where both are 0."""
    numerator, denominator = np.asarray(numerator), np.asarray(denominator)
    both_zero = (numerator == 0) & (denominator == 0)
    return np.where(both_zero, 0.0, numerator / np.where(both_zero, 1.0, denominator))


class Sgd:
    """d = g."""

    def step(self, g: np.ndarray) -> np.ndarray:
        return g


class Momentum:
    """v <- decay v + (1 - dampening) g; d = v, or (1 - dampening) g + decay v with nesterov. v starts at 0."""

    def __init__(self, decay: float = 0.9, dampening: float = 0.0, nesterov: bool = False):
        self.decay, self.dampening, self.nesterov = decay, dampening, nesterov
        self.v = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        pushed = (1.0 - self.dampening) * g
        self.v = self.decay * self.v + pushed
        return pushed + self.decay * self.v if self.nesterov else self.v


class Adagrad:
    """h <- h + g^2 from h = initial_accumulator; d = g / sqrt(h + eps), or g / (sqrt(h) + eps)."""

    def __init__(self, eps: float = 1e-8, eps_in_sqrt: bool = True, initial_accumulator: float = 0.0):
        self.eps, self.eps_in_sqrt = eps, eps_in_sqrt
        self.h = initial_accumulator

    def step(self, g: np.ndarray) -> np.ndarray:
        self.h = self.h + g * g
        return ratio(g, np.sqrt(self.h + self.eps) if self.eps_in_sqrt else np.sqrt(self.h) + self.eps)


class Rmsprop:
    """v <- decay v + (1 - decay) g^2; d = g / sqrt(v + eps), or g / (sqrt(v) + eps).

    centered: v is replaced by max(v - m^2, 0), m the same average of g; debias: both are first divided by 1 - decay^t;
    momentum > 0: b <- momentum b + d and the direction is b (the learning rate stays outside b).
    """

    def __init__(
        self,
        decay: float = 0.9,
        eps: float = 1e-8,
        eps_in_sqrt: bool = True,
        centered: bool = False,
        momentum: float = 0.0,
        debias: bool = False,
    ):
        self.decay, self.eps, self.eps_in_sqrt = decay, eps, eps_in_sqrt
        self.centered, self.momentum, self.debias = centered, momentum, debias
        self.t = 0
        self.m = self.v = self.b = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.v = self.decay * self.v + (1.0 - self.decay) * g * g
        self.m = self.decay * self.m + (1.0 - self.decay) * g
        weight = bias_correction(self.decay, self.t) if self.debias else 1.0
        power = self.v / weight
        if self.centered:
            power = np.maximum(power - (self.m / weight) ** 2, 0.0)
        d = self.surprise = ratio(g, np.sqrt(power + self.eps) if self.eps_in_sqrt else np.sqrt(power) + self.eps)
        if not self.momentum:
            return d
        self.b = self.momentum * self.b + d
        return self.b


class Adam:
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; d = m_hat / (sqrt(v_hat) + eps).

    m_hat = m / (1 - b1^t) and v_hat = v / (1 - b2^t), or m and v themselves without debias;
    amsgrad: v_hat is made from the running maximum of v;
    nesterov: m_hat = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t).
    """

    def __init__(
        self,
        b1: float = 0.9,
        b2: float = 0.999,
        eps: float = 1e-8,
        debias: bool = True,
        amsgrad: bool = False,
        nesterov: bool = False,
    ):
        self.b1, self.b2, self.eps = b1, b2, eps
        self.debias, self.amsgrad, self.nesterov = debias, amsgrad, nesterov
        self.t = 0
        self.m = self.v = self.largest = 0.0

    def step(self, g: np.ndarray) -> np.ndarray:
        self.t += 1
        self.m = self.b1 * self.m + (1.0 - self.b1) * g
        self.v = self.b2 * self.v + (1.0 - self.b2) * g * g
        self.largest = np.maximum(self.largest, self.v)
        now, ahead, second = 1.0, 1.0, 1.0
        if self.debias:
            now, ahead = bias_correction(self.b1, self.t), bias_correction(self.b1, self.t + 1)
            second = bias_correction(self.b2, self.t)
        mean = self.m / now
        if self.nesterov:
            mean = self.b1 * self.m / ahead + (1.0 - self.b1) * g / now
        power = (self.largest if self.amsgrad else self.v) / second
        self.surprise = ratio(g, np.maximum(np.sqrt(power), self.eps))  # for StableAdamW's clipping
        return ratio(mean, np.sqrt(power) + self.eps)
