"""A phase on the side: what is watched is what mining finds, and the run is left as it was."""

import shutil

import numpy as np
import pytest

from qknb.run import Run
from qknb.training.rehearsal import rehearse, start_distances
from qknb.training.trainer import Trainer


@pytest.fixture(scope="module")
def trainer(smoke_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("rehearsal") / "run"
    shutil.copytree(smoke_run, path)
    return Trainer(Run(path))


def test_start_distances_are_those_of_gist(trainer):
    d2, own = start_distances(trainer)
    keys, copies = trainer.sets["keys"], trainer.sets["copies"]
    near = trainer.pca.transform(np.asarray(copies.gist))[own * trainer.settings.views]
    far = trainer.pca.transform(np.asarray(keys.gist))
    exact = ((near[:, None].astype(float) - far[None]) ** 2).sum(-1)
    assert d2.shape == (trainer.settings.batch_size, len(keys))
    np.testing.assert_allclose(d2, exact, atol=1e-5)


@pytest.mark.slow
def test_the_first_look_is_the_whole_matrix_at_the_start(trainer):
    """Heads of preset smoke start from zero, so the first descriptors are GIST-256."""
    before = {p: p.stat().st_mtime_ns for p in (trainer.run / "phases").rglob("*") if p.is_file()}
    seen = []
    watched = rehearse(trainer, seen.append, keys=10_000, steps=4, every=2)
    d2, own = start_distances(trainer)
    whole = d2.copy()
    whole[np.arange(len(own)), own] = np.inf
    n_hardest = watched.d2.shape[1]
    np.testing.assert_allclose(watched.d2[0], np.sort(whole, axis=None)[:n_hardest], atol=2e-3)
    np.testing.assert_allclose(watched.positive_d2[0], d2[np.arange(len(own)), own], atol=2e-3)
    assert watched.steps.tolist() == [0, 2, 4] and watched.n_keys == d2.shape[1]
    assert watched.apart[0] == 0 < watched.apart[-1] and np.isfinite(watched.micro_ap).all()
    assert len(seen) >= 1 and len(seen[-1].steps) == 3
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert not (trainer.run / "phases" / "rehearsal").exists()


def test_one_tower_never_parts_from_itself_and_a_cut_bank_is_a_setting(trainer):
    one = rehearse(trainer, keys=24, steps=4, every=2, shared_towers=True, max_negatives=9)
    assert (one.apart == 0).all() and one.n_keys == 24
