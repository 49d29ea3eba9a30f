"""Two pictures compared: a confidence that one is a copy of the other, and why."""

from typing import Any, NamedTuple

import numpy as np

from qknb.copies.decision import SHIPPED, evidence
from qknb.copies.describer import Describer, read_image
from qknb.copies.lookup import OTHERS, distances
from qknb.copies.parts import PARTS, query_parts
from qknb.copies.verify import Verified, describe, features, verify

__all__ = ["Comparison", "compare"]


class Comparison(NamedTuple):
    """Of pairs like this, so many of 1 are copies; distances, and what local features say.

    `relative`: the squared distance divided by that to the nearest unrelated pictures.
    """

    confidence: float
    distance: float
    relative: float
    verified: Verified | None

    def __str__(self) -> str:
        of = f"of pairs like this, {min(100 * self.confidence, 99.9):.3g} of 100 are copies"
        if self.verified is None:
            return f"{of}; no part of one was found in the other point by point"
        return f"{of}; {describe(self.verified)}, {self.verified.inliers} points agree"


def compare(descriptor: Describer, a: Any, b: Any) -> Comparison:
    """Whether `a` is a copy of `b`, by the shipped rule; arguments as in `Descriptor.compare`."""
    query, original = read_image(a), read_image(b)
    rows = np.concatenate(
        [batch.vectors for batch in descriptor.batches([query], "query", parts=query_parts(PARTS))]
    )
    own = distances(rows, descriptor([original], side="key"))[:, 0]
    usual = np.full(len(rows), 2 * (descriptor.threshold or 0.5))
    if len(descriptor.background):
        far = np.sort(distances(rows, descriptor.background), 1)[:, :OTHERS]
        usual = np.maximum(far.mean(1), 1e-9)
    best = int((own / usual).argmin())
    ours, theirs = features(query), features(original)
    found = verify(ours, theirs, ours.mirrored())
    points = min(len(ours.points), len(theirs.points))
    row = evidence(float(own[best] / usual[best]), True, found, points)
    return Comparison(
        float(SHIPPED.confidence([row])[0]), float(own[best]), float(own[best] / usual[best]), found
    )
