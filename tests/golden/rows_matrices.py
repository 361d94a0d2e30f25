"""The golden rows of the methods that orthogonalize matrices; make_matrices.py holds the authors' side of each.

All in float64: their casts to bfloat16 and float32 are taken out as they run. As they are, in bfloat16, the iteration
of Muon, NorMuon and Scion is off by 1e-2 of a step. microsoft/dion's NorMuon is no row: its √(rows/columns) is not
bounded by 1 from below, and on wide matrices no flag makes the two agree; the authors' program is.
"""

from .row import Row

MATRICES = ("tall", "wide", "square")

ADDED = "an ε of 1e-10 beside the length of the update, which adaptx has not"
FREE = {"weight_decay": 0.0}
AS_ROWS = {"output": "rows"}  # W x, as torch has it
SMALL = 1e-3  # a learning rate that keeps the radius of 50 within reach

MATRIX_ROWS = (
    Row("matrices", "muon", "muon", AS_ROWS, leaves=MATRICES),
    Row("matrices", "muon_decay", "muon", {**AS_ROWS, "decay": 0.8}, {"weight_decay": 0.1}, leaves=MATRICES),
    Row("matrices", "muon_plain", "muon", {**AS_ROWS, "nesterov": False, "steps": 4}, leaves=("w", "square")),
    Row("matrices", "normuon", "normuon", AS_ROWS, leaves=MATRICES, rtol=2e-10, own_rtol=2e-10, note=ADDED),
    Row("matrices", "normuon_decays", "normuon", {**AS_ROWS, "decay": 0.8, "b2": 0.9, "nesterov": False},
        {"weight_decay": 0.1}, leaves=MATRICES, rtol=2e-10, own_rtol=2e-10, note=ADDED),
    Row("matrices", "scion", "scion", AS_ROWS, learning_rate=SMALL, leaves=MATRICES),
    Row("matrices", "scion_free", "scion", {**AS_ROWS, "decay": 0.5, "radius": 2.0}, FREE, leaves=MATRICES),
    Row("matrices", "scion_sign", "scion", {**AS_ROWS, "norm": "sign", "radius": 3.0}, leaves=MATRICES),
    Row("matrices", "scion_column", "scion", {**AS_ROWS, "norm": "column", "eps": 1e-8, "radius": 1.0}, FREE,
        leaves=MATRICES),
    Row("matrices", "scion_table", "scion", {"norm": "column", "eps": 1e-8, "radius": 1.0, "output": "columns"},
        leaves=MATRICES),
    Row("matrices", "scion_row", "scion", {**AS_ROWS, "norm": "row", "eps": 1e-8, "radius": 1.0}, FREE,
        leaves=MATRICES),
    Row("matrices", "scion_bias", "scion", {"eps": 1e-8, "radius": 1.0}, leaves=("b",)),
    Row("matrices", "dion", "dion", AS_ROWS, leaves=MATRICES),
    Row("matrices", "dion_low", "dion", {**AS_ROWS, "rank_fraction": 0.5}, leaves=MATRICES),
    Row("matrices", "dion_decay", "dion", {**AS_ROWS, "decay": 0.8, "rank_fraction": 0.7, "eps": 1e-3},
        {"weight_decay": 0.1}, leaves=MATRICES),
)  # fmt: skip
