"""The rule fitted in the user's own collection.

Edited copies of a sample of its pictures are looked up in the very index: once as they are, and
once as if their original were not there, which gives pictures that are certainly no copies, of the
user's own kind. Pictures that are copies of the sampled one by all appearance are left out of that.
"""

import functools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from qknb.copies.checking import Checked, Checker
from qknb.copies.decision import SHARE, Rule, evidence, fit_rule
from qknb.copies.describer import Describer
from qknb.copies.lookup import Candidate, Lookup
from qknb.copies.parts import query_parts
from qknb.copies.queries import describe_queries
from qknb.copies.stored_index import StoredIndex
from qknb.copies.verify import verify
from qknb.data.augment import augment
from qknb.data.image_files import BadImage, read_rgb
from qknb.system.progress import progress

__all__ = ["LEAST", "Sample", "fit_in_index", "sample_pairs"]

PICTURES = 120  # of the collection that are edited
LEAST = 30  # pictures: a smaller collection is judged by the shipped rule
STRENGTH = 0.6  # of the edits
NEAR = 0.9  # relative distance from which unedited pictures are compared as well
SAME = 0.6  # agreement of unedited pictures that are near-duplicates
DUPLICATE = 0.8  # agreement of a pair that is left out as a copy within the collection


class Sample:
    """Evidence (n, 10), whether it is of a copy, and a weight, of pairs found in a collection."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.right: list[bool] = []
        self.weight: list[float] = []
        self.pictures = 0

    def add(self, checked: Checked, right: bool, weight: float) -> None:
        """Add a pair twice: checked, and as it would look if it could not be."""
        rows = [evidence(checked.candidate.relative)]
        for row in [*rows, checked.row] if checked.checked else rows:
            self.rows.append(row)
            self.right.append(right)
            self.weight.append(weight)

    def rule(self) -> Rule:
        """The rule fitted to the pairs."""
        rows = np.array(self.rows).reshape(len(self.rows), -1)
        return fit_rule(rows, np.array(self.right), np.array(self.weight), self.pictures)


def fit_in_index(
    index: StoredIndex,
    descriptor: Describer,
    kinds: tuple[str, ...],
    *,
    pictures: int = PICTURES,
    seed: int = 0,
) -> Rule | None:
    """The rule for an index; None when it holds too few pictures.

    Parameters
    ----------
    index, descriptor
    kinds : of `qknb.copies.parts.QUERY_PARTS`
        The parts by which queries will be looked up.
    pictures : int
        So many are edited, at most.
    """
    if index.n_pictures < LEAST:
        return None
    sample = sample_pairs(index, descriptor, kinds, pictures=pictures, seed=seed)
    return sample.rule() if sample.pictures >= LEAST // 2 else None


def sample_pairs(
    index: StoredIndex,
    descriptor: Describer,
    kinds: tuple[str, ...],
    *,
    pictures: int = PICTURES,
    seed: int = 0,
) -> Sample:
    """Pairs of edited copies and pictures of an index, right ones and wrong ones."""
    chosen = np.random.default_rng([seed, 11]).permutation(index.n_pictures)[:pictures].tolist()
    originals, queries = [], []
    lookup, checker, sample = Lookup(index, descriptor), Checker(index), Sample()
    with progress(len(chosen), "calibrating in this collection", "picture") as bar:
        for picture in chosen:
            path = index.image_of(picture)
            try:
                image = read_rgb(path)
            except BadImage:
                continue
            key = index.ids[index.files_of[picture][0]]
            copy, _ = augment(
                image, seed=seed, key=key, view=0, purpose="calibration", strength=STRENGTH
            )
            originals.append(picture)
            queries.append(copy)
        rows = describe_queries(descriptor, queries, query_parts(kinds))[:3]
        present = lookup.candidates(*rows)
        hidden = dict(enumerate(originals))
        absent = lookup.candidates(*rows, without=hidden)
        for query, found in enumerate(_checked(checker, queries, present)):
            picture = originals[query]
            near = [*(one.candidate for one in found), *absent.get(query, [])]
            twins = {one.candidate.picture for one in found if is_twin(one)}
            twins = _with_the_same(checker, picture, near, twins) - {picture}
            for one in found:
                if one.candidate.picture not in twins:
                    sample.add(one, one.candidate.picture == picture, 2 * SHARE)
            known = {one.candidate.picture: one for one in found}
            rest = [c for c in absent.get(query, []) if c.picture not in known]
            fresh = checker.check(queries[query], rest, all_of_them=True)
            known |= {one.candidate.picture: one for one in fresh}
            for candidate in absent.get(query, []):
                one = known[candidate.picture]
                if candidate.picture not in twins and not is_twin(one):
                    sample.add(_at(one, candidate), False, 2 * (1 - SHARE))
            bar.update(1)
    sample.pictures = len(originals)
    return sample


def _checked(
    checker: Checker, queries: list, candidates: dict[int, list[Candidate]]
) -> Iterator[list[Checked]]:
    """All candidates of each query, checked on all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        every = [candidates.get(query, []) for query in range(len(queries))]
        check = functools.partial(checker.check, all_of_them=True)
        yield from pool.map(check, queries, every)


def _with_the_same(
    checker: Checker, picture: int, near: list[Candidate], twins: set[int]
) -> set[int]:
    others = {c.picture for c in near if c.relative < NEAR} - twins
    return twins | {other for other in others if _show_the_same(checker, picture, other)}


def _show_the_same(checker: Checker, picture: int, other: int) -> bool:
    """Whether two pictures of the collection, unedited, are copies of each other by their points.

    Near-duplicates must not be taken for what a wrong pair looks like.
    """
    ours, theirs = checker.features_of(picture), checker.features_of(other)
    if ours is None or theirs is None:
        return False
    found = verify(ours, theirs, ours.mirrored())
    return found is not None and found.inliers >= 15 and found.agreement >= SAME


def is_twin(one: Checked) -> bool:
    """By all appearance a copy of the sampled picture within the collection."""
    found = one.verified
    return (
        found is not None
        and found.inliers >= 30
        and found.agreement >= DUPLICATE
        and found.residual < 0.5
    )


def _at(one: Checked, candidate: Candidate) -> Checked:
    """The same comparison of a candidate at another relative distance."""
    points = round(100 * one.row[9])
    row = evidence(candidate.relative, one.checked, one.verified, points)
    return one._replace(candidate=candidate, row=row)
