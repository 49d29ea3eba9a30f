"""Queries looked up and checked, some at a time: in this process, or by the workers of a cluster.

A worker opens the index and the descriptor once. What it answers does not depend on where it is
computed; how many of all queries are copies is estimated afterwards, from all answers.
"""

import functools
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import joblib

from qknb.copies.checking import Checked, Checker
from qknb.copies.describer import Describer
from qknb.copies.describing import Origin, loaded, origin_of
from qknb.copies.lookup import Lookup
from qknb.copies.parts import query_parts
from qknb.copies.queries import Queries, Told, describe_queries
from qknb.copies.stored_index import StoredIndex
from qknb.system.cluster import is_on
from qknb.system.progress import progress
from qknb.system.workers import in_workers

__all__ = ["How", "look_up"]

AT_ONCE = 256  # queries whose descriptors are in memory at a time, and that a worker is given


class How(NamedTuple):
    """How queries are looked up.

    `parts` of them beside the whole; whether pictures are compared (`check`), also after one is
    certain (`thorough`); `within`: query i is picture i of the index, which is left out for it.
    """

    parts: tuple[str, ...]
    check: bool
    thorough: bool
    within: bool


class Answer(NamedTuple):
    """Of some queries: position of the first, candidates by position, what is told of others."""

    start: int
    candidates: dict[int, list[Checked]]
    told: Told


def look_up(
    index: StoredIndex, descriptor: Describer, queries: Queries, how: How
) -> tuple[dict[int, list[Checked]], Told]:
    """Candidates of every query that could be read, and what is told of the others.

    On a cluster (`qknb.system.cluster`), queries that are files are divided among its workers.
    """
    index.require(descriptor)
    some = [
        (start, queries.images[start : start + AT_ONCE], queries.names[start : start + AT_ONCE])
        for start in range(0, len(queries.names), AT_ONCE)
    ]
    divided = is_on() and all(isinstance(image, str | Path) for image in queries.images)
    if not divided:
        descriptor.tower("query")  # loading it takes seconds that are no part of the time left
    found: dict[int, list[Checked]] = {}
    told = Told([], [])
    with progress(len(queries.names), "looking up", "image") as bar:
        if divided:
            answers = sorted(_by_workers(index, descriptor, some, how, bar), key=lambda a: a.start)
        else:
            searcher = Searcher(index, descriptor, how)
            answers = (searcher.answer(*part, bar) for part in some)
        for answer in answers:
            found |= answer.candidates
            told.bad.extend(answer.told.bad)
            told.notes.extend(answer.told.notes)
    return found, told


class Searcher:
    """Looks queries up in one index, with one descriptor, in one way."""

    def __init__(self, index: StoredIndex, descriptor: Describer, how: How):
        self.lookup, self.checker = Lookup(index, descriptor), Checker(index)
        self.descriptor, self.within = descriptor, how.within
        self.cut = query_parts(how.parts) if how.parts else None
        check = functools.partial(self.checker.check, all_of_them=how.thorough)
        self.judge = check if how.check else self.checker.unchecked

    def answer(self, start: int, images: list, names: list[str], bar: Any = None) -> Answer:
        """Candidates of queries whose positions begin at `start`; `bar` counts them."""
        found: dict[int, list[Checked]] = {}
        told = Told([], [])
        described = describe_queries(self.descriptor, images, self.cut)
        told.add(described, names)
        positions = described.positions + start
        own = {query: query for query in positions.tolist()} if self.within else None
        near = self.lookup.candidates(positions, described.vectors, described.parts, without=own)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            pictures = (images[query - start] for query in near)
            judged = pool.map(self.judge, pictures, near.values())
            for query, checked in zip(near, judged, strict=True):
                found[query] = checked
                if bar is not None:
                    bar.update(1)
        if bar is not None:
            bar.update(len(images) - len(near))
        return Answer(start, found, told)


def _by_workers(
    index: StoredIndex, descriptor: Describer, some: list[tuple], how: How, bar: Any
) -> Iterator[Answer]:
    """Answers as they come."""
    place = str(index.path.absolute()), json.dumps(index.facts, sort_keys=True)
    work = functools.partial(_in_worker, origin_of(descriptor), place, how)
    tasks = (
        joblib.delayed(work)(start, [Path(image).absolute() for image in images], names)
        for start, images, names in some
    )
    sizes = {start: len(images) for start, images, _ in some}
    for answer in in_workers(tasks, 1, "looking up images"):
        bar.update(sizes[answer.start])
        yield answer


def _in_worker(
    origin: Origin, place: tuple[str, str], how: How, start: int, images: list, names: list[str]
) -> Answer:
    return _opened(origin, place, how).answer(start, images, names)


@functools.lru_cache(maxsize=1)
def _opened(origin: Origin, place: tuple[str, str], how: How) -> Searcher:
    path, facts = place
    index = StoredIndex(path)
    if json.dumps(index.facts, sort_keys=True) != facts:
        raise ValueError(f"the index at {path} is another one by now: give the command again")
    return Searcher(index, loaded(*origin), how)
