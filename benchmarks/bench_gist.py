"""Colour GIST at 32, 64 and 128 pixels: `qknb.data.gist.gist` beside the same formula with the FFTs
of NumPy and of SciPy, on one thread.

    python benchmarks/bench_gist.py [--rounds 9] [--images 128]

Needs about half a minute. The methods take turns in one process; the median of all rounds counts,
as CPU time of the process, which other programs on the machine disturb less than wall time (it
still grows where they compete for the cache: compare columns, not runs). LEAR's C program is not
run here: its column repeats the times measured elsewhere with a quiet machine.
"""

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported

import numpy as np  # noqa: E402
import scipy.fft  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.gist_formula import gabor_bank, gist_formula  # noqa: E402

from qknb.data.gist import gist  # noqa: E402

C_PROGRAM = {
    32: 767,
    64: 4192,
    128: 12518,
}  # microseconds per image, whole process, 2-core AMD EPYC with AVX-512, one core
CHUNK = {32: 4, 64: 1, 128: 1}  # the fastest chunks for the plain FFTs


def photos(size, count):
    """Crops of the photographs that scikit-image ships, uint8 (count, size, size, 3)."""
    from skimage import data

    sources = [data.astronaut(), data.coffee(), data.chelsea()]
    rng = np.random.default_rng(0)
    corners = [(sources[i % 3], *rng.integers(0, 300 - size, 2)) for i in range(count)]
    return np.stack([source[top : top + size, left : left + size] for source, top, left in corners])


def plain(images, bank, fft):
    chunk = CHUNK[images.shape[1]]
    parts = [
        gist_formula(images[start : start + chunk], np.float32, bank, fft)
        for start in range(0, len(images), chunk)
    ]
    return np.concatenate(parts)


def measure(methods, count, rounds):
    """Median and least CPU time in microseconds per image of each method, in interleaved rounds;
    the first round only warms up.
    """
    times = {name: [] for name in methods}
    for _ in range(rounds + 1):
        for name, method in methods.items():
            start = time.process_time()
            method()
            times[name].append((time.process_time() - start) / count * 1e6)
    return {name: (float(np.median(values[1:])), min(values[1:])) for name, values in times.items()}


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--images", type=int, default=128, help="at 32 pixels; fewer at larger sizes"
    )
    settings = parser.parse_args(argv)
    print(
        "CPU time per image in microseconds, one thread, median (least) of",
        settings.rounds,
        "interleaved rounds",
    )
    print(
        f"{'side':>4}  {'qknb.data.gist':>14}  {'NumPy FFT':>15}  {'SciPy FFT':>15}  "
        f"{'NumPy/ours':>10}  {'SciPy/ours':>10}  {'C*':>6}  difference"
    )
    for size in C_PROGRAM:
        images = photos(size, max(settings.images * 32**2 // size**2, 8))
        bank = gabor_bank(size).astype(np.float32)
        difference = np.abs(gist(images) - plain(images, bank, np.fft)).max()
        methods = {
            "ours": partial(gist, images),
            "numpy": partial(plain, images, bank, np.fft),
            "scipy": partial(plain, images, bank, scipy.fft),
        }
        results = measure(methods, len(images), settings.rounds)
        cells = "  ".join(f"{median:>7.0f} ({least:>5.0f})" for median, least in results.values())
        ratios = "  ".join(
            f"{results[name][0] / results['ours'][0]:>10.2f}" for name in ("numpy", "scipy")
        )
        print(f"{size:>4}  {cells}  {ratios}  {C_PROGRAM[size]:>6}  {difference:>10.1e}")
    print(
        "* LEAR GIST 1.2, measured in another run on another machine: for context, not for a ratio."
    )


if __name__ == "__main__":
    main()
