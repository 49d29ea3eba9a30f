"""Matches to look at: a page with a folder of thumbnails beside it, and a `Gallery` for figures.

The page holds the pairs as data and shows them piece by piece, so that thousands open at once.
Names from outside are escaped.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qknb.copies.decisions import path_of
from qknb.copies.find import COPY, PRECISION, SAME_FILE, Found, Match
from qknb.data.image_files import BadImage, read_rgb
from qknb.data.pixels import to_rgb
from qknb.report.page import THUMBNAIL, shown_name, write_page
from qknb.report.pairs import Gallery, Pair
from qknb.system.files import replacing

__all__ = ["copies_gallery", "counted", "percent", "small_picture", "write_gallery"]

SHOWN = 8000  # pairs on a page
FILES = 24  # of a group
LARGE = 480  # pixels of a thumbnail that can be enlarged
GREY = (214, 218, 224)


def counted(found: Found, matches: Sequence[Match]) -> str:
    """What was found, in a sentence."""
    copies = [match for match in matches if match.verdict == COPY]
    unsure = sum(match.verdict not in (COPY, SAME_FILE) for match in matches)
    same = sum(match.verdict == SAME_FILE for match in matches)
    right = sum(match.confidence for match in copies)
    called = f"{len(copies):,} pairs are called copies, of which about {right:,.0f} are"
    if len(copies) == 1:
        called = "One pair is called a copy"
    queries = len(found.candidates)
    return (
        f"{called}; {unsure:,} {'is' if unsure == 1 else 'are'} not sure"
        + (f"; {same:,} {'is' if same == 1 else 'are'} one and the same file" if same else "")
        + f". {queries:,} {'image was' if queries == 1 else 'images were'} looked up among "
        f"{len(found.index):,}"
    )


def write_gallery(
    path: str | Path,
    found: Found,
    matches: Sequence[Match],
    *,
    groups: Sequence[Sequence[str]] = (),
    title: str = "Copies",
    precision: float = PRECISION,
) -> Path:
    """Write matches as an HTML page, and thumbnails into the folder <name>-thumbnails beside it.

    Parameters
    ----------
    path : path
    found : Found
    matches : of `Found.matches`
    groups : of `qknb.copies.groups.groups_of`
        Near-duplicates, shown before the pairs.
    title : str
    precision : float
        Confidence from which pairs are shown at first.
    """
    path = Path(path)
    thumbnails = _Thumbnails(path.with_name(f"{path.stem}-thumbnails"))
    shown = matches[:SHOWN]
    queries: dict[int, dict] = {}
    for match in shown:
        query, image = path_of(found, match)
        if match.query_row not in queries:
            source = found.query_images[match.query_row]
            queries[match.query_row] = {
                "name": shown_name(match.query),
                "path": shown_name(query),
                "image": thumbnails.address(f"q{match.query_row}", source),
                "link": _link(query) if isinstance(source, str | Path) else "",
                "matches": [],
            }
        queries[match.query_row]["matches"].append(_pair(match, image, thumbnails))
    position = {name: i for i, name in enumerate(found.index.ids)} if groups else {}
    data = {
        "from": min([precision, *(match.confidence for match in shown)]),
        "queries": list(queries.values()),
        "groups": [_group(names, found, position, thumbnails) for names in groups],
    }
    thumbnails.write()
    return write_page(
        path,
        "copies.html",
        title=title,
        answer=f"{counted(found, matches)}.",
        note=found.rule.note().capitalize(),
        data=data,
        omitted=len(matches) - len(shown),
        left_out=found.skipped,
    )


def _pair(match: Match, path: str, thumbnails: "_Thumbnails") -> dict:
    regions: dict[str, Any] = {"region": None, "original": None}
    words = match.what()
    if match.verified is not None:
        words += f"; {match.verified.inliers:,} points agree"
        regions = {
            "region": np.clip(match.verified.query_region, 0, 1).round(3).tolist(),
            "original": np.clip(match.verified.original_region, 0, 1).round(3).tolist(),
        }
    if len(match.files) > 1:
        words += f"; the same picture in {len(match.files):,} files"
    return {
        "name": shown_name(match.match),
        "path": shown_name(path),
        "image": thumbnails.address(f"p{match.picture}", path),
        "link": _link(path),
        "confidence": round(match.confidence, 4),
        "percent": f"{min(100 * match.confidence, 99.9):.3g}",
        "verdict": match.verdict,
        "words": words,
        **regions,
    }


def _group(
    names: Sequence[str], found: Found, position: dict[str, int], thumbnails: "_Thumbnails"
) -> dict:
    files = []
    for name in names[:FILES]:
        path = found.index.folder / name
        image = thumbnails.address(f"p{found.index.picture[position[name]]}", path)
        files.append({"name": shown_name(name), "image": image, "link": _link(path)})
    return {"shown": files, "more": max(0, len(names) - FILES)}


def _link(path: str | Path) -> str:
    try:
        return Path(os.path.abspath(path)).as_uri()
    except ValueError:
        return ""


class _Thumbnails:
    """Small pictures that a page refers to, each written once."""

    def __init__(self, folder: Path):
        self.folder, self.sources = folder, {}

    def address(self, name: str, source: Any) -> str:
        """Where the page finds the thumbnail of an image."""
        self.sources[name] = source
        return f"{self.folder.name}/{name}.jpg".replace("%", "%25").replace("#", "%23")

    def write(self) -> None:
        """Write all of them, on all cores."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self._one, self.sources.items()))

    def _one(self, item: tuple[str, Any]) -> None:
        with replacing(self.folder / f"{item[0]}.jpg") as temporary:
            _load(item[1], LARGE).save(temporary, quality=75)


def copies_gallery(
    found: Found,
    precision: float,
    *,
    limit: int = 12,
    around: bool = False,
    picture: Callable[[Any], Any] | None = None,
) -> Gallery:
    """Pairs for `gallery_figure`: also such as are too doubtful to be listed, which it says.

    Parameters
    ----------
    found : Found
    precision : float
        Confidence from which a pair is called a copy.
    limit : int
        Pairs at most: the surest ones, or
    around : bool
        those on both sides of that confidence, where a person decides whether it is right.
    picture : callable, optional
        A source (path, PIL image or array) -> what `Pair` holds of it; default: a small array.
    """
    matches = found.matches(precision, 0.0)
    if around:
        logit = [_logit(match.confidence) for match in matches]
        order = np.argsort(np.abs(np.array(logit) - _logit(precision)), kind="stable")[:limit]
        matches = [matches[i] for i in sorted(order)]
    return Gallery(
        "Pairs on both sides of the limit" if around else "Surest pairs",
        f"Left: query; right: indexed image. {found.rule.note().capitalize()}.",
        [_shown_pair(found, match, picture or small_picture) for match in matches[:limit]],
    )


def _logit(confidence: float) -> float:
    sure = min(max(confidence, 1e-9), 1 - 1e-9)
    return float(np.log(sure / (1 - sure)))


def _shown_pair(found: Found, match: Match, picture: Callable[[Any], Any]) -> Pair:
    listed = match.confidence >= 0.5 or match.verdict == COPY
    return Pair(
        picture(found.query_images[match.query_row]),
        picture(found.index.folder / match.match),
        "query",
        "match",
        shown_name(match.query),
        shown_name(match.match),
        percent(match),
        match.verdict if listed else "not listed",
        match.what(),
        kind="good" if match.verdict == COPY else "unsure",
    )


def percent(match: Match) -> str:
    """Its confidence in words."""
    return f"{min(100 * match.confidence, 99.9):.3g} of 100"


def small_picture(image: Any) -> np.ndarray:
    """The pixels of a thumbnail, (h, w, 3) uint8."""
    return np.asarray(_load(image))


def _load(image: Any, size: int = THUMBNAIL) -> Image.Image:
    """A small RGB picture; grey where the file is gone or broken by now."""
    if isinstance(image, np.ndarray):
        small = Image.fromarray(image)
    elif isinstance(image, Image.Image):
        small = to_rgb(image)
    else:
        try:
            small = read_rgb(image)
        except BadImage:
            small = Image.new("RGB", (size, size), GREY)
    small = small.copy()
    small.thumbnail((size, size))
    return small
