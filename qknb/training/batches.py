"""The order in which a phase sees its images: a pure function of (seed, phase, step), so that going
on is "start at step s".
"""

import functools

import keras
import numpy as np

from qknb.training.devices import own_share

__all__ = [
    "Batches",
    "PairBatches",
    "bank_copies",
    "chunk_keys",
    "fresh_negatives",
    "key_order",
    "negative_rows",
    "trained_keys",
]


def chunk_keys(n_keys, n_chunks, seed, most=None):
    """Keys of each chunk (section 4.1: a small GPU trains on halves, one after another): list of
    sorted (m,) int64, drawn once by `seed`; of `most` keys, the same for any number of chunks.
    """
    order = np.random.default_rng([seed, 11]).permutation(n_keys)[:most]
    return [np.sort(part) for part in np.array_split(order, n_chunks)]


def trained_keys(n_keys, settings):
    """The keys that training sees (`train_keys`), in all chunks together: sorted (m,) int64."""
    (keys,) = chunk_keys(n_keys, 1, settings.seed, settings.keys_trained(n_keys))
    return keys


def key_order(keys, seed, phase, first, count):
    """Items number `first` to `first + count` of an endless stream of fresh permutations of `keys`.

    Returns
    -------
    (key, pass number) : (count,) int64 each
    """
    epochs = np.arange(first, first + count) // len(keys)
    out = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        order = _pass(seed, phase, int(epoch), len(keys))
        out[here] = keys[order[np.arange(first, first + count)[here] % len(keys)]]
    return out, epochs


@functools.lru_cache(maxsize=2)
def _pass(seed, phase, epoch, n):
    """The order of one pass over n keys; drawn once, since that of a million takes as long as a
    small step."""
    return np.random.default_rng([seed, 12, phase, epoch]).permutation(n)


def copy_order(key, epoch, settings, phase, n_keys):
    """The copy that stands for each key: rows of the copies, (B,) int64. Each pass shows the next
    view of a key, from a first one drawn by seed.
    """
    views = settings.views
    first_view = np.random.default_rng([settings.seed, 13, phase]).integers(0, views, n_keys)[key]
    return key * views + (first_view + epoch) % views


def bank_copies(n_keys, settings, phase):
    """Rows of the copies that make up the bank of a phase K: all, or `bank_views` of each key.

    The views turn with the phases: phase K1 has the first ones, K2 the next, ...

    Parameters
    ----------
    n_keys : int
    settings : Experiment
    phase : int
        Number of the phase, from 0.

    Returns
    -------
    (n_keys * m,) int64
        Ascending; m rows of each key, m = min(bank_views or views, views).
    """
    views = settings.views
    count = min(settings.bank_views or views, views)
    chosen = np.sort((phase // 2 * count + np.arange(count)) % views)
    return (np.arange(n_keys)[:, None] * views + chosen).ravel()


def fresh_negatives(keys, rows_per_key, settings, phase, step):
    """Bank rows of `max_negatives` keys drawn anew for one step, (m,) int64 ascending.

    The control that tells the number of negatives from their sameness: see `negatives_resample`.
    """
    rng = np.random.default_rng([settings.seed, 15, phase, step])
    drawn = np.sort(rng.choice(keys, min(settings.max_negatives, len(keys)), replace=False))
    return (drawn[:, None] * rows_per_key + np.arange(rows_per_key)).ravel()


def negative_rows(keys, rows_per_key, settings):
    """Bank rows of a chunk's keys that count as negatives: all, or those of `max_negatives` keys
    drawn once by seed, the same in every phase.

    keys (m,) int64 ascending -> (T,) int64 ascending
    """
    if settings.negatives_resample:
        keys = keys[:1]  # the negatives come with each batch: see `fresh_negatives`
    elif settings.max_negatives and settings.max_negatives < len(keys):
        keys = np.sort(
            np.random.default_rng([settings.seed, 14]).permutation(keys)[: settings.max_negatives]
        )
    return (
        keys
        if rows_per_key == 1
        else (keys[:, None] * rows_per_key + np.arange(rows_per_key)).ravel()
    )


def _shown(images, features, row):
    """What the tower is shown: images (B, s, s, 3) uint8 read in ascending order, or stored
    features (B, F) float32.
    """
    if images is None:
        return features.gather(row)[:, : features.n_features].astype(np.float32)
    order = np.argsort(row, kind="stable")
    out = np.empty((len(row), *images.shape[1:]), images.dtype)
    out[order] = images[row[order]]
    return out


class Batches(keras.utils.PyDataset):
    """Batches of one chunk of one phase, from step `start`.

    Item i is step start + i: a dict of
      near       (B, s, s, 3) uint8 images of the training side, or (B, F) float32 stored features
      when its backbone is not trained
      gist       (B, gist_dim) float32
      group      (B,) int32, the key of each item
      positives  (B, P, F + gist_dim) float16, the bank rows of the same key
      negatives, negatives_group  (m, F + gist_dim) float16, (m,) int32: with `negatives_resample`
                 the bank rows to mine in this step, and their keys

    Parameters
    ----------
    side : str
        "Q": near items are copies; "K": near items are the keys themselves.
    keys : (m,) int64
        Keys of this chunk.
    images : (n, s, s, 3) uint8, or None
    near : Bank
        The near side's stored rows; without `images` the features are taken from it, GIST always.
    far : Bank
    settings : Experiment
    phase : int
        Number of the phase, enters the random order.
    start, steps : int
        First step and number of steps.
    """

    def __init__(
        self, side, keys, images, near_gist, near_features, far, settings, phase, start, steps
    ):
        super().__init__(workers=1, use_multiprocessing=False)
        self.side, self.keys, self.images, self.near_gist, self.near_features, self.far = (
            side,
            keys,
            images,
            near_gist,
            near_features,
            far,
        )
        self.settings, self.phase, self.start, self.steps = settings, phase, start, steps
        self.share = own_share(settings.batch_size)

    def __len__(self):
        return self.steps

    def __getitem__(self, i):
        s = self.settings
        step = self.start + i
        key, epoch = key_order(self.keys, s.seed, self.phase, step * s.batch_size, s.batch_size)
        key, epoch = key[self.share], epoch[self.share]
        if self.side == "Q":
            near_row = copy_order(key, epoch, s, self.phase, int(self.keys.max()) + 1)
            far_row = key[:, None]
        else:
            near_row = key
            rows_per_key = len(self.far) // len(self.near_gist)
            far_row = key[:, None] * rows_per_key + np.arange(rows_per_key)
        near = _shown(self.images, self.near_features, near_row)
        batch = {
            "near": near,
            "gist": self.near_gist[near_row],
            "group": key.astype(np.int32),
            "positives": self.far.gather(far_row),
        }
        if s.negatives_resample:
            per_key = 1 if self.side == "Q" else len(self.far) // len(self.near_gist)
            rows = fresh_negatives(self.keys, per_key, s, self.phase, step)
            batch["negatives"] = self.far.gather(rows)
            batch["negatives_group"] = (rows // per_key).astype(np.int32)
        return (batch,)


class PairBatches(keras.utils.PyDataset):
    """Batches of pairs, from step `start`: every item is a key and one of its copies, for methods
    that train on both.

    Item i is step start + i: a dict of
      query, key             (B, s, s, 3) uint8 images, or (B, F) float32 stored features
      query_gist, key_gist   (B, gist_dim) float32
      group                  (B,) int32, the key of each pair

    The order is that of `Batches` for side Q in phase 0, without end: it does not start anew in
    later phases.

    Parameters
    ----------
    n_keys : int
    query, key : (images or None, Bank or None, GIST (n, gist_dim) float32)
        Of the copies and the keys. Without images the features are taken from the bank.
    settings : Experiment
    start, steps : int
    """

    def __init__(self, n_keys, query, key, settings, start, steps):
        super().__init__(workers=1, use_multiprocessing=False)
        self.n_keys = n_keys
        self.keys, self.query, self.key, self.settings, self.start, self.steps = (
            trained_keys(n_keys, settings),
            query,
            key,
            settings,
            start,
            steps,
        )

    def __len__(self):
        return self.steps

    def __getitem__(self, i):
        s = self.settings
        key, epoch = key_order(self.keys, s.seed, 0, (self.start + i) * s.batch_size, s.batch_size)
        batch = {"group": key.astype(np.int32)}
        for name, (images, features, gist), row in (
            ("query", self.query, copy_order(key, epoch, s, 0, self.n_keys)),
            ("key", self.key, key),
        ):
            batch |= {name: _shown(images, features, row), f"{name}_gist": gist[row]}
        return (batch,)
