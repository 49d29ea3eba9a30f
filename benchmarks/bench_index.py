"""Search in a large index: time, memory and recall, exact and by faiss.

    python benchmarks/bench_index.py --sizes 10000 100000 1000000

Vectors of 256 values in clusters, as descriptors of like things are, and 1,500 files of one picture
among them, which the index holds once. Queries are vectors with a little noise. Recall: share of
the ten exact neighbours of 1,000 of the index's own vectors that are found.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DIM, SAME, QUERIES = 256, 1500, 200


def clustered(n, rng):
    """(n, DIM) float32: a centre for every twenty."""
    centres = rng.normal(size=(max(1, n // 20), DIM)).astype(np.float32)
    rows = centres[rng.integers(0, len(centres), n)]
    rows += 0.5 * rng.normal(size=(n, DIM)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--factories", nargs="*", default=["Flat", "HNSW32", "IVF"])
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from qknb.copies.ann_search import build_search, measured_recall, nearest
    from qknb.copies.generations import distinct_rows

    print("   files  search  build s  ms a query  recall  MB")
    for size in options.sizes:
        rng = np.random.default_rng(size)
        rows = clustered(size, rng)
        rows[: min(SAME, size // 2)] = rows[0]
        first, _ = distinct_rows(iter([rows]))
        vectors = rows[first]
        queries = vectors[rng.integers(0, len(vectors), QUERIES)]
        queries = queries + 0.02 * rng.normal(size=queries.shape).astype(np.float32)
        for factory in options.factories:
            name, parameters = factory, ""
            if factory == "IVF":
                name, parameters = f"IVF{int(4 * len(vectors) ** 0.5)},Flat", "nprobe=32"
            elif factory.startswith("HNSW"):
                parameters = "efSearch=128"
            with tempfile.TemporaryDirectory() as folder:
                path, recall, built = None, 1.0, 0.0
                if factory != "Flat":
                    path, start = Path(folder) / "search", time.perf_counter()
                    build_search(path, vectors, name, parameters)
                    built = time.perf_counter() - start
                    recall = measured_recall(vectors, path, parameters)
                start = time.perf_counter()
                nearest(vectors, queries, 24, path, parameters)
                took = (time.perf_counter() - start) / len(queries)
                size_mb = (vectors.nbytes + (path.stat().st_size if path else 0)) / 1e6
            print(
                f"{size:8d}  {name:<12} {built:7.1f} {1000 * took:10.2f} {recall:8.3f} "
                f"{size_mb:7.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
