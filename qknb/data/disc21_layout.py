"""Where the images and lists of DISC21 lie in the layouts that it is found in, and how many.

| | official | SSCD's | Meta's download, not unpacked |
| --- | --- | --- | --- |
| training images T000000.. | images/train | training | train_50k_0.zip .. train_50k_19.zip |
| references R000000.. | images/references | val_ref | refs_50k_0.zip .. refs_50k_19.zip |
| queries Q00000.. | images/queries | val_query | dev_ and test_queries_50k_0.zip |

Ground truth lies in list_files/ or beside: public_ground_truth.csv (official),
val_groundtruth_matches.csv (SSCD), dev_queries_groundtruth.csv and test_queries_groundtruth.csv.
"""

import re
from typing import NamedTuple

__all__ = ["ROLES", "SPLITS", "ZIPS_OF_50K", "Role", "Split", "split_named"]


class Role(NamedTuple):
    """One of the three sets of images.

    Attributes
    ----------
    letter, digits : str, int
        Of its ids.
    count : int
        Images of the full set.
    folder, zip : re.Pattern
        Names, in lower case, of the places where it may lie.
    id_list : str
        Name of the list of its ids.
    belongs : str
        Where it belongs, in words.
    """

    letter: str
    digits: int
    count: int
    folder: re.Pattern
    zip: re.Pattern
    id_list: str
    belongs: str


class Split(NamedTuple):
    """Queries of one test, by a range of ids or a list.

    Attributes
    ----------
    first, last : str
        Ids; "" where a list names them.
    queries : int
    matches : int or None
        Of the full set; None where it is not published.
    truth : tuple of str
        Ground-truth files that cover it, best first.
    query_list, reference_list : str
    """

    first: str
    last: str
    queries: int
    matches: int | None
    truth: tuple[str, ...]
    query_list: str = ""
    reference_list: str = ""

    def has(self, query: str) -> bool:
        """Whether a query id lies in the range."""
        return not self.first or self.first <= query <= self.last


ROLES = {
    "train": Role(
        *("T", 6, 1_000_000),
        re.compile(r"train(ing)?(_images)?|train_50k_\d+"),
        re.compile(r"train.*"),
        "train",
        "images/train (official), training (SSCD) or train_50k_0.zip .. train_50k_19.zip (Meta)",
    ),
    "references": Role(
        *("R", 6, 1_000_000),
        re.compile(r"references?(_images)?|refs|val_ref|refs_50k_\d+"),
        re.compile(r"ref.*"),
        "references",
        "images/references (official), val_ref (SSCD) or refs_50k_0.zip .. refs_50k_19.zip (Meta)",
    ),
    "queries": Role(
        *("Q", 5, 100_000),
        re.compile(
            r"(dev_|test_|final_|val_)?quer(y|ies)(_images)?(_phase\d)?|(dev|test)_queries_50k_\d+"
        ),
        re.compile(r".*quer.*"),
        "dev_queries",
        "images/queries (official), val_query (SSCD) or dev_queries_50k_0.zip and "
        "test_queries_50k_0.zip (Meta)",
    ),
}
_DEV = ("dev_queries_groundtruth.csv", "full_ground_truth.csv", "val_groundtruth_matches.csv")
_FINAL = ("test_queries_groundtruth.csv", "final_ground_truth.csv", "val_groundtruth_matches.csv")
_SUBSET = ("subset_1_ground_truth.csv",), "subset_1_queries", "subset_1_references"
SPLITS = {
    "25k": Split("Q00000", "Q24999", 25_000, 4_991, ("public_ground_truth.csv", *_DEV)),
    "50k": Split("Q00000", "Q49999", 50_000, 10_000, _DEV),
    "phase2": Split("Q50000", "Q99999", 50_000, None, _FINAL),
    "subset_1": Split("", "", 4_991, 4_991, *_SUBSET),
}
ZIPS_OF_50K = {"train_50k_": 20, "refs_50k_": 20}
"""Zip files of a set in Meta's download, by the beginning of their names."""


def split_named(name: str) -> Split:
    """One of `SPLITS`; a ValueError for another name."""
    if name not in SPLITS:
        raise ValueError(f"no split {name!r} of DISC21; one of {', '.join(SPLITS)}")
    return SPLITS[name]
