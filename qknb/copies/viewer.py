"""Found copies to look at and to move the threshold on.

Figures as PNG, and the same in a notebook with a slider and an upload button.
"""

import html
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from qknb.copies.find import COPY, Limits, find_copies, limits_of
from qknb.copies.gallery import copies_gallery
from qknb.report.gallery_figures import gallery_figure
from qknb.report.style import COLOURS, Sheet, png, save, styled

__all__ = ["CopyViewer", "distances_figure", "uploaded_files"]

CLOSEST = 1e-6  # squared distances below it are drawn there: the axis is logarithmic


@styled
def distances_figure(found, limits):
    """How far every query is from its nearest indexed image, sorted, with the threshold: copies and
    distractors form two levels when all is well.

    Parameters
    ----------
    found : qknb.copies.find.Found
    limits : qknb.copies.find.Limits
    """
    nearest = np.full(len(found.queries), np.inf)
    np.minimum.at(nearest, found.pairs.query, -found.pairs.score)
    nearest = np.sort(np.maximum(nearest[np.isfinite(nearest)], CLOSEST))
    sheet = Sheet(figsize=(6.6, 3.2), layout="constrained")
    axes = sheet.add_subplot()
    place = np.arange(1, len(nearest) + 1)
    below = nearest <= limits.copy
    axes.plot(
        place[below],
        nearest[below],
        "o",
        color=COLOURS["Q"],
        markersize=5,
        label=f"called a copy: {below.sum():,}",
    )
    axes.plot(
        place[~below],
        nearest[~below],
        "s",
        color=COLOURS["K"],
        markersize=4.5,
        markerfacecolor="none",
        label=f"not: {(~below).sum():,}",
    )
    axes.axhline(max(limits.copy, CLOSEST), color=COLOURS["ink"], linewidth=1.2)
    axes.annotate(
        f"threshold {limits.copy:.4g}",
        (1, max(limits.copy, CLOSEST)),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
    )
    axes.set(
        yscale="log",
        xlabel="queries, nearest first",
        ylabel="squared distance to the nearest",
        title="Every query and its nearest indexed image",
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.legend(loc="lower right", frameon=False)
    return sheet


def uploaded_files(value):
    """[(name, bytes)] of an upload button's value.

    Ipywidgets 8 gives a sequence, 7 (Colab's) a dict by name.
    """
    if isinstance(value, dict):
        return [(name, bytes(file["content"])) for name, file in value.items()]
    return [(item["name"], bytes(item["content"])) for item in value]


class CopyViewer:
    """Pairs at a threshold that can be moved.

    Parameters
    ----------
    index : qknb.copies.index.CopyIndex
    descriptor : qknb.copies.descriptor.Descriptor
    found : qknb.copies.find.Found
    threshold : float
        Squared distance; 0: the run's own.
    """

    def __init__(self, index, descriptor, found, threshold=0.0):
        self.index, self.descriptor, self.found = index, descriptor, found
        self.limits = limits_of(descriptor, threshold or None)
        self._unsure = self.limits.unsure if descriptor.unsure is None else descriptor.unsure
        self._uploads = None

    def move(self, threshold):
        """Set the threshold.

        Pairs up to the run's own limit for "not sure" stay listed. Returns the new `Limits`.
        """
        self.limits = Limits(
            threshold, max(threshold, self._unsure), f"threshold {threshold:.4g} as set"
        )
        return self.limits

    def figures(self, pairs=12):
        """{name: figure}: the nearest pairs, those on both sides of the threshold, and all
        distances.
        """
        return {
            "copies_nearest": gallery_figure(copies_gallery(self.found, self.limits, limit=pairs)),
            "copies_threshold": gallery_figure(
                copies_gallery(self.found, self.limits, limit=pairs, nearest_to_threshold=True)
            ),
            "copies_distances": distances_figure(self.found, self.limits),
        }

    def save(self, folder, pairs=12):
        """Write the figures as folder/<name>.png. Returns {name: Path}."""
        return {
            name: save(figure, Path(folder) / f"{name}.png")
            for name, figure in self.figures(pairs).items()
        }

    def summary(self):
        """One sentence.

        How many pairs are called copies at this threshold, and how many are not sure.
        """
        matches = self.found.matches(self.limits)
        copies = sum(match.verdict == COPY for match in matches)
        text = f"Threshold {self.limits.copy:.4g}: {copies:,} pairs are called copies, {len(matches) - copies:,} are not sure; {len(self.found.queries):,} images looked up."
        return text + (
            f" {len(self.found.skipped):,} could not be read: "
            f"{', '.join(name for name, _ in self.found.skipped[:5])}."
            if self.found.skipped
            else ""
        )

    def upload(self, files):
        """Look up uploaded images instead.

        Parameters
        ----------
        files : sequence of (name, bytes)

        Returns
        -------
        qknb.copies.find.Found
        """
        if self._uploads:
            self._uploads.cleanup()
        self._uploads = tempfile.TemporaryDirectory(prefix="qknb-")
        paths = {}
        for i, (name, content) in enumerate(files):
            own = name if name not in paths else f"{name} ({i})"
            paths[own] = Path(self._uploads.name) / f"{i}{Path(name).suffix}"
            paths[own].write_bytes(content)
        self.found = find_copies(self.index, self.descriptor, paths)
        return self.found

    def widget(self, pairs=9):
        """The same with a slider for the threshold, a choice of pairs and an upload button (an
        ipywidgets box).
        """
        import ipywidgets as w

        distances = (
            np.maximum(-self.found.pairs.score, CLOSEST)
            if len(self.found.pairs.score)
            else np.array([CLOSEST, 1.0])
        )
        low, high = (
            np.log10(min(distances.min(), self.limits.copy or np.inf)) - 0.1,
            np.log10(max(distances.max(), self.limits.copy)) + 0.1,
        )
        slider = w.FloatLogSlider(
            value=max(self.limits.copy, 10**low),
            min=low,
            max=high,
            step=(high - low) / 200,
            description="threshold",
            continuous_update=False,
            readout_format=".4g",
        )
        which = w.ToggleButtons(
            options=[
                ("nearest", "copies_nearest"),
                ("around the threshold", "copies_threshold"),
                ("distances", "copies_distances"),
            ]
        )
        upload = w.FileUpload(accept="image/*", multiple=True, description="look up images")
        status, picture = w.HTML(), w.Image(format="png", layout=w.Layout(max_width="100%"))

        def draw(_=None):
            status.value = html.escape(self.summary())
            picture.value = png(self.figures(pairs)[str(which.value)])

        def moved(change):
            self.move(change["new"])
            draw()

        def uploaded(change):
            if change["new"]:
                self.upload(uploaded_files(change["new"]))
                draw()

        slider.observe(moved, "value")
        which.observe(draw, "value")
        upload.observe(uploaded, "value")
        draw()
        return w.VBox([w.HBox([slider, which, upload]), status, picture])
