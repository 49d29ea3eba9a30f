"""The hardest B*M negative pairs of the whole B x T matrix, exactly, one block of the bank at a time.

The loss touches the bank only through its hardest negatives (section 3.2 of Wu & Wu 2021). So a first pass walks the bank without
gradients, keeping the B*M smallest squared distances and the bank rows they belong to; a second pass computes those few distances again,
with gradients. Memory is one block, whatever T is, and the gradients are those of the dense form, which stays here as `dense_hardest`.
"""

import keras
from keras import ops

__all__ = ["pairwise_d2", "hardest_pairs", "dense_hardest"]

_FAR = 3.0e38  # stands for "no pair": larger than any squared distance, smaller than float32's infinity


def pairwise_d2(near, far):
    """Squared distances of all pairs: near (B, d), far (R, d) float32 -> (B, R) float32, by |a|² + |b|² - 2ab, at least 0."""
    d2 = ops.sum(ops.square(near), axis=1)[:, None] + ops.sum(ops.square(far), axis=1)[None, :] - 2.0 * ops.matmul(near, ops.transpose(far))
    return ops.maximum(d2, 0.0)


def hardest_pairs(near, near_group, block, n_blocks, far_head, n_hardest):
    """First pass: the hardest negatives over all blocks, without gradients.

    Parameters
    ----------
    near : (B, d) float32
        Descriptors of the batch.
    near_group : (B,) int32
        Key each batch item belongs to. Bank rows of the same key are its positives and never negatives.
    block : callable
        block(i) -> (rows (R, W) float16 or float32, group (R,) int32) of the i-th block; group -1 marks padding.
    n_blocks : int
    far_head : callable
        rows (R, W) float32 -> descriptors (R, d) float32, with its weights held constant.
    n_hardest : int
        B * M.

    Returns
    -------
    d2 : (n_hardest,) float32
        Ascending; infinite where there are fewer negatives than n_hardest.
    near_index : (n_hardest,) int32
        Row of `near`.
    far_rows : (n_hardest, W), the blocks' dtype
        The bank rows themselves, so that the second pass needs no second look at the bank.
    far_index : (n_hardest,) int32
        Row of the bank, counted through the blocks (undefined where d2 is infinite).
    """
    near = ops.stop_gradient(near)
    first_rows, _ = block(0)
    block_rows, width = first_rows.shape

    def step(i, best):
        best_d2, best_near, best_rows, best_index = best
        rows, group = block(i)
        far = far_head(ops.cast(rows, "float32"))
        d2 = pairwise_d2(near, far)
        negative = ops.logical_and(near_group[:, None] != group[None, :], group[None, :] >= 0)
        d2 = ops.reshape(ops.where(negative, d2, _FAR), (-1,))
        merged = ops.concatenate([best_d2, d2])
        value, place = ops.top_k(-merged, n_hardest)
        old = place < n_hardest
        place_old = ops.where(old, place, 0)
        place_new = ops.where(old, 0, place - n_hardest)
        row_new = place_new % block_rows
        return (
            -value,
            ops.where(old, ops.take(best_near, place_old), place_new // block_rows),
            ops.where(old[:, None], ops.take(best_rows, place_old, axis=0), ops.take(rows, row_new, axis=0)),
            ops.where(old, ops.take(best_index, place_old), i * block_rows + row_new),
        )

    start = (
        ops.full((n_hardest,), _FAR, "float32"),
        ops.zeros((n_hardest,), "int32"),
        ops.zeros((n_hardest, width), keras.backend.standardize_dtype(first_rows.dtype)),
        ops.zeros((n_hardest,), "int32"),
    )
    d2, near_index, far_rows, far_index = ops.fori_loop(0, n_blocks, step, start)
    d2 = ops.where(d2 < _FAR, d2, float("inf"))
    return d2, near_index, far_rows, far_index


def dense_hardest(near, near_group, far, far_group, n_hardest):
    """The same pairs from the whole matrix at once, with gradients: for tests, benchmarks and small banks.

    near (B, d), near_group (B,), far (T, d), far_group (T,) -> d2 (n_hardest,), near_index, far_index (n_hardest,) int32.
    """
    d2 = pairwise_d2(near, far)
    masked = ops.reshape(ops.where(near_group[:, None] != far_group[None, :], d2, _FAR), (-1,))
    value, place = ops.top_k(-masked, n_hardest)
    n_far = far.shape[0]
    near_index, far_index = place // n_far, place % n_far
    exact = ops.sum(ops.square(ops.take(near, near_index, axis=0) - ops.take(far, far_index, axis=0)), axis=1)
    return ops.where(-value < _FAR, exact, float("inf")), near_index, far_index
