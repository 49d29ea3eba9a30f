"""The hardest B*M negative pairs of the whole B x T matrix, exactly, one block of the bank at a
time.

The loss touches the bank only through its hardest negatives (section 3.2 of Wu & Wu 2021). So a
first pass walks the bank without gradients, keeping the B*M smallest squared distances and the bank
rows they belong to; a second pass computes those few distances again, with gradients. Memory is one
block, whatever T is, and the gradients are those of the dense form, which stays here as
`dense_hardest`.
"""

import keras
from keras import ops

__all__ = ["pairwise_d2", "hardest_pairs", "hardest_in_batch", "dense_hardest"]

# stands for "no pair": larger than any squared distance, smaller than float32's infinity
_FAR = 3.0e38


def pairwise_d2(near, far):
    """Squared distances of all pairs: near (B, d), far (R, d) float32 -> (B, R) float32, by |a|² +
    |b|² - 2ab, at least 0.
    """
    d2 = (
        ops.sum(ops.square(near), axis=1)[:, None]
        + ops.sum(ops.square(far), axis=1)[None, :]
        - 2.0 * ops.matmul(near, ops.transpose(far))
    )
    return ops.maximum(d2, 0.0)


def hardest_pairs(near, near_group, block, n_blocks, far_head, n_hardest, ignore=None):
    """First pass: the hardest negatives over all blocks, without gradients.

    Of pairs at the same distance, those of the lower bank row come first, then those of the lower
    row of `near`, whatever the block size.

    Parameters
    ----------
    near : (B, d) float32
        Descriptors of the batch.
    near_group : (B,) int32
        Key each batch item belongs to. Bank rows of the same key are its positives and never
        negatives.
    block : callable, or sequence of callables
        block(i) -> (rows (R, W) float16 or float32, group (R,) int32) of the i-th block; group -1
        marks padding. Several are the parts of
        one bank, in order (`qknb.training.blocks`), all with blocks of the same shape.
    n_blocks : int, or sequence of int
    far_head : callable
        rows (R, W), the blocks' dtype -> descriptors (R, d) float32, with its weights held
        constant.
    n_hardest : int
        B * M.
    ignore : callable, optional
        ignore(group (R,), near_group (B,)) -> (R, B) bool: pairs that are left out although their
        keys differ.

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
    parts = [(block, n_blocks)] if callable(block) else list(zip(block, n_blocks, strict=True))
    best, before = None, 0
    for part, count in parts:
        merge = _merger(near, near_group, part, before, far_head, n_hardest, ignore)
        done = 0
        if best is None:  # the first block says what the rows look like
            rows, group = part(0)
            best, done = merge(0, _nothing(n_hardest, rows), rows, group), 1
        if done < count:
            best = _loop(done, count, merge, best)
        before += count
    d2, near_index, far_rows, far_index = (ops.stop_gradient(x) for x in best)
    return ops.where(d2 < _FAR, d2, float("inf")), near_index, far_rows, far_index


def _loop(first, stop, body, start):
    """ops.fori_loop that computes one block at a time (TensorFlow's own would begin ten at once,
    each with its memory).
    """
    if keras.backend.backend() != "tensorflow":
        return ops.fori_loop(first, stop, body, start)
    import tensorflow as tf

    step = lambda i, *best: (i + 1, *body(i, best))  # noqa: E731
    with tf.control_dependencies(
        start
    ):  # nor may the loop over one part begin before that over the part before it has ended
        first = tf.identity(first)
    return tf.while_loop(lambda i, *best: i < stop, step, (first, *start), parallel_iterations=1)[
        1:
    ]


def _nothing(n_hardest, rows):
    return (
        ops.full((n_hardest,), _FAR, "float32"),
        ops.zeros((n_hardest,), "int32"),
        ops.zeros((n_hardest, rows.shape[1]), keras.backend.standardize_dtype(rows.dtype)),
        ops.zeros((n_hardest,), "int32"),
    )


def _merger(near, near_group, block, before, far_head, n_hardest, ignore):
    """The loop's body: the best pairs so far and those of one block -> the best of both. `before`:
    blocks of the parts before this one.
    """

    def merge(i, best, rows=None, group=None):
        best_d2, best_near, best_rows, best_index = best
        if rows is None:
            rows, group = block(i)
        n_rows, n_near = ops.shape(rows)[0], ops.shape(near)[0]
        d2 = pairwise_d2(far_head(rows), near)
        negative = ops.logical_and(group[:, None] != near_group[None, :], group[:, None] >= 0)
        if ignore is not None:
            negative = ops.logical_and(negative, ops.logical_not(ignore(group, near_group)))
        d2 = ops.reshape(ops.where(negative, d2, _FAR), (-1,))
        value, place = ops.top_k(-ops.concatenate([best_d2, d2]), n_hardest)
        old = (
            place < n_hardest
        )  # at equal distance the earlier one stays: top_k takes the lower place
        place_old = ops.where(old, place, 0)
        place_new = ops.where(old, 0, place - n_hardest)
        row_new = place_new // n_near
        return (
            -value,
            ops.where(old, ops.take(best_near, place_old), place_new % n_near),
            ops.where(
                old[:, None],
                ops.take(best_rows, place_old, axis=0),
                ops.take(rows, row_new, axis=0),
            ),
            ops.where(old, ops.take(best_index, place_old), (before + i) * n_rows + row_new),
        )

    return merge


def hardest_in_batch(near, near_group, far, far_group, n_groups, per_query):
    """The hardest negatives when they come from the batch itself: the queries in groups, each group
    mined against all keys of the batch.

    So it is when a batch is spread over devices (one group each) and key descriptors are gathered
    from all of them. No gradient flows.

    Parameters
    ----------
    near (B, d), far (R, d) : float32; near_group (B,), far_group (R,) : int32
        Pairs of the same group number are positives, never negatives. B and R must be known.
    n_groups : int
        Divides B.
    per_query : int
        M: each group of B / n_groups queries gives its hardest M * B / n_groups pairs.

    Returns
    -------
    d2 : (B * M,) float32
        Group after group; infinite where a group has fewer negatives.
    near_index, far_index : (B * M,) int32
    """
    (n_near, n_far), size = (near.shape[0], far.shape[0]), near.shape[0] // n_groups
    d2 = pairwise_d2(ops.stop_gradient(near), ops.stop_gradient(far))
    d2 = ops.where(near_group[:, None] != far_group[None, :], d2, _FAR)
    d2 = ops.reshape(d2, (n_groups, size * n_far))
    missing = max(0, size * per_query - size * n_far)
    if missing:
        d2 = ops.pad(d2, ((0, 0), (0, missing)), constant_values=_FAR)
    value, place = ops.top_k(-d2, size * per_query)
    place = ops.minimum(place, size * n_far - 1)
    near_index = place // n_far + size * ops.arange(n_groups, dtype=place.dtype)[:, None]
    flat = [ops.reshape(x, (n_near * per_query,)) for x in (value, near_index, place % n_far)]
    return ops.where(-flat[0] < _FAR, -flat[0], float("inf")), flat[1], flat[2]


def dense_hardest(near, near_group, far, far_group, n_hardest):
    """The same pairs from the whole matrix at once, with gradients: for tests, benchmarks and small
    banks.

    near (B, d), near_group (B,), far (T, d), far_group (T,) -> d2 (n_hardest,), near_index,
    far_index (n_hardest,) int32.
    """
    d2 = pairwise_d2(far, near)
    masked = ops.reshape(ops.where(far_group[:, None] != near_group[None, :], d2, _FAR), (-1,))
    value, place = ops.top_k(-masked, n_hardest)
    n_near = ops.shape(near)[0]
    far_index, near_index = place // n_near, place % n_near
    exact = ops.sum(
        ops.square(ops.take(near, near_index, axis=0) - ops.take(far, far_index, axis=0)), axis=1
    )
    return ops.where(-value < _FAR, exact, float("inf")), near_index, far_index
