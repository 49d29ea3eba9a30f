"""Found copies to look at, and to move the limit on: in a notebook with a slider and an upload."""

import html
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from qknb.copies.descriptor import Descriptor
from qknb.copies.find import COPY, PRECISION, Found, find_copies
from qknb.copies.gallery import copies_gallery, counted
from qknb.copies.stored_index import StoredIndex
from qknb.report.gallery_figures import gallery_figure
from qknb.report.style import COLOURS, Sheet, png, save, styled

__all__ = ["CopyViewer", "distances_figure", "uploaded_files"]


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


def uploaded_files(value: Any) -> list[tuple[str, bytes]]:
    """[(name, bytes)] of an upload button's value.

    Widgets of version 8 give a sequence, those of 7 (Colab's) a dict by name.
    """
    if isinstance(value, dict):
        return [(name, bytes(file["content"])) for name, file in value.items()]
    return [(item["name"], bytes(item["content"])) for item in value]


class CopyViewer:
    """Pairs at a limit that can be moved.

    Parameters
    ----------
    index : qknb.copies.index.CopyIndex
    descriptor : qknb.copies.descriptor.Descriptor
    found : qknb.copies.find.Found
    precision : float
        Confidence from which a pair is called a copy.
    """

    def __init__(
        self,
        index: StoredIndex,
        descriptor: Descriptor,
        found: Found,
        precision: float = PRECISION,
    ):
        self.index, self.descriptor, self.found = index, descriptor, found
        self.precision = precision
        self._uploads: Any = None

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

    def upload(self, files: Sequence[tuple[str, bytes]]) -> Found:
        """Look up uploaded images, (name, bytes), instead."""
        if self._uploads:
            self._uploads.cleanup()
        self._uploads = tempfile.TemporaryDirectory(prefix="qknb-")
        paths: dict[str, Path] = {}
        for i, (name, content) in enumerate(files):
            own = name if name not in paths else f"{name} ({i})"
            paths[own] = Path(self._uploads.name) / f"{i}{Path(name).suffix}"
            paths[own].write_bytes(content)
        self.found = find_copies(self.index, self.descriptor, paths)
        return self.found

    def widget(self, pairs: int = 9) -> Any:
        """The same with a slider for the limit, a choice of pairs and an upload button."""
        import ipywidgets as w

        slider = w.FloatSlider(
            value=self.precision,
            min=0.01,
            max=0.999,
            step=0.001,
            description="confidence",
            continuous_update=False,
            readout_format=".3f",
        )
        which = w.ToggleButtons(
            options=[
                ("surest", "copies_nearest"),
                ("around the limit", "copies_threshold"),
                ("distances", "copies_distances"),
            ]
        )
        upload = w.FileUpload(accept="image/*", multiple=True, description="look up images")
        status, picture = w.HTML(), w.Image(format="png", layout=w.Layout(max_width="100%"))

        def draw(_: Any = None) -> None:
            status.value = html.escape(self.summary())
            picture.value = png(self.figures(pairs)[str(which.value)])

        def moved(change: Any) -> None:
            self.precision = change["new"]
            draw()

        def uploaded(change: Any) -> None:
            if change["new"]:
                self.upload(uploaded_files(change["new"]))
                draw()

        slider.observe(moved, "value")
        which.observe(draw, "value")
        upload.observe(uploaded, "value")
        draw()
        return w.VBox([w.HBox([slider, which, upload]), status, picture])
