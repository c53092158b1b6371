"""keras.applications: sizes, the same layers and weights as real Keras, prediction, weight files, preprocessing."""

import inspect
import json

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError
from kcompile.keras import applications

# name -> (parameters, without top, channels without top); the sizes the seeds ask for
SIZES = {
    "Xception": (22_910_480, 20_861_480, 2048),
    "VGG16": (138_357_544, 14_714_688, 512),
    "VGG19": (143_667_240, 20_024_384, 512),
    "ResNet50": (25_636_712, 23_587_712, 2048),
    "InceptionV3": (23_851_784, 21_802_784, 2048),
    "InceptionResNetV2": (55_873_736, 54_336_736, 1536),
    "MobileNet": (4_253_864, 3_228_864, 1024),
}
MORE = ("ResNet50V2", "DenseNet121")
BIG = ("DenseNet121", "InceptionResNetV2", "InceptionV3")  # real Keras takes long to build these


@pytest.fixture(autouse=True)
def _plain_weights(monkeypatch):
    """Building draws up to 144 million random numbers per model; zeros do for its structure."""
    from kcompile.keras.initializers.random import GlorotUniform

    monkeypatch.setattr(GlorotUniform, "__call__", lambda self, shape, dtype=None, **_: np.zeros(shape, dtype))


@pytest.mark.parametrize("name", SIZES)
def test_sizes(name):
    parameters, without, channels = SIZES[name]
    build = getattr(applications, name)
    full = build(weights=None)
    assert full.count_params() == parameters
    assert full.output.shape == (None, 1000)
    bare = build(weights=None, include_top=False)
    assert bare.count_params() == without
    assert bare.output.shape == (None, None, None, channels)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in BIG else n for n in (*SIZES, *MORE)])
def test_same_layers_and_weights_as_keras(name, real_keras):
    theirs_build = getattr(real_keras.applications, name)
    ours_build = getattr(applications, name)
    ours_signature, theirs_signature = (inspect.signature(f).parameters for f in (ours_build, theirs_build))
    assert list(ours_signature) == list(theirs_signature)
    assert [p.default for p in ours_signature.values()] == [p.default for p in theirs_signature.values()]

    side = 96
    arguments = {"weights": None, "include_top": False, "input_shape": (side, side, 3)}
    keras.backend.clear_session()
    real_keras.backend.clear_session()
    ours, theirs = ours_build(**arguments), theirs_build(**arguments)
    assert ours.name == theirs.name

    def shape_of(layer):
        return (type(layer).__name__, tuple(layer.output.shape), [tuple(w.shape) for w in layer.weights])

    found = {layer.name: shape_of(layer) for layer in ours.layers}
    expected = {layer.name: shape_of(layer) for layer in theirs.layers}
    assert found == expected
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNet", "ResNet50"])
def test_predicts_as_keras(name, real_keras, tmp_path):
    """With the same weights, through a weights file that real Keras wrote."""
    arguments = {"input_shape": (32, 32, 3), "include_top": False, "pooling": "avg"}
    theirs = getattr(real_keras.applications, name)(weights=None, **arguments)
    rng = np.random.default_rng(0)
    for weight in theirs.weights:
        spread = 1 / np.sqrt(max(1, np.prod(weight.shape[:-1])))
        values = rng.normal(size=weight.shape) * spread
        weight.assign(np.abs(values) + 0.5 if len(weight.shape) == 1 and "variance" in weight.path else values)
    path = str(tmp_path / "model.weights.h5")
    theirs.save_weights(path)
    ours = getattr(applications, name)(weights=path, **arguments)
    x = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    expected = np.asarray(theirs(x, training=False))
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


def test_own_weights_file(tmp_path):
    arguments = {"input_shape": (32, 32, 3), "alpha": 0.25, "classes": 5}
    model = applications.MobileNet(weights=None, **arguments)
    path = str(tmp_path / "small.h5")
    model.save_weights(path)
    again = applications.MobileNet(weights=path, **arguments)
    for a, b in zip(model.weights, again.weights):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_arguments():
    small = {"weights": None, "alpha": 0.25}
    tensor = keras.Input((64, 64, 3))
    model = applications.MobileNet(input_tensor=tensor, include_top=False, **small)
    assert model.input is tensor and model.output.shape == (None, 2, 2, 256)
    assert applications.MobileNet(include_top=False, pooling="avg", **small).output.shape == (None, 256)
    head = applications.MobileNet(classes=7, classifier_activation=None, input_shape=(32, 32, 1), **small)
    assert head.output.shape == (None, 7)
    for wrong, word in (
        ({"weights": "nowhere.h5"}, "nowhere.h5"),
        ({"weights": "imagenet", "classes": 10}, "classes"),
        ({"weights": None, "input_shape": (16, 16, 3)}, "at least 32x32"),
        ({"weights": None, "input_shape": (64, 64)}, "three integers"),
        ({"weights": None, "include_top": False, "pooling": "sum"}, "pooling"),
    ):
        with pytest.raises(ArgumentError, match=word):
            applications.VGG16(**wrong)


def test_published_weights_come_from_the_cache(tmp_path, monkeypatch):
    """`weights="imagenet"` reads `models/` below KERAS_HOME before it asks the network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    model = applications.MobileNet(weights=None, alpha=0.25, input_shape=(128, 128, 3), include_top=False)
    model.weights[0].assign(np.full(model.weights[0].shape, 3.0))
    path = tmp_path / "models" / "mobilenet_2_5_128_tf_no_top.h5"
    model.save_weights(str(path))
    again = applications.MobileNet(alpha=0.25, input_shape=(128, 128, 3), include_top=False)
    assert again.weights[0].numpy().min() == 3.0


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_preprocessing_against_keras(mode, data_format, real_keras):
    shape = (2, 4, 5, 3) if data_format == "channels_last" else (2, 3, 4, 5)
    x = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    theirs = real_keras.applications.imagenet_utils.preprocess_input
    expected = theirs(x.copy(), data_format=data_format, mode=mode)
    before = x.copy()
    found = applications.imagenet_utils.preprocess_input(x, data_format=data_format, mode=mode)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(x, before)


def test_preprocessing_inside_a_model():
    x = keras.Input((4, 4, 3))
    model = keras.Model(x, applications.vgg16.preprocess_input(x))
    image = np.random.default_rng(0).uniform(0, 255, (1, 4, 4, 3)).astype("float32")
    expected = applications.vgg16.preprocess_input(image)
    np.testing.assert_allclose(model.predict(image, verbose=0), expected, atol=1e-4)


def test_decoding(tmp_path, monkeypatch):
    from kcompile.keras.applications import imagenet_utils

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    names = tmp_path / "names.json"
    names.write_text(json.dumps({str(i): [f"n{i:08}", f"thing {i}"] for i in range(1000)}))
    monkeypatch.setattr(imagenet_utils, "_ORIGIN", names.as_uri())
    monkeypatch.setattr(imagenet_utils, "_MD5", None)
    scores = np.zeros((2, 1000))
    scores[0, [7, 3]] = 0.75, 0.25
    scores[1, 999] = 1
    found = applications.resnet50.decode_predictions(scores, top=2)
    assert found[0] == [("n00000007", "thing 7", 0.75), ("n00000003", "thing 3", 0.25)]
    assert found[1][0] == ("n00000999", "thing 999", 1.0)
    with pytest.raises(ArgumentError, match="samples, 1000"):
        applications.resnet50.decode_predictions(scores[:, :10])


def test_the_residual_scale_travels_in_configs():
    model = applications.InceptionResNetV2(weights=None, include_top=False)
    again = type(model).from_config(model.get_config())
    scales = [[la.scale for la in m.layers if type(la).__name__ == "CustomScaleLayer"] for m in (model, again)]
    assert scales[0] == scales[1] == [0.17] * 10 + [0.1] * 20 + [0.2] * 9 + [1.0]
