"""GIST against LEAR's C program, against the formula in float64, and its PCA."""

import threading
from contextlib import ExitStack

import numpy as np
import pytest
from helpers.gist_formula import gabor_bank as gabor_formula
from helpers.gist_formula import gist_formula
from helpers.paths import RECORDED
from PIL import Image
from skimage import data as photographs
from threadpoolctl import threadpool_info, threadpool_limits

from qknb.data.gabor import DROPPED, GaborPooling, Scratch, gabor_bank, pool_by_fft
from qknb.data.gist import GistPCA, gist, gist_input, normalize_gist
from qknb.models.towers import apply_whitening, fit_whitening
from qknb.system.linear_algebra import one_blas_thread

SIZES = (32, 64, 128)


@pytest.fixture(scope="module")
def photos():
    """Overlapping crops of scikit-image's photographs, 32 x 32, with flat, noisy and one-pixel
    images among them.
    """
    rng = np.random.default_rng(0)
    images = [
        gist_input(Image.fromarray(source[top : top + 200, left : left + 200]))
        for source in (photographs.astronaut(), photographs.coffee(), photographs.chelsea())
        for top in (0, 90)
        for left in (0, 120, 240)
    ]
    point = np.zeros((32, 32, 3), np.uint8)
    point[16, 16] = 255
    synthetic = [
        np.full((32, 32, 3), 131, np.uint8),
        rng.integers(0, 256, (32, 32, 3), np.uint8),
        point,
    ]
    return np.stack(images + synthetic)


def check_oracle(oracle, size):
    images, expected = oracle[f"images_{size}"], oracle[f"gist_{size}"]
    names = list(oracle[f"names_{size}"])
    result = gist(images)
    assert result.dtype == np.float32 and result.shape == (len(images), 960)
    np.testing.assert_allclose(result, expected, rtol=0, atol=3e-6)
    flat = np.array(["const" in name for name in names])
    assert flat.any() and not result[flat].any()
    np.testing.assert_allclose(
        normalize_gist(result[~flat]), normalize_gist(expected[~flat]), rtol=0, atol=2e-5
    )


@pytest.mark.parametrize("size", SIZES)
def test_equals_the_c_program_on_synthetic_images(size):
    with np.load(RECORDED / "gist_lear_synthetic.npz", allow_pickle=False) as oracle:
        check_oracle(oracle, size)


@pytest.mark.parametrize("size", SIZES)
def test_equals_the_c_program_on_photos(size, shared):
    with np.load(shared / "oracles" / "gist_lear.npz", allow_pickle=False) as oracle:
        check_oracle(oracle, size)


def test_equals_the_formula_on_photos(photos):
    np.testing.assert_allclose(gist(photos), gist_formula(photos), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "size", [8, 10, 14, 22, 36, 66, 70]
)  # 4 does not divide most: blocks of unequal size
def test_equals_the_formula_at_other_sizes(size):
    images = np.random.default_rng(size).integers(0, 256, (3, size, size, 3), np.uint8)
    np.testing.assert_allclose(gist(images), gist_formula(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [0, 1, 64, 128, 131, 255])
def test_one_colour_is_exactly_zero(level):
    colours = np.array([[level, level, level], [level, 3, 200]], np.uint8)
    flat = np.broadcast_to(colours[:, None, None], (2, 32, 32, 3))
    assert not gist(flat).any()
    assert not normalize_gist(gist(flat)).any()


def test_order_of_the_values():
    image = np.full((1, 32, 32, 3), 255, np.uint8)
    image[0, 5, 20, 0] = 0  # row block 0, column block 2, red only
    values = gist(image).reshape(3, 20, 4, 4)
    for grid in values[0]:
        assert np.unravel_index(grid.argmax(), (4, 4)) == (
            2,
            0,
        )  # column block first, then row block
    assert values[0].min() > 0 and not values[1:].any()


def test_a_transposed_image_swaps_blocks_and_mirrors_orientations(photos):
    straight = gist(photos[:3]).reshape(3, 3, 20, 4, 4)
    turned = gist(photos[:3].swapaxes(1, 2)).reshape(3, 3, 20, 4, 4)
    # transposing maps an angle a to 90 degrees - a; as filters respond alike to both signs of a
    # wave, j -> m/2 - j modulo m
    order = (
        [(4 - j) % 8 for j in range(8)]
        + [8 + (4 - j) % 8 for j in range(8)]
        + [16 + (2 - j) % 4 for j in range(4)]
    )
    assert np.corrcoef(straight[:, :, order].swapaxes(3, 4).ravel(), turned.ravel())[0, 1] > 0.999


def test_an_image_does_not_depend_on_its_batch(photos):
    together = gist(photos)
    assert len(photos) > 16  # more than one chunk
    np.testing.assert_array_equal(
        np.concatenate([gist(photos[i : i + 1]) for i in range(5)]), together[:5]
    )
    np.testing.assert_array_equal(gist(photos[::-1]), together[::-1])
    assert gist(photos[:0]).shape == (0, 960)


def test_threads_do_not_disturb_each_other(photos):
    expected, results = gist(photos), [None] * 4

    def work(index):
        results[index] = gist(photos)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)


def _blas_threads():
    """Of the libraries that the limit is for: those loaded when it was first used.

    (SciPy and faiss bring their own, which other tests may load later.)
    """
    with one_blas_thread:
        known = {pool["filepath"] for pool in one_blas_thread.pools.info()}
    return [
        pool["num_threads"]
        for pool in threadpool_info()
        if pool["user_api"] == "blas" and pool["filepath"] in known
    ]


def test_overlapping_threads_leave_the_number_of_blas_threads_as_it_was():
    """A, B in; A, B out: where limits of threadpoolctl overlap so, B leaves A's for good."""
    with threadpool_limits(2, user_api="blas"):
        before = _blas_threads()
        with ExitStack() as a, ExitStack() as b:
            a.enter_context(one_blas_thread)
            b.enter_context(one_blas_thread)
            assert set(_blas_threads()) == {1}
            a.close()
            assert set(_blas_threads()) == {1}
        assert _blas_threads() == before and 2 in before


def test_what_a_run_fits_and_projects_is_the_same_bits_with_one_thread_and_with_two():
    rng = np.random.default_rng(5)
    gists, features = (
        rng.random((900, 960), np.float32),
        rng.standard_normal((900, 512), np.float32),
    )
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, user_api="blas"):
            pca, (kernel, bias) = GistPCA.fit(gists[:700]), fit_whitening(features, 256)
            found.append(
                (
                    pca.mean,
                    pca.components,
                    pca.transform(gists),
                    pca.transform(gists[0]),
                    kernel,
                    bias,
                    apply_whitening(features, kernel, bias),
                )
            )
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_inputs_stay_unchanged_and_any_memory_layout_works(photos):
    before = photos.copy()
    strided = np.asfortranarray(photos)
    np.testing.assert_array_equal(gist(strided), gist(photos))
    np.testing.assert_array_equal(photos, before)


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((2, 32, 32, 3), np.float32), "uint8"),
        (np.zeros((32, 32, 3), np.uint8), "uint8"),
        (np.zeros((2, 32, 32, 4), np.uint8), "uint8"),
        (np.zeros((2, 32, 48, 3), np.uint8), "32 x 48"),
        (np.zeros((2, 33, 33, 3), np.uint8), "even"),
        (np.zeros((2, 6, 6, 3), np.uint8), "at least 8"),
    ],
)
def test_refuses_what_gist_is_not_defined_for(images, message):
    with pytest.raises(ValueError, match=message):
        gist(images)


def test_filters_are_those_of_the_formula():
    np.testing.assert_allclose(gabor_bank(32), gabor_formula(32), rtol=1e-12, atol=0)


def test_dropped_bins_change_no_response_by_more_than_the_bound():
    n = 32
    noise = np.random.default_rng(1).standard_normal((n, n, 48)).astype(np.float32)
    product, exact = GaborPooling(n)(noise, Scratch()), pool_by_fft(noise)
    assert np.abs(product - exact).max() < DROPPED * noise.std() + 1e-6  # and float32 rounding


def test_gist_input_follows_the_baseline():
    rng = np.random.default_rng(2)
    wide = Image.fromarray(
        rng.integers(0, 256, (50, 79, 3), np.uint8)
    )  # 79 * 32 // 50 = 50 columns, cut 9 | 32 | 9
    expected = np.asarray(wide.resize((50, 32), Image.Resampling.BILINEAR))[:, 9:41]
    np.testing.assert_array_equal(gist_input(wide), expected)
    tall = Image.fromarray(
        rng.integers(0, 256, (35, 32, 3), np.uint8)
    )  # 3 rows too many: 1.5 goes to the even 2
    np.testing.assert_array_equal(gist_input(tall), np.asarray(tall)[2:34])
    tall = Image.fromarray(rng.integers(0, 256, (37, 32, 3), np.uint8))  # 5 too many: 2.5 goes to 2
    np.testing.assert_array_equal(gist_input(tall), np.asarray(tall)[2:34])
    grey = gist_input(Image.fromarray(rng.integers(0, 256, (40, 40), np.uint8)), size=64)
    assert (
        grey.shape == (64, 64, 3)
        and grey.dtype == np.uint8
        and (grey[..., 0] == grey[..., 2]).all()
    )


def test_normalize_divides_by_the_norm_or_the_floor():
    rows = np.array([[3, 4], [0, 0], [3e-6, 4e-6]], np.float32)
    np.testing.assert_allclose(normalize_gist(rows), [[0.6, 0.8], [0, 0], [0.03, 0.04]], rtol=1e-6)


@pytest.fixture(scope="module")
def descriptors():
    """Correlated rows of 960, as GIST is, with all scales of variance."""
    rng = np.random.default_rng(3)
    return np.abs(
        rng.standard_normal((400, 40)) @ rng.standard_normal((40, 960))
        + 0.1 * rng.standard_normal((400, 960))
    )


def test_pca_equals_scikit_learn(descriptors):
    from sklearn.decomposition import PCA

    ours = GistPCA.fit(descriptors, dim=32)
    theirs = PCA(32, svd_solver="full").fit(normalize_gist(descriptors).astype(np.float64))
    signs = np.sign((ours.components * theirs.components_).sum(1))
    np.testing.assert_allclose(ours.components, theirs.components_ * signs[:, None], atol=1e-5)
    expected = theirs.transform(normalize_gist(descriptors[:7])) * signs
    np.testing.assert_allclose(ours.transform(descriptors[:7]), expected, atol=1e-6)
    assert (ours.components[np.arange(32), np.abs(ours.components).argmax(1)] > 0).all()


def test_pca_takes_raw_and_normalised_gist_alike(descriptors):
    pca = GistPCA.fit(descriptors, dim=16)
    np.testing.assert_allclose(
        pca.transform(descriptors[:5]), pca.transform(normalize_gist(descriptors[:5])), atol=1e-6
    )
    again = GistPCA.fit(normalize_gist(descriptors), dim=16)
    np.testing.assert_allclose(again.components, pca.components, atol=1e-4)


def test_pca_of_few_images_has_zero_columns(descriptors):
    pca = GistPCA.fit(
        np.concatenate([descriptors[:9], descriptors[:1]]), dim=256
    )  # 9 different images span 8 axes
    out = pca.transform(descriptors[:9])
    assert out.shape == (9, 256) and not out[:, 8:].any() and not pca.components[8:].any()
    distances = ((out[:, None] - out) ** 2).sum(-1)
    rows = normalize_gist(descriptors[:9])
    np.testing.assert_allclose(
        distances, ((rows[:, None] - rows) ** 2).sum(-1), atol=1e-5
    )  # nothing is lost
    assert not GistPCA.fit(np.zeros((5, 960)), dim=4).transform(np.zeros((2, 960))).any()


def test_pca_file(tmp_path, descriptors):
    pca = GistPCA.fit(descriptors, dim=8)
    path = tmp_path / "pca.npz"
    pca.save(path)
    loaded = GistPCA.load(path)
    np.testing.assert_array_equal(loaded.components, pca.components)
    np.testing.assert_array_equal(loaded.transform(descriptors[:3]), pca.transform(descriptors[:3]))
    assert [p.name for p in tmp_path.iterdir()] == ["pca.npz"]  # no temporary file stays
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # others may read the run
    whole = path.read_bytes()
    for damaged in (
        whole[: len(whole) // 2],
        b"",
        b"not an archive",
        whole[:600] + b"\xff" * 64 + whole[664:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="pca.npz is damaged"):
            GistPCA.load(path)
    np.savez(path, mean=np.zeros(3))
    with pytest.raises(ValueError, match=r"pca.npz is no file of GistPCA.save"):
        GistPCA.load(path)
    with pytest.raises(FileNotFoundError):
        GistPCA.load(tmp_path / "absent.npz")


@pytest.mark.parametrize(
    "rows, dim, message",
    [
        (np.ones((1, 960)), 8, "at least two"),
        (np.full((4, 960), np.nan), 8, "not finite"),
        (np.ones((4, 960)), 1000, "dim"),
    ],
)
def test_pca_refuses_bad_input(rows, dim, message):
    with pytest.raises(ValueError, match=message):
        GistPCA.fit(rows, dim)


def test_pca_refuses_gist_of_another_length(descriptors):
    with pytest.raises(ValueError, match="960"):
        GistPCA.fit(descriptors, dim=4).transform(np.ones((2, 512)))
