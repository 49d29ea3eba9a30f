"""The order in which a phase sees its images: a pure function of (seed, phase, step), so that going on is "start at step s"."""

import keras
import numpy as np

__all__ = ["Batches", "chunk_keys", "key_order"]


def chunk_keys(n_keys, n_chunks, seed):
    """Keys of each chunk (section 4.1: a small GPU trains on halves, one after another): list of sorted (m,) int64, drawn once by `seed`."""
    order = np.random.default_rng([seed, 11]).permutation(n_keys)
    return [np.sort(part) for part in np.array_split(order, n_chunks)]


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
        permutation = np.random.default_rng([seed, 12, phase, epoch]).permutation(len(keys))
        out[here] = keys[permutation[np.arange(first, first + count)[here] % len(keys)]]
    return out, epochs


class Batches(keras.utils.PyDataset):
    """Batches of one chunk of one phase, from step `start`.

    Item i is step start + i: a dict of
      near       (B, s, s, 3) uint8 images of the training side, or (B, F) float32 stored features when its backbone is not trained
      gist       (B, gist_dim) float32
      group      (B,) int32, the key of each item
      positives  (B, P, F + gist_dim) float16, the bank rows of the same key

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

    def __init__(self, side, keys, images, near_gist, near_features, far, settings, phase, start, steps):
        super().__init__(workers=1, use_multiprocessing=False)
        self.side, self.keys, self.images, self.near_gist, self.near_features, self.far = side, keys, images, near_gist, near_features, far
        self.settings, self.phase, self.start, self.steps = settings, phase, start, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, i):
        s, views = self.settings, self.settings.views
        step = self.start + i
        key, epoch = key_order(self.keys, s.seed, self.phase, step * s.batch_size, s.batch_size)
        if self.side == "Q":
            first_view = np.random.default_rng([s.seed, 13, self.phase]).integers(0, views, int(self.keys.max()) + 1)[key]
            near_row = key * views + (first_view + epoch) % views  # each pass shows the next view of a key
            far_row = key[:, None]
        else:
            near_row = key
            far_row = key[:, None] * views + np.arange(views)
        if self.images is not None:
            order = np.argsort(near_row, kind="stable")
            near = np.empty((s.batch_size, *self.images.shape[1:]), self.images.dtype)
            near[order] = self.images[near_row[order]]
        else:
            near = self.near_features.gather(near_row)[:, : self.near_features.n_features].astype(np.float32)
        batch = {
            "near": near,
            "gist": self.near_gist[near_row],
            "group": key.astype(np.int32),
            "positives": self.far.gather(far_row),
        }
        return (batch,)
