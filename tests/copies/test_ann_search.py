"""faiss indexes: recall measured against the exact search, mistakes named in one line."""

import numpy as np
import pytest

from qknb.copies.ann_search import build_search, measured_recall, nearest


@pytest.fixture(scope="module")
def vectors():
    """Clustered, as descriptors are: 3,000 of 32 values."""
    rng = np.random.default_rng(3)
    return (
        rng.normal(size=(60, 32))[rng.integers(60, size=3000)] + 0.5 * rng.normal(size=(3000, 32))
    ).astype(np.float32)


def test_a_faiss_index_and_its_recall(vectors, tmp_path):
    queries = vectors[::100] + np.float32(0.01)
    exact = nearest(vectors, queries, 10)
    d2 = ((queries[:, None].astype(np.float64) - vectors) ** 2).sum(-1)
    np.testing.assert_array_equal(exact[0], np.argsort(d2, 1)[:, :10])
    recall = {}
    for parameters in ("nprobe=1", "nprobe=64"):
        build_search(tmp_path / "ivf", vectors, "IVF64,Flat", parameters)
        recall[parameters] = measured_recall(vectors, tmp_path / "ivf", parameters)
        found = nearest(vectors, queries, 10, tmp_path / "ivf", parameters)
        there = found[0] >= 0
        rows = np.nonzero(there)[0]
        np.testing.assert_allclose(
            found[1][there],
            ((queries[rows].astype(np.float64) - vectors[found[0][there]]) ** 2).sum(1),
            rtol=1e-5,
        )
    assert recall["nprobe=64"] == 1.0 and 0.3 < recall["nprobe=1"] < 1.0
    np.testing.assert_array_equal(found[0], exact[0], "what looks everywhere finds everything")


def test_faiss_mistakes_are_errors_that_name_them(vectors, tmp_path):
    for factory, parameters in (
        ("Nonsense", ""),
        ("IVF5000,Flat", ""),
        ("IVF16,Flat", "nonsense=3"),
        ("IDMap2,PQ33", ""),
        ("PCA500,Flat", ""),
        ("", ""),
        ("RR7,Flat", "nprobe"),
    ):
        with pytest.raises(ValueError, match=f"faiss cannot build '{factory}'") as error:
            build_search(tmp_path / "f", vectors, factory, parameters)
        assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "broken").write_bytes(b"xxxx")
    with pytest.raises(ValueError, match="cannot be read.*--rebuild"):
        nearest(vectors, vectors[:2], 1, tmp_path / "broken")
    build_search(tmp_path / "small", vectors[:100], "Flat")
    with pytest.raises(ValueError, match="holds 100 vectors"):
        nearest(vectors, vectors[:2], 1, tmp_path / "small")
