"""The alternation of section 3.1: Q1, K1, Q2, ...; at each switch the side about to be frozen is
embedded again; scores after each phase.
"""

import dataclasses
import shutil
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from qknb.data.run_check import damaged_scores, mend_run
from qknb.evaluation.rows import behind
from qknb.evaluation.scorer import Scorer
from qknb.evaluation.tracking import live_tracking, send_new
from qknb.run import Run, remaining
from qknb.system import records
from qknb.system.files import replacing
from qknb.system.locks import alone
from qknb.training.batches import bank_copies
from qknb.training.budget import images_per_step, spent
from qknb.training.devices import device_scope
from qknb.training.hard_negatives import write_hard_negatives
from qknb.training.monitor import PhaseMonitor
from qknb.training.phase import PhaseInput, train_phase
from qknb.training.phase_checkpoint import CHECKPOINT
from qknb.training.run_towers import RunTowers
from qknb.training.switching import next_limit, phase_steps, policy_of

__all__ = ["Trainer", "evaluate", "train"]

SIDES = "QK"


def train(run: Run, phases: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run every phase of a run that is not done yet (or the named ones), baselines first. Safe to
    call again at any time.

    Parameters
    ----------
    run : qknb.run.Run
        Prepared.
    phases : sequence of str, optional

    Returns
    -------
    list of dict
        All evaluation rows.
    """
    with alone(run.path, f"the run at {run.path}"), device_scope(run.experiment):
        trainer = Trainer(run)
        trainer.scorer.baselines(trainer.pretrained())
        for name in phases or trainer.phase_names():
            trainer.phase(name)
        trainer.score_last()
        if said := behind(run.rows(), (run.finished_phases() or ("",))[-1]):
            print(f"{said}.")
    send_new(run.path)
    if not run.experiment.keep_banks:
        records.forget(run / "banks")
        shutil.rmtree(run / "banks", ignore_errors=True)
    return run.rows()


def evaluate(run: Run) -> list[dict[str, Any]]:
    """Score what is not scored yet: the rows without training, and every finished phase.

    Scores that are damaged, or the descriptors that they were made from, are put aside and made
    again.

    Parameters
    ----------
    run : qknb.run.Run
        Prepared.

    Returns
    -------
    list of dict
        All evaluation rows.
    """
    for line in mend_run(run, damaged_scores(run)):
        print(line)
    with alone(run.path, f"the run at {run.path}"):
        missing = _not_scored(run)
        if missing or not run.done("baselines"):
            with device_scope(run.experiment):
                trainer = Trainer(run)
                trainer.scorer.baselines(trainer.pretrained())
                for name in missing:
                    trainer.score(name)
    return run.rows()


def _not_scored(run):
    scored = {row["row"] for row in run.rows()}
    return [name for name in run.finished_phases() if name not in scored]


class Trainer(RunTowers):
    """Trains the phases of a run. Each starts from files, whether or not the run was cut off
    before.
    """

    def __init__(self, run):
        super().__init__(run)
        self.scorer = Scorer(run, self.sets, self.bank)

    def limit(self, number):
        """The most steps that phase `number` may take after those before it; 0: there is no such
        phase, the run is complete.
        """
        s = self.settings
        done = [
            (self.run.done(f"phase {name}") or {}).get("steps", 0) for name in s.phase_names(number)
        ]
        return next_limit(
            policy_of(s, phase_steps(len(self.sets["keys"]), s)), done, s.phases, s.total_steps
        )

    def phase_names(self):
        """Names of all phases of the run in order, the finished ones too; each is to be trained
        before the next is asked for.

        How many there are may depend on how they go: see `qknb.training.switching`.
        """
        number = 0
        while self.limit(number):
            name = self.settings.phase_names(number + 1)[-1]
            yield name
            if not self.run.done(f"phase {name}"):
                return
            number += 1

    def phase(self, name):
        """Train phase `name`, save its weights, evaluate. Does nothing when it is done; continues
        when it was cut off.
        """
        with live_tracking(self.run):
            return self._phase(name)

    def _phase(self, name):
        run, s = self.run, self.settings
        if run.done(f"phase {name}"):
            # left by a process that was killed between the two
            records.remove(run / "phases" / name / CHECKPOINT)
            return
        if s.devices == "one":
            keras.utils.clear_session()  # inside a strategy's scope it would forget the scope
        if s.method != "qk":
            from qknb.training.pair_phase import run_pair_phase

            return run_pair_phase(self, name)
        begin = time.monotonic()
        near_side = name[0]
        far_side = SIDES[1 - SIDES.index(near_side)]
        folder = run / "phases" / name
        number = s.phase_number(name)
        names = s.phase_names(number)
        near_set, far_set = ("copies", "keys") if near_side == "Q" else ("keys", "copies")
        far_trunk = self.trunk(far_side, before=name)
        n_keys, views = len(self.sets["keys"]), s.views
        far_rows = bank_copies(n_keys, s, number) if far_set == "copies" else None
        far = self.bank(far_set, far_trunk, rows=far_rows)
        near_trunk = self.trunk(near_side, before=name) if s.train_backbone else far_trunk
        near_features = None if s.train_backbone else self.bank(near_set, near_trunk)
        heads = {side: self.head(side, before=name, n_features=far.n_features) for side in SIDES}
        shared = s.shares_towers(number)
        if shared:
            heads[far_side] = heads[near_side]
        data = PhaseInput(
            name=name,
            side=near_side,
            number=number,
            limit=self.limit(number) or None,
            steps_before=sum((run.done(f"phase {n}") or {}).get("steps", 0) for n in names),
            near_trunk=near_trunk if s.train_backbone else None,
            near_head=heads[near_side],
            far_head=heads[far_side],
            near_images=self.sets[near_set].images if s.train_backbone else None,
            near_features=near_features,
            near_gist=self.pca.transform(np.asarray(self.sets[near_set].gist)),
            far=far,
            far_key=np.arange(n_keys, dtype=np.int32)
            if far_rows is None
            else (far_rows // views).astype(np.int32),
            far_rows=far_rows,
            n_keys=n_keys,
            key_gist=self.pca.transform(np.asarray(self.sets["keys"].gist))
            if s.ignore_duplicates
            else None,
            begin=begin,
        )
        moments = (
            run / "phases" / names[-2] / "optimizer.npz"
            if not s.reset_optimizer and number >= 2
            else None
        )
        trunks = {near_side: near_trunk, far_side: near_trunk if shared else far_trunk}

        watch = PhaseMonitor(self.scorer, trunks, heads, near_side)
        decide = policy_of(s, phase_steps(n_keys, s)).decide
        result = train_phase(
            folder, data, s, previous_optimizer=moments, evaluate=watch, decide=decide
        )
        self.finish_phase(
            name,
            data,
            result,
            trunks,
            heads,
            trained=[near_side, far_side] if shared else [near_side],
        )

    def finish_phase(self, name, data, result, trunks, heads, trained, began=None):
        """What follows training, for every method: towers saved, the gallery of hardest negatives,
        scores, accounts; the phase is marked as done.

        Parameters
        ----------
        data : PhaseInput
        result : PhaseResult
            Of `train_phase` or `train_pairs`.
        trained : sequence of "Q", "K"
            Sides whose backbone has trained, if backbones train.
        began : float, optional
            time.monotonic() when training ended; default: now.
        """
        run, s, number, steps = self.run, self.settings, data.number, result.steps
        training_seconds, began = result.seconds, time.monotonic() if began is None else began
        cost = spent(run, name, steps, data.n_keys, training_seconds)
        folder = run / "phases" / name
        for kind, models in (
            ("trunk", {side: trunks[side] for side in trained if s.train_backbone}),
            ("head", heads),
        ):
            for side, model in models.items():
                with replacing(folder / f"{side}_{kind}.weights.h5") as temporary:
                    model.save_weights(temporary)
        write_hard_negatives(folder, data, s)
        for log in folder.glob("*.jsonl"):
            records.settle(log)
        facts = {f"phase {name}": {"steps": steps}}
        last = not remaining(dataclasses.asdict(s), run.manifest["steps"] | facts)
        if last or (number + 1) % s.score_every == 0:
            self.scorer.score_phase(
                name, number, trunks, heads, cost, training_seconds + time.monotonic() - began
            )
        run.mark(
            f"phase {name}",
            steps=steps,
            images_total=steps * images_per_step(s),
            training_seconds=round(training_seconds, 1),
            seconds=round(training_seconds + time.monotonic() - began, 1),
        )
        records.remove(folder / CHECKPOINT)

    def score_last(self):
        """Score the newest phase if the run ends with it and `score_every` had omitted it: `phases`
        may have been lowered since."""
        done = self.run.finished_phases()
        if done and self.run.is_complete and done[-1] in _not_scored(self.run):
            self.score(done[-1])

    def score(self, name):
        """Evaluate the finished phase `name` from its files, and record its rows."""
        run, number, facts = (
            self.run,
            self.settings.phase_number(name),
            self.run.done(f"phase {name}"),
        )
        after = self.settings.phase_names(number + 2)[-1]
        trunks = {side: self.trunk(side, before=after) for side in SIDES}
        n_features = trunks["K"].output_shape[-1]
        heads = {side: self.head(side, before=after, n_features=n_features) for side in SIDES}
        seconds = facts.get("training_seconds", facts["seconds"])
        cost = spent(run, name, facts["steps"], len(self.sets["keys"]), seconds)
        self.scorer.score_phase(name, number, trunks, heads, cost, facts["seconds"])
