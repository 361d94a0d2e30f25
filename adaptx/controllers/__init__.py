"""Controllers: learning rates that close the loop. `ALL` is the registry that tests, docs and the command line walk.

Every one is a value that any optimizer takes as its learning rate: `adaptx.adam(adaptx.controllers.prodigy())`.
"""

from collections.abc import Callable
from typing import NoReturn

from ..control import Controller as Controller
from ..values import Scalar
from .bandit import Bandit as bandit
from .cocob import Cocob as cocob
from .dadapt import Dadapt as dadapt
from .distance import Dog as dog
from .distance import Dowg as dowg
from .distance import ldog as ldog
from .hypergradient import Hypergradient as hypergradient
from .l4 import L4 as l4
from .mechanic import Mechanic as mechanic
from .momo import Momo as momo
from .plateau import Plateau as plateau
from .polyak import Polyak as polyak
from .prodigy import Prodigy as prodigy
from .product import product as product
from .threshold import Threshold as threshold
from .trust_ratio import TrustRatio as trust_ratio


def shield(*_: object, **__: object) -> NoReturn:
    """A signpost: the shield is a wrapper around the whole optimizer.

    Raises:
        TypeError: always; the message says what to write.
    """
    raise TypeError(
        "the shield goes around the whole optimizer, whose state it puts back, not around its controller; write "
        "adaptx.shield(adaptx.sgd(hypergradient(1e-3)))."
    )


# name -> a default instance for a first rate of the given size (which those that estimate their rate do not use)
ALL: dict[str, Callable[[Scalar], Controller]] = {
    "threshold": lambda rate: threshold(0.1 * rate, rate, 1.0),
    "plateau": lambda rate: plateau(rate),
    "hypergradient": hypergradient,
    "hypergradient_additive": lambda rate: hypergradient(rate, "additive"),
    "polyak": lambda rate: polyak(),
    "l4": lambda rate: l4(),
    "momo": momo,
    "dog": lambda rate: dog(),
    "ldog": lambda rate: ldog(),
    "dowg": lambda rate: dowg(),
    "dadapt": lambda rate: dadapt(),
    "prodigy": lambda rate: prodigy(),
    "mechanic": lambda rate: mechanic(),
    "trust_ratio": trust_ratio,
    "bandit": bandit,
    "cocob": lambda rate: cocob(),
}
