"""Blocks of a bank: the same rows from the device and from the file, for every way of choosing
them.
"""

import time

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from qknb.training.blocks import BlockReader, ResidentBlocks, StreamedBlocks
from qknb.training.mining import hardest_pairs

pytestmark = pytest.mark.both_backends


def bank(tmp_path, n=50, width=6, mapped=True):
    rows = np.random.default_rng(0).normal(size=(n, width)).astype(np.float16)
    if not mapped:
        return rows
    np.save(tmp_path / "rows.npy", rows)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize(
    "index", [None, np.arange(10, 40), np.arange(0, 50, 2), np.array([0, 1, 2, 45, 49])]
)
def test_a_reader_gives_the_chosen_rows_in_order_and_fills_up(tmp_path, mapped, index):
    rows = bank(tmp_path, mapped=mapped)
    expected = np.asarray(rows)[slice(None) if index is None else index]
    group = np.arange(len(expected), dtype=np.int32)
    reader = BlockReader(rows, group, 8, index)
    got = [reader.read(i) for i in range(reader.n_blocks + 1)]
    np.testing.assert_array_equal(np.concatenate([r for r, _ in got])[: len(expected)], expected)
    groups = np.concatenate([g for _, g in got])
    np.testing.assert_array_equal(groups, np.r_[group, np.full(len(groups) - len(group), -1)])
    assert (got[-1][1] == -1).all(), "beyond the end: nothing"


def test_a_file_cut_short_is_an_error(tmp_path):
    rows = bank(tmp_path)
    reader = BlockReader(rows, np.arange(50), 8)
    with open(tmp_path / "rows.npy", "rb+") as file:
        file.truncate(300)
    with pytest.raises(OSError, match="shorter"):
        reader.read(5)


def compiled(function):
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function)


def mined(blocks, near, group, n=9):
    """The first pass over `blocks` in a compiled step (JAX sees the bank as a constant here)."""
    parts, counts = zip(*blocks.sources(), strict=True)
    out = compiled(
        lambda a, g: hardest_pairs(a, g, parts, counts, lambda x: ops.cast(x, "float32"), n)
    )(ops.convert_to_tensor(near), ops.convert_to_tensor(group))
    return [np.asarray(ops.convert_to_numpy(x)) for x in out]


@pytest.mark.slow
@pytest.mark.parametrize("index", [None, np.arange(1, 50, 3)])
def test_streamed_equals_resident_equals_parts_in_every_bit(tmp_path, index):
    rows = bank(tmp_path)
    n = 50 if index is None else len(index)
    reader = BlockReader(rows, np.arange(n, dtype=np.int32) % 20, 8, index)
    near, group = (
        np.random.default_rng(1).normal(size=(4, 6)).astype("float32"),
        np.arange(4, dtype=np.int32),
    )
    kinds = [
        ResidentBlocks(50, 6, 8),
        ResidentBlocks(50, 6, 8, segment_values=100),
        StreamedBlocks(50, 6, 8),
    ]
    assert len(kinds[1].rows) == 7, "one block a part"
    results = []
    for blocks in kinds:
        blocks.fill(reader)
        results.append(mined(blocks, near, group))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_streamed_bank_can_be_changed_for_another(tmp_path):
    first, second = bank(tmp_path), np.ones((30, 6), np.float16)
    blocks = StreamedBlocks(50, 6, 8)
    near, group = np.zeros((1, 6), "float32"), np.int32([0])
    blocks.fill(BlockReader(first, np.arange(50), 8))
    mined(blocks, near, group)
    blocks.fill(BlockReader(second, np.arange(30), 8))
    d2, _, rows, j = mined(blocks, near, group)
    np.testing.assert_allclose(d2, 6)
    np.testing.assert_array_equal(j, np.arange(1, 10))
    with pytest.raises(ValueError, match="announced"):
        blocks.fill(BlockReader(np.zeros((99, 6), np.float16), np.arange(99), 8))


def test_the_next_block_is_read_before_it_is_asked_for():
    class Reader(BlockReader):
        asked = []

        def read(self, i):
            self.asked.append(i)
            return super().read(i)

    blocks = StreamedBlocks(30, 3, 10)
    blocks.fill(Reader(np.zeros((30, 3), np.float16), np.arange(30), 10))
    (source,) = blocks.sources()
    np.asarray(ops.convert_to_numpy(source[0](0)[1]))
    until = time.monotonic() + 20
    while len(Reader.asked) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert Reader.asked == [0, 1], "the second while nobody has asked for it yet"
    assert np.asarray(ops.convert_to_numpy(source[0](1)[1])).tolist() == list(
        range(10, 20)
    ) and Reader.asked[:2] == [0, 1]


@pytest.mark.slow
@settings(
    max_examples=6 if keras.backend.backend() == "tensorflow" else 3, deadline=None
)  # JAX compiles each shape anew
@given(st.integers(1, 4), st.integers(2, 30), st.integers(1, 30))
def test_ties_do_not_depend_on_the_block_size(batch, n_far, n_hardest):
    """All distances equal: lower bank rows first, and of one bank row the lower query."""
    far, near = np.zeros((n_far, 3), np.float16), np.zeros((batch, 3), "float32")
    expected = [(j, i) for j in range(n_far) for i in range(batch)][:n_hardest]
    for block_rows in (1, 4, n_far):
        blocks = ResidentBlocks(n_far, 3, block_rows)
        blocks.fill(BlockReader(far, np.full(n_far, 99), block_rows))
        d2, i, _, j = mined(blocks, near, np.arange(batch, dtype=np.int32), n_hardest)
        found = np.isfinite(d2)
        assert list(zip(j[found], i[found], strict=True)) == expected
