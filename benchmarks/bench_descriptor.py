"""Images a second of `qknb.copies.descriptor.Descriptor`, from files to descriptors, and of its
parts on their own.

    python benchmarks/bench_descriptor.py [--run runs/reference] [--images folder] [--limit 1000]

With `--run shipped` it is the descriptor that comes with the package. Without --run, a run of
preset smoke is made first with towers at --image-size (weights do not matter for speed); without
--images, synthetic scenes of 500 x 375 pixels are written as JPEG. Every row is measured in this
one run; the parts run on as many threads as in the whole.
"""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import numpy as np
from measuring import made_run

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def timed(n, function, *arguments):
    """(result, images a second)."""
    start = time.perf_counter()
    result = function(*arguments)
    return result, n / (time.perf_counter() - start)


def made_images(root, n):
    from PIL import Image

    from qknb.data.scenes import Scenes

    scenes = Scenes(n, seed=3, size=192)
    (root / "images").mkdir()
    for i in range(n):
        scenes.load(i).resize((500, 375), Image.Resampling.BICUBIC).save(
            root / "images" / f"{i:05d}.jpg", quality=90
        )
    return root / "images"


def measure(descriptor, paths, threads):
    """[(what, images a second)]."""
    from qknb.copies.describer import BATCH
    from qknb.data.gist import gist, gist_input
    from qknb.data.image_files import read_rgb
    from qknb.data.set_rows import to_square

    n, tower = len(paths), descriptor.tower("query")
    rows = []
    with ThreadPoolExecutor(threads) as pool:
        images, speed = timed(n, lambda: list(pool.map(read_rgb, paths)))
        rows.append((f"decode, {threads} threads", speed))
        squares, speed = timed(
            n,
            lambda: np.stack(
                list(pool.map(lambda image: to_square(image, descriptor.image_size), images))
            ),
        )
        rows.append(
            (
                f"to {descriptor.image_size} x {descriptor.image_size} pixels, {threads} threads",
                speed,
            )
        )
    small, speed = timed(
        n, lambda: np.stack([gist_input(image, descriptor.facts["gist_size"]) for image in images])
    )
    rows.append(("centre for GIST", speed))
    values, speed = timed(n, lambda: descriptor.pca.transform(gist(small)))
    rows.append(("GIST and PCA", speed))
    batches = [[squares[at : at + BATCH], values[at : at + BATCH]] for at in range(0, n, BATCH)]
    tower.predict_on_batch(batches[0])  # the first call builds the graph
    _, speed = timed(n, lambda: [tower.predict_on_batch(batch) for batch in batches])
    rows.append(("tower", speed))
    _, speed = timed(n, lambda: list(descriptor.batches(paths, n_threads=1)))
    rows.append(("whole, 1 thread decoding", speed))
    found, speed = timed(n, lambda: descriptor(paths))
    rows.append((f"whole, {os.cpu_count()} threads decoding (default)", speed))
    assert found.shape == (n, descriptor.dim)
    with mock.patch("qknb.copies.exported.has_onnx", lambda: False):
        by_keras = type(descriptor).load(descriptor.path)
        by_keras(paths[:BATCH])  # the first call builds the graph
        _, speed = timed(n, lambda: by_keras(paths))
    rows.insert(-1, ("whole, tower by Keras and not by onnxruntime", speed))
    return rows


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run")
    parser.add_argument("--images")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--image-size", type=int, default=96)
    options = parser.parse_args(arguments)
    from qknb.copies.describer import BATCH
    from qknb.copies.descriptor import Descriptor
    from qknb.data.folders import image_files

    with tempfile.TemporaryDirectory() as root:
        folder = Path(options.images or made_images(Path(root), options.limit))
        paths = [folder / name for name in image_files(folder)[: options.limit]]
        paths = paths[: len(paths) // BATCH * BATCH]
        if not paths:
            sys.exit(f"{folder}: at least {BATCH} images are needed")
        settings = dict(train_backbone=False, phases=1, steps_per_phase=2)
        if options.run == "shipped":
            descriptor = Descriptor.load()
        else:
            size = options.image_size
            run = options.run or made_run(root, "smoke", image_size=size, **settings)
            descriptor = Descriptor.load(run)
        rows = measure(descriptor, paths, os.cpu_count())
    whole = rows[-1][1]
    print(
        f"\n{len(paths)} images, towers at {descriptor.image_size} pixels, {os.cpu_count()} cores\n"
    )
    print("| step | images a second | ratio to the whole |\n| --- | --- | --- |")
    for what, speed in rows:
        print(f"| {what} | {speed:,.0f} | {speed / whole:.1f} |")


if __name__ == "__main__":
    main()
