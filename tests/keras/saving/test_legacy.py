"""Files of tf.keras 2: written here by hand, as version 2.4 lays them out."""

import json

import h5py
import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ShapeError
from tests.keras.saving.models import data, interpret, mlp

GLOROT = {"class_name": "GlorotUniform", "config": {"seed": None}}
ZEROS = {"class_name": "Zeros", "config": {}}
ONES = {"class_name": "Ones", "config": {}}


def dense(name, units, activation, **more):
    return {
        "class_name": "Dense",
        "config": {
            "name": name,
            "trainable": True,
            "dtype": "float32",
            "units": units,
            "activation": activation,
            "use_bias": True,
            "kernel_initializer": GLOROT,
            "bias_initializer": ZEROS,
            "kernel_regularizer": None,
            "bias_regularizer": None,
            "activity_regularizer": None,
            "kernel_constraint": None,
            "bias_constraint": None,
            **more,
        },
    }


def batch_norm(name):
    return {
        "class_name": "BatchNormalization",
        "config": {
            "name": name,
            "trainable": True,
            "dtype": "float32",
            "axis": [1],
            "momentum": 0.99,
            "epsilon": 0.001,
            "center": True,
            "scale": True,
            "beta_initializer": ZEROS,
            "gamma_initializer": ONES,
            "moving_mean_initializer": ZEROS,
            "moving_variance_initializer": ONES,
            "beta_regularizer": {"class_name": "L2", "config": {"l2": 0.25}},
            "gamma_regularizer": None,
            "beta_constraint": None,
            "gamma_constraint": None,
        },
    }


def sequential_config():
    layers = [
        {
            "class_name": "InputLayer",
            "config": {
                "batch_input_shape": [None, 3],
                "dtype": "float32",
                "sparse": False,
                "ragged": False,
                "name": "layer1_input",
            },
        },
        dense("layer1", 4, "hard_sigmoid", batch_input_shape=[None, 3]),
        batch_norm("bn"),
        {
            "class_name": "Dropout",
            "config": {
                "name": "dropout",
                "trainable": True,
                "dtype": "float32",
                "rate": 0.5,
                "noise_shape": None,
                "seed": None,
            },
        },
        dense(
            "layer2",
            2,
            "linear",
            kernel_initializer={
                "class_name": "VarianceScaling",
                "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "dtype": "float32"},
            },
            bias_initializer={"class_name": "RandomUniform", "config": {"minval": -1, "maxval": 1, "seed": 3}},
        ),
    ]
    return {"class_name": "Sequential", "config": {"name": "sequential", "layers": layers}}


def weights():
    shapes = {
        "layer1": [("kernel", (3, 4)), ("bias", (4,))],
        "bn": [("gamma", (4,)), ("beta", (4,)), ("moving_mean", (4,)), ("moving_variance", (4,))],
        "dropout": [],
        "layer2": [("kernel", (4, 2)), ("bias", (2,))],
    }
    rng = np.random.default_rng(1)
    return {
        layer: {f"{layer}/{name}:0": np.abs(rng.normal(size=shape)).astype("float32") for name, shape in parts}
        for layer, parts in shapes.items()
    }


def write(path, config=None, values=None, training=None, optimizer=None):
    values = weights() if values is None else values
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.4.0"
        file.attrs["backend"] = b"tensorflow"
        if config is not None:
            file.attrs["model_config"] = json.dumps(config).encode("utf-8")
        if training is not None:
            file.attrs["training_config"] = json.dumps(training).encode("utf-8")
        group = file if config is None else file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([n.encode() for n in values])
        group.attrs["keras_version"] = b"2.4.0"
        group.attrs["backend"] = b"tensorflow"
        for layer, parts in values.items():
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = np.array([n.encode() for n in parts]) if parts else np.zeros(0, "S1")
            for name, value in parts.items():
                inner.create_dataset(name, data=value)
        if optimizer is not None:
            state = file.create_group("optimizer_weights")
            state.attrs["weight_names"] = np.array([n.encode() for n in optimizer])
            for name, value in optimizer.items():
                state.create_dataset(name, data=value)
    return values


def expected(values, x):
    """The model of `sequential_config`, by hand."""
    first, bn, last = (list(values[n].values()) for n in ("layer1", "bn", "layer2"))
    h = np.clip(0.2 * (x @ first[0] + first[1]) + 0.5, 0, 1)  # hard_sigmoid of Keras 2
    h = (h - bn[2]) / np.sqrt(bn[3] + 0.001) * bn[0] + bn[1]
    return h @ last[0] + last[1]


def adam_state(values):
    """Counter, then the first moments of all weights, then the second ones."""
    trained = [n for layer in values.values() for n in layer if "moving" not in n]
    arrays = {n: a for layer in values.values() for n, a in layer.items()}
    state = {"Adam/iter:0": np.int64(17)}
    for number, slot in enumerate(("m", "v")):
        state |= {f"Adam/{n.removesuffix(':0')}/{slot}:0": arrays[n] * 0 + number + 0.5 for n in trained}
    return state


TRAINING = {
    "loss": "mse",
    "metrics": [
        [{"class_name": "MeanMetricWrapper", "config": {"name": "mae", "dtype": "float32", "fn": "mae"}}],
    ],
    "weighted_metrics": None,
    "loss_weights": None,
    "optimizer_config": {
        "class_name": "Adam",
        "config": {
            "name": "Adam",
            "learning_rate": 0.01,
            "decay": 0.0,
            "beta_1": 0.9,
            "beta_2": 0.999,
            "epsilon": 1e-07,
            "amsgrad": False,
        },
    },
}


def test_whole_model(tmp_path):
    path = tmp_path / "old.h5"
    values = write(path, sequential_config(), training=TRAINING, optimizer=adam_state(weights()))
    model = interpret(keras.models.load_model(path))
    x = data((5, 3))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected(values, x), rtol=1e-5, atol=1e-5)
    assert model.get_layer("bn").axis in (1, -1)
    assert float(model.get_layer("bn").beta_regularizer.l2) == 0.25
    assert int(model.optimizer.iterations.numpy()) == 17
    np.testing.assert_allclose(float(model.optimizer.learning_rate.numpy()), 0.01)
    slots = model.optimizer._slot_variables
    assert all((v.numpy() == 0.5).all() for v in slots["momentum"])
    assert all((v.numpy() == 1.5).all() for v in slots["velocity"])
    model.fit(x, data((5, 2)), verbose=0)
    assert int(model.optimizer.iterations.numpy()) == 18
    assert "mae" in model.get_metrics_result()


@pytest.mark.parametrize("loss, metrics", [("mse", ["mae"]), ("mean_squared_error", None), ("mae", ["mse", "mae"])])
def test_losses_and_metrics_by_name(tmp_path, loss, metrics):
    """Keras 3 refuses to load these."""
    path = tmp_path / "m.h5"
    model, x, y = mlp(keras, "SGD", loss)
    model.compile("SGD", loss, metrics=metrics, jit=False)
    model.fit(x, y, verbose=0)
    model.save(path)
    again = keras.models.load_model(path)
    np.testing.assert_allclose(again.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-6)
    training = {"loss": loss, "metrics": metrics, "optimizer_config": {"class_name": "SGD", "config": {"lr": 0.1}}}
    write(path, sequential_config(), training=training)
    assert float(keras.models.load_model(path).optimizer.learning_rate.numpy()) == pytest.approx(0.1)


def test_functional_model(tmp_path):
    def entry(config, nodes):
        return {**config, "name": config["config"]["name"], "inbound_nodes": nodes}

    def source(name):
        config = {"batch_input_shape": [None, 3], "dtype": "float32", "sparse": False, "ragged": False, "name": name}
        return entry({"class_name": "InputLayer", "config": config}, [])

    shared = entry(dense("shared", 2, "relu"), [[["a", 0, 0, {}]], [["b", 0, 0, {}]]])
    add = {"class_name": "Add", "config": {"name": "add", "trainable": True, "dtype": "float32"}}
    joined = entry(add, [[["shared", 0, 0, {}], ["shared", 1, 0, {}]]])
    config = {
        "class_name": "Functional",
        "config": {
            "name": "functional_1",
            "layers": [source("a"), source("b"), shared, joined],
            "input_layers": [["a", 0, 0], ["b", 0, 0]],
            "output_layers": [["add", 0, 0]],
        },
    }
    kernel, bias = data((3, 2), (2,))
    values = {"a": {}, "b": {}, "shared": {"shared/kernel:0": kernel, "shared/bias:0": bias}, "add": {}}
    write(tmp_path / "f.h5", config, values)
    model = interpret(keras.models.load_model(tmp_path / "f.h5"))
    a, b = data((4, 3), (4, 3), seed=3)
    relu = [np.maximum(v @ kernel + bias, 0) for v in (a, b)]
    np.testing.assert_allclose(model.predict([a, b], verbose=0), relu[0] + relu[1], rtol=1e-5, atol=1e-6)
    assert [layer.name for layer in model.layers] == ["a", "b", "shared", "add"]
    classic = json.loads(model.to_json("classic"))
    assert classic["config"]["layers"][2]["inbound_nodes"] == [[["a", 0, 0, {}]], [["b", 0, 0, {}]]]
    assert classic["config"]["output_layers"] == [["add", 0, 0]]


def test_weights_file(tmp_path):
    values = write(tmp_path / "my_model_weights.h5")
    model = interpret(keras.models.model_from_json(json.dumps({**sequential_config(), "keras_version": "2.4.0"})))
    model.load_weights(tmp_path / "my_model_weights.h5")
    x = data((5, 3))
    np.testing.assert_allclose(model.predict(x, verbose=0), expected(values, x), rtol=1e-5, atol=1e-5)
    model.save_weights(tmp_path / "again.h5")
    with h5py.File(tmp_path / "again.h5") as file:
        assert list(file.attrs["layer_names"]) == ["layer1", "bn", "dropout", "layer2"]
        assert [n.split("/")[-1] for n in file["bn"].attrs["weight_names"]] == [
            "gamma",
            "beta",
            "moving_mean",
            "moving_variance",
        ]


def test_weights_by_name(tmp_path):
    values = write(tmp_path / "w.h5")
    layers = keras.layers
    other = keras.Sequential([layers.Dense(4, input_shape=(3,), name="layer1"), layers.Dense(7, name="new")])
    before = other.get_layer("new").get_weights()
    other.load_weights(tmp_path / "w.h5", by_name=True)
    np.testing.assert_array_equal(other.get_layer("layer1").get_weights()[0], values["layer1"]["layer1/kernel:0"])
    np.testing.assert_array_equal(other.get_layer("new").get_weights()[0], before[0])
    wrong = keras.Sequential([layers.Dense(5, input_shape=(3,), name="layer1")])
    with pytest.raises(ShapeError, match=r"layer 'layer1'.*expected shape \(3, 5\), received \(3, 4\)"):
        wrong.load_weights(tmp_path / "w.h5", by_name=True)
    with pytest.warns(UserWarning, match="left out.*layer1"):
        wrong.load_weights(tmp_path / "w.h5", by_name=True, skip_mismatch=True)
    with pytest.raises(ShapeError, match="expected weights of 1 layers"):
        wrong.load_weights(tmp_path / "w.h5")
    other.save_weights(tmp_path / "n.weights.h5")
    fresh = keras.Sequential([layers.Dense(4, input_shape=(3,), name="layer1")])
    fresh.load_weights(tmp_path / "n.weights.h5", by_name=True)
    np.testing.assert_array_equal(fresh.get_weights()[0], values["layer1"]["layer1/kernel:0"])


def test_long_layer_lists(tmp_path):
    """More names than one attribute holds."""
    from kcompile.keras import hdf5

    names = [f"layer_{n:05}" for n in range(9000)]
    with h5py.File(tmp_path / "n.h5", "w") as file:
        hdf5.write_names(file, "layer_names", names)
        assert "layer_names" not in file.attrs
        assert hdf5.names(file, "layer_names") == names


def lstm_config(cls, units, **more):
    """As tf.keras 2 writes it."""
    config = {
        "name": "rnn",
        "trainable": True,
        "dtype": "float32",
        "return_sequences": False,
        "return_state": False,
        "go_backwards": False,
        "stateful": False,
        "units": units,
        "kernel_initializer": GLOROT,
        "recurrent_initializer": {"class_name": "Orthogonal", "config": {"gain": 1.0, "seed": None}},
        "bias_initializer": ZEROS,
        "kernel_regularizer": None,
        "recurrent_regularizer": None,
        "bias_regularizer": None,
        "activity_regularizer": None,
        "kernel_constraint": None,
        "recurrent_constraint": None,
        "bias_constraint": None,
        "batch_input_shape": [None, None, 2],
        **more,
    }
    return {"class_name": cls, "config": config}


CUDNN = {"unroll": False, "time_major": False}
PLAIN = {**CUDNN, "activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "implementation": 2}
PLAIN |= {"dropout": 0.0, "recurrent_dropout": 0.0}


@pytest.mark.parametrize("kind, gates", [("LSTM", 4), ("GRU", 3)])
@pytest.mark.parametrize("older", [True, False])
def test_recurrent_layers_of_tf_keras_2(kind, gates, older, tmp_path):
    """CuDNN layers keep each gate's kernel transposed and two biases in a row."""
    rng = np.random.default_rng(0)
    w, u = (rng.normal(size=(n, gates, 3)).astype("f") for n in (2, 3))
    b = rng.normal(size=(2, gates * 3)).astype("f")
    more = {"unit_forget_bias": True} if kind == "LSTM" else {}
    if older:
        layer = lstm_config(f"CuDNN{kind}", 3, **more)
        kernels = [
            np.concatenate([np.ravel(k[:, g], order="F").reshape(-1, 3) for g in range(gates)], 1) for k in (w, u)
        ]
        arrays = [*kernels, b.ravel()]
    else:
        layer = lstm_config(kind, 3, **PLAIN, **({"reset_after": True} if kind == "GRU" else more))
        arrays = [w.reshape(2, -1), u.reshape(3, -1), b if kind == "GRU" else b.sum(0)]
    file = tmp_path / "old.h5"
    with h5py.File(file, "w") as f:
        f.attrs["keras_version"] = "2.4.0"
        f.attrs["backend"] = "tensorflow"
        config = {"name": "sequential", "layers": [layer]}
        f.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": config})
        group = f.create_group("model_weights")
        group.attrs["layer_names"] = [b"rnn"]
        inner = group.create_group("rnn")
        names = [f"rnn/{n}:0" for n in ("kernel", "recurrent_kernel", "bias")]
        inner.attrs["weight_names"] = [n.encode() for n in names]
        for n, array in zip(names, arrays):
            inner.create_dataset(n, data=array)
    model = keras.models.load_model(file, compile=False)
    wanted = getattr(keras.layers, kind)(3)
    wanted.build((None, None, 2))
    wanted.set_weights([w.reshape(2, -1), u.reshape(3, -1), b if kind == "GRU" else b.sum(0)])
    x = rng.normal(size=(2, 4, 2)).astype("f")
    np.testing.assert_allclose(model(x), wanted(x), rtol=1e-5, atol=1e-6)
