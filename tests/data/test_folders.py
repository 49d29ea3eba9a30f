"""Folders: every file is either an image to use, or listed with the reason why it is not."""

import os

import pytest
from PIL import Image

from qknb.data import folders
from qknb.data.folders import image_files, list_folder

ROOT_USER = hasattr(os, "geteuid") and os.geteuid() == 0


def put(root, *names, content=b"x"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def every_file(root):
    return {
        os.path.relpath(os.path.join(here, name), root).replace(os.sep, "/")
        for here, _, names in os.walk(root)
        for name in names
    }


def test_finding_files(tmp_path):
    put(tmp_path, "b/x.JPeG", "a.png", ".hidden.png", ".git/y.png", "notes.txt", "b/._x.jpg")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "folder.png").mkdir()
    assert image_files(tmp_path) == ("a.png", "b/x.JPeG")
    with pytest.raises(FileNotFoundError, match="check the path"):
        image_files(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match="pass the folder"):
        image_files(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no image files.*put images there"):
        image_files(tmp_path / "folder.png")


def test_every_file_is_used_or_listed_with_the_reason(tmp_path):
    put(tmp_path, "a.png", "b/c.HEIC", "b/d.Avif", "e.jp2", "notes.txt", "b/Thumbs.db", "raw.cr2")
    put(tmp_path, "b/@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", ".thumbnails/x.png", "#recycle/old.jpg")
    put(tmp_path, "b/.DS_Store", "$RECYCLE.BIN/gone.jpg", "README")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg_original", "JPEG")
    Image.new("RGB", (8, 8)).save(tmp_path / "camera", "JPEG")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    found = list_folder(tmp_path)
    assert found.images == ("a.png", "b/c.HEIC", "b/d.Avif", "camera", "e.jp2")
    reasons = dict(found.left_out)
    expected = {
        "notes.txt": "unknown extension .txt",
        "raw.cr2": "unknown extension .cr2",
        "photo.jpg_original": "unknown extension .jpg_original (a JPEG image by its content: "
        "rename it to use it)",
        "README": "no image by content",
        "b/Thumbs.db": "thumbnails of the file browser",
        "b/@eaDir/": "thumbnails of a network drive",
        ".thumbnails/": "hidden",
        "b/.DS_Store": "hidden",
        "#recycle/": "the trash of a network drive",
        "$RECYCLE.BIN/": "the trash",
        "gone.png": "a link to nothing",
        "self.png": "a link that leads back to itself",
        "pipe": "not a regular file",
    }
    assert reasons == {k: v for k, v in expected.items() if k != "pipe" or hasattr(os, "mkfifo")}
    searched = {name for name in reasons if name.endswith("/")}
    told = {name for name in every_file(tmp_path) if not name.startswith(tuple(searched))}
    assert told == {*found.images, *(reasons.keys() - searched)}
    assert "2 x hidden" in found.summary() and "1 x the trash" in found.summary()


def test_hidden_ones_can_be_asked_for(tmp_path):
    put(tmp_path, ".a.png", ".b/c.png", "@eaDir/d.png")
    with pytest.raises(ValueError, match="no image files.*Left out: 2 x hidden"):
        list_folder(tmp_path)
    assert list_folder(tmp_path, hidden=True).images == (".a.png", ".b/c.png")


def test_links_are_told_as_the_same_file(tmp_path):
    put(tmp_path, "b.png", "sub/c.png", "other.png")
    os.link(tmp_path / "b.png", tmp_path / "z.png")
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "d.png").symlink_to("sub/c.png")
    found = list_folder(tmp_path)
    assert found.images == ("a.png", "b.png", "d.png", "other.png", "sub/c.png", "z.png")
    assert found.same_file == {"a.png": "b.png", "z.png": "b.png", "d.png": "sub/c.png"}


def test_links_to_folders_come_after_them_and_end(tmp_path):
    put(tmp_path, "z/a.png", "z/deep/b.png")
    put(tmp_path.parent / "outside", "o.png")
    (tmp_path / "a link").symlink_to(tmp_path / "z")
    (tmp_path / "z" / "deep" / "up").symlink_to(tmp_path)
    (tmp_path / "elsewhere").symlink_to(tmp_path.parent / "outside")
    found = list_folder(tmp_path)
    assert found.images == ("elsewhere/o.png", "z/a.png", "z/deep/b.png")
    reason = "a link to a folder that is searched already"
    assert found.left_out == (("a link/", reason), ("z/deep/up/", reason))


@pytest.mark.parametrize("root", [False, True])
def test_a_folder_without_permission_is_named(tmp_path, monkeypatch, root):
    put(tmp_path, "a.png", "closed/b.png")
    closed = tmp_path if root else tmp_path / "closed"
    if ROOT_USER:  # whom nothing is closed to
        real = os.scandir

        def scandir(path):
            if os.fspath(path) == str(closed):
                raise PermissionError(13, "Permission denied", os.fspath(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", scandir)
    else:
        closed.chmod(0)
    try:
        if root:
            with pytest.raises(PermissionError, match="no permission to open"):
                list_folder(tmp_path)
        else:
            found = list_folder(tmp_path)
            assert found.images == ("a.png",)
            assert found.left_out == (("closed/", "no permission to open this folder"),)
    finally:
        closed.chmod(0o755)


def test_a_folder_that_fails_for_the_moment_is_an_error_not_an_omission(tmp_path, monkeypatch):
    put(tmp_path, "a.png", "drive/b.png")
    real, failures = os.scandir, [2]

    def scandir(path):
        failures[0] -= os.fspath(path).endswith("drive")
        if os.fspath(path).endswith("drive") and failures[0] >= 0:
            raise OSError(116, "Stale file handle")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(folders.time, "sleep", lambda seconds: None)
    assert list_folder(tmp_path).images == ("a.png", "drive/b.png")
    failures[0] = 100
    with pytest.raises(OSError, match="drive cannot be opened: Stale file handle"):
        list_folder(tmp_path)


def test_names_of_a_terminal_s_own_language_are_shown(tmp_path):
    put(tmp_path, "a.png", "b.\x1b[2J")
    assert dict(list_folder(tmp_path).left_out)["b.\x1b[2J"] == r"unknown extension .\x1b[2j"
