"""Finding copies: with a descriptor computed by hand, on photographs, and once for real."""

import csv
import functools
import json
import os
import shutil

import numpy as np
import pytest
from helpers.corners import Corners as AnyCorners
from helpers.divided import kill_a_worker
from helpers.photographs import photographs
from PIL import Image, ImageOps

from qknb.cli import main
from qknb.copies import searching
from qknb.copies.find import COPY, SAME_FILE, UNSURE, find_copies, near_duplicates
from qknb.copies.groups import groups_of, propose
from qknb.copies.index import CopyIndex
from qknb.copies.lookup import Lookup
from qknb.system.cluster import cluster

Corners = functools.partial(AnyCorners, side=8)


@pytest.fixture
def album(tmp_path):
    """Ten photographs, and one of them in three more files: the bytes, another name, a link."""
    folder = tmp_path / "album"
    (folder / "more").mkdir(parents=True)
    for name, picture in photographs().items():
        picture.save(folder / f"{name}.png")
    shutil.copy(folder / "coffee.png", folder / "more" / "coffee2.png")
    os.link(folder / "coffee.png", folder / "linked.png")
    return folder


@pytest.fixture
def index(album, tmp_path):
    return CopyIndex.build(tmp_path / "index", album, Corners(), fit=False)


def queries_of(album):
    """Copies by name of their original, and a picture that is no copy."""
    pictures = photographs()
    screen = Image.new("RGB", (240, 480), "white")
    screen.paste(pictures["rocket"].resize((240, 160)), (0, 100))
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    noise[..., 2] = 255
    return {
        "crop of china": pictures["china"].crop((60, 40, 300, 200)),
        "mirrored flower": ImageOps.mirror(pictures["flower"]),
        "screenshot of rocket": screen,
        "noise": Image.fromarray(noise).resize((320, 240)),
    }


def test_copies_are_found_and_said_what_was_done(album, index):
    found = find_copies(index, Corners(), queries_of(album))
    matches = {match.query: match for match in found.matches()}
    assert {name: match.match for name, match in matches.items()} == {
        "crop of china": "china.png",
        "mirrored flower": "flower.png",
        "screenshot of rocket": "rocket.png",
    }
    assert all(match.verdict == COPY and match.confidence > 0.95 for match in matches.values())
    assert matches["crop of china"].what().startswith("cropped to")
    assert matches["mirrored flower"].what() == "mirrored"
    assert "placed on another picture" in matches["screenshot of rocket"].what()
    assert found.skipped == [] and 0.2 < found.share < 0.8


def test_files_of_one_picture_and_one_file_of_two_names(album, index):
    found = find_copies(index, Corners(), album)
    assert dict(found.skipped) == {"linked.png": "the same file as coffee.png"}
    matches = {match.query: match for match in found.matches()}
    assert all(match.verdict == SAME_FILE for match in matches.values()) and len(matches) == 11
    coffee = matches["coffee.png"]
    assert coffee.files == ["coffee.png", "more/coffee2.png"]
    assert coffee.what() == "one and the same file"


def test_what_is_given_is_looked_up_or_listed(album, index, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    photographs()["china"].save(tmp_path / "one" / "a.jpg", quality=60)
    (tmp_path / "one" / "notes.txt").write_text("words")
    photographs()["coins"].save(tmp_path / "two" / "a.jpg", quality=60)
    (tmp_path / "two" / "bad.jpg").write_bytes(b"no image")
    one, two, alone = tmp_path / "one", tmp_path / "two", album / "page.png"
    found = find_copies(index, Corners(), [one, two, alone, tmp_path / "none.jpg"])
    named = {match.query: match.match for match in found.matches()}
    assert named == {
        f"{one}/a.jpg": "china.png",
        f"{two}/a.jpg": "coins.png",
        str(alone): "page.png",
    }
    reasons = {name: reason for name, reason in found.skipped}
    assert len(reasons) == 3 and "unknown extension" in reasons[f"{one}/notes.txt"]
    assert "not an image" in reasons[f"{two}/bad.jpg"]
    assert "no such file" in reasons[str(tmp_path / "none.jpg")]
    assert len(found.queries) == len(found.candidates) + 2
    with pytest.raises(ValueError, match="no queries"):
        find_copies(index, Corners(), [])


def test_pictures_that_are_gone_are_judged_by_their_descriptors(album, index):
    for name in ("china.png", "flower.png"):
        (album / name).unlink()
    resaved = {"again": photographs()["china"].resize((100, 70))}
    (match,) = find_copies(index, Corners(), resaved).matches()
    assert match.match == "china.png" and match.verified is None
    assert match.what() == "not verified"
    unchecked = find_copies(index, Corners(), resaved, check=False).matches()
    assert [m.match for m in unchecked] == ["china.png"]


def test_verdicts_and_top(album, index):
    found = find_copies(index, Corners(), queries_of(album), check=False)
    every = found.matches(0.95, 0.0, top=100)
    assert [m.confidence for m in every] == sorted((m.confidence for m in every), reverse=True)
    assert len(every) == 40 and len(found.matches(0.95, 0.0, top=2)) == 8
    limit = every[3].confidence
    for match in found.matches(limit, 0.0, top=100):
        assert match.verdict == (COPY if match.confidence >= limit else UNSURE)


def test_groups_do_not_chain(tmp_path):
    """Two halves of a picture belong to it, not to each other; a row of blues is no group."""
    folder = tmp_path / "folder"
    folder.mkdir()
    china = photographs()["china"]
    w, h = china.size
    china.save(folder / "whole.png")
    china.crop((0, 0, w // 2, h)).save(folder / "left.png")
    china.crop((w // 2, 0, w, h)).save(folder / "right.png")
    photographs()["coins"].save(folder / "coins.png")
    photographs()["coins"].save(folder / "coins.jpg", quality=50)
    for value in range(0, 250, 2):
        Image.new("RGB", (8, 8), (0, 0, value)).save(folder / f"blue{value:03d}.png")
    descriptor = Corners(shift=0.001)
    index = CopyIndex.build(tmp_path / "index", folder, descriptor, fit=False)
    found = near_duplicates(index, descriptor, parts=("halves",))
    groups = groups_of(found, Lookup(index, descriptor))
    assert ["left.png", "right.png", "whole.png"] in groups
    assert ["coins.jpg", "coins.png"] in groups
    blues = [[int(name[4:7]) for name in names] for names in groups if "blue" in names[0]]
    assert all(max(values) - min(values) <= 16 for values in blues), "neighbours do not chain"


def test_what_to_keep(tmp_path):
    folder = tmp_path / "folder"
    (folder / "safe").mkdir(parents=True)
    coins = photographs()["coins"]
    coins.save(folder / "coins.png")
    coins.save(folder / "coins.jpg", quality=40)
    coins.resize((90, 70)).save(folder / "safe" / "small.jpg")
    index = CopyIndex.build(tmp_path / "index", folder, Corners(), fit=False)
    group = [["coins.jpg", "coins.png", "safe/small.jpg"]]
    actions = {p.file: (p.action, p.why) for p in propose(group, index)}
    assert actions["coins.png"] == ("keep", "the best of its group")
    assert actions["coins.jpg"] == actions["safe/small.jpg"] == ("remove", "a copy of coins.png")
    kept = {p.file: p.action for p in propose(group, index, keep=["safe"])}
    assert kept == {"coins.jpg": "remove", "coins.png": "remove", "safe/small.jpg": "keep"}
    for name in group[0]:
        assert (folder / name).exists(), "nothing is ever deleted"


@pytest.mark.slow
def test_from_the_shell(smoke_run, album, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ["--root", str(smoke_run.parent), "--run", smoke_run.name]
    index = str(tmp_path / "index")
    (album / "notes.txt").write_text("words")
    assert main(["index", str(album), "--index", index, *run]) == 0
    printed = capsys.readouterr().out
    assert "11 images indexed" in printed and "10 different pictures" in printed
    assert "notes.txt: unknown extension" in printed and "linked.png: the same file" in printed
    suspects = tmp_path / "suspects"
    suspects.mkdir()
    photographs()["china"].save(suspects / "again.jpg", quality=60)
    found = ["find", str(suspects), "--index", index]
    assert main(found) == 0
    printed = capsys.readouterr().out
    assert "again.jpg  =  china.png" in printed and "One pair is called a copy" in printed
    place = next((smoke_run / "found").glob("suspects-*"))
    assert {p.name for p in place.iterdir()} == {
        "copies.csv",
        "copies.left-out.csv",
        "copies.html",
        "copies-thumbnails",
    }
    assert main(found) == 0 and len(list((smoke_run / "found").iterdir())) == 2, "never over it"
    with open(place / "copies.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["query"], row["match"], row["verdict"]) == ("again.jpg", "china.png", "copy")
    (suspects / "bad.jpg").write_bytes(b"no image")
    assert main([*found, "--out", "out.json"]) == 1, "not all that was asked was done"
    value = json.loads((tmp_path / "out.json").read_text())
    assert value["matches"][0]["match"] == "china.png" and value["left_out"][0]["name"] == "bad.jpg"
    assert main([*found, "--out", "leaks", "--leaks"]) == 1
    assert "1 of 1 images looked up have a copy" in capsys.readouterr().out
    assert (tmp_path / "leaks" / "copies.leaked.txt").read_text() == "again.jpg\n"
    assert main(["find", "--self", "--index", index, "--out", "self.csv", "--keep", "more"]) == 0
    printed = capsys.readouterr().out
    assert "1 groups of near-duplicates hold 2 of 11 images" in printed
    with open("self.keep.csv", newline="") as file:
        kept = {row["file"]: row["action"] for row in csv.DictReader(file)}
    assert kept == {"coffee.png": "remove", "more/coffee2.png": "keep"}


def test_decisions_are_remembered(smoke_run, album, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ["--root", str(smoke_run.parent), "--run", smoke_run.name]
    assert main(["index", str(album), "--index", "index", *run]) == 0
    (tmp_path / "a").mkdir()
    photographs()["china"].save(tmp_path / "a" / "again.jpg", quality=60)
    lines = f"query,match,decision\n{tmp_path}/a/again.jpg,{album}/china.png,wrong\n"
    (tmp_path / "said.csv").write_text("\ufeff" + lines, encoding="utf-8")
    found = ["find", "a", "--index", "index", "--out", "o.csv"]
    assert main([*found, "--decisions", "said.csv"]) == 0
    assert "0 pairs are called copies" in capsys.readouterr().out
    assert main(found) == 0 and "0 pairs are called copies" in capsys.readouterr().out
    (tmp_path / "said.csv").write_text(lines.replace("wrong", "right"))
    assert main([*found, "--decisions", "said.csv"]) == 0
    assert "One pair is called a copy" in capsys.readouterr().out
    (tmp_path / "said.csv").write_text(lines.replace("wrong", "perhaps"))
    assert main([*found, "--decisions", "said.csv"]) == 1
    assert "line 2: decision 'perhaps'" in capsys.readouterr().err


def test_what_cannot_work_is_refused_before_any_work(index, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "q").mkdir()
    for words, said in (
        ([], "one of the two"),
        (["q", "--self"], "one of the two"),
        (["q", "--top", "0"], "at least 1"),
        (["q", "--precision", "1.5"], "between 0 and 1"),
        (["q", "--parts", "ears"], "--parts ears"),
        (["q", "--out", "x.xlsx"], "is written as"),
        (["q", "--out", "file/x.csv"], "cannot be written"),
        (["--self", "--leaks"], "not about --self"),
    ):
        assert main(["find", *words, "--index", str(index.path)]) == 1, words
        assert said in capsys.readouterr().err, words
    assert main(["find", "q", "--index", "none"]) == 1
    assert "there is no index at none" in capsys.readouterr().err


def test_another_descriptor_is_refused_before_its_tower_is_loaded(album, index, monkeypatch):
    other = Corners("other")
    monkeypatch.setattr(other, "tower", lambda side: pytest.fail("seconds of work"))
    for search in (lambda: find_copies(index, other, album), lambda: near_duplicates(index, other)):
        with pytest.raises(ValueError, match="descriptor"):
            search()


@pytest.mark.slow
def test_workers_of_a_cluster_find_the_same(album, tmp_path, monkeypatch):
    """Queries are divided among two; one of them is killed."""
    monkeypatch.setattr("qknb.copies.searching.AT_ONCE", 2)
    index = CopyIndex.build(tmp_path / "index", album, AnyCorners(), fit=False)
    queries = tmp_path / "queries"
    queries.mkdir()
    for name, picture in queries_of(album).items():
        picture.save(queries / f"{name}.png")
    (queries / "bad.jpg").write_bytes(b"text")

    def what(found):
        pairs = [(*match[:7], match.what(), match.files) for match in found.matches(top=3)]
        return pairs, found.skipped, found.notes, found.share

    def search(descriptor):
        return [
            what(find_copies(index, descriptor, queries)),
            what(near_duplicates(index, descriptor)),
        ]

    alone, here, killed = search(AnyCorners()), AnyCorners(), []
    real = searching.in_workers

    def in_workers(*given):
        for answer in real(*given):
            if not killed:
                killed.append(kill_a_worker())
            yield answer

    monkeypatch.setattr(searching, "in_workers", in_workers)
    with cluster("local:2"):
        assert search(here) == alone
    assert killed and not here.described and alone[0][0] and alone[0][1]
