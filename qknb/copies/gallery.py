"""Matches to look at.

One self-contained HTML page (query beside match), and a `Gallery` for figures. Names from outside
are escaped.
"""

import numpy as np
from PIL import Image

from qknb.copies.find import COPY
from qknb.data.image_files import BadImage, read_rgb
from qknb.data.pixels import to_rgb
from qknb.report.page import THUMBNAIL, shown_name, write_page
from qknb.report.pairs import Gallery, Pair

__all__ = ["copies_gallery", "write_gallery"]

SHOWN = 200  # pairs on a page
GREY = (214, 218, 224)


def write_gallery(path, found, limits, *, title="Copies", groups=None, shown=SHOWN):
    """Write matches as one HTML page that loads nothing from elsewhere, atomically.

    Parameters
    ----------
    path : path
    found : qknb.copies.find.Found
    limits : qknb.copies.find.Limits
    title : str
    groups : list of list of str, optional
        Near-duplicates, shown before the pairs.
    shown : int
        So many pairs at most, nearest first; the page says how many are left out.

    Returns
    -------
    Path
    """
    matches = found.matches(limits)
    copies = [match for match in matches if match.verdict == COPY]
    unsure = [match for match in matches if match.verdict != COPY]
    image_of = dict(zip(found.references, found.reference_images, strict=True))
    counted = (
        f"{len(copies):,} pairs are called copies, {len(unsure):,} are not sure; "
        f"{len(found.queries):,} images were looked up among {len(found.references):,}."
    )
    return write_page(
        path,
        "copies.html",
        title=title,
        counted=counted,
        note=limits.note,
        groups=groups,
        shown=shown,
        image_of=lambda name: _load(image_of[name]),
        sections=[
            (name, some) for name, some in (("Copies", copies), ("Not sure", unsure)) if some
        ],
        pair_of=lambda match: _pair(found, match, match.verdict),
        skipped=found.skipped,
    )


def copies_gallery(found, limits, *, limit=12, nearest_to_threshold=False):
    """Pairs as a `qknb.report.pairs.Gallery`, for `gallery_figure`: also such as are too far to
    be listed, which it says.

    Parameters
    ----------
    found : qknb.copies.find.Found
    limits : qknb.copies.find.Limits
    limit : int
        Pairs at most: the nearest ones, or
    nearest_to_threshold : bool
        those on both sides of the threshold: where a person decides whether it is right.
    """
    matches = found.matches(limits._replace(unsure=np.inf))
    if nearest_to_threshold:
        matches = sorted(
            sorted(matches, key=lambda m: abs(m.distance - limits.copy))[:limit],
            key=lambda m: m.distance,
        )
    pairs = [
        _pair(found, m, m.verdict if m.distance <= limits.unsure else "not listed")
        for m in matches[:limit]
    ]
    return Gallery(
        "Pairs on both sides of the threshold" if nearest_to_threshold else "Nearest pairs",
        f"Left: query; right: indexed image. {limits.note[:1].upper()}{limits.note[1:]}.",
        pairs,
    )


def _pair(found, match, verdict):
    return Pair(
        np.asarray(_load(found.query_images[match.query_row])),
        np.asarray(_load(found.reference_images[match.match_row])),
        "query",
        "match",
        shown_name(match.query),
        shown_name(match.match),
        f"d² {match.distance:.4f}",
        verdict,
        kind="good" if verdict == COPY else "unsure",
    )


def _load(image):
    """A small RGB picture; grey where the file is gone or broken by now."""
    if isinstance(image, np.ndarray):
        small = Image.fromarray(image)
    elif isinstance(image, Image.Image):
        small = to_rgb(image)
    else:
        try:
            small = read_rgb(image)
        except BadImage:
            small = Image.new("RGB", (THUMBNAIL, THUMBNAIL), GREY)
    small = small.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small
