"""`qknb check INDEX`: every file of an index, and those of an export that has moved."""

import json
import shutil

import pytest

from qknb.cli import main
from qknb.copies.descriptor import Descriptor
from qknb.copies.index import CopyIndex
from qknb.data.scenes import Scenes


def test_damage_of_an_index_is_found_in_full(smoke_run, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(4):
        Scenes(4, seed=3, size=64).load(i).save(pictures / f"{i}.png")
    index = CopyIndex.build(tmp_path / "index", pictures, Descriptor.load(smoke_run))
    assert main(["check", str(index.path)]) == 0
    path = index.file("vectors")
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    capsys.readouterr()
    assert main(["check", str(index.path)]) == 1
    said = capsys.readouterr().out
    assert path.name in said and "--rebuild" in said and "1 damaged" in said


@pytest.mark.parametrize("name", ["descriptor.json", "background.npy"])
def test_an_export_that_has_moved_is_not_believed_when_it_changed(smoke_run, tmp_path, name):
    folder = shutil.copytree(Descriptor.load(smoke_run).path, tmp_path / "moved")
    Descriptor.load(folder)
    path = folder / name
    if name == "descriptor.json":
        facts = json.loads(path.read_text())
        facts["thresholds"]["copy"] = 12.5
        path.write_text(json.dumps(facts))
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"\x3c")
    with pytest.raises(ValueError, match=f"{name}.*export the run again"):
        Descriptor.load(folder)


@pytest.mark.slow
def test_a_damaged_export_of_a_run_is_made_again_when_asked(smoke_run, tmp_path, capsys):
    run = shutil.copytree(smoke_run, tmp_path / "r")
    before = Descriptor.load(run)
    (run / "descriptor" / "background.npy").write_bytes(b"")
    again = Descriptor.load(run)
    assert "background.npy: empty: the run is exported again" in capsys.readouterr().out
    assert again.fingerprint == before.fingerprint
    assert (again.background == before.background).all()
