"""Matches to look at.

One self-contained HTML page (query beside match), and a `Gallery` for figures. Names from outside
are escaped.
"""

import base64
import html
import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from qknb.copies.find import COPY
from qknb.data.image_files import BadImage, read_rgb
from qknb.data.pixels import to_rgb
from qknb.report.galleries import Gallery, Pair
from qknb.system.files import write_text

__all__ = ["copies_gallery", "write_gallery"]

SHOWN = 200  # pairs on a page
THUMBNAIL = 240  # pixels
GREY = (214, 218, 224)

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1d2129; --soft: #5b6472; --line: #dfe3e8; --paper: #fff; --tint: #f5f7f9; --copy: #0067a3; --unsure: #a34a00; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e6e9ed; --soft: #a3acb8; --line: #363c45; --paper: #16191e; --tint: #1f242b; --copy: #6bb8ec; --unsure: #f0a45e; }}
}}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }}
main {{ max-width: 76rem; margin: 0 auto; padding: 2rem 1.5rem 4rem; }}
h1 {{ font-size: 1.7rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.15rem; margin: 2.4rem 0 .8rem; padding-top: .8rem; border-top: 1px solid var(--line); }}
p {{ max-width: 52rem; margin: .5rem 0; }}
.soft, figcaption {{ color: var(--soft); }}
.pairs {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); gap: 1rem; }}
article {{ background: var(--tint); border: 1px solid var(--line); border-radius: .5rem; padding: .7rem .8rem; break-inside: avoid; }}
article header {{ display: flex; justify-content: space-between; margin-bottom: .5rem; font-variant-numeric: tabular-nums; }}
.copy b {{ color: var(--copy); }}
.unsure b {{ color: var(--unsure); }}
.sides, .group {{ display: grid; grid-template-columns: 1fr 1fr; gap: .6rem; }}
.group {{ grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); margin-bottom: 1.4rem; }}
figure {{ margin: 0; min-width: 0; }}
img {{ display: block; width: 100%; height: 10rem; object-fit: contain; background: #7f8790; border-radius: .3rem; }}
figcaption {{ font-size: .8rem; margin-top: .3rem; overflow-wrap: anywhere; }}
li {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""


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
    copies = sum(match.verdict == COPY for match in matches)
    parts = [
        f"<p>{copies:,} pairs are called copies, {len(matches) - copies:,} are not sure; "
        f"{len(found.queries):,} images were looked up among {len(found.references):,}.</p>",
        f"<p class=soft>Squared distance 0 is the same descriptor; {html.escape(limits.note)}.</p>",
    ]
    if groups is not None:
        parts.append(f"<h2>{len(groups):,} groups of near-duplicates</h2>")
        image_of = dict(zip(found.references, found.reference_images, strict=True))
        parts += [_group(names, image_of) for names in groups[:shown]]
        parts += (
            [f"<p class=soft>{len(groups) - shown:,} more groups are in the list of matches.</p>"]
            if len(groups) > shown
            else []
        )
    for verdict, heading in ((COPY, "Copies"), (None, "Not sure")):
        chosen = [match for match in matches if (match.verdict == COPY) == (verdict == COPY)]
        if chosen:
            parts.append(
                f"<h2>{heading}, nearest first</h2><div "
                f"class=pairs>{''.join(_pair(found, match) for match in chosen[:shown])}</div>"
            )
        if len(chosen) > shown:
            parts.append(
                f"<p class=soft>{len(chosen) - shown:,} more are in the list of matches.</p>"
            )
    if not matches:
        parts.append("<p>No image is near enough to be listed.</p>")
    if found.skipped:
        rows = "".join(
            f"<li>{html.escape(name)}: {html.escape(reason)}</li>" for name, reason in found.skipped
        )
        parts.append(f"<h2>{len(found.skipped):,} files could not be read</h2><ul>{rows}</ul>")
    page = _PAGE.format(title=html.escape(title), body="\n".join(parts))
    write_text(
        path, page.encode("utf-8", "replace").decode("utf-8")
    )  # a file name may hold bytes that are no text
    return Path(path)


def copies_gallery(found, limits, *, limit=12, nearest_to_threshold=False):
    """Pairs as a `qknb.report.galleries.Gallery`, for `gallery_figure`: also such as are too far to
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
        Pair(
            np.asarray(_load(found.query_images[m.query_row])),
            np.asarray(_load(found.reference_images[m.match_row])),
            "query",
            "match",
            _text(m.query),
            _text(m.match),
            f"d² {m.distance:.4f}",
            m.verdict if m.distance <= limits.unsure else "not listed",
        )
        for m in matches[:limit]
    ]
    return Gallery(
        "Pairs on both sides of the threshold" if nearest_to_threshold else "Nearest pairs",
        f"Left: query; right: indexed image. {limits.note[:1].upper()}{limits.note[1:]}.",
        pairs,
    )


def _pair(found, match):
    kind = "copy" if match.verdict == COPY else "unsure"
    sides = _figure(match.query, found.query_images[match.query_row]) + _figure(
        match.match, found.reference_images[match.match_row]
    )
    return f"<article class={kind}><header><b>{match.verdict}</b><span>distance {match.distance:.4f}</span></header><div class=sides>{sides}</div></article>"


def _group(names, image_of):
    return f"<div class=group>{''.join(_figure(name, image_of[name]) for name in names)}</div>"


def _figure(name, image):
    buffer = io.BytesIO()
    _load(image).save(buffer, format="JPEG", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    text = html.escape(_text(name))
    return f'<figure><img loading=lazy alt="{text}" src="data:image/jpeg;base64,{data}"><figcaption>{text}</figcaption></figure>'


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


def _text(name):
    return os.fsencode(name).decode("utf-8", "replace")
