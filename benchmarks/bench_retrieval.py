"""The exact global top 500,000: `qknb.evaluation.search.top_pairs` beside faiss' range search with
a maximum, and a plain 10-NN search.

    python benchmarks/bench_retrieval.py [--sizes 5000x100000 10000x200000] [--top 500000]

Needs about a minute and 2 GB on two cores. Every row is measured in this one run, each method in
its own process (for the memory it adds to the descriptors themselves); methods take turns, the best
of `--repeat` counts. The last column is the time for 50,000 x 1,000,000, scaled by the number of
pairs: the products of all pairs are nearly all of the work.
"""

import argparse
import multiprocessing
import resource
import time

import numpy as np

DIM, FULL = 256, 50_000 * 1_000_000


def descriptors(n_queries, n_references):
    """Clustered vectors with norms that vary, as descriptors of photos have; one query in ten is
    near a reference.
    """
    rng = np.random.default_rng(0)
    scale = np.linspace(1.5, 0.1, DIM, dtype=np.float32) / 12
    references = rng.standard_normal((n_references, DIM), np.float32)
    queries = rng.standard_normal((n_queries, DIM), np.float32)
    references *= scale  # in place: the peak of memory counts from here
    queries *= scale
    queries[::10] = (
        0.3 * queries[::10] + references[rng.integers(n_references, size=len(queries[::10]))]
    )
    return queries, references


def ours(queries, references, top):
    from qknb.evaluation.search import top_pairs

    return lambda: top_pairs(queries, references, top)


def faiss_range(queries, references, top):
    import faiss
    from faiss.contrib.exhaustive_search import range_search_max_results

    index = faiss.IndexFlatL2(DIM)
    index.add(references)

    def batches(size=32):
        start = 0
        while start < len(queries):
            yield queries[start : start + size]
            start, size = start + size, size * 2 if size < 20_000 else size

    def search():
        _, limits, distance, reference = range_search_max_results(
            index, batches(), 1e10, max_results=2 * top, min_results=top
        )
        best = np.argsort(distance, kind="stable")[:top]
        return (
            np.repeat(np.arange(len(queries)), np.diff(limits).astype(np.int64))[best],
            reference[best],
            -distance[best],
        )

    return search


def faiss_10nn(queries, references, top):
    import faiss

    return lambda: faiss.knn(queries, references, 10)


METHODS = {
    "qknb top_pairs": ours,
    "faiss range_search_max_results": faiss_range,
    "faiss 10-NN (not the same task)": faiss_10nn,
}


def measure(method, n_queries, n_references, top, connection):
    """In a fresh process: send (seconds, MB above the descriptors, pairs) when asked to search."""
    queries, references = descriptors(n_queries, n_references)
    METHODS[method](queries[:64], references[:4096], 1000)()  # imports and thread pools
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    search = METHODS[method](queries, references, top)
    while connection.recv():
        start = time.perf_counter()
        found = search()
        seconds = time.perf_counter() - start
        megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        connection.send((seconds, megabytes, found if "10-NN" not in method else None))


def compare(n_queries, n_references, top, repeat):
    context = multiprocessing.get_context("spawn")
    workers, best = {}, {}
    for method in METHODS:
        here, there = context.Pipe()
        process = context.Process(
            target=measure, args=(method, n_queries, n_references, top, there), daemon=True
        )
        process.start()
        workers[method] = here, process
    for _ in range(repeat):
        for method, (connection, _) in workers.items():
            connection.send(True)
            seconds, megabytes, found = connection.recv()
            best[method] = min(seconds, best.get(method, (np.inf,))[0]), megabytes, found
    for connection, process in workers.values():
        connection.send(False)
        process.join()
    return best


def agreement(ours, theirs, n_references):
    """Share of our pairs that faiss returned too, and the largest gap between a pair only one of
    them has and our last score.
    """
    left, right = (np.asarray(found[0]) * n_references + found[1] for found in (ours, theirs))
    only = np.concatenate(
        [ours[2][~np.isin(left, right)], np.asarray(theirs[2])[~np.isin(right, left)]]
    )
    return np.isin(left, right).mean(), float(np.abs(only - ours[2][-1]).max()) if len(
        only
    ) else 0.0


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["5000x100000", "10000x200000"])
    parser.add_argument("--top", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args(arguments)
    print(
        f"| queries x references x {DIM} | method | seconds | ratio to faiss range | MB added | "
        f"same pairs | full size, minutes |\n"
        "| --- | --- | --- | --- | --- | --- | --- |"
    )
    for size in options.sizes:
        n_queries, n_references = map(int, size.split("x"))
        best = compare(n_queries, n_references, options.top, options.repeat)
        base = best["faiss range_search_max_results"]
        for method, (seconds, megabytes, found) in best.items():
            same = ""
            if method == "qknb top_pairs":
                share, gap = agreement(found, base[2], n_references)
                same = f"{share:.6f}, others within {gap:.1e} of the cut"
            print(
                f"| {n_queries} x {n_references} | {method} | {seconds:.2f} | "
                f"{seconds / base[0]:.2f} | {megabytes:.0f} | {same} | "
                f"{seconds * FULL / (n_queries * n_references) / 60:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
