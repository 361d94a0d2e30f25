"""The product of a controller with schedules and numbers."""

from functools import reduce

from ..control import Controller


def product(*factors: object) -> Controller:
    """One controller times any number of schedules and numbers, in any order: `product(prodigy(), cosine)`.

    The open-loop factors multiply the controller's base. For those whose estimate weighs gradients by the rate
    (prodigy, dadapt) they therefore enter the estimate too, as the authors' code has it. `prodigy() * cosine` is the
    same.

    Raises:
        TypeError: unless exactly one factor is a controller.
    """
    controllers = [factor for factor in factors if isinstance(factor, Controller)]
    if len(controllers) != 1:
        came = ", ".join(type(factor).__name__ for factor in factors)
        raise TypeError(f"product takes exactly one controller, got {len(controllers)} in ({came}); add or remove one.")
    return reduce(lambda c, factor: c * factor, (f for f in factors if f is not controllers[0]), controllers[0])
