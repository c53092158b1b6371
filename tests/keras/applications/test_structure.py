"""Every network: its size, and the same arguments, layers and weights as in real Keras. Nothing is compiled.

The large members of a family are slow: `pytest -m slow tests/keras/applications`.
"""

import inspect

import pytest

from kcompile.keras import applications
from tests.keras.applications.common import described, plain_keras, plain_weights, twins  # noqa: F401

pytestmark = pytest.mark.usefixtures("plain_weights")

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
# parameters of the others, as real Keras counts them
MORE = {
    "ResNet50V2": 25_613_800,
    "DenseNet121": 8_062_504,
    "MobileNetV2": 3_538_984,
    "MobileNetV3Small": 2_554_968,
    "MobileNetV3Large": 5_507_432,
    "EfficientNetB0": 5_330_571,
    "EfficientNetB3": 12_320_535,
    "EfficientNetV2B0": 7_200_312,
    "EfficientNetV2B3": 14_467_622,
    "EfficientNetV2S": 21_612_360,
    "ConvNeXtTiny": 28_589_128,
}
LARGE = {
    "ResNet101": 44_707_176,
    "ResNet152": 60_419_944,
    "ResNet101V2": 44_675_560,
    "ResNet152V2": 60_380_648,
    "DenseNet169": 14_307_880,
    "DenseNet201": 20_242_984,
    "EfficientNetB1": 7_856_239,
    "EfficientNetB2": 9_177_569,
    "EfficientNetB4": 19_466_823,
    "EfficientNetB5": 30_562_527,
    "EfficientNetB6": 43_265_143,
    "EfficientNetB7": 66_658_687,
    "EfficientNetV2B1": 8_212_124,
    "EfficientNetV2B2": 10_178_374,
    "EfficientNetV2M": 54_431_388,
    "EfficientNetV2L": 119_027_848,
    "ConvNeXtSmall": 50_223_688,
    "ConvNeXtBase": 88_591_464,
    "ConvNeXtLarge": 197_767_336,
    "ConvNeXtXLarge": 350_196_968,
}
# the smallest of each family, but those that real Keras takes long to build
COMPARED = ("VGG16", "ResNet50", "MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0")


def slow_unless(quick, names):
    return [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names]


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


@pytest.mark.parametrize("name", slow_unless(MORE, {**MORE, **LARGE}))
def test_parameters(name):
    model = getattr(applications, name)(weights=None)
    assert model.count_params() == {**MORE, **LARGE}[name]
    assert model.output.shape == (None, 1000)


@pytest.mark.parametrize("name", {**SIZES, **MORE, **LARGE})
def test_arguments_of_keras(name, real_keras):
    ours, theirs = (inspect.signature(getattr(m, name)).parameters for m in (applications, real_keras.applications))
    assert list(ours) == list(theirs)
    assert [p.default for p in ours.values()] == [p.default for p in theirs.values()]


@pytest.mark.parametrize("name", slow_unless(COMPARED, {**SIZES, **MORE, **LARGE}))
def test_layers_and_weights_of_keras(name, plain_keras):  # noqa: F811
    same_network(*twins(name, plain_keras, include_top=False, input_shape=(96, 96, 3)))


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("MobileNetV2", {"alpha": 0.35, "input_shape": (97, 97, 3), "classes": 5}),
        ("MobileNetV2", {"alpha": 1.4, "include_top": False, "pooling": "max"}),
        ("MobileNetV3Small", {"alpha": 0.75, "minimalistic": True, "dropout_rate": 0.3, "classes": 7}),
        ("MobileNetV3Large", {"alpha": 1.25, "include_preprocessing": False, "pooling": "avg"}),
        ("EfficientNetB0", {"input_shape": (64, 65, 3), "classes": 4, "classifier_activation": None}),
        ("EfficientNetV2B3", {"input_shape": (33, 32, 1), "classes": 4}),
        ("MobileNet", {"alpha": 0.25, "include_top": False, "input_shape": (64, 96, 3)}),
        ("MobileNet", {"alpha": 0.5, "depth_multiplier": 2, "dropout": 0.1, "input_shape": (64, 64, 3)}),
    ],
)
@pytest.mark.slow
def test_arguments_that_change_a_network(name, arguments, plain_keras):  # noqa: F811
    same_network(*twins(name, plain_keras, **arguments))


def same_network(ours, theirs):
    assert ours.name == theirs.name
    found, expected = ({layer.name: described(layer) for layer in m.layers} for m in (ours, theirs))
    assert found == expected
    assert [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]
