"""The alternation of section 3.1: Q1, K1, Q2, ...; at each switch the side about to be frozen is embedded again; scores after each phase."""

import shutil
import time

import keras
import numpy as np

from .accounting import images_per_step, spent
from .backbones import build_backbone
from .bank import build_bank
from .devices import device_scope
from .duplicates import same_picture
from .files import alone, load_npz, replacing
from .gist import GistPCA
from .mining import hardest_pairs
from .phase import CHECKPOINT, PhaseInput, train_phase
from .prepare import prepared
from .scoring import Scorer, fit_sample
from .switching import next_limit, phase_steps, policy_of
from .towers import apply_head, build_head, build_trunk, fit_whitening
from .watch import PhaseWatch

__all__ = ["Trainer", "train"]

SIDES = "QK"
_FITTED = 100_000  # keys that the PCA of GIST is fitted on, at most


def train(run, phases=None):
    """Run every phase of a run that is not done yet (or the named ones), baselines first. Safe to call again at any time.

    Parameters
    ----------
    run : qknb.runs.Run
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
    if not run.experiment.keep_banks:
        shutil.rmtree(run / "banks", ignore_errors=True)
    return run.rows()


class Trainer:
    """The state of a run between phases. All of it is on disk: every phase starts from files, whether or not the run was cut off before."""

    def __init__(self, run):
        self.run, self.settings = run, run.experiment
        keras.mixed_precision.set_dtype_policy(self.settings.dtype_policy)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(self.settings.seed)  # op determinism asks for it; every draw of ours has its own seed
        self.sets = prepared(run)
        self._unchanging = {}  # what no phase changes while the backbones do not train: their trunk and its banks
        self.pca = self._fit_pca()
        self.scorer = Scorer(run, self.sets, self.bank)

    # --- fitted once ---------------------------------------------------------------------------------------------------------

    def _fit_pca(self):
        path = self.run / "gist_pca.npz"
        if not path.exists():
            gist = self.sets["keys"].gist
            rows = np.sort(np.random.default_rng([self.settings.seed, 20]).permutation(len(gist))[:_FITTED]) if len(gist) > _FITTED else slice(None)
            GistPCA.fit(np.asarray(gist[rows]), dim=self.settings.gist_dim).save(path)
        return GistPCA.load(path)

    def pretrained(self, pooling="avg"):
        """The backbone as it starts: ImageNet weights, or random ones by seed. Towers have average pooling; "gem" is for a row of the table.

        One for all where none is trained: building and tracing take seconds.
        """
        s = self.settings
        if pooling == "avg" and "backbone" in self._unchanging:
            return self._unchanging["backbone"]
        backbone = build_backbone(s.backbone, s.image_size, weights=None if s.weights == "none" else s.weights, pooling=pooling)
        if s.weights == "none":
            _seed_weights(backbone, s.seed)
        if not s.train_backbone and pooling == "avg":
            self._unchanging["backbone"] = backbone
        return backbone

    def _whitening(self):
        """(kernel, bias) of PCA whitening fitted on pretrained features of the keys, once."""
        path = self.run / "whitening.npz"
        if not path.exists():
            bank = self.bank("keys", self.pretrained(), name="pretrained")
            kernel, bias = fit_whitening(fit_sample(bank, self.settings.seed), self.settings.whiten_dim)
            with replacing(path) as temporary:
                np.savez(temporary, kernel=kernel, bias=bias)
        file = load_npz(path)
        return file["kernel"], file["bias"]

    # --- towers on disk ------------------------------------------------------------------------------------------------------

    def _latest(self, part, before):
        """Newest weights file of `part` ("Q_head", ...) from the phases before `before`, or None."""
        names = self.settings.phase_names(self.settings.phase_number(before)) if before else self.run.finished_phases()
        for name in reversed(names):
            path = self.run / "phases" / name / f"{part}.weights.h5"
            if self.run.done(f"phase {name}") and path.exists():
                return path
        return None

    def trunk(self, side, before=None):
        """The trunk (backbone, and whitening if any) of a side as it stands before phase `before` (None: after the last one)."""
        if "trunk" in self._unchanging:
            return self._unchanging["trunk"]
        model = build_trunk(self.pretrained(), self._whitening() if self.settings.head_input == "whitened" else None)
        if not self.settings.train_backbone:
            return self._unchanging.setdefault("trunk", model)
        path = self._latest(f"{side}_trunk", before)
        if path:
            _load_weights(model, path)
        return model

    def head(self, side, before=None, n_features=None):
        """The head of a side as it stands before phase `before` (None: after the last one)."""
        head = build_head(self.settings, n_features, name=f"{side}_head")
        path = self._latest(f"{side}_head", before)
        if path:
            _load_weights(head, path)
        return head

    def bank(self, set_name, trunk, dtype="float16", name="trunk"):
        """The bank of a set under the weights of `trunk`; one folder a set (it belongs to one side), made anew when the weights have changed."""
        images = self.sets[set_name]
        folder = self.run / "banks" / f"{images.name}-{name}-{dtype}"  # splits that share a set share its bank
        if trunk is self._unchanging.get("trunk"):
            if folder not in self._unchanging:
                self._unchanging[folder] = build_bank(folder, images, trunk, self.pca, dtype=dtype, batch=self.settings.embed_batch)
            return self._unchanging[folder]
        return build_bank(folder, images, trunk, self.pca, dtype=dtype, batch=self.settings.embed_batch)

    # --- phases --------------------------------------------------------------------------------------------------------------

    def limit(self, number):
        """The most steps that phase `number` may take after those before it; 0: there is no such phase, the run is complete."""
        s = self.settings
        done = [(self.run.done(f"phase {name}") or {}).get("steps", 0) for name in s.phase_names(number)]
        return next_limit(policy_of(s, phase_steps(len(self.sets["keys"]), s)), done, s.phases, s.total_steps)

    def phase_names(self):
        """Names of all phases of the run in order, the finished ones too; each is to be trained before the next is asked for.

        How many there are may depend on how they go: see `qknb.switching`.
        """
        number = 0
        while self.limit(number):
            name = self.settings.phase_names(number + 1)[-1]
            yield name
            if not self.run.done(f"phase {name}"):
                return
            number += 1

    def phase(self, name):
        """Train phase `name`, save its weights, evaluate. Does nothing when it is done; continues when it was cut off."""
        run, s = self.run, self.settings
        if run.done(f"phase {name}"):
            (run / "phases" / name / CHECKPOINT).unlink(missing_ok=True)  # left by a process that was killed between the two
            return
        if s.devices == "one":
            keras.utils.clear_session()  # inside a strategy's scope it would forget the scope
        if s.method != "qk":
            from .pairphase import run_pair_phase

            return run_pair_phase(self, name)
        begin = time.monotonic()
        near_side = name[0]
        far_side = SIDES[1 - SIDES.index(near_side)]
        folder = run / "phases" / name
        number = s.phase_number(name)
        names = s.phase_names(number)
        near_set, far_set = ("copies", "keys") if near_side == "Q" else ("keys", "copies")
        far_trunk = self.trunk(far_side, before=name)
        far = self.bank(far_set, far_trunk)
        near_trunk = self.trunk(near_side, before=name) if s.train_backbone else far_trunk
        near_features = None if s.train_backbone else self.bank(near_set, near_trunk)
        heads = {side: self.head(side, before=name, n_features=far.n_features) for side in SIDES}
        if s.shared_towers:
            heads[far_side] = heads[near_side]
        n_keys, views = len(self.sets["keys"]), s.views
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
            far_key=np.arange(len(far), dtype=np.int32) // (views if far_set == "copies" else 1),
            n_keys=n_keys,
            key_gist=self.pca.transform(np.asarray(self.sets["keys"].gist)) if s.ignore_duplicates else None,
            begin=begin,
        )
        moments = run / "phases" / names[-2] / "optimizer.npz" if not s.reset_optimizer and number >= 2 else None
        trunks = {near_side: near_trunk, far_side: near_trunk if s.shared_towers else far_trunk}

        watch = PhaseWatch(self.scorer, trunks, heads, near_side)
        decide = policy_of(s, phase_steps(n_keys, s)).decide
        outcome = train_phase(folder, data, s, previous_optimizer=moments, evaluate=watch, decide=decide)
        self.finish_phase(name, data, outcome, trunks, heads, trained=[near_side, far_side] if s.shared_towers else [near_side])

    def finish_phase(self, name, data, outcome, trunks, heads, trained, began=None):
        """What follows training, for every method: towers saved, the gallery of hardest negatives, scores, accounts; the phase is marked as done.

        Parameters
        ----------
        data : PhaseInput
        outcome : dict
            Of `train_phase` or `train_pairs`.
        trained : sequence of "Q", "K"
            Sides whose backbone has trained, if backbones train.
        began : float, optional
            time.monotonic() when training ended; default: now.
        """
        run, s, number, steps = self.run, self.settings, data.number, outcome["steps"]
        training_seconds, began = outcome["seconds"], time.monotonic() if began is None else began
        cost = spent(run, name, steps, data.n_keys, training_seconds)
        folder = run / "phases" / name
        for kind, models in (("trunk", {side: trunks[side] for side in trained if s.train_backbone}), ("head", heads)):
            for side, model in models.items():
                with replacing(folder / f"{side}_{kind}.weights.h5") as temporary:
                    model.save_weights(temporary)
        self._hard_negatives(folder, data)
        last = cost["steps"] >= s.total_steps if s.total_steps else number + 1 >= s.phases
        if last or (number + 1) % s.score_every == 0:
            self.scorer.score_phase(name, number, trunks, heads, cost, training_seconds + time.monotonic() - began)
        run.mark(f"phase {name}", steps=steps, images_total=steps * images_per_step(s), training_seconds=round(training_seconds, 1),
                 seconds=round(training_seconds + time.monotonic() - began, 1))
        (folder / CHECKPOINT).unlink(missing_ok=True)

    def score_last(self):
        """Score the newest phase if the run ends with it and `score_every` had left it out: `phases` may have been lowered since."""
        run, done = self.run, self.run.finished_phases()
        if not done or self.limit(len(done)) or done[-1] in {row["row"] for row in run.rows()}:
            return
        name, facts = done[-1], run.done(f"phase {done[-1]}")
        trunks = {side: self.trunk(side) for side in SIDES}
        heads = {side: self.head(side, n_features=trunks[side].output_shape[-1]) for side in SIDES}
        cost = spent(run, name, facts["steps"], len(self.sets["keys"]), facts.get("training_seconds", facts["seconds"]))
        self.scorer.score_phase(name, len(done) - 1, trunks, heads, cost, facts["seconds"])

    def _hard_negatives(self, folder, data):
        """The hardest negative pairs of a sample of near items against the whole bank, for the gallery; and those left out as duplicates."""
        s = self.settings
        n = min(256, len(data.near_gist))
        near_index = np.sort(np.random.default_rng([s.seed, 22, data.number]).permutation(len(data.near_gist))[:n])
        near = self._descriptors(data.side, near_index, data)
        key = (near_index // s.views if data.side == "Q" else near_index).astype(np.int32)
        same = same_picture(data.key_gist, s.ignore_duplicates) if s.ignore_duplicates else None
        both = {"": _hardest_of(near, key, data, same)}
        if same is not None:
            kept = {pair[1:] for pair in both[""]}
            plain = _hardest_of(near, key, data, None)
            both["removed_"] = [pair for pair in plain if pair[1:] not in kept and pair[0] <= max((p[0] for p in both[""]), default=np.inf)]
        arrays = {"side": np.array(data.side)}
        for prefix, pairs in both.items():
            arrays[prefix + "near_index"] = near_index[np.array([p[1] for p in pairs], np.int64)]
            arrays[prefix + "far_index"] = np.array([p[2] for p in pairs], np.int64)
            arrays[prefix + "d2"] = np.array([p[0] for p in pairs], np.float32)
        with replacing(folder / "hard_negatives.npz") as temporary:
            np.savez(temporary, **arrays)

    def _descriptors(self, side, index, data):
        if data.near_trunk is None:
            rows = data.near_features.gather(index)
        else:
            features = np.asarray(data.near_trunk.predict_on_batch(np.asarray(data.near_images[index])))[: len(index)]  # mirrored replicas each give all
            rows = np.concatenate([features, data.near_gist[index]], axis=1)
        return apply_head(data.near_head, rows, data.far.n_features)


def _hardest_of(near, key, data, ignore, count=64, block_rows=4096):
    """[(d2, row of near, bank row)] of the `count` hardest negatives, ascending."""
    best = []
    for at in range(0, len(data.far), block_rows):
        far = apply_head(data.far_head, np.asarray(data.far.rows[at : at + block_rows]), data.far.n_features)
        block = lambda _, r=far, g=data.far_key[at : at + block_rows]: (r, g)  # noqa: E731
        d2, i, _, j = (np.asarray(x) for x in hardest_pairs(near, key, block, 1, lambda x: x, count, ignore))
        best += [(float(d), int(a), int(b) + at) for d, a, b in zip(d2, i, j, strict=True) if np.isfinite(d)]
    return sorted(best)[:count]


def _seed_weights(model, seed):
    """Random starts that depend on `seed` alone, for weights="none"."""
    rng = np.random.default_rng([seed, 31])
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            fan_in = int(np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, np.sqrt(2 / fan_in), variable.shape).astype(np.float32))


def _load_weights(model, path):
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"the weights in {path} cannot be read ({error}): bring the file back from a copy, or begin a new run") from None
