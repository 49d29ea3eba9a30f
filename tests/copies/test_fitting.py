"""What the rule is fitted to: near-duplicates in a collection are no wrong pairs."""

import pytest
from helpers.corners import Corners
from helpers.photographs import photographs

from qknb.copies import fitting
from qknb.copies.index import CopyIndex
from qknb.data.scenes import Scenes


@pytest.fixture
def album(tmp_path):
    """Six photographs, a second version of each, and scenes."""
    folder = tmp_path / "album"
    folder.mkdir()
    names = ("astronaut", "coffee", "chelsea", "rocket", "china", "flower")
    for name in names:
        picture = photographs()[name]
        w, h = picture.size
        picture.save(folder / f"{name}.png")
        smaller = picture.crop((w // 12, h // 12, w, h)).resize((w * 3 // 4, h * 3 // 4))
        smaller.save(folder / f"{name}-again.jpg", quality=70)
    scenes = Scenes(12, seed=4, size=160)
    for i in range(12):
        scenes.load(i).save(folder / f"scene{i:02d}.png")
    return folder


@pytest.mark.slow
def test_a_second_version_of_the_original_is_no_wrong_pair(album, tmp_path, monkeypatch):
    index = CopyIndex.build(tmp_path / "index", album, Corners(side=4), fit=False)
    added, checked = [], fitting._checked

    def of_query(checker, queries, candidates):
        for found in checked(checker, queries, candidates):
            added.append([])
            yield found

    def add(sample, one, right, weight):
        added[-1].append((index.ids[index.files_of[one.candidate.picture][0]], right))

    monkeypatch.setattr(fitting, "_checked", of_query)
    monkeypatch.setattr(fitting.Sample, "add", add)
    fitting.sample_pairs(index, Corners(side=4), ())
    assert len(added) == index.n_pictures == 24
    told = [[name for name, right in pairs if right] for pairs in added]
    assert sum(bool(names) for names in told) >= 12, "most are found at all"
    for right, pairs in zip(told, added, strict=True):
        wrong = {name.split(".")[0].removesuffix("-again") for name, known in pairs if not known}
        assert not {name.split(".")[0].removesuffix("-again") for name in right} & wrong
    assert any(not known for pairs in added for _, known in pairs)
