"""Colour GIST descriptors (Oliva & Torralba 2001, as in the ISC2021 baseline) and their PCA."""

from functools import lru_cache

import numpy as np
from PIL import Image
from scipy import fft

DIM = 960
PAD = 5
ORIENTATIONS = (8, 8, 4)
NORM_FLOOR = 1e-4


def gist_input(image, size=32):
    """Resize the short side to `size`, crop the centre; uint8 (size, size, 3)."""
    image = image if image.mode == "RGB" else image.convert("RGB")
    w, h = image.size
    new = (size * w // h, size) if w > h else (size, size * h // w)
    image = image.resize(new, Image.BILINEAR)
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def frequencies(n):
    return np.fft.fftfreq(n, 1 / n)


@lru_cache(maxsize=4)
def _lowpass(n):
    p = n + 2 * PAD
    k = frequencies(p)
    dft = np.exp(-2j * np.pi * np.outer(np.arange(p), np.arange(p)) / p)
    circulant = ((dft.conj() * np.exp(-(k**2) * np.log(2) / 16)) @ dft).real / p
    padded = np.pad(np.eye(n), ((PAD, PAD), (0, 0)), mode="symmetric")
    return (circulant @ padded).astype(np.float32), circulant[PAD:-PAD].astype(np.float32)


def gabor_bank(n):
    """Float64 (20, n, n)."""
    ky, kx = np.meshgrid(frequencies(n), frequencies(n), indexing="ij")
    radius, angle = np.hypot(ky, kx), np.arctan2(ky, kx)
    bank = []
    for scale, m in enumerate(ORIENTATIONS):
        peak = 0.3 / 1.85**scale * n
        for j in range(m):
            t = (angle + np.pi * j / m + np.pi) % (2 * np.pi) - np.pi
            bank.append(np.exp(-3.5 * (radius / peak - 1) ** 2 - 2 * np.pi * m**2 / 64 * t**2))
    return np.stack(bank)


@lru_cache(maxsize=4)
def _bank(n):
    return gabor_bank(n).astype(np.float32)


_LOG = np.log(np.arange(256) + 1.0).astype(np.float32)


def _prefilter(images):
    n = images.shape[1]
    x = np.ascontiguousarray(_LOG[images].transpose(0, 3, 1, 2))
    x -= x[:, :, :1, :1].copy()
    x -= x.mean((2, 3), keepdims=True)
    blur, crop = _lowpass(n)
    padded = np.pad(x, ((0, 0), (0, 0), (PAD, PAD), (PAD, PAD)), mode="symmetric")
    high = padded - blur @ x @ blur.T
    mean = high.mean(1)
    contrast = crop @ (mean * mean) @ crop.T
    return high[:, :, PAD:-PAD, PAD:-PAD] / (0.2 + np.sqrt(np.abs(contrast)))[:, None]


def gist(images):
    """uint8 (n, s, s, 3) -> float32 (n, 960), raw (not normalised)."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"gist wants uint8 images (n, s, s, 3), got {images.dtype} {images.shape}")
    size = images.shape[1]
    if images.shape[2] != size or size % 2 or size < 8:
        raise ValueError(f"gist wants square images of an even side of at least 8 pixels, got {images.shape[1:3]}: use gist_input")
    out = np.empty((len(images), DIM), np.float32)
    edges = [b * size // 4 for b in range(5)]
    bank = _bank(size)
    for start in range(0, len(images), 4):
        flat = _prefilter(images[start : start + 4])
        response = np.abs(fft.ifft2(fft.fft2(flat)[:, :, None] * bank, overwrite_x=True))
        rows = np.add.reduceat(np.add.reduceat(response, edges[:4], axis=3), edges[:4], axis=4)
        rows /= np.outer(np.diff(edges), np.diff(edges)).astype(np.float32)
        out[start : start + 4] = rows.transpose(0, 1, 2, 4, 3).reshape(-1, DIM)
    return out


def normalize_gist(descriptors):
    """L2-normalise rows, dividing by max(norm, 1e-4)."""
    descriptors = np.asarray(descriptors, np.float32)
    return descriptors / np.maximum(np.linalg.norm(descriptors, axis=-1, keepdims=True), NORM_FLOOR)


class GistPCA:
    """Centred PCA of L2-normalised GIST: no whitening, no normalisation afterwards (the ISC2021 baseline)."""

    def __init__(self, mean, components):
        self.mean = np.asarray(mean, np.float32)
        self.components = np.asarray(components, np.float32)

    @property
    def dim(self):
        return len(self.components)

    @classmethod
    def fit(cls, gist, dim=256):
        rows = normalize_gist(gist)
        if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
            raise ValueError(f"GistPCA.fit wants at least two finite rows, got shape {rows.shape}")
        mean = rows.mean(0, dtype=np.float64)
        covariance = np.zeros((rows.shape[1],) * 2)
        for start in range(0, len(rows), 8192):
            centred = rows[start : start + 8192] - mean
            covariance += centred.T @ centred
        values, vectors = np.linalg.eigh(covariance / (len(rows) - 1))
        values, vectors = values[::-1], vectors[:, ::-1].T
        rank = int(min((values > 1e-12 * max(values[0], 1e-30)).sum(), len(rows) - 1, dim))
        axes = vectors[:rank]
        axes = axes * np.sign(axes[np.arange(rank), np.abs(axes).argmax(1)])[:, None]
        components = np.zeros((dim, rows.shape[1]), np.float32)
        components[:rank] = axes
        return cls(mean, components)

    def transform(self, gist):
        return (normalize_gist(gist) - self.mean) @ self.components.T

    def save(self, path):
        with open(path, "wb") as file:
            np.savez(file, mean=self.mean, components=self.components)

    @classmethod
    def load(cls, path):
        with np.load(path, allow_pickle=False) as data:
            return cls(data["mean"], data["components"])
