"""Sequential: building, changing the stack, W-4 counts, W-6 composition."""

import numpy as np
import pytest

from kcompile.keras import Input, Sequential, layers
from kcompile.keras.backend import clear_session
from kcompile.keras.tracing import KerasTensor, trace
from kcompile.runtime.interpreted import InterpretedProgram


def counts(model):
    return [(layer.output_shape[1:], layer.count_params()) for layer in model.layers]


def test_a_sequence_is_the_composition_of_its_layers():
    one, two, three = layers.Dense(2, "relu"), layers.Dense(3, activation="relu"), layers.Dense(1)
    model = Sequential([one, two, three])
    assert not model.built
    y = model(np.ones((4, 10)))
    assert y.shape == (4, 1) and model.built
    np.testing.assert_array_equal(y, three(two(one(np.ones((4, 10))))))
    assert model.input_shape == (None, 10) and model.weights[0].shape == (10, 2)


def test_mlp_counts():
    model = Sequential([layers.Dense(16, input_shape=(16,)), layers.Dense(4), layers.Dense(1)])
    assert counts(model) == [((16,), 272), ((4,), 68), ((1,), 5)] and model.count_params() == 345


def test_cnn_counts():
    model = Sequential()
    model.add(layers.Conv2D(32, (3, 3), input_shape=(32, 32, 3)))
    model.add(layers.MaxPooling2D((2, 2)))
    model.add(layers.Conv2D(64, (3, 3), strides=2))
    model.add(layers.MaxPooling2D())
    assert counts(model) == [((30, 30, 32), 896), ((15, 15, 32), 0), ((7, 7, 64), 18496), ((3, 3, 64), 0)]
    assert model.count_params() == 19_392


def test_mnist_cnn_counts():
    model = Sequential(
        [
            layers.Conv2D(32, (3, 3), activation="relu", input_shape=(28, 28, 1)),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Conv2D(64, (3, 3), activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    assert counts(model) == [
        ((26, 26, 32), 320),
        ((13, 13, 32), 0),
        ((11, 11, 64), 18496),
        ((5, 5, 64), 0),
        ((3, 3, 64), 36928),
        ((576,), 0),
        ((64,), 36928),
        ((10,), 650),
    ]
    assert model.count_params() == 93_322


def test_embedding_first_needs_no_shape():
    model = Sequential([layers.Embedding(10000, 32), layers.GlobalAveragePooling1D(), layers.Dense(1)])
    assert model.layers[0].output_shape == (None, None, 32)
    assert model.count_params() == 320_000 + 33
    assert model(np.zeros((2, 7), "int32")).shape == (2, 1)
    fixed = Sequential([layers.Embedding(10, 2, input_length=5), layers.Flatten(), layers.Dense(1)])
    assert fixed.output_shape == (None, 1) and fixed.count_params() == 20 + 11


def test_names():
    clear_session()
    model = Sequential([layers.Dense(2, input_dim=3), layers.Dense(2), layers.ReLU()])
    assert [layer.name for layer in model.layers] == ["dense", "dense_1", "re_lu"]
    assert model.name == "sequential" and Sequential().name == "sequential_1"
    assert model.inputs[0].name == "dense_input"
    assert model.get_layer("dense_1") is model.layers[1] and model.get_layer(index=0) is model.layers[0]


@pytest.mark.parametrize(
    "first",
    [
        lambda: [Input((4,)), layers.Dense(2)],
        lambda: [layers.InputLayer(input_shape=(4,)), layers.Dense(2)],
        lambda: [layers.Dense(2, input_dim=4)],
        lambda: [layers.Dense(2, batch_input_shape=(None, 4))],
        lambda: [Sequential([layers.Dense(3, input_dim=4)]), layers.Dense(2)],
    ],
)
def test_ways_to_say_the_input_shape(first):
    model = Sequential(first())
    assert model.built and model.input_shape == (None, 4) and model.output_shape == (None, 2)
    assert not any(isinstance(layer, layers.InputLayer) for layer in model.layers)


def test_add_and_pop():
    model = Sequential([layers.Dense(3, input_dim=4), layers.Dense(2)])
    last = model.pop()
    assert isinstance(last, layers.Dense) and model.output_shape == (None, 3)
    model.add(layers.Dense(5))
    assert model(np.ones((2, 4))).shape == (2, 5) and len(model.weights) == 4
    deferred = Sequential([layers.Dense(3)])
    deferred.add(layers.Dense(1))
    deferred.pop()
    deferred.build((None, 6))
    assert deferred.output_shape == (None, 3)
    with pytest.raises(Exception, match="no layers"):
        Sequential().pop()


def test_a_layer_that_does_not_fit_is_not_added():
    model = Sequential([layers.Dense(3, input_dim=4)])
    with pytest.raises(ValueError, match=r"incompatible with the layer"):
        model.add(layers.Conv2D(2, 3))
    assert len(model.layers) == 1 and model.output_shape == (None, 3)
    with pytest.raises(ValueError, match=r"Only instances of `keras\.Layer`"):
        model.add("dense")
    with pytest.raises(ValueError, match="unique names"):
        model.add(layers.Dense(1, name=model.layers[0].name))


def test_config_round_trip():
    model = Sequential([layers.Dense(3, "relu", input_shape=(4,)), layers.Dropout(0.5), layers.Dense(1)], name="m")
    again = Sequential.from_config(model.get_config())
    assert again.get_config() == model.get_config() and again.name == "m"
    assert not np.array_equal(again.get_weights()[0], model.get_weights()[0])
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(np.ones((2, 4))), model(np.ones((2, 4))))


def test_older_config_layout():
    config = {
        "name": "sequential",
        "layers": [
            {
                "class_name": "InputLayer",
                "config": {
                    "batch_input_shape": [None, 4], "dtype": "float32", "sparse": False, "ragged": False, "name": "i",
                },
            },
            {
                "class_name": "Dense",
                "config": {
                    "name": "layer1", "trainable": True, "batch_input_shape": [None, 4], "dtype": "float32",
                    "units": 5, "activation": "relu", "use_bias": True,
                    "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
                    "bias_initializer": {"class_name": "Zeros", "config": {}}, "kernel_regularizer": None,
                    "bias_regularizer": None, "activity_regularizer": None, "kernel_constraint": None,
                    "bias_constraint": None,
                },
            },
        ],
    }  # fmt: skip
    model = Sequential.from_config(config)
    assert model.input_shape == (None, 4) and model.count_params() == 25 and model.layers[0].name == "layer1"


def test_real_keras_reads_our_config_and_we_read_theirs(real_keras):
    build = lambda k: k.Sequential(  # noqa: E731
        [k.Input((6, 6, 1)), k.layers.Conv2D(2, 3), k.layers.Flatten(), k.layers.Dense(3, "softmax")]
    )
    from kcompile import keras

    ours, theirs = build(keras), build(real_keras)
    read = real_keras.Sequential.from_config(ours.get_config())
    assert read.count_params() == ours.count_params() == theirs.count_params()
    back = Sequential.from_config(theirs.get_config())
    back.set_weights(theirs.get_weights())
    x = np.random.default_rng(0).standard_normal((2, 6, 6, 1)).astype("f")
    np.testing.assert_allclose(back(x), np.asarray(theirs(x)), rtol=1e-5, atol=1e-6)


def test_traces_with_any_batch_size():
    model = Sequential([layers.Dense(3, "relu", input_dim=4), layers.Flatten(), layers.Dense(2)])
    traced = trace(lambda v: model(v["x0"]), {"x0": KerasTensor((None, 4))})
    for rows in (1, 5):
        x = np.random.default_rng(0).standard_normal((rows, 4)).astype("f")
        found = InterpretedProgram(traced.graph).run({"x0": x}, traced.arrays())["y0"]
        np.testing.assert_allclose(found, model(x), rtol=1e-6)
