"""Preparing a run: what stops it, what it says, and that nothing half-done counts."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.made_photos import picture
from PIL import Image

from qknb.cli import main
from qknb.config import experiment
from qknb.data import scan as scanning
from qknb.data.image_files import BadImage
from qknb.data.prepare import prepare
from qknb.data.prepared_sets import prepared
from qknb.data.scenes import Scenes, scene
from qknb.data.set_rows import to_square
from qknb.run import Run
from qknb.system.locks import alone

SMALL = dict(test_references=4, test_queries=4, val_references=4, val_queries=4, n_jobs=1)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(30):
        Scenes(30, seed=0, size=40).load(i).save(folder / f"{i:02d}.png")
    return folder


def settings(photos, **others):
    return experiment("smoke", images=str(photos), **SMALL | others)


def test_what_is_not_used_is_listed(photos, tmp_path, capsys):
    (photos / "=notes.txt").write_text("x")
    (photos / ".thumbnails").mkdir()
    (photos / "bad.jpg").write_bytes(b"%!PS")
    Image.new("RGB", (30, 30), "red").save(photos / "red.png")
    run = Run(tmp_path / "run", settings(photos))
    counts = prepare(run)
    assert counts["skipped"] == 2 and "30 images, 2 files skipped" in capsys.readouterr().out
    with open(run / "skipped.csv", newline="") as file:
        assert dict(list(csv.reader(file))[1:]) == {
            "bad.jpg": "not an image, a PostScript program",
            "red.png": "without content: one colour all over",
            ".thumbnails/": "hidden",
            "'=notes.txt": "unknown extension .txt",
        }


def test_images_that_fail_for_the_moment_stop_it(photos, tmp_path, monkeypatch, capsys):
    """A drive that stumbles must not make a run on half of the images."""
    real, away = scanning.read_picture, {f"{i:02d}.png" for i in range(0, 30, 2)}

    def stumbles(path, **options):
        if os.path.basename(path) in away:
            raise BadImage(path, "cannot be read for the moment: Input/output error", True)
        return real(path, **options)

    monkeypatch.setattr(scanning, "read_picture", stumbles)
    words = [f"{name}={value}" for name, value in SMALL.items()]
    words = ["prepare", "--run", "r", "--root", str(tmp_path), "--preset", "smoke", *words]
    words.append(f"images={photos}")
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "15 of the images in" in said and "The same command tries them again" in said
    assert len(said.splitlines()) == 1 and Run(tmp_path / "r").done("prepare") is None
    assert "cannot be read for the moment" in (tmp_path / "r" / "skipped.csv").read_text()
    away.clear()
    assert main(words) == 0
    one = prepared(Run(tmp_path / "r"))
    whole = Run(tmp_path / "whole", settings(photos))
    prepare(whole)
    np.testing.assert_array_equal(one["keys"].images, prepared(whole)["keys"].images)


@pytest.mark.slow
def test_a_killed_worker_ends_it_in_one_line_and_it_goes_on(photos, tmp_path, monkeypatch, capfd):
    """As the system does when the memory runs out."""
    module = tmp_path / "killing.py"
    module.write_text(
        "import os\n"
        "from qknb.data import dataset\n"
        "def prepare_rows(wanted, **words):\n"
        "    if wanted[0].start == 64:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    return real(wanted, **words)\n"
        "real = dataset.prepare_rows\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    import killing

    run = Run(tmp_path / "run", experiment("smoke", n_scenes=200, n_jobs=2))
    with monkeypatch.context() as patch:
        patch.setattr("qknb.data.dataset.prepare_rows", killing.prepare_rows)
        with pytest.raises(OSError, match="preparing keys and copies: a worker process was ended"):
            prepare(run)
    assert run.done("prepare") is None
    assert prepare(run)["keys"] == len(prepared(run)["keys"])


def test_scenes_are_drawn_at_the_size_that_is_asked_for(tmp_path):
    run = Run(tmp_path / "run", experiment("smoke", n_scenes=60, scene_size=48, n_jobs=1))
    prepare(run)
    keys = prepared(run)["keys"]
    for row in (0, len(keys) - 1):
        number = int(keys.items[row]["source"].removeprefix("scene-"))
        drawn = to_square(scene(run.experiment.seed, number, 48), 32)
        np.testing.assert_array_equal(keys.images[row], drawn)


def test_two_at_once_are_refused(photos, tmp_path):
    run = Run(tmp_path / "run", settings(photos))
    with (
        alone(run.path, "the run"),
        pytest.raises(ValueError, match="another process is at work on the run at"),
    ):
        prepare(run)
    prepare(run)


def test_a_folder_that_is_gone_is_an_error(photos, tmp_path, capsys):
    run = Run(tmp_path / "run", settings(photos))
    photos.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="there is no folder .*photos"):
        prepare(run)
    photos.mkdir()
    with pytest.raises(ValueError, match="no image files under"):
        prepare(run)


def test_the_limit_of_pixels_is_a_setting(photos, tmp_path):
    picture(1, (300, 200)).save(photos / "large.png")
    run = Run(tmp_path / "run", settings(photos, max_pixels=50_000))
    assert prepare(run)["skipped"] == 1
    assert "too large: 300 x 200 pixels, the limit is 50,000" in (run / "skipped.csv").read_text()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="limits of open files")
def test_too_many_open_files_end_with_advice(photos, tmp_path):
    code = (
        "import resource, sys\n"
        "from qknb.cli import main\n"
        "import qknb.data.prepare\n"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (12, hard))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    words = ["prepare", "--run", "r", "--root", str(tmp_path), "--preset", "smoke", "n_jobs=2"]
    ended = subprocess.run(
        [sys.executable, "-c", code, *words, "n_scenes=300"], capture_output=True, text=True
    )
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert "Too many open files" in ended.stderr and "ulimit -n" in ended.stderr


def test_extra_images_never_hold_a_picture_that_is_held_out(photos, tmp_path, capsys):
    """The same pictures under other names, and other pictures under the same names."""
    more = tmp_path / "more"
    more.mkdir()
    names = sorted(path.name for path in photos.iterdir())
    for name in names[:12]:
        (more / f"again-{name}").write_bytes((photos / name).read_bytes())
    for i, name in enumerate(names[:5]):
        picture(900 + i).save(more / name)
    run = Run(tmp_path / "r", settings(photos, extra_images=str(more)))
    counts = prepare(run)
    assert "12 of the extra images are among the images already" in capsys.readouterr().out
    sets = prepared(run)
    keys = [item["id"] for item in sets["keys"].items]
    assert counts["extra_images"] == 5 and len(keys) == len(set(keys))
    held_out = [sets[name].images for name in ("test_references", "val_references")]
    same = [(a == b).all() for part in held_out for a in part for b in sets["keys"].images]
    assert same and not any(same)
    for name in names[:5]:
        (more / name).unlink()
    with pytest.raises(ValueError, match="all are among images already"):
        prepare(Run(tmp_path / "r2", settings(photos, extra_images=str(more))))


def test_a_refused_preparation_takes_up_no_name(tmp_path, capsys):
    words = ["prepare", "--root", str(tmp_path), "--run", "a", "--preset", "smoke"]
    (tmp_path / "few").mkdir()
    for images in ("missing", "few"):
        assert main([*words, f"images={tmp_path / images}"]) == 1
        assert not (tmp_path / "a").exists() and capsys.readouterr().err.startswith("qknb: ")
