"""Copies whose edits were kept out of training (setting `held_out_edits`), measured by themselves.

That is where methods of this field fail: a descriptor learns the edits that it is shown.
"""

from collections.abc import Iterable

import numpy as np

from qknb.data.augment import left_out
from qknb.evaluation.metrics import evaluate
from qknb.evaluation.running_top import Pairs

__all__ = ["has_edit_of", "micro_ap_of"]


def has_edit_of(items: Iterable[dict], held_out: str) -> np.ndarray:
    """(q,) bool: whether a query was made with one of the edits or groups in `held_out`.

    `items`: what is recorded of each query ("edits": pairs of a name and its parameters).
    """
    names = left_out(held_out)
    return np.array([any(name in names for name, _ in item.get("edits", ())) for item in items])


def micro_ap_of(pairs: Pairs, truth: np.ndarray, chosen: np.ndarray) -> float | None:
    """Micro-AP over the chosen copies and all distractors; None where no copy is chosen.

    Parameters
    ----------
    pairs : Pairs
        Candidates of all queries.
    truth : (m, 2) int64
        Query, reference.
    chosen : (q,) bool
        Queries; the other copies are left out, queries without a match stay.
    """
    copies = truth[chosen[truth[:, 0]]]
    if not len(copies):
        return None
    stays = chosen.copy()
    stays[np.setdiff1d(np.arange(len(chosen)), truth[:, 0])] = True
    inside = stays[pairs.query]
    return evaluate(Pairs(*(column[inside] for column in pairs)), copies).micro_ap
