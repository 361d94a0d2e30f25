"""Optimizers as optax's users know theirs: the table of `alias_cases.py`, cell by cell."""

import pytest

from alias_cases import CASES, TABLE

LONG = ("rosenbrock", "descends")  # run in the slow tests, as do variants of what runs at once
ALIKE = {"adam_int8": ("chain", "accumulation", "rates"), "adam_bf16": ("rates",), "adam_packed": ("chain", "rates")}
ALIKE |= dict.fromkeys(("adamw", "amsgrad", "nadam", "nesterov", "lamb", "lars"), ("chain", "rates"))
CELLS = [
    pytest.param(
        name, case, id=f"{name}-{case}", marks=pytest.mark.slow if case in (*LONG, *ALIKE.get(name, ())) else ()
    )
    for name in TABLE
    for case in CASES
]


@pytest.mark.parametrize(("name", "case"), CELLS)
def test_case(name: str, case: str):
    CASES[case](TABLE[name])
