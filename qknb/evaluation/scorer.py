"""Scores of a run: held-out descriptors of every row, evaluated as the challenge does, and
recorded.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Protocol

import keras
import numpy as np

from qknb.data.prepared_sets import PreparedSets
from qknb.data.splits import fit_rows
from qknb.evaluation.metrics import bootstrap_interval, evaluate
from qknb.evaluation.normalization import ScoreNormalization
from qknb.evaluation.rows import PRETRAINED, Cost, EvaluationRow
from qknb.evaluation.search import LONG, Pairs, top_pairs
from qknb.evaluation.unseen_edits import has_edit_of, micro_ap_of
from qknb.models.towers import apply_head, apply_whitening, fit_whitening
from qknb.run import Run
from qknb.system.files import load_npz, replacing
from qknb.system.linear_algebra import unit_rows
from qknb.system.machine import device_name

__all__ = ["BASELINES", "BankLike", "Scorer"]

BASELINES = ("GIST-256", "pretrained cosine", "pretrained whitened")
SIDE_OF = {"queries": "Q", "references": "K"}
_MEASURES = (
    "micro_ap",
    "recall_at_p90",
    "threshold_at_p90",
    "recall_at_rank1",
    "recall_at_rank10",
    "macro_ap",
)
WIDE = 200_000  # references; beyond, only rows of 256 values are searched
_RESAMPLES = 300  # of the queries, for the 95 % interval of micro-AP


class BankLike(Protocol):
    """What is used of a `qknb.training.bank.Bank`: rows of features, GIST beside them."""

    rows: np.ndarray
    n_features: int

    def __len__(self) -> int: ...

    def gather(self, index: np.ndarray) -> np.ndarray:
        """Rows at `index`."""


class Scorer:
    """Evaluates one run.

    Parameters
    ----------
    run
        Prepared.
    sets
        From `qknb.data.prepared_sets.prepared`.
    bank_of
        bank_of(set name, trunk, dtype, name, rows=None) gives the bank of a set, or of some rows.
    """

    def __init__(self, run: Run, sets: PreparedSets, bank_of: Callable[..., BankLike]):
        self.run, self.sets, self.bank_of = run, sets, bank_of
        self.settings, self.splits = run.experiment, sets.splits

    def descriptors(
        self, trunks: dict[str, keras.Model], heads: dict[str, keras.Model], split: str
    ) -> dict[str, np.ndarray]:
        """Descriptors of a split under both towers: "queries", "references", (n, d) float32."""
        found = {}
        for part, side in SIDE_OF.items():
            bank = self.bank_of(f"{split}_{part}", trunks[side], "float32", "trunk")
            found[part] = apply_head(heads[side], bank.rows, bank.n_features)
        return found

    def candidates(self, found: dict[str, np.ndarray]) -> Pairs:
        """The pairs that go into an evaluation: the globally best `max_results`."""
        queries, references = found["queries"], found["references"]
        return top_pairs(
            queries,
            references,
            self.settings.max_results,
            progress=len(queries) * len(references) > LONG,
        )

    def measure(self, pairs: Pairs, split: str) -> dict[str, float | None]:
        """The challenge's measures of candidate pairs, by the names in `Evaluation`."""
        result = evaluate(pairs, self.sets.held_out[split].truth)
        return {name: getattr(result, name) for name in _MEASURES}

    def score_phase(
        self,
        name: str,
        number: int,
        trunks: dict[str, keras.Model],
        heads: dict[str, keras.Model],
        cost: Cost,
        seconds: float,
    ) -> None:
        """Evaluate a finished phase on every split and record its rows.

        Parameters
        ----------
        name, number
            Of the phase.
        trunks, heads
            By side, "Q" and "K".
        cost
            Of the run so far.
        seconds
            Of the phase so far.
        """
        keys = self.bank_of("keys", trunks["K"], "float16", "trunk")
        seen = keys.gather(fit_rows(len(keys), self.settings.seed))
        for split in self.splits:
            train = apply_head(heads["K"], seen, keys.n_features)
            self._record(
                name,
                number + 1,
                split,
                self.descriptors(trunks, heads, split),
                train,
                cost,
                seconds,
            )

    def baselines(self, backbone: keras.Model) -> None:
        """Record the rows without training, once.

        GIST-256, and the pretrained backbone's features, cosine and PCA-whitened to 256 (then unit
        length).
        """
        if self.run.done("baselines"):
            return
        started = time.monotonic()
        fitted = fit_rows(len(self.sets["keys"]), self.settings.seed)
        keys = self.bank_of("keys", backbone, "float16", "pretrained", fitted)
        n = keys.n_features
        kernel, bias = fit_whitening(np.asarray(keys.rows)[:, :n], 256)
        descriptors = {
            "GIST-256": lambda rows: rows[:, n:],
            "pretrained cosine": lambda rows: unit_rows(rows[:, :n]),
            "pretrained whitened": lambda rows: unit_rows(
                apply_whitening(rows[:, :n], kernel, bias)
            ),
        }
        train = np.asarray(keys.rows, np.float32)
        for split in self.splits:
            rows = {
                part: np.asarray(
                    self.bank_of(f"{split}_{part}", backbone, "float32", "pretrained").rows
                )
                for part in SIDE_OF
            }
            for row in BASELINES:
                if row == "pretrained cosine" and len(rows["references"]) > WIDE:
                    print(
                        f"{split}: the row {row!r} is omitted: {n:,} values of each of "
                        f"{len(rows['references']):,} references do not fit the memory"
                    )
                    continue
                begin = time.monotonic()
                found = {
                    part: np.ascontiguousarray(descriptors[row](rows[part]), np.float32)
                    for part in SIDE_OF
                }
                self._record(
                    row,
                    0,
                    split,
                    found,
                    descriptors[row](train),
                    PRETRAINED,
                    time.monotonic() - begin,
                )
        self.run.mark("baselines", seconds=round(time.monotonic() - started, 1))

    def record_fixed(
        self,
        row: str,
        split: str,
        found: dict[str, np.ndarray],
        train: np.ndarray,
        seconds: float,
    ) -> None:
        """Evaluate and record a row without training.

        Parameters
        ----------
        row, split
            Names of both.
        found
            "queries" (q, d) and "references" (r, d), float32.
        train
            (n, d) descriptors of training keys, for score normalization.
        seconds
            That describing the images took.
        """
        self._record(row, 0, split, found, train, PRETRAINED, seconds)

    def _record(self, row, phase_index, split, found, train, cost, seconds):
        path = self.run / "evaluation" / f"{row}.npz"
        arrays = {self.sets[f"{split}_{part}"].name: values for part, values in found.items()}
        if path.exists():
            arrays = load_npz(path) | arrays
        with replacing(path) as temporary:
            np.savez(temporary, **arrays)
        queries, references, truth = self.sets.held_out[split]
        normalization = ScoreNormalization.fit(np.asarray(train, np.float32), n=min(10, len(train)))
        normalized = {
            "queries": normalization.queries(found["queries"]),
            "references": normalization.references(found["references"]),
        }
        pairs = self.candidates(found)
        distractors = np.setdiff1d(np.arange(len(queries)), truth[:, 0])
        drawn_from = np.concatenate(
            [truth, np.stack([distractors, np.full(len(distractors), -1)], axis=1)]
        )
        facts = EvaluationRow(
            row=row,
            phase_index=phase_index,
            split=split,
            **self.measure(pairs, split),
            micro_ap_interval=tuple(
                bootstrap_interval(pairs, drawn_from, n=_RESAMPLES, seed=self.settings.seed)
            ),
            micro_ap_normalized=self.measure(self.candidates(normalized), split)["micro_ap"],
            **self._unseen_edits(pairs, queries, truth),
            queries=len(queries),
            distractors=len(distractors),
            references=len(references),
            **dataclasses.asdict(cost),
            seconds=round(seconds, 1),
            cut=f"{self.settings.max_results:,} globally best pairs",
            seed=self.settings.seed,
            device=device_name(),
        )
        self.run.log_row(facts.to_json())
        for alias in (name for name, of in self.sets.aliases.items() if of == split):
            self.run.log_row(dataclasses.replace(facts, split=alias, alias_of=split).to_json())

    def _unseen_edits(self, pairs, queries, truth):
        """Fields of the row on copies with edits that training never showed."""
        if not self.settings.held_out_edits:
            return {}
        chosen = has_edit_of(queries.items, self.settings.held_out_edits)
        copies = int(chosen[truth[:, 0]].sum())
        if not copies:
            return {}
        return {
            "micro_ap_unseen_edits": micro_ap_of(pairs, truth, chosen),
            "unseen_edits": copies,
        }
