"""A small DISC21 tree in each layout: scenes as training images and references, edited copies and
other scenes as queries.
"""

import functools
import io
import zipfile

from qknb.data.augment import augment
from qknb.data.scenes import scene

LAYOUTS = ("official", "sscd", "meta")
TRAIN = tuple(f"T{i:06d}" for i in range(30))
REFERENCES = tuple(f"R{i:06d}" for i in range(12))
TRUTH = {
    "Q00000": "R000003",
    "Q00001": "",
    "Q00002": "R000005",
    "Q00003": "R000000",
    "Q25000": "R000001",
    "Q25001": "",
    "Q25002": "R000011",
    "Q50000": "R000007",
    "Q50001": "",
    "Q50002": "R000002",
}
QUERIES = {
    "25k": [q for q in TRUTH if q < "Q25000"],
    "50k": [q for q in TRUTH if q < "Q50000"],
    "phase2": [q for q in TRUTH if q >= "Q50000"],
}


@functools.cache
def image_bytes(name):
    """The file of an image, as JPEG: matching queries are edited copies of their reference."""
    if TRUTH.get(name):
        image, _ = augment(_scene(TRUTH[name]), seed=5, key=name, view=0)
    else:
        image = _scene(name)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=92)
    return data.getvalue()


def _scene(name):
    return scene(77, int(name[1:]) + {"T": 0, "R": 1000, "Q": 200_000}[name[0]], 96)


def make_tree(root, layout, splits=("25k", "50k", "phase2")):
    """Write the tree; `splits` are those whose ground truth is there. Returns `root`."""
    dev, phase2 = QUERIES["50k"], QUERIES["phase2"]
    if layout == "meta":
        _zip(root / "train_50k_0.zip", TRAIN[:20], "train/")
        _zip(root / "train_50k_1.zip", TRAIN[20:], "train/")
        _zip(root / "refs_50k_0.zip", REFERENCES)
        _zip(root / "dev_queries_50k_0.zip", dev, "images/")
        _zip(root / "test_queries_50k_0.zip", phase2)
        truth = {
            "25k": "public_ground_truth.csv",
            "50k": "dev_queries_groundtruth.csv",
            "phase2": "test_queries_groundtruth.csv",
        }
    else:
        names = (
            ("images/train", "images/references", "images/queries")
            if layout == "official"
            else ("training", "val_ref", "val_query")
        )
        for folder, ids in zip(names, (TRAIN, REFERENCES, dev + phase2), strict=True):
            (root / folder).mkdir(parents=True)
            for name in ids:
                (root / folder / f"{name}.jpg").write_bytes(image_bytes(name))
        truth = {
            "25k": "list_files/public_ground_truth.csv",
            "50k": "list_files/dev_queries_groundtruth.csv",
            "phase2": "list_files/test_queries_groundtruth.csv",
        }
    if layout == "sscd":
        rows = [
            f"{q},{r}\n" for q, r in TRUTH.items() if r and any(q in QUERIES[s] for s in splits)
        ]
        (root / "val_groundtruth_matches.csv").write_text("query_id,reference_id\n" + "".join(rows))
        return root
    for split in splits:
        (root / truth[split]).parent.mkdir(exist_ok=True)
        (root / truth[split]).write_text("".join(f"{q},{TRUTH[q]}\n" for q in QUERIES[split]))
    return root


def _zip(path, names, inside=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"{inside}{name}.jpg", image_bytes(name))
