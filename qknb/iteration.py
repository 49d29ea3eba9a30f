"""The alternation of section 3.1: Q1, K1, Q2, ...; at each switch the side about to be frozen is embedded again; scores after each phase."""

import shutil
import time

import keras
import numpy as np

from .backbones import build_backbone
from .bank import build_bank
from .files import replacing
from .gist import GistPCA, normalize_gist
from .metrics import evaluate_arrays
from .mining import hardest_pairs
from .phase import PhaseInput, train_phase
from .prepare import prepared
from .retrieval import top_pairs
from .towers import build_head, fit_whitening, set_whitening

__all__ = ["Trainer", "train"]

SIDES = "QK"
_QUERY_SIDE = {"Q": "queries", "K": "references"}
BASELINES = ("GIST-256", "untrained cosine", "untrained whitened")


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
    trainer = Trainer(run)
    trainer.baselines()
    for name in phases or run.experiment.phase_names():
        trainer.phase(name)
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
        self.pca = self._fit_pca()

    # --- fitted once ---------------------------------------------------------------------------------------------------------

    def _fit_pca(self):
        path = self.run / "gist_pca.npz"
        if not path.exists():
            GistPCA.fit(np.asarray(self.sets["keys"].gist), dim=self.settings.gist_dim).save(path)
        return GistPCA.load(path)

    def _pretrained(self):
        s = self.settings
        backbone = build_backbone(s.backbone, s.image_size, weights=None if s.weights == "none" else s.weights)
        if s.weights == "none":
            _seed_weights(backbone, s.seed)
        return backbone

    def _whitening(self):
        """Kernel and bias of the heads' whitened input, fitted on pretrained features of the keys, once."""
        path = self.run / "whitening.npz"
        if not path.exists():
            bank = self._bank("keys", self._pretrained())
            sample = np.sort(np.random.default_rng([self.settings.seed, 21]).permutation(len(bank))[:20_000])
            kernel, bias = fit_whitening(bank.gather(sample)[:, : bank.n_features], self.settings.whiten_dim)
            with replacing(path) as temporary:
                np.savez(temporary, kernel=kernel, bias=bias)
        with np.load(path, allow_pickle=False) as file:
            return file["kernel"], file["bias"]

    # --- towers on disk ------------------------------------------------------------------------------------------------------

    def _latest(self, part, before):
        """Newest weights file of `part` ("Q_head", ...) from the phases before `before`, or None."""
        names = self.settings.phase_names()
        for name in reversed(names[: names.index(before)] if before else names):
            path = self.run / "phases" / name / f"{part}.weights.h5"
            if self.run.done(f"phase {name}") and path.exists():
                return path
        return None

    def backbone(self, side, before=None):
        """The backbone of a side as it stands before phase `before` (None: after the last one)."""
        model = self._pretrained()
        path = self._latest(f"{side}_backbone", before)
        if path:
            model.load_weights(path)
        return model

    def head(self, side, before=None, n_features=None):
        """The head of a side as it stands before phase `before` (None: after the last one)."""
        head = build_head(self.settings, n_features, name=f"{side}_head")
        if self.settings.head_input == "whitened":
            set_whitening(head, *self._whitening())
        path = self._latest(f"{side}_head", before)
        if path:
            head.load_weights(path)
        return head

    def _bank(self, set_name, backbone, dtype="float16"):
        """The bank of a set under the weights of `backbone`; one folder a set (it belongs to one side), made anew when the weights have changed."""
        folder = self.run / "banks" / f"{set_name}-{dtype}"
        return build_bank(folder, self.sets[set_name], backbone, self.pca, dtype=dtype, batch=self.settings.embed_batch)

    # --- phases --------------------------------------------------------------------------------------------------------------

    def phase(self, name):
        """Train phase `name`, save its weights, evaluate. Does nothing when it is done; continues when it was cut off."""
        run, s = self.run, self.settings
        if run.done(f"phase {name}"):
            return
        keras.utils.clear_session()
        begin = time.monotonic()
        near_side = name[0]
        far_side = SIDES[1 - SIDES.index(near_side)]
        folder = run / "phases" / name
        names = s.phase_names()
        near_set, far_set = ("copies", "keys") if near_side == "Q" else ("keys", "copies")
        far_backbone = self.backbone(far_side, before=name)
        far = self._bank(far_set, far_backbone)
        near_backbone = self.backbone(near_side, before=name) if s.train_backbone else far_backbone
        near_features = None if s.train_backbone else self._bank(near_set, near_backbone)
        heads = {side: self.head(side, before=name, n_features=far.n_features) for side in SIDES}
        n_keys, views = len(self.sets["keys"]), s.views
        data = PhaseInput(
            name=name,
            side=near_side,
            number=names.index(name),
            near_backbone=near_backbone if s.train_backbone else None,
            near_head=heads[near_side],
            far_head=heads[far_side],
            near_images=self.sets[near_set].images if s.train_backbone else None,
            near_features=near_features,
            near_gist=self.pca.transform(np.asarray(self.sets[near_set].gist)),
            far=far,
            far_key=np.arange(len(far), dtype=np.int32) // (views if far_set == "copies" else 1),
            n_keys=n_keys,
        )
        earlier = run / "phases" / names[max(0, data.number - 2)] / "optimizer.npz"
        moments = earlier if not s.reset_optimizer and data.number >= 2 else None
        backbones = {near_side: near_backbone, far_side: far_backbone}

        def validate(model, step):
            return self._score(backbones, heads, "val")[0]

        outcome = train_phase(folder, data, s, previous_optimizer=moments, evaluate=validate)
        if s.train_backbone:
            _save_weights(near_backbone, folder / f"{near_side}_backbone.weights.h5")
        for side, head in heads.items():
            _save_weights(head, folder / f"{side}_head.weights.h5")
        self._hard_negatives(folder, data)
        images_seen = sum((run.done(f"phase {n}") or {}).get("images_total", 0) for n in names) + outcome["steps"] * s.batch_size
        for split in ("val", "test"):
            scores, descriptors = self._score(backbones, heads, split)
            self._record(name, data.number + 1, split, scores, descriptors, images_seen, time.monotonic() - begin)
        run.mark(f"phase {name}", steps=outcome["steps"], images_total=outcome["steps"] * s.batch_size, seconds=round(time.monotonic() - begin, 1))

    def _hard_negatives(self, folder, data):
        """The hardest negative pairs of a sample of near items against the whole bank, for the gallery."""
        s = self.settings
        n = min(256, len(data.near_gist))
        near_index = np.sort(np.random.default_rng([s.seed, 22, data.number]).permutation(len(data.near_gist))[:n])
        near = self._descriptors(data.side, near_index, data)
        key = near_index // s.views if data.side == "Q" else near_index
        block_rows = 4096
        best = []
        for at in range(0, len(data.far), block_rows):
            rows = np.asarray(data.far.rows[at : at + block_rows])
            far = _apply_head(data.far_head, rows, data.far.n_features)
            d2, i, _, j = hardest_pairs(
                near, key.astype(np.int32), lambda _, r=far, a=at: (r, data.far_key[a : a + block_rows]), 1, lambda x: x, 64
            )
            best += [(float(d), int(a), int(b) + at) for d, a, b in zip(np.asarray(d2), np.asarray(i), np.asarray(j), strict=True) if np.isfinite(d)]
        best = sorted(best)[:64]
        with replacing(folder / "hard_negatives.npz") as temporary:
            np.savez(
                temporary,
                side=np.array(data.side),
                near_index=near_index[[b[1] for b in best]] if best else np.zeros(0, np.int64),
                far_index=np.array([b[2] for b in best], np.int64),
                d2=np.array([b[0] for b in best], np.float32),
            )

    def _descriptors(self, side, index, data):
        if data.near_backbone is None:
            rows = data.near_features.gather(index)
        else:
            features = np.asarray(data.near_backbone.predict_on_batch(np.asarray(data.near_images[index])))
            rows = np.concatenate([features, data.near_gist[index]], axis=1)
        return _apply_head(data.near_head, rows, data.far.n_features)

    # --- evaluation ----------------------------------------------------------------------------------------------------------

    def _score(self, backbones, heads, split):
        """Descriptors of a held-out split under both towers, and their scores."""
        found = {}
        for side, part in _QUERY_SIDE.items():
            bank = self._bank(f"{split}_{part}", backbones[side], dtype="float32")
            found[f"{split}_{part}"] = _apply_head(heads[side], np.asarray(bank.rows), bank.n_features)
        return self._evaluate(found[f"{split}_queries"], found[f"{split}_references"], split), found

    def _evaluate(self, queries, references, split):
        q, r, score = top_pairs(queries, references, self.settings.max_results)
        result = evaluate_arrays(q, r, score, self.sets[f"truth_{split}"])
        names = ("micro_ap", "recall_at_p90", "threshold_at_p90", "recall_at_rank1", "recall_at_rank10")
        return {name: getattr(result, name) for name in names}

    def _record(self, row, phase_index, split, scores, descriptors, images_seen, seconds):
        path = self.run / "evaluation" / f"{row}.npz"
        if path.exists():
            with np.load(path, allow_pickle=False) as file:
                descriptors = {name: file[name] for name in file.files} | descriptors
        with replacing(path) as temporary:
            np.savez(temporary, **descriptors)
        queries, references, truth = (self.sets[n] for n in (f"{split}_queries", f"{split}_references", f"truth_{split}"))
        self.run.log_row(
            {
                "row": row,
                "phase_index": phase_index,
                "split": split,
                **scores,
                "queries": len(queries),
                "distractors": len(queries) - len(np.unique(truth[:, 0])),
                "references": len(references),
                "images_seen": images_seen,
                "seconds": round(seconds, 1),
                "cut": f"{self.settings.max_results:,} globally best pairs",
                "seed": self.settings.seed,
            }
        )

    def baselines(self):
        """The reference rows: GIST-256, and the pretrained backbone's features, cosine and PCA-whitened to 256 (then unit length)."""
        if self.run.done("baselines"):
            return
        backbone = self._pretrained()
        keys = self._bank("keys", backbone)
        sample = np.sort(np.random.default_rng([self.settings.seed, 21]).permutation(len(keys))[:20_000])
        kernel, bias = fit_whitening(keys.gather(sample)[:, : keys.n_features], 256)
        for split in ("val", "test"):
            features, gist = {}, {}
            for part in ("queries", "references"):
                bank = self._bank(f"{split}_{part}", backbone, dtype="float32")
                features[part] = np.asarray(bank.rows[:, : bank.n_features])
                gist[part] = np.asarray(bank.rows[:, bank.n_features :])
            ways = {
                "GIST-256": lambda part: gist[part],
                "untrained cosine": lambda part: _unit(features[part]),
                "untrained whitened": lambda part: _unit(features[part] @ kernel + bias),
            }
            for row in BASELINES:
                begin = time.monotonic()
                queries, references = (np.ascontiguousarray(ways[row](part), np.float32) for part in ("queries", "references"))
                scores = self._evaluate(queries, references, split)
                self._record(row, 0, split, scores, {f"{split}_queries": queries, f"{split}_references": references}, 0, time.monotonic() - begin)
        self.run.mark("baselines")


def _apply_head(head, rows, n_features, batch=4096):
    """Descriptors of bank rows: (n, W) -> (n, gist_dim) float32."""
    out = [np.zeros((0, head.output_shape[-1]), np.float32)]
    for at in range(0, len(rows), batch):
        part = np.asarray(rows[at : at + batch], np.float32)
        out.append(np.asarray(keras.ops.convert_to_numpy(head([part[:, :n_features], part[:, n_features:]], training=False)), np.float32))
    return np.concatenate(out)


def _unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _save_weights(model, path):
    with replacing(path) as temporary:
        model.save_weights(temporary)


def _seed_weights(model, seed):
    """Random starts that depend on `seed` alone, for weights="none"."""
    rng = np.random.default_rng([seed, 31])
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            fan_in = int(np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, np.sqrt(2 / fan_in), variable.shape).astype(np.float32))
