"""Refreshed mining, an option beside the exact pass: candidates come from descriptors that are a
few steps old, scores do not.

The exact pass of `qknb.training.mining` runs the far head over the whole bank in every step. Here
that is done every `refresh_every` steps only, and what comes out is kept (float16, T x gist_dim). A
step looks for the hardest `refresh_candidates` x B*M pairs among the kept descriptors, takes those
few rows from the bank, runs the present head over them, and keeps the hardest B*M. What it may miss
is a pair that became hard since the last refresh; the loss of the pairs it finds is that of the
present heads.
"""

import keras
import numpy as np
from keras import ops

from qknb.models.towers import apply_head, constant_head
from qknb.training.blocks import ResidentBlocks
from qknb.training.losses import squared_distance
from qknb.training.mining import hardest_pairs

__all__ = ["RefreshedMiner"]


class RefreshedMiner:
    """Kept descriptors of a bank, and the search in them.

    Parameters
    ----------
    blocks : ResidentBlocks or StreamedBlocks
        The bank itself, whose rows the candidates are taken from.
    far_head : keras.Model
        The head that trains.
    n_features, n_rows : int
        Width of the features; rows of the largest bank.
    dim : int
        Of the descriptors.
    candidates, n_hardest : int
        Pairs looked for among kept descriptors, and pairs kept of them after exact scoring.
    """

    def __init__(self, blocks, far_head, n_features, n_rows, dim, candidates, n_hardest):
        self.blocks, self.far_head, self.n_features = blocks, far_head, n_features
        self.kept = ResidentBlocks(n_rows, dim, blocks.block_rows)
        self.candidates, self.n_hardest = candidates, n_hardest
        self.snapshot = keras.models.clone_model(
            far_head
        )  # the head as it was at the last refresh: a resumed run needs it
        self.snapshot.trainable = False
        self.reader, self.filled = None, False

    @property
    def variables(self):
        """Variables that hold kept descriptors: a function of the bank and the snapshot, so
        checkpoints leave them out.
        """
        return self.kept.variables

    def fill(self, reader):
        """Name the bank; its descriptors are computed when the next step begins."""
        self.reader, self.filled = reader, False

    def begin_step(self, refresh):
        """To be called before a step. refresh: take the head as it is now, and describe the whole
        bank with it.
        """
        if refresh:
            self.snapshot.set_weights(self.far_head.get_weights())
        if refresh or not self.filled:
            self.kept.fill(_Described(self.reader, self.snapshot, self.n_features))
            self.filled = True

    def hardest(self, near, near_group, ignore=None):
        """As `qknb.training.mining.hardest_pairs`, among the candidates: d2, near_index, far_rows,
        far_index.
        """
        parts, counts = zip(*self.kept.sources(), strict=True)
        old_d2, near_index, _, far_index = hardest_pairs(
            near,
            near_group,
            parts,
            counts,
            lambda x: ops.cast(x, "float32"),
            self.candidates,
            ignore,
        )
        rows = self.blocks.gather(far_index)
        now = squared_distance(
            ops.take(ops.stop_gradient(near), near_index, axis=0),
            constant_head(self.far_head, self.n_features)(rows),
        )
        d2 = ops.where(ops.isfinite(old_d2), now, float("inf"))
        value, place = ops.top_k(-d2, self.n_hardest)
        return tuple(
            ops.stop_gradient(x)
            for x in (
                -value,
                ops.take(near_index, place),
                ops.take(rows, place, axis=0),
                ops.take(far_index, place),
            )
        )


class _Described:
    """A `BlockReader` whose rows have gone through a head."""

    def __init__(self, reader, head, n_features):
        self.reader, self.head, self.n_features = reader, head, n_features
        self.n_rows, self.n_blocks = reader.n_rows, reader.n_blocks

    def read(self, i):
        rows, group = self.reader.read(i)
        return apply_head(self.head, rows, self.n_features).astype(np.float16), group
