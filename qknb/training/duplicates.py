"""Near-duplicate keys: pictures of the same thing under two keys, which would be the hardest
negatives of each other, and wrong ones.

The paper does not treat them. The setting `ignore_duplicates` names a tolerance: pairs whose keys
are nearer than it in GIST-256 distance (originals, unedited, whichever side trains) are left out of
mining.
"""

from keras import ops

__all__ = ["same_picture"]


def same_picture(key_gist, tolerance):
    """The `ignore` of `qknb.training.mining.hardest_pairs`.

    Parameters
    ----------
    key_gist : (n_keys, gist_dim) float16 or float32
        GIST-256 of every key, by key number.
    tolerance : float
        Euclidean distance; keys at most so far apart count as one picture.

    Returns
    -------
    callable
        (group (R,) int32, near_group (B,) int32) -> (R, B) bool. Groups are key numbers; -1
        (padding) may give either answer.
    """

    def ignore(group, near_group):
        far, near = (
            ops.cast(ops.take(key_gist, ops.maximum(g, 0), axis=0), "float32")
            for g in (group, near_group)
        )
        d2 = (
            ops.sum(ops.square(far), axis=1)[:, None]
            + ops.sum(ops.square(near), axis=1)[None, :]
            - 2.0 * ops.matmul(far, ops.transpose(near))
        )
        return d2 <= tolerance * tolerance + 1e-6  # float32's rounding of a distance of 0

    return ignore
