"""What stands between the phases of a run, all of it on disk: what was fitted once, the towers
after each phase, and the banks of their features.
"""

import time

import keras
import numpy as np

from qknb.data.gist import GistPCA
from qknb.data.prepared_sets import prepared
from qknb.data.splits import fit_rows
from qknb.models.backbones import build_backbone
from qknb.models.towers import build_head, build_trunk, fit_whitening
from qknb.system import records
from qknb.system.files import load_npz, replacing
from qknb.system.keras_import import import_keras
from qknb.training.backbone_file import check_backbone_file
from qknb.training.bank import Bank, ProjectedGist, build_bank
from qknb.training.batches import bank_copies
from qknb.training.phase import PhaseInput
from qknb.training.switching import next_limit, phase_steps, policy_of

__all__ = ["SIDES", "RunTowers"]

SIDES = "QK"

_FITTED = 100_000  # keys that the PCA of GIST is fitted on, at most


class RunTowers:
    """Towers and banks of a run, read from its folder and made where they are missing.

    Attributes
    ----------
    run : qknb.run.Run
        Prepared.
    settings : Experiment
    sets : dict
        Of `qknb.data.prepare.prepared`.
    pca : qknb.data.gist.GistPCA
    """

    def __init__(self, run):
        import_keras()  # in the number format and layout that a run is made with
        self.run, self.settings = run, run.experiment
        keras.mixed_precision.set_dtype_policy(self.settings.dtype_policy)
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(
            self.settings.seed
        )  # op determinism asks for it; every draw of ours has its own seed
        self.sets = prepared(run)
        # what no phase changes while the backbones do not train: their trunk and its banks
        self._unchanging = {}
        self.pca = self._fit_pca()

    # --- fitted once ---

    def _fit_pca(self):
        path = self.run / "gist_pca.npz"
        if not path.exists():
            records.check(path)  # one that was there and has gone
            gist = self.sets["keys"].gist
            rows = (
                np.sort(
                    np.random.default_rng([self.settings.seed, 20]).permutation(len(gist))[:_FITTED]
                )
                if len(gist) > _FITTED
                else slice(None)
            )
            GistPCA.fit(np.asarray(gist[rows]), dim=self.settings.gist_dim).save(path)
        return GistPCA.load(path)

    def pretrained(self, pooling=None):
        """The backbone as it starts: ImageNet weights, or random ones by seed.

        One for all where none is trained: building and tracing take seconds.

        pooling : str, optional
            Another one than the towers have, for a row of the table.
        """
        s = self.settings
        pooling, own = pooling or s.pooling, pooling in (None, s.pooling)
        if own and "backbone" in self._unchanging:
            return self._unchanging["backbone"]
        check_backbone_file(self.run)
        backbone = build_backbone(
            s.backbone,
            s.image_size,
            weights=None if s.weights == "none" else s.weights,
            pooling=pooling,
            drop_connect=s.stochastic_depth if s.train_backbone else 0.0,
            onnx_layout=s.onnx_layout,
            onnx_scaling=s.onnx_scaling,
        )
        if s.weights == "none":
            _seed_weights(backbone, s.seed)
        if not s.train_backbone and own:
            self._unchanging["backbone"] = backbone
        return backbone

    def _whitening(self):
        """(kernel, bias) of PCA whitening fitted on pretrained features of the keys, once."""
        path = self.run / "whitening.npz"
        if not path.exists():
            records.check(path)
            fitted = fit_rows(len(self.sets["keys"]), self.settings.seed)
            bank = self.bank("keys", self.pretrained(), name="pretrained", rows=fitted)
            features = np.asarray(bank.rows)[:, : bank.n_features]
            kernel, bias = fit_whitening(features, self.settings.whiten_dim)
            with replacing(path) as temporary:
                np.savez(temporary, kernel=kernel, bias=bias)
        file = load_npz(path)
        return file["kernel"], file["bias"]

    # --- towers on disk ---

    def _latest(self, part, before):
        """Newest weights of `part` ("Q_head", ...) from the phases before `before`, or None.

        Weights that are missing are never replaced by older ones: a ValueError names them.
        """
        names = (
            self.settings.phase_names(self.settings.phase_number(before))
            if before
            else self.run.finished_phases()
        )
        for name in reversed(names):
            path = self.run / "phases" / name / f"{part}.weights.h5"
            if self.run.done(f"phase {name}") and (self._leaves(name, part) or path.exists()):
                return path
        return None

    def _leaves(self, name, part):
        """Whether phase `name` leaves weights of `part`: heads always, the trunks it trained."""
        s, (side, kind) = self.settings, part.split("_")
        both = s.method != "qk" or s.shares_towers(s.phase_number(name))
        return kind == "head" or s.train_backbone and (both or side == name[0])

    def trunk(self, side, before=None):
        """The trunk (backbone, and whitening if any) of a side as it stands before phase `before`
        (None: after the last one).
        """
        if "trunk" in self._unchanging:
            return self._unchanging["trunk"]
        model = build_trunk(
            self.pretrained(), self._whitening() if self.settings.head_input == "whitened" else None
        )
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

    def bank(self, set_name, trunk, dtype="float16", name="trunk", rows=None) -> Bank:
        """The bank of a set under the weights of `trunk`; one folder a set (it belongs to one
        side), made anew when the weights have changed.

        rows : (m,) int64, optional
            Rows of the set that it is made of, ascending; all when left out.
        """
        images = self.sets[set_name]
        if rows is not None and len(rows) < len(images):
            images = images.rows(f"{images.name}-part", rows)
        folder = (
            self.run / "banks" / f"{images.name}-{name}-{dtype}"
        )  # splits that share a set share its bank
        if trunk is self._unchanging.get("trunk"):
            made = folder, images.fingerprint  # parts of a set share a folder, one after another
            if made not in self._unchanging:
                self._unchanging[made] = build_bank(
                    folder, images, trunk, self.pca, dtype=dtype, batch=self.settings.embed_batch
                )
            return self._unchanging[made]
        return build_bank(
            folder, images, trunk, self.pca, dtype=dtype, batch=self.settings.embed_batch
        )

    # --- what a phase works on ---

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

    def phase_input(self, name):
        """What phase `name` works on, from files.

        Returns
        -------
        PhaseInput; path of the moments to begin with or None; trunks, heads : {"Q", "K": model}
        """
        run, s = self.run, self.settings
        begin = time.monotonic()
        near_side = name[0]
        far_side = SIDES[1 - SIDES.index(near_side)]
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
            near_gist=ProjectedGist(self.pca, self.sets[near_set].gist),
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
        return data, moments, trunks, heads


def _seed_weights(model, seed):
    """Random starts that depend on `seed` alone, for weights="none"."""
    rng = np.random.default_rng([seed, 31])
    for variable in model.trainable_variables:
        if len(variable.shape) > 1:
            fan_in = int(np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, np.sqrt(2 / fan_in), variable.shape).astype(np.float32))


def _load_weights(model, path):
    records.check(path)
    try:
        model.load_weights(path)
    except (OSError, ValueError, KeyError) as error:  # FileNotFoundError among them
        raise ValueError(
            f"the weights in {path} cannot be read ({error}): bring the file back from a copy, or "
            "begin a new run"
        ) from None
