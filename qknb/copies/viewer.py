"""Found copies to look at, and to move the limit on: the state of notebook 08's viewer, and the
HTML that is drawn from it.

`CopyViewer` needs no browser; its `widget` puts ipywidgets around it.
"""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from qknb.copies.descriptor import Descriptor
from qknb.copies.find import COPY, PRECISION, SAME_FILE, Found, Match, find_copies
from qknb.copies.gallery import copies_gallery, counted, percent, small_picture
from qknb.copies.stored_index import StoredIndex
from qknb.report.gallery_figures import gallery_figure
from qknb.report.page import image_address, render_part, shown_name
from qknb.report.style import COLOURS, Sheet, page_svg, save, styled

__all__ = ["CopyViewer", "distances_figure"]

NEAREST = 6  # candidates of a query that are shown


@styled
def distances_figure(found: Found, precision: float) -> Any:
    """How near every query is to its best match, sorted: copies and others form two levels.

    Parameters
    ----------
    found : qknb.copies.find.Found
    precision : float
        Confidence from which a pair is called a copy.
    """
    best: dict[int, tuple[float, bool]] = {}
    for match in found.matches(precision, 0.0):
        best.setdefault(match.query_row, (match.relative, match.verdict == COPY))
    nearest = np.array(sorted(best.values())).reshape(-1, 2)
    place, copies = np.arange(1, len(nearest) + 1), nearest[:, 1] > 0
    sheet = Sheet(figsize=(6.6, 3.2), layout="constrained")
    axes = sheet.add_subplot()
    for chosen, marker, name, colour, fill in (
        (copies, "o", "called a copy", "Q", COLOURS["Q"]),
        (~copies, "s", "not", "K", "none"),
    ):
        axes.plot(
            place[chosen],
            nearest[chosen, 0],
            marker,
            color=COLOURS[colour],
            markerfacecolor=fill,
            markersize=5,
            label=f"{name}: {chosen.sum():,}",
        )
    axes.set(
        xlabel="queries, nearest first",
        ylabel="relative distance to the best match",
        title="Every query and its best match",
        ylim=(0, max(1.05, float(nearest[:, 0].max(initial=0)) * 1.05)),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right", frameon=False)
    return sheet


class CopyViewer:
    """Pairs at a limit that can be moved, and the candidates of one query after the other.

    Parameters
    ----------
    index : qknb.copies.index.CopyIndex
    descriptor : qknb.copies.descriptor.Descriptor
    found : qknb.copies.find.Found
    precision : float
        Confidence from which a pair is called a copy.

    Attributes
    ----------
    found : Found
        What is shown: as given, or the images of the latest `upload` until `restore`.
    place : int
        The query that is browsed, by its place in `browsed`.
    """

    def __init__(
        self,
        index: StoredIndex,
        descriptor: Descriptor,
        found: Found,
        precision: float = PRECISION,
    ):
        self.index, self.descriptor = index, descriptor
        self._given, self.precision = found, precision
        self._uploads: Any = None
        self._show(found)

    def _show(self, found: Found) -> None:
        self.found, self.place = found, 0
        self.browsed = [q for q, near in found.candidates.items() if near or not found.within]
        self._address = functools.lru_cache(1024)(lambda image: image_address(small_picture(image)))

    def _picture(self, image: Any) -> str:
        """A data: address; that of a file is made once."""
        if isinstance(image, str | Path):
            return self._address(image)
        return image_address(small_picture(image))

    def figures(self, pairs: int = 12) -> dict[str, Any]:
        """{name: figure}: the surest pairs, those on both sides of the limit, all distances."""
        galleries = {
            name: copies_gallery(self.found, self.precision, limit=pairs, around=around)
            for name, around in (("copies_nearest", False), ("copies_threshold", True))
        }
        figures = {name: gallery_figure(gallery) for name, gallery in galleries.items()}
        return figures | {"copies_distances": distances_figure(self.found, self.precision)}

    def save(self, folder: str | Path, pairs: int = 12) -> dict[str, Path]:
        """Write the figures as folder/<name>.png: {name: path}."""
        return {
            name: save(figure, Path(folder) / f"{name}.png")
            for name, figure in self.figures(pairs).items()
        }

    def summary(self) -> str:
        """How many pairs are called copies at this limit, and how many are not sure."""
        text = f"From {100 * self.precision:.0f} of 100: "
        text += f"{counted(self.found, self.found.matches(self.precision))}."
        skipped = [name for name, _ in self.found.skipped]
        if skipped:
            text += f" {len(skipped):,} were left out: {', '.join(skipped[:5])}."
        return text

    def pairs_html(self, which: str = "copies_nearest", pairs: int = 9) -> str:
        """The summary with one of `figures`, as HTML."""
        if which == "copies_distances":
            figure = distances_figure(self.found, self.precision)
            title = figure.axes[0].get_title("left")
            figure.axes[0].set_title("", loc="left")
            return render_part("viewer.html", "chart", self.summary(), title, page_svg(figure))
        around = which == "copies_threshold"
        gallery = copies_gallery(
            self.found, self.precision, limit=pairs, around=around, picture=self._picture
        )
        return render_part("viewer.html", "threshold", self.summary(), [gallery])

    def query_html(self) -> str:
        """The query at `place` with its nearest pictures, the likeliest original first."""
        if not self.browsed:
            return render_part("viewer.html", "message", "There is no query to browse.")
        query = self.browsed[self.place]
        found = self.found.matches_of(query, self.precision)[:NEAREST]
        name, copies = shown_name(self.found.queries[query]), [m for m in found if _is_copy(m)]
        title = f"{name}: no copy is found"
        if copies:
            title = f"{name}: a copy of {shown_name(copies[0].match)}"
        near = [self._neighbour(match) for match in found]
        words = "nearest pictures, the likeliest first" if near else "nothing is near"
        image = self._picture(self.found.query_images[query])
        return render_part("viewer.html", "query", title, name, image, [(words, near)])

    def _neighbour(self, match: Match) -> dict[str, Any]:
        return {
            "image": self._picture(self.index.folder / match.match),
            "words": f"{percent(match)}: {match.what()}",
            "id": shown_name(match.match),
            "true": _is_copy(match),
        }

    def upload(self, files: Sequence[tuple[str, bytes]]) -> Found:
        """Look up uploaded images, (name, bytes), instead, until `restore`."""
        folder = tempfile.TemporaryDirectory(prefix="qknb-")
        paths: dict[str, Path] = {}
        for i, (name, content) in enumerate(files):
            own = name if name not in paths else f"{name} ({i})"
            paths[own] = Path(folder.name) / f"{i}{Path(name).suffix}"
            paths[own].write_bytes(content)
        self._show(find_copies(self.index, self.descriptor, paths))
        self._uploads = folder  # the one before, whose pictures nobody needs now, is removed
        return self.found

    def restore(self) -> Found:
        """Undo uploads: what was given is shown again."""
        self._uploads = None
        self._show(self._given)
        return self.found

    def html(self) -> str:
        """All of it as it stands: a still picture for notebooks without a front end."""
        style = render_part("viewer.html", "style")
        return style + self.pairs_html() + self.query_html()

    def widget(self, pairs: int = 9) -> Any:
        """The viewer as an ipywidgets box: a limit, a choice of pairs, a query, uploads."""
        from qknb.copies.viewer_widget import copies_box

        return copies_box(self, pairs)


def _is_copy(match: Match) -> bool:
    return match.verdict in (COPY, SAME_FILE)
