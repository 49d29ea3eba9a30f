"""What each kind of score normalization gives on a run's held-out images: micro-AP by row.

    python benchmarks/bench_normalization.py [RUN ...] [--split test]

Each RUN has been trained and has kept its banks (keep_banks=true); without one, a small run of
scenes is made first, for some minutes. Several runs give mean and standard deviation. All kinds are
fitted on the descriptors of the training keys alone. "ip" is the form of the challenge's script,
for rows of unit length; the others are the squared-L2 forms: mean of the 10 nearest (the tables'
column), the 10th nearest alone (as the script takes), and the same within the descriptor's own
dimension.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from measuring import made_run

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
BASELINES = ("GIST-256", "pretrained cosine", "pretrained whitened")


def main(arguments=None):
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="*")
    parser.add_argument("--split", default="test")
    options = parser.parse_args(arguments)
    from qknb.system.keras_import import import_keras

    import_keras()
    with tempfile.TemporaryDirectory() as root:
        runs = [Path(run) for run in options.run] or [
            made_run(
                root,
                "heads",
                n_scenes=2000,
                views=2,
                phases=2,
                steps_per_phase=200,
                keep_banks=True,
            )
        ]
        found = [scores(run, options.split) for run in runs]
    kinds = list(found[0][BASELINES[0]])
    print(
        (
            f"micro-AP, split {options.split}, {len(runs)} runs; candidates: 500,000 globally best "
            f"pairs\n{'row':<20}"
        )
        + "".join(f"{kind:>22}" for kind in kinds)
    )
    for row in found[0]:
        values = np.array([[one[row].get(kind, np.nan) for kind in kinds] for one in found])
        spread = values.std(0, ddof=1) if len(values) > 1 else [0] * len(kinds)
        print(
            f"{row:<20}"
            + "".join(
                f"{f'{mean:.3f} ± {sd:.3f}' if mean == mean else '-':>22}"
                for mean, sd in zip(values.mean(0), spread, strict=True)
            )
        )


def scores(path, split):
    """{row: {kind: micro-AP}} of one run: the rows without training and the last phase."""
    from qknb.data.splits import fit_rows
    from qknb.evaluation.metrics import evaluate
    from qknb.evaluation.normalization import ScoreNormalization
    from qknb.evaluation.search import top_pairs
    from qknb.models.towers import apply_head, fit_whitening
    from qknb.run import Run
    from qknb.training.trainer import Trainer

    run = Run(path)
    trainer = Trainer(run)
    queries, references = (
        trainer.sets[f"{split}_{part}"].name for part in ("queries", "references")
    )
    keys = trainer.bank("keys", trainer.pretrained(), name="pretrained")
    rows, n = np.asarray(keys.rows, np.float32), keys.n_features
    fitted = fit_rows(len(keys), run.experiment.seed)
    kernel, bias = fit_whitening(np.asarray(keys.rows)[fitted, :n], 256)
    bank = trainer.bank("keys", trainer.trunk("K"))
    last = run.finished_phases()[-1]
    train = {
        "GIST-256": rows[:, n:],
        "pretrained cosine": unit(rows[:, :n]),
        "pretrained whitened": unit(rows[:, :n] @ kernel + bias),
        last: apply_head(trainer.head("K", n_features=bank.n_features), bank.rows, bank.n_features),
    }

    def micro_ap(q, r, metric="l2"):
        return evaluate(
            top_pairs(q, r, run.experiment.max_results, metric=metric),
            trainer.sets.held_out[split].truth,
        ).micro_ap

    out = {}
    for row, known in train.items():
        with np.load(run / "evaluation" / f"{row}.npz", allow_pickle=False) as file:
            q, r = (np.ascontiguousarray(file[name], np.float32) for name in (queries, references))
        forms = {
            "mean of 10": dict(),
            "10th": dict(reduction="min"),
            "10th, same dimension": dict(reduction="min", dim=q.shape[1]),
        }
        if row in BASELINES[1:]:
            forms["10th, ip"] = dict(reduction="min", metric="ip")
        out[row] = {"plain": micro_ap(q, r)}
        for kind, changes in forms.items():
            fitted = ScoreNormalization.fit(known, **changes)
            out[row][kind] = micro_ap(
                fitted.queries(q), fitted.references(r), changes.get("metric", "l2")
            )
    kinds = ["plain", "mean of 10", "10th", "10th, same dimension", "10th, ip"]
    return {row: {kind: value.get(kind, np.nan) for kind in kinds} for row, value in out.items()}


def unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


if __name__ == "__main__":
    main()
