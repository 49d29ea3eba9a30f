"""The alternation of section 3.1: Q1, K1, Q2, ...; at each switch the side about to be frozen is
embedded again; scores after each phase.
"""

import dataclasses
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from qknb.data.run_check import damaged_scores, mend_run
from qknb.evaluation.rows import behind
from qknb.evaluation.scorer import Scorer
from qknb.evaluation.tracking import live_tracking, send_new
from qknb.run import Run, remaining
from qknb.system import records
from qknb.system.files import replacing
from qknb.system.hosts import host_count, told
from qknb.system.locks import alone
from qknb.training.budget import images_per_step, spent
from qknb.training.devices import device_scope
from qknb.training.hard_negatives import write_hard_negatives
from qknb.training.monitor import PhaseMonitor
from qknb.training.phase import train_phase
from qknb.training.phase_checkpoint import CHECKPOINT
from qknb.training.run_towers import SIDES, RunTowers
from qknb.training.switching import phase_steps, policy_of
from qknb.training.together import check_together, train_together

__all__ = ["Trainer", "evaluate", "follow", "train"]


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
    if host_count() > 1:
        check_together(run.experiment)
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


def follow(path: Path) -> None:
    """Train the run at `path` together with the first host, until that one has ended.

    For the other hosts (`qknb.system.hosts`); the first one calls `train`. The folder is the same
    one on all, and is only read here.
    """
    while name := told():
        trainer = Trainer(Run(path))
        data, moments, *_ = trainer.phase_input(name)
        train_together(
            path / "phases" / name,
            data,
            trainer.settings,
            previous_optimizer=moments,
            evaluate=lambda model, step: {},  # the first host's is told
            decide=trainer.decide(),
        )


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
        data, moments, trunks, heads = self.phase_input(name)
        watch = PhaseMonitor(self.scorer, trunks, heads, data.side)
        several = host_count() > 1
        if several:
            told(name)
        result = (train_together if several else train_phase)(
            run / "phases" / name,
            data,
            s,
            previous_optimizer=moments,
            evaluate=watch,
            decide=self.decide(),
        )
        shared = s.shares_towers(data.number)
        self.finish_phase(
            name, data, result, trunks, heads, trained=list(SIDES) if shared else [data.side]
        )

    def decide(self):
        """What may end a phase early: see `qknb.training.phase.train_phase`."""
        return policy_of(self.settings, phase_steps(len(self.sets["keys"]), self.settings)).decide

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
