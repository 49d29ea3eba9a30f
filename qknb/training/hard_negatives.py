"""The hardest negatives at the end of a phase, kept for the galleries
(`qknb.report.galleries.hardest_negatives`).
"""

import numpy as np

from qknb.models.towers import apply_head
from qknb.system.files import replacing
from qknb.training.batches import trained_keys
from qknb.training.duplicates import same_picture
from qknb.training.mining import hardest_pairs

__all__ = ["write_hard_negatives"]


def write_hard_negatives(folder, data, settings):
    """Write folder/hard_negatives.npz: the hardest negative pairs of a sample of near items against
    the whole bank; and those left out as duplicates.

    Parameters
    ----------
    folder : path
        Of the phase.
    data : qknb.training.phase.PhaseInput
    settings : Experiment
    """
    s = settings
    drawn = np.random.default_rng([s.seed, 22, data.number]).permutation(len(data.near_gist))
    far_key = data.far_key
    if s.train_keys:  # what training has not seen is no negative of it
        seen = trained_keys(data.n_keys, s)
        drawn = drawn[np.isin(drawn // s.views if data.side == "Q" else drawn, seen)]
        far_key = np.where(np.isin(far_key, seen), far_key, -1).astype(np.int32)
    near_index = np.sort(drawn[:256])
    near = _near_descriptors(near_index, data)
    key = (near_index // s.views if data.side == "Q" else near_index).astype(np.int32)
    same = same_picture(data.key_gist, s.ignore_duplicates) if s.ignore_duplicates else None
    both = {"": _hardest_of(near, key, data, far_key, same)}
    if same is not None:
        kept = {pair[1:] for pair in both[""]}
        plain = _hardest_of(near, key, data, far_key, None)
        both["removed_"] = [
            pair
            for pair in plain
            if pair[1:] not in kept and pair[0] <= max((p[0] for p in both[""]), default=np.inf)
        ]
    arrays = {"side": np.array(data.side)}
    for prefix, pairs in both.items():
        arrays[prefix + "near_index"] = near_index[np.array([p[1] for p in pairs], np.int64)]
        far_index = np.array([p[2] for p in pairs], np.int64)
        arrays[prefix + "far_index"] = (
            far_index if data.far_rows is None else data.far_rows[far_index]
        )
        arrays[prefix + "d2"] = np.array([p[0] for p in pairs], np.float32)
    with replacing(folder / "hard_negatives.npz") as temporary:
        np.savez(temporary, **arrays)


def _near_descriptors(index, data):
    if data.near_trunk is None:
        rows = data.near_features.gather(index)
    else:
        features = np.asarray(
            data.near_trunk.predict_on_batch(np.asarray(data.near_images[index]))
        )[: len(index)]  # mirrored replicas each give all
        rows = np.concatenate([features, data.near_gist[index]], axis=1)
    return apply_head(data.near_head, rows, data.far.n_features)


def _hardest_of(near, key, data, far_key, ignore, count=64, block_rows=4096):
    """[(d2, row of near, bank row)] of the `count` hardest negatives, ascending."""
    best, wanted = [], np.flatnonzero(far_key >= 0)
    for at in range(0, len(wanted), block_rows):
        part = wanted[at : at + block_rows]
        far = apply_head(data.far_head, np.asarray(data.far.rows[part]), data.far.n_features)
        block = lambda _, r=far, g=far_key[part]: (r, g)  # noqa: E731
        d2, i, _, j = (
            np.asarray(x) for x in hardest_pairs(near, key, block, 1, lambda x: x, count, ignore)
        )
        best += [
            (float(d), int(a), int(part[b]))
            for d, a, b in zip(d2, i, j, strict=True)
            if np.isfinite(d)
        ]
    return sorted(best)[:count]
