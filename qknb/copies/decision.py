"""How sure it is that a pair is a copy: a confidence, "of pairs like this, 97 of 100 are copies".

The evidence of a pair is its relative distance (`qknb.copies.lookup`) and what local features say
(`qknb.copies.verify`). A logistic rule turns it into a confidence. It is fitted in the user's own
collection (`qknb.copies.fitting`), starting from the shipped one, which was fitted on collections
of photographs: the fewer pictures there are to fit on, the more the shipped rule counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qknb.copies.verify import Verified

__all__ = ["SHIPPED", "Rule", "estimate_share", "evidence", "fit_rule"]

NAMES = (
    "not checked",
    "not checked: log relative distance",
    "a map fits",
    "a map fits: log relative distance",
    "a map fits: log inliers",
    "a map fits: agreement",
    "a map fits: residual",
    "no map fits",
    "no map fits: log relative distance",
    "no map fits: points",
)
SHARE = 0.5  # of the pictures looked up that are taken to be copies
PSEUDO = 10  # queries of which `SHARE` are copies, added to those that a share is estimated from
SPREAD = 1.0  # standard deviation of each weight around the shipped one


def evidence(
    relative: float, checked: bool = False, found: Verified | None = None, points: int = 0
) -> np.ndarray:
    """What is known of a pair, as ten numbers (`NAMES`) for a `Rule`.

    Parameters
    ----------
    relative : float
        The pair's relative distance.
    checked : bool
        Whether the pictures themselves were compared.
    found : Verified or None
        What that gave; None where no map fits.
    points : int
        Of the picture that has fewer. Where there are many and no map fits, the pictures differ,
        however near their descriptors are.
    """
    near = float(np.log(np.clip(relative, 0.15, 1.5)))
    row = np.zeros(len(NAMES))
    if not checked:
        row[:2] = 1.0, near
    elif found is not None:
        inliers = min(float(np.log(found.inliers / 10)), 3.0)
        row[2:7] = 1.0, near, inliers, found.agreement - 0.5, min(found.residual, 3.0)
    else:
        row[7:] = 1.0, max(near, float(np.log(0.3))), min(points / 100, 2.0)
    return row


@dataclass(frozen=True)
class Rule:
    """Weights of the evidence, and what they rest on.

    Attributes
    ----------
    weights : (10,) tuple of float
    pictures : int
        Pictures of the collection that it was fitted on; 0 for the shipped rule.
    pairs : int
    """

    weights: tuple[float, ...]
    pictures: int = 0
    pairs: int = 0

    def confidence(
        self, rows: Sequence[np.ndarray] | np.ndarray, share: float = SHARE
    ) -> np.ndarray:
        """(n,) of (n, 10) evidence: of so many pairs like this, a copy.

        `share`: the fraction of the pictures looked up that are copies, where it is known.
        """
        rows = np.asarray(rows, float).reshape(-1, len(self.weights))
        odds = np.log(share / (1 - share)) - np.log(SHARE / (1 - SHARE))
        return 1 / (1 + np.exp(-np.clip(rows @ np.array(self.weights) + odds, -30, 30)))

    def note(self) -> str:
        """A sentence on what it rests on."""
        if not self.pictures:
            return (
                "confidences are the shipped ones, fitted on other collections of photographs: "
                "this one is too small, or was indexed without fitting"
            )
        return (
            f"confidences rest on edited copies of {self.pictures:,} pictures of this collection, "
            "looked up in it with and without their originals"
        )

    def to_json(self) -> dict[str, Any]:
        """For index.json."""
        return {"weights": list(self.weights), "pictures": self.pictures, "pairs": self.pairs}

    @classmethod
    def from_json(cls, value: dict[str, Any] | None) -> "Rule":
        """From index.json; the shipped rule where there is none."""
        if value is None:
            return SHIPPED
        return cls(tuple(value["weights"]), value["pictures"], value["pairs"])


def estimate_share(rule: Rule, rows_of_queries: Sequence[Sequence[np.ndarray]]) -> float:
    """The fraction of the queries that are copies, by expectation and maximization.

    Each query counts with the confidence of its best candidate; `PSEUDO` further queries, half of
    them copies, keep the estimate sober where there are few.
    """
    best = [rule.confidence(rows).max() for rows in rows_of_queries if len(rows)]
    odds = np.array(best) / np.maximum(1 - np.array(best), 1e-12) * (1 - SHARE) / SHARE
    n, share = len(rows_of_queries), SHARE
    for _ in range(100):
        now = odds * share / (odds * share + 1 - share)
        share = float((now.sum() + PSEUDO * SHARE) / (n + PSEUDO))
    return share


def fit_rule(
    rows: np.ndarray,
    right: np.ndarray,
    weight: np.ndarray,
    pictures: int,
    start: Rule | None = None,
    spread: float = SPREAD,
) -> Rule:
    """The logistic rule of the greatest posterior probability, by Newton's method.

    Parameters
    ----------
    rows : (n, 10) float
        Evidence.
    right : (n,) bool
        Whether the pair is a copy.
    weight : (n,) float
        Of each pair.
    pictures : int
        What it rests on.
    start : Rule, optional
        Centre of the weights' normal prior; default: the shipped rule.
    spread : float
        Standard deviation of that prior.
    """
    centre = np.array((start or SHIPPED).weights)
    w, precision = centre.copy(), np.eye(len(centre)) / spread**2
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(rows @ w, -30, 30)))
        gradient = rows.T @ (weight * (right - p)) - precision @ (w - centre)
        curve = (rows * (weight * p * (1 - p))[:, None]).T @ rows + precision
        step = np.linalg.solve(curve, gradient)
        w = w + step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-6:
            break
    return Rule(tuple(float(value) for value in w), pictures, len(rows))


SHIPPED = Rule((-8.0, -9.9, -0.5, -4.3, -0.9, 8.7, -2.6, -4.1, -6.4, -3.1))
