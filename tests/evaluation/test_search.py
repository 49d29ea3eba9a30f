"""qknb.evaluation.search against brute force in float64, the challenge's reference lists, and
itself in other block sizes.
"""

import json

import numpy as np
import pytest
from helpers.paths import RECORDED

from qknb.evaluation import search as retrieval
from qknb.evaluation.metrics import evaluate
from qknb.evaluation.search import candidates, knn_pairs, pair_scores, top_pairs

PLANTED = np.load(RECORDED / "map_isc2021_planted.npz", allow_pickle=False)
VARIANTS = json.loads((RECORDED / "map_isc2021.json").read_text())["planted"]["variants"]
TRUTH = np.stack([PLANTED["gt_query"], PLANTED["gt_ref"]], 1)
XQ, XB = PLANTED["xq"], PLANTED["xb"]


def all_scores(queries, references, metric="l2"):
    q, r = queries.astype(np.float64), references.astype(np.float64)
    return (q @ r.T if metric == "ip" else -((q[:, None] - r[None]) ** 2).sum(-1)).astype(
        np.float32
    )


def brute_force(queries, references, n, metric="l2"):
    score = all_scores(queries, references, metric).ravel()
    best = np.argsort(-score, kind="stable")[:n]  # stable: ties in the order query, reference
    return *np.divmod(best, len(references)), score[best]


def same(pairs, expected, *, atol=1e-6):
    np.testing.assert_array_equal(pairs.query, expected[0])
    np.testing.assert_array_equal(pairs.reference, expected[1])
    np.testing.assert_allclose(pairs.score, expected[2], rtol=3e-7, atol=atol)


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize("n", [1, 120, 1000, 99_999, 200_000])
def test_equals_brute_force_on_planted_data(n, metric):
    pairs = top_pairs(XQ, XB, n, metric=metric)
    same(pairs, brute_force(XQ, XB, n, metric))
    assert (pairs.query.dtype, pairs.reference.dtype, pairs.score.dtype) == (
        np.int64,
        np.int64,
        np.float32,
    )


@pytest.mark.parametrize("name", ["range_l2_1000", "range_ip_120", "knn_l2_k10", "knn_ip_k10"])
def test_holds_the_pairs_of_the_challenges_script(name):
    q, r, score = (PLANTED[f"{name}__{column}"] for column in ("q", "r", "score"))
    metric, kind, n = (
        ("ip" if "_ip" in name else "l2"),
        name.split("_")[0],
        int(name.split("_")[-1].strip("k")),
    )
    pairs = (
        top_pairs(XQ, XB, n, metric=metric)
        if kind == "range"
        else knn_pairs(XQ, XB, n, metric=metric)
    )
    ours = dict(
        zip(
            zip(pairs.query.tolist(), pairs.reference.tolist(), strict=True),
            pairs.score.tolist(),
            strict=True,
        )
    )
    theirs = dict(zip(zip(q.tolist(), r.tolist(), strict=True), score.tolist(), strict=True))
    assert theirs.keys() <= ours.keys() and len(ours) - len(theirs) <= 1
    np.testing.assert_allclose(
        [ours[pair] for pair in theirs], list(theirs.values()), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize(
    "name, pairs",
    [
        ("range_l2_all", lambda: candidates(XQ, XB)),
        ("range_l2_1000", lambda: top_pairs(XQ, XB, 1000)),
        ("knn_l2_k10", lambda: candidates(XQ, XB, "knn")),
        ("knn_ip_k10", lambda: candidates(XQ, XB, "knn", k=10, metric="ip")),
    ],
)
def test_metrics_of_the_search_equal_the_reference(name, pairs):
    result, expected = evaluate(pairs(), TRUTH), VARIANTS[name]["expected"]
    assert result.micro_ap == pytest.approx(expected["average_precision"], rel=1e-9)
    assert result.recall_at_p90 == pytest.approx(expected["recall_at_p90"], rel=1e-12)
    assert result.threshold_at_p90 == pytest.approx(expected["threshold_at_p90"], abs=2e-6)
    assert result.recall_at_rank1 == pytest.approx(expected["recall_at_rank1"], rel=1e-12)
    assert result.recall_at_rank10 == pytest.approx(expected["recall_at_rank10"], rel=1e-12)
    assert result.n_predictions == expected["n_predictions"]


def test_cut_of_the_challenges_site_is_ten_times_the_queries_over_all():
    same(candidates(XQ, XB, "drivendata"), brute_force(XQ, XB, 2000))
    with pytest.raises(ValueError, match="no candidate cut 'best'; one of official"):
        candidates(XQ, XB, "best")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(retrieval, "QUERY_BLOCK", 7)
    monkeypatch.setattr(retrieval, "REFERENCE_BLOCK", 11)


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize("n", [1, 5, 300])
@pytest.mark.parametrize("seed", range(4))
def test_ties_follow_the_documented_order_in_any_block_size(seed, n, metric, small_blocks):
    rng = np.random.default_rng(seed)
    queries = rng.integers(-1, 2, (60, 3)).astype(
        np.float32
    )  # 27 different vectors: nearly everything ties
    references = rng.integers(-1, 2, (90, 3)).astype(np.float32)
    same(
        top_pairs(queries, references, n, metric=metric),
        brute_force(queries, references, n, metric),
    )


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_collapsed_descriptors_still_end_in_bounded_memory(metric, small_blocks):
    queries, references = np.full((80, 4), 0.3, np.float32), np.full((200, 4), 0.3, np.float32)
    same(
        top_pairs(queries, references, 50, metric=metric),
        brute_force(queries, references, 50, metric),
    )


@pytest.mark.parametrize("offset", [0.0, 30.0, 1000.0])
def test_no_cancellation_far_from_the_origin(offset, small_blocks):
    rng = np.random.default_rng(1)
    references = (rng.normal(size=(150, 16)) + offset).astype(np.float32)
    queries = (references[:100] + 1e-3 * rng.normal(size=(100, 16))).astype(np.float32)
    expected = brute_force(queries, references, 130)
    pairs = top_pairs(queries, references, 130)
    same(pairs, expected, atol=0)
    same(knn_pairs(queries, references, 1), brute_force(queries, references, 100), atol=0)


def test_one_long_vector_does_not_spoil_the_others(small_blocks):
    rng = np.random.default_rng(2)
    references = rng.normal(size=(120, 8)).astype(np.float32)
    references[17] *= 1e6
    queries = rng.normal(size=(50, 8)).astype(np.float32)
    same(top_pairs(queries, references, 70), brute_force(queries, references, 70), atol=0)


@pytest.mark.parametrize("metric", ["l2", "ip"])
@pytest.mark.parametrize("k", [1, 3, 200])
@pytest.mark.parametrize("kind", ["planted", "ties"])
def test_knn_equals_brute_force(kind, k, metric):
    rng = np.random.default_rng(0)
    queries, references = (
        (XQ[:80], XB[:150])
        if kind == "planted"
        else (
            rng.integers(-1, 2, (40, 3)).astype(np.float32),
            rng.integers(-1, 2, (150, 3)).astype(np.float32),
        )
    )
    score = all_scores(queries, references, metric)
    best = np.argsort(-score, axis=1, kind="stable")[:, :k]
    query, reference = np.repeat(np.arange(len(queries)), best.shape[1]), best.ravel()
    order = np.lexsort((reference, query, -score[query, reference]))
    same(
        knn_pairs(queries, references, k, metric=metric),
        (query[order], reference[order], score[query, reference][order]),
    )


def test_memory_mapped_references_and_threads_give_the_same(tmp_path):
    np.save(tmp_path / "references.npy", XB)
    mapped = np.load(tmp_path / "references.npy", mmap_mode="r")
    expected = brute_force(XQ, XB, 777)
    for n_threads in (1, 3):
        same(top_pairs(XQ, mapped, 777, n_threads=n_threads, progress=n_threads == 3), expected)


def test_nothing_to_search_gives_nothing():
    empty = np.zeros((0, 32), np.float32)
    for search in (top_pairs, knn_pairs):
        assert len(search(empty, XB).score) == len(search(XQ, empty).score) == 0
    assert len(pair_scores(XQ, XB, np.zeros(0, int), np.zeros(0, int))) == 0


@pytest.mark.parametrize("search", [top_pairs, knn_pairs])
def test_errors_name_the_cause(search):
    broken = XB.copy()
    broken[300, 5] = np.nan
    with pytest.raises(ValueError, match="references: row 300 holds a NaN"):
        search(XQ, broken)
    with pytest.raises(ValueError, match="queries: row 300"):
        search(broken, XB)
    with pytest.raises(ValueError, match=r"\(200, 31\) and references \(500, 32\)"):
        search(XQ[:, :31], XB)
    with pytest.raises(ValueError, match="no metric 'cosine'"):
        search(XQ, XB, metric="cosine")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        search(XQ, XB, 0)
