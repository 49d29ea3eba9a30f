"""Whether two pictures show the same pixels: local features, one geometry, and a comparison.

SIFT points of both are matched (ratio test), an affine map or a homography is fitted to the matches
(RANSAC), also to the query's mirror image. Then the original is laid over the query by that map,
and the two are correlated window by window: two photos of one product or place share points, but
not everything around them. Pictures are compared at `LONGEST` pixels.
"""

import functools
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

__all__ = ["Features", "Verified", "describe", "features", "verify"]

LONGEST = 320  # pixels
POINTS = 500  # at most, the strongest
RATIO = 0.8  # of distances to the nearest and the second nearest point
CLOSE = 4.0  # pixels between a point and where the map puts it
LEAST = 6  # points that agree: with fewer there is no map
WINDOW = 15  # pixels: of correlation
ALIKE = 0.5  # correlation of a window that shows the same
TEXTURE = 3.0  # grey levels: standard deviation of a window that shows something


class Features(NamedTuple):
    """SIFT of a picture: points (n, 2) in pixels, unit vectors (n, 128), the grey picture."""

    points: np.ndarray
    vectors: np.ndarray
    grey: np.ndarray

    def mirrored(self) -> "Features":
        """Those of the mirror image."""
        return features(Image.fromarray(np.ascontiguousarray(self.grey[:, ::-1])))


class Verified(NamedTuple):
    """How a query shows an original.

    `inliers` points agree with one map, half of them to `residual` pixels. `agreement` is the
    fraction of windows, of those that show something where both pictures lie, that are alike;
    `area` of the smaller picture is alike.
    `matrix` (3, 3) maps the original to the query, both as fractions of their sides, the query
    mirrored first where `mirrored`. `query_region` and `original_region` (4, 2) are corners of what
    is shared, as fractions. `turned` is how far the original was turned to the right, after it was
    mirrored where it was, in degrees from -180 to 180.
    """

    inliers: int
    residual: float
    agreement: float
    area: float
    matrix: np.ndarray
    mirrored: bool
    query_region: np.ndarray
    original_region: np.ndarray
    turned: float = 0.0

    def share_of_query(self) -> float:
        """Fraction of the query that shows the original."""
        return _area(self.query_region)

    def share_of_original(self) -> float:
        """Fraction of the original that the query shows."""
        return _area(self.original_region)


def features(image: Image.Image) -> Features:
    """SIFT features of a picture."""
    grey = image.convert("L")
    grey.thumbnail((LONGEST, LONGEST), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = np.asarray(grey)
    found, vectors = _sift().detectAndCompute(pixels, None)
    if vectors is None:
        return Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32), pixels)
    order = np.argsort([-point.response for point in found], kind="stable")[:POINTS]
    points = np.array([found[i].pt for i in order], np.float32)
    vectors = vectors[order]
    vectors /= np.maximum(vectors.sum(1, keepdims=True), 1e-9)
    return Features(points, np.sqrt(vectors), pixels)


@functools.cache
def _sift() -> cv2.SIFT:
    return cv2.SIFT_create(nfeatures=POINTS, contrastThreshold=0.02)


def verify(
    query: Features, original: Features, mirrored: Features | None = None
) -> Verified | None:
    """How `query` shows `original`, or None when no map fits.

    Parameters
    ----------
    query, original : Features
    mirrored : Features, optional
        Of the query's mirror image, tried as well.
    """
    tried = [(query, False), *([(mirrored, True)] if mirrored is not None else [])]
    best: tuple | None = None
    for side, flipped in tried:
        fitted = _fit(side, original)
        if fitted is not None and (best is None or fitted[0] > best[0]):
            best = (*fitted, side, flipped)
    return _compared(*best, original) if best else None


def _fit(query: Features, original: Features) -> tuple[int, float, np.ndarray] | None:
    """(points that agree, how well in pixels, map from original to query in pixels)."""
    if min(len(query.points), len(original.points)) < LEAST:
        return None
    a, b = _matches(query.vectors, original.vectors)
    if len(a) < LEAST:
        return None
    here, there = query.points[a], original.points[b]
    affine, inside = cv2.estimateAffine2D(
        there, here, method=cv2.RANSAC, ransacReprojThreshold=CLOSE, maxIters=1000
    )
    if affine is None or not _plausible(affine[:, :2]):
        return None
    matrix, n = np.vstack([affine, [0, 0, 1]]), _distinct(here[inside.ravel() > 0])
    if len(a) >= 12:
        bent, inside = cv2.findHomography(there, here, cv2.RANSAC, CLOSE, maxIters=1000)
        more = 0 if bent is None else _distinct(here[inside.ravel() > 0])
        if more > 1.25 * n and _plausible(bent[:2, :2]) and np.abs(bent[2, :2]).max() < 2e-3:
            matrix, n = bent, more
    errors = np.linalg.norm(_mapped(there, matrix) - here, axis=1)
    return (n, float(np.median(errors[errors <= CLOSE])), matrix) if n >= LEAST else None


def _matches(query: np.ndarray, original: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points whose nearest is much nearer than the second nearest, each original point once."""
    alike = query @ original.T
    nearest = alike.argmax(1)
    rows = np.arange(len(query))
    best = alike[rows, nearest]
    alike[rows, nearest] = -1
    second = alike.max(1)
    good = (1 - best) < RATIO**2 * (1 - second)
    a, b = rows[good], nearest[good]
    order = np.argsort(-best[a], kind="stable")
    _, first = np.unique(b[order], return_index=True)
    kept = order[first]
    return a[kept], b[kept]


def _plausible(linear: np.ndarray) -> bool:
    """Neither mirrored, nor crushed, nor blown up."""
    values = np.linalg.svd(linear, compute_uv=False)
    return bool(
        np.linalg.det(linear) > 0 and 0.05 < values[1] <= values[0] < min(20, 3 * values[1])
    )


def _distinct(points: np.ndarray) -> int:
    """Points at places of their own: several at one spot say no more than one."""
    return len(np.unique(np.round(points / 3), axis=0))


def _compared(
    n: int, residual: float, matrix: np.ndarray, query: Features, flipped: bool, original: Features
):
    h, w = query.grey.shape
    laid = cv2.warpPerspective(original.grey, matrix, (w, h), flags=cv2.INTER_AREA)
    there = cv2.warpPerspective(np.full(original.grey.shape, 255, np.uint8), matrix, (w, h)) > 254
    alike, telling = _correlation(query.grey.astype(np.float32), laid.astype(np.float32), there)
    same = alike & telling
    agreement = float(same.sum() / max(1, telling.sum()))
    scale = np.diag([1 / w, 1 / h, 1.0]) @ matrix @ np.diag([*original.grey.shape[::-1], 1.0])
    corners = _corners(_extent(same, there))
    back = np.linalg.inv(matrix)
    shown = _mapped(corners, back) / original.grey.shape[::-1]
    seen = corners / (w, h)
    if flipped:
        seen[:, 0] = 1 - seen[:, 0]
    smaller = min(
        w * h, cv2.contourArea(_mapped(_corners((0, 0, *original.grey.shape[::-1])), matrix))
    )
    area = float(same.sum() / max(1.0, smaller))
    turned = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) * (-1 if flipped else 1)
    regions = seen, np.clip(shown, 0, 1)
    return Verified(n, residual, agreement, area, scale, flipped, *regions, turned)


def _correlation(a: np.ndarray, b: np.ndarray, there: np.ndarray) -> tuple:
    """(windows that are alike, windows in which both pictures show something), as pictures."""

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, (WINDOW, WINDOW))

    a, b = (cv2.GaussianBlur(x, (0, 0), 1.2) for x in (a, b))
    ma, mb = mean(a), mean(b)
    va, vb = (np.maximum(mean(x * x) - m * m, 0) for x, m in ((a, ma), (b, mb)))
    covariance = mean(a * b) - ma * mb
    inner = cv2.erode(there.astype(np.uint8), np.ones((WINDOW, WINDOW), np.uint8)) > 0
    telling = inner & (np.maximum(va, vb) > TEXTURE**2)
    return covariance > ALIKE * np.sqrt(va * vb) + 1e-6, telling


def _extent(same: np.ndarray, there: np.ndarray) -> tuple:
    """The box (left, top, right, bottom) of what is alike; of all that both show if hardly any."""
    mask = cv2.morphologyEx(same.astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    if not len(rows):
        return 0, 0, same.shape[1], same.shape[0]
    edge = WINDOW // 2
    box = [columns[0] - edge, rows[0] - edge, columns[-1] + 1 + edge, rows[-1] + 1 + edge]
    return max(0, box[0]), max(0, box[1]), min(same.shape[1], box[2]), min(same.shape[0], box[3])


def _corners(box: tuple) -> np.ndarray:
    left, top, right, bottom = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def _mapped(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.perspectiveTransform(points[None].astype(np.float32), matrix)[0]


def _area(corners: np.ndarray) -> float:
    return float(cv2.contourArea(np.clip(corners, 0, 1).astype(np.float32)))


def describe(found: Verified) -> str:
    """What was done to the original, in words: "cropped to 34 %, mirrored, on another picture"."""
    words = []
    crop = found.share_of_original()
    if crop < 0.9:
        words.append(f"cropped to {crop:.0%}".replace("%", " %"))
    if found.mirrored:
        words.append("mirrored")
    degrees = round(abs(found.turned))
    if degrees > 4:
        side = "" if degrees == 180 else f" to the {'right' if found.turned > 0 else 'left'}"
        words.append(f"turned by {degrees}°{side}")
    if found.share_of_query() < 0.8:
        words.append("placed on another picture")
    return ", ".join(words) or "the whole picture"
