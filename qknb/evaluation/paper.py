"""Results of the paper (Wu & Wu 2021, arXiv 2111.07954): micro-AP on DISC21.

Measured against a million references. Each dict is {row: {split: micro-AP}}; a split that the paper
does not give is left out. Tables 1 and 2 of the paper hold the two models below, which differ in
their tower and in what they were trained for: `CLEAN_MODEL` is the figure-5 tower,
`COMPETITION_MODEL` the one with one more residual block that took part in the challenge.
"""

__all__ = [
    "CLEAN_MODEL",
    "COMPETITION_MODEL",
    "GIST_ROW",
    "PHASE_ROWS",
    "SIMCLR_COMPARISON",
    "SPLITS",
]

SPLITS = ("25k", "50k", "phase2")
GIST_ROW = "GIST-256"
"""Name of the baseline that ratios are taken to."""

GIST_256 = {"25k": 0.1521, "50k": 0.1555, "phase2": 0.0526}
CLEAN_MODEL = {
    GIST_ROW: GIST_256,
    "Q1": {"25k": 0.2430},
    "K1": {"25k": 0.2839},
    "Q2": {"25k": 0.3191},
    "K2": {"25k": 0.3295},
    "Q3": {"25k": 0.3403},
}
COMPETITION_MODEL = {
    GIST_ROW: GIST_256,
    "Q1K1": {"25k": 0.1908, "50k": 0.1953},
    "Q2": {"25k": 0.2813, "50k": 0.2877},
    "K2": {"25k": 0.3049, "50k": 0.3139},
    "Q3": {"25k": 0.3328, "50k": 0.3401, "phase2": 0.1919},
}
PHASE_ROWS = {"Q1K1": "K1"}  # the paper's name of a row: the phase after which ours is measured
SIMCLR_COMPARISON = {
    GIST_ROW: GIST_256,
    "MultiGrain 1500-d": {"25k": 0.1540},
    "SimCLR-style": {"25k": 0.2001},
    "QK Iteration": {"25k": 0.3403},
}
