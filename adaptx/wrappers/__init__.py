"""Wrappers around any optimizer: better iterates, which `adaptx.eval_params` reads, and a shield."""

from collections.abc import Callable, Mapping

from jaxtyping import Array, PyTree
from optax import GradientTransformation

from ..checks import decay as to_decay
from ..checks import number, several, whole
from ..engine.choices import mask as to_mask
from ..engine.transformation import batched
from ..values import Decay, Scalar, is_scheduled
from .averaging import Averaged, Lookahead
from .foreign import transformation
from .grokfast import Grokfast
from .inside import refuse_followers, refuse_inside, refuse_momentum
from .layers import layers as layers
from .reading import eval_params as eval_params
from .reading import horizons as horizons
from .reading import named
from .sam import Sam
from .schedule_free import ScheduleFree
from .shield import Shield
from .trac import Trac
from .watched import Watched
from .wrapper import wrapped_in

Several = Scalar | tuple[Scalar, ...] | Mapping[str, Scalar]  # a number, or several by name

SAM_AROUND = "sam inside would take the second gradient where the first is not what is stepped on; put sam around"
INSIDE_SCHEDULE_FREE = {
    "shield": "a shield inside would roll back z, not the parameters; put the shield around",
    "grokfast": "grokfast is momentum of its own, whose place this takes; leave one of them out",
    "sam": SAM_AROUND,
    "trac": "trac decides how far to go too; leave one of them out",
}
INSIDE_GROKFAST = {
    "schedule_free": "schedule_free takes the place of momentum, which grokfast is; leave one of them out",
    "grokfast": "grokfast is inside already; one is enough",
    "sam": SAM_AROUND,
}
INSIDE_TRAC = {
    "averaged": "averaged inside would average parameters that are not those held; put it around",
    "lookahead": "lookahead inside would lead parameters that are not those held; put it around",
    "shield": "a shield inside would roll back parameters that are not those held; put it around",
    "schedule_free": "schedule_free decides how far to go too; leave one of them out",
    "trac": "trac is inside already; one is enough",
    "sam": SAM_AROUND,
}


def schedule_free(
    opt: GradientTransformation,
    b: Scalar = 0.9,
    r: Scalar = 0.0,
    power: Scalar = 2.0,
    learning_rate: Scalar | None = None,
) -> ScheduleFree:
    """Schedule-free learning around an optimizer: see `ScheduleFree` for the equations.

    The authors' AdamW is `schedule_free(adam(lr, b1=0.0, weight_decay=…))`; a warm-up is a learning rate of
    lr·min(1, (step + 1)/W).

    Args:
        opt: an optimizer without momentum, which this takes the place of: a rule that has one is refused.
        b: blend of iterate and average, in (0, 1).
        r: weight of later steps, tʳ, ≥ 0.
        power: weight of the learning rate, ≥ 0.
        learning_rate: > 0, the one of an optax transformation, which does not tell it; None for an adaptx optimizer.

    When to use it: runs whose length is not decided beforehand, in place of a schedule that decays to their end.

    Defazio et al., 2024, arXiv:2405.15682.
    """
    b = number("b", b, 0.0, 1.0, open_low=True, open_high=True)
    rate = None if learning_rate is None else number("learning_rate", learning_rate, 0.0, open_low=True)
    inner = transformation("schedule_free", opt)
    refuse_inside("schedule_free", inner, INSIDE_SCHEDULE_FREE)
    refuse_momentum("schedule_free", inner)
    return batched(ScheduleFree(inner, b, number("r", r, 0.0), number("power", power, 0.0), rate))


def lookahead(opt: GradientTransformation, k: int = 5, alpha: Scalar = 0.5) -> Lookahead:
    """Lookahead around an optimizer: every k steps slow weights move by α toward its, which follow: see `Lookahead`.

    Args:
        opt: an adaptx optimizer, or any optax transformation.
        k: steps between synchronizations, ≥ 1.
        alpha: in (0, 1].

    When to use it: an optimizer whose steps are large and noisy: slow weights are steadier, for one array more.

    Zhang et al., 2019, arXiv:1907.08610.
    """
    alpha = number("alpha", alpha, 0.0, 1.0, open_low=True)
    return batched(Lookahead(transformation("lookahead", opt), alpha, whole("k", k, 1)))


def averaged(
    opt: GradientTransformation,
    decay: Several | None = 0.999,
    power: Several | None = None,
    horizon: Several | None = None,
) -> Averaged:
    """Averages of the parameters, to evaluate with `adaptx.eval_params`; training itself is unchanged: see `Averaged`.

    Several at once are a tuple of numbers, or {name: number}, of any of the three; they cost an array each, and
    `eval_params(opt, state, params, horizon=…)` says which, by its name or number.

    Args:
        opt: an adaptx optimizer, or any optax transformation.
        decay: of the exponential average, in [0, 1).
        power: γ ≥ 0 of a polynomial average in place of the exponential one (pass decay=None); 8 for DoG.
        horizon: steps h ≥ 1 of an exponential average whose decay is 1 − 1/h (pass decay=None).

    When to use it: wherever the rate does not decay to zero, and around `dog` and `splus`, which are meant to be
    evaluated so; one array an average.

    Polyak & Juditsky, 1992, doi:10.1137/0330046; power: Shamir & Zhang, 2013, arXiv:1212.1824.
    """
    given = {"decay": decay, "power": power, "horizon": horizon}
    given = {what: x for what, x in given.items() if x is not None}
    inner, checks = transformation("averaged", opt), {"decay": to_decay, "power": _power, "horizon": _horizon}
    if given and all(isinstance(x, (tuple, list, Mapping)) for x in given.values()):
        every = {what: named(what, x) for what, x in given.items()}
        twice = [name for what, x in every.items() for name in x if any(name in every[w] for w in every if w != what)]
        if twice:
            raise ValueError(f"averaged: two averages are named {twice[0]!r}; give them names, {{name: number}}.")
        made = {what: {n: checks[what](f"{what}[{n!r}]", x) for n, x in every[what].items()} for what in every}
        decays = {**made.get("decay", {}), **made.get("horizon", {})}
        return batched(Averaged(inner, decays or None, made.get("power")))
    if len(given) != 1:
        raise ValueError(
            f"averaged needs either decay or power or horizon, got decay={decay!r}, power={power!r}, "
            f"horizon={horizon!r}; set the others to None, or give several of each as {{name: number}}."
        )
    ((what, x),) = given.items()
    made = checks[what](what, x)
    return batched(Averaged(inner, None, made) if what == "power" else Averaged(inner, made))


def _power(name: str, value: Scalar) -> Scalar:
    return number(name, value, 0.0)


def _horizon(name: str, value: Scalar) -> Decay:
    steps = number(name, value, 1.0)
    if is_scheduled(steps):
        raise TypeError(f"{name} must be a number of steps, got a schedule; pass one of decay, 1 − 1/h.")
    return Decay(1.0 / steps)


def sam(
    opt: GradientTransformation,
    rho: Scalar = 0.05,
    adaptive: bool | str | Callable[[str, Array], bool] | PyTree = False,
    eta: Scalar | None = None,
) -> Sam:
    """Sharpness-aware minimization around an optimizer, which steps on the gradient of a point uphill: see `Sam`.

    `adaptx.train_step` and `train_epoch` take the second gradient on the same batch. By hand:
    `opt.step(grads, state, params, grad_fn=lambda p: jax.grad(loss)(p, batch))`, also of `update`.

    Args:
        opt: an adaptx optimizer, or any optax transformation.
        rho: ρ > 0, how far uphill; 0.05, adaptive about ten times as much.
        adaptive: whether the neighbourhood of every weight is as large as the weight (ASAM); or for which leaves, as
            decay_mask has it: the authors' program leaves vectors out, "matrices".
        eta: η ≥ 0, which adaptive adds to |p|; None for the authors' 0.01.

    When to use it: small data sets, where networks fit more than they generalize and a step may cost two gradients.

    Foret et al., 2020, arXiv:2010.01412; adaptive: Kwon et al., 2021, arXiv:2102.11600.
    """
    inner = transformation("sam", opt)
    refuse_inside("sam", inner, {"sam": "sam is inside already; one is enough"})
    wide = adaptive if isinstance(adaptive, bool) else to_mask("adaptive", adaptive)
    if wide is False and eta is not None:
        raise ValueError(f"sam: eta={eta!r} is added to |p| where sam is adaptive, got adaptive=False; leave eta out.")
    eta = None if wide is False else number("eta", 0.01 if eta is None else eta, 0.0)
    return batched(Sam(inner, number("rho", rho, 0.0, open_low=True), eta, wide))


def grokfast(
    opt: GradientTransformation, alpha: Scalar | None = 0.98, lamb: Scalar = 2.0, window: int | None = None
) -> Grokfast:
    """Gradients with their slow component amplified, before an optimizer: see `Grokfast`.

    Args:
        opt: an adaptx optimizer, or any optax transformation.
        alpha: α in [0, 1), decay of the average of gradients.
        lamb: λ ≥ 0, weight of the slow component.
        window: steps ≥ 1 whose mean takes the place of the average (pass alpha=None); the authors have 100 with λ = 5.

    When to use it: tasks that are memorized long before they are understood (grokking), mostly small and algorithmic.

    Lee et al., 2024, arXiv:2405.20233.
    """
    if (alpha is None) == (window is None):
        raise ValueError(
            f"grokfast needs either alpha or window, got alpha={alpha!r}, window={window!r}; set one to None."
        )
    inner = transformation("grokfast", opt)
    refuse_inside("grokfast", inner, INSIDE_GROKFAST)
    mean = None if alpha is None else to_decay("alpha", alpha)
    size = None if window is None else whole("window", window, 1)
    return batched(Grokfast(inner, mean, number("lamb", lamb, 0.0), size))


def trac(
    opt: GradientTransformation,
    betas: tuple[Scalar, ...] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999),
    s_init: Scalar = 1e-8,
    eps: Scalar = 1e-8,
) -> Trac:
    """TRAC around an optimizer: how far to follow it away from where it started, by betting: see `Trac`.

    Args:
        opt: an adaptx optimizer with a number or a schedule as learning rate, or any optax transformation.
        betas: discounts of past bets, each in [0, 1).
        s_init: > 0, the scale of a bet.
        eps: > 0, units of gradient times parameter.

    When to use it: tasks that change under way, as in lifelong reinforcement learning, where a network that went far
    from its start stops learning.

    Muppidi, Zhang & Yang, 2024, arXiv:2405.16642.
    """
    inner = transformation("trac", opt)
    refuse_inside("trac", inner, INSIDE_TRAC)
    refuse_followers("trac", inner)
    rates = several("betas", betas, low=0.0, high=1.0, open_high=True)
    s_init, eps = (number(name, x, 0.0, open_low=True) for name, x in (("s_init", s_init), ("eps", eps)))
    return batched(Trac(inner, s_init, eps, rates))


def shield(opt: GradientTransformation, factor: Scalar = 0.2, tolerance: Scalar = 4.0, block: int = 10) -> Shield:
    """A shield around an optimizer: back to the last good parameters where training blows up: see `Shield`.

    Needs the loss, `value=`. Through `update` too nothing is handed out that would make a finite parameter non-finite;
    where a caller of `update` cannot pass the loss, such as Flax's TrainState, this alone is what it protects from.

    Args:
        opt: an adaptx optimizer, or any optax transformation.
        factor: on the rate at every trip, in (0, 1).
        tolerance: > 0, standard deviations of the loss over the last good block.
        block: steps, ≥ 1.

    When to use it: a learning rate that may be too large, because a controller raises it or nobody tuned it.

    No paper.
    """
    inner = transformation("shield", opt)
    if wrapped_in(inner, "shield"):
        raise TypeError("shield takes an optimizer, got one that has a shield already; one is enough.")
    factor = number("factor", factor, 0.0, 1.0, open_low=True, open_high=True)
    tolerance = number("tolerance", tolerance, 0.0, open_low=True)
    return batched(Shield(inner, factor, tolerance, whole("block", block, 1)))


def watched(opt: GradientTransformation, every: int = 100, keep: int = 128) -> Watched:
    """An optimizer that records what it does to every leaf, for `adaptx.layers`: see `Watched`.

    Training is unchanged, bit by bit, and nothing is read by the host before `layers(state)` asks. Of the steps in
    between only the counter is new. One that is looked at, and the one before it, take the step twice and a few passes
    over every leaf more, with the updates of all leaves in memory (on CPU about thrice).

    Args:
        opt: an adaptx optimizer, or any optax transformation.
        every: steps from one record to the next, ≥ 1.
        keep: records that are kept, ≥ 1, the last ones: 36 bytes each of every leaf.

    When to use it: a network that does not learn, or stops to: which layers move, how far for their size, and whether
    noise is all they see.

    No paper; a ratio of updates to parameters near 1e-3 is the rule of thumb.
    """
    return batched(Watched(transformation("watched", opt), whole("every", every, 1), whole("keep", keep, 1)))
