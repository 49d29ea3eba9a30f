"""A small finished run, made by hand: known images, descriptors, distances and truth, for tests of
tables, figures and the report. And what two real runs must agree in.
"""

import json
from pathlib import Path

import h5py
import numpy as np

QUERIES = np.array(
    [[0.0, 0], [10.0, 0], [20.0, 0], [30.0, 0]], np.float32
)  # Q0..Q2 are copies of R0..R2, Q3 is a distractor
REFERENCES = {
    "GIST-256": np.array(
        [[2.0, 0], [10.1, 0], [25.0, 0], [30.2, 0]], np.float32
    ),  # d2 of the truth 4, .01, 25; of Q3-R3 .04
    "Q1": np.array([[1.0, 0], [10.1, 0], [22.0, 0], [30.5, 0]], np.float32),
    "K1": np.array([[0.1, 0], [10.1, 0], [21.0, 0], [30.5, 0]], np.float32),
}
MICRO_AP = {
    "GIST-256": (1 + 2 / 3 + 3 / 5) / 3,
    "Q1": (1 + 2 / 3 + 3 / 4) / 3,
    "K1": (1 + 1 + 3 / 4) / 3,
}  # counted by hand


def make_set(folder, items, size=16):
    """A prepared image set: image i is a plain square of brightness 10 * i."""
    folder.mkdir(parents=True)
    images = (
        np.zeros((len(items), size, size, 3), np.uint8)
        + (10 * np.arange(len(items), dtype=np.uint8))[:, None, None, None]
    )
    np.save(folder / "images.npy", images)
    np.save(folder / "gist.npy", np.zeros((len(items), 960), np.float32))
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "complete.json").write_text(json.dumps({"fingerprint": "made", "n": len(items)}))


def item(name, source, view=0, edits=()):
    return {"id": name, "source": source, "view": view, "edits": list(edits)}


EDITS = [["rotate", {"degrees": 12.0}], ["encoding_quality", {"quality": 9}]]


def make_run(path, rows=("GIST-256", "Q1", "K1"), seed=0, names="photo-{}.jpg", scale=1.0):
    """Write a run of `rows` to `path`: store, evaluation, metrics, logs of the phases among the
    rows, manifest. Returns `path`.
    """
    sources = [names.format(i) for i in range(6)]
    make_set(path / "store" / "keys", [item(s, s) for s in sources])
    make_set(
        path / "store" / "copies",
        [item(f"{s}#{v}", s, v, EDITS) for s in sources for v in range(2)],
    )
    held_out = [names.format(100 + i) for i in range(5)]
    for split in ("test", "val"):
        make_set(
            path / "store" / f"{split}_references",
            [item(f"R{i:06d}", held_out[i]) for i in range(4)],
        )
        make_set(
            path / "store" / f"{split}_queries",
            [item(f"Q{i:05d}", held_out[i if i < 3 else 4], 0, EDITS) for i in range(4)],
        )
    (path / "evaluation").mkdir()
    steps, lines = (
        {
            "prepare": {
                "finished": "2030-01-02T03:04:05+0000",
                "keys": 6,
                "copies": 12,
                "skipped": 1,
                "duplicates": 0,
            }
        },
        [],
    )
    for index, row in enumerate(rows):
        phase = 0 if row not in ("Q1", "K1") else index
        descriptors = {
            f"{split}_{part}": v
            for split in ("test", "val")
            for part, v in (("queries", QUERIES), ("references", REFERENCES[row]))
        }
        np.savez(path / "evaluation" / f"{row}.npz", **descriptors)
        for split in ("val", "test"):
            lines.append(
                {
                    "row": row,
                    "phase_index": phase,
                    "split": split,
                    "micro_ap": MICRO_AP[row] * scale,
                    "micro_ap_interval": [0.25, 1.0],
                    "micro_ap_normalized": MICRO_AP[row] * scale + 0.05,
                    "recall_at_p90": {"GIST-256": 1 / 3, "Q1": None, "K1": 2 / 3}[row],
                    "threshold_at_p90": None if row == "Q1" else -0.01,
                    "recall_at_rank1": 1.0,
                    "recall_at_rank10": 1.0,
                    "queries": 4,
                    "distractors": 1,
                    "references": 4,
                    "images_seen": 1920 * phase,
                    "seconds": 65.2 * phase,
                    "cut": "500,000 globally best pairs",
                }
            )
        if phase:
            make_phase(path / "phases" / row, row[0])
            steps[f"phase {row}"] = {
                "finished": "2030-01-02T03:05:05+0000",
                "steps": 20,
                "images_total": 640,
                "seconds": 65.2,
            }
    (path / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in reversed(lines))
    )
    settings = {
        "preset": "smoke",
        "seed": seed,
        "images": "/somewhere/else/holiday",
        "views": 2,
        "phases": 2,
        "max_results": 500_000,
        "first_side": "Q",
        "tau": 0.1,
    }
    (path / "manifest.json").write_text(
        json.dumps(
            {
                "format": 1,
                "experiment": settings,
                "created": "2030-01-02T03:00:00+0000",
                "versions": {"python": "3.11.0", "keras": "3.15.1"},
                "steps": steps,
            }
        )
    )
    (path / "skipped.csv").write_text(
        "id,reason\n<script>alert(1)</script>.jpg,truncated & useless\n"
    )
    return path


def make_phase(folder, side):
    """Two logged steps and three hard negatives; the nearest of them is listed twice."""
    folder.mkdir(parents=True)
    fields = {
        "loss": (2.0, 1.0),
        "loss_pos": (1.4, 0.4),
        "loss_neg": (0.2, 0.2),
        "d2_pos": (0.1, 0.02),
        "d2_neg": (0.3, 0.4),
        "d2_neg_min": (0.05, 0.06),
        "learning_rate": (1e-3, 1e-3),
    }
    (folder / "steps.jsonl").write_text(
        "".join(
            json.dumps({"step": 10 * (i + 1)} | {k: v[i] for k, v in fields.items()}) + "\n"
            for i in range(2)
        )
    )
    near, far = (
        ([2, 0, 3, 9], [5, 3, 5, 0]) if side == "Q" else ([5, 3, 5, 0], [2, 0, 3, 9])
    )  # copies 2, 3 are of key 1; 0 of key 0; 9 of key 4
    np.savez(
        folder / "hard_negatives.npz",
        side=np.array(side),
        near_index=np.array(near),
        far_index=np.array(far),
        d2=np.array([0.011, 0.02, 0.01, 0.03], np.float32),
    )


def saved_weights(path):
    """{name: array} of everything in an HDF5 file."""
    found = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    with h5py.File(path) as file:
        file.visititems(keep)
    return found


def contents(run):
    """Everything a run ends with that must not depend on its history."""
    out = {}
    for path in sorted((run / "phases").rglob("*.weights.h5")):
        out |= {
            f"{path.parent.name}/{path.name}/{name}": value
            for name, value in saved_weights(path).items()
        }
    for path in sorted((run / "evaluation").glob("*.npz")):
        with np.load(path) as file:
            out |= {f"{path.name}/{name}": file[name] for name in file.files}
    out["steps"] = "".join(p.read_text() for p in sorted((run / "phases").rglob("steps.jsonl")))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    out["table"] = [
        {k: v for k, v in row.items() if k not in ("seconds", "training_seconds")} for row in rows
    ]
    return out


def same_ends(one, two):
    """Assert that two runs have ended in the same bits: weights, descriptors, logs of steps, rows
    (but for wall times).
    """
    a, b = contents(Path(one)), contents(Path(two))
    assert a.keys() == b.keys() and any("weights" in key for key in a)
    for key in a:
        if isinstance(a[key], np.ndarray):
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
        else:
            assert a[key] == b[key], key
