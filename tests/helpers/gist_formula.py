"""Colour GIST written down formula by formula with plain FFTs: the truth in float64, the
benchmark's comparison in float32.
"""

import numpy as np


def _bins(n):
    return np.fft.fftfreq(n, 1 / n)


def gabor_bank(n):
    ky, kx = np.meshgrid(_bins(n), _bins(n), indexing="ij")
    bank = []
    for scale, m in enumerate((8, 8, 4)):
        for j in range(m):
            t = np.arctan2(ky, kx) + np.pi * j / m
            t = np.where(t > np.pi, t - 2 * np.pi, t)
            radius = np.hypot(ky, kx) / (n * 0.3 / 1.85**scale)
            bank.append(np.exp(-3.5 * (radius - 1) ** 2 - 2 * np.pi * m * m / 64 * t**2))
    return np.array(bank)


def prefilter(images, dtype, fft):
    n = images.shape[1]
    x = np.log(images.astype(dtype) + 1).transpose(0, 3, 1, 2)
    x = np.pad(x, ((0, 0), (0, 0), (5, 5), (5, 5)), mode="symmetric")
    k = _bins(n + 10)
    lowpass = np.exp(-(k[:, None] ** 2 + k**2) * np.log(2) / 16).astype(dtype)
    h = x - fft.ifft2(fft.fft2(x) * lowpass).real
    power = np.abs(fft.ifft2(fft.fft2(h.mean(1) ** 2) * lowpass))
    return (h / (0.2 + np.sqrt(power))[:, None])[:, :, 5:-5, 5:-5]


def gist_formula(images, dtype=np.float64, bank=None, fft=np.fft):
    """uint8 (n, s, s, 3) -> (n, 960) of `dtype`; `fft` is a module with fft2 and ifft2."""
    n = images.shape[1]
    bank = gabor_bank(n).astype(dtype) if bank is None else bank
    spectrum = fft.fft2(prefilter(images, dtype, fft))
    response = np.abs(fft.ifft2(spectrum[:, :, None] * bank))
    edges = [b * n // 4 for b in range(5)]
    sums = np.add.reduceat(np.add.reduceat(response, edges[:4], axis=3), edges[:4], axis=4)
    means = sums / np.outer(np.diff(edges), np.diff(edges))
    return means.transpose(0, 1, 2, 4, 3).reshape(len(images), 960).astype(dtype)
