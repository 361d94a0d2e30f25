"""Exponential averages of a sequence, and the factors by which Adam corrects the bias of its two.

    python examples/moving_averages.py

m ← β m + (1 − β) x: β is the weight of what was. Begun at 0, m is too small at first, by 1 − βᵗ: divided by that, it is
an average from the first value on. Begun at the first value, it has no bias to correct, and forgets that value slowly.
"""

import jax.numpy as jnp

import adaptx

STEPS = (1, 5, 50, 100)


def main():
    values = jnp.arange(1.0, 6.0)
    print("average of", *(f"{x:7.0f}" for x in values))
    for decay in (0.1, 0.9):
        for what, average in {
            "from the first": adaptx.ema(decay, debias=False, start="first"),
            "from 0": adaptx.ema(decay, debias=False),
            "corrected": adaptx.ema(decay),
        }.items():
            print(f"β = {decay}  ", *(f"{x:7.4f}" for x in average.over(values)), f"  {what}")

    print("\nAdam's corrections, 1 / (1 − βᵗ)")
    print("after step", *(f"{t:9d}" for t in STEPS))
    ones = jnp.ones(max(STEPS))
    for name, decay in (("b1", 0.9), ("b2", 0.999)):
        factors = adaptx.bias_correction(decay).over(ones)  # of every step, from 1
        print(f"{name} = {decay:<5}", *(f"{factors[t - 1]:9.6g}" for t in STEPS))
        assert all(abs(float(factors[t - 1]) * (1 - decay**t) - 1) < 1e-6 for t in STEPS)


if __name__ == "__main__":
    main()
