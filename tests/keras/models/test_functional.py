"""Functional models: wiring, sharing, nesting, inputs and outputs in any nesting, configs, clones."""

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import ArgumentError
from kcompile.keras import Input, Model, Sequential, layers, ops
from kcompile.keras.models import Functional, clone_model
from kcompile.keras.tracing import KerasTensor, trace
from kcompile.runtime.interpreted import InterpretedProgram


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("f")


def two_in_two_out():
    a, b = Input((4,), name="a"), Input((3,), name="b")
    shared = layers.Dense(5, activation="tanh", name="shared")
    left, right = shared(a), shared(layers.Dense(4, name="widen")(b))
    merged = layers.concatenate([left, right], name="both")
    return Model([a, b], [layers.Dense(2, name="first")(merged), layers.Dense(1, name="second")(merged)], name="m")


def test_several_inputs_and_outputs_and_a_shared_layer():
    model = two_in_two_out()
    assert isinstance(model, Functional) and [len(model.inputs), len(model.outputs)] == [2, 2]
    assert [layer.name for layer in model.layers] == ["b", "a", "widen", "shared", "both", "first", "second"]
    assert model.count_params() == 16 + 25 + 22 + 11 and len(model.weights) == 8
    x = [numbers(2, 4), numbers(2, 3, seed=1)]
    first, second = model(x)
    w = {layer.name: layer.get_weights() for layer in model.layers}
    dense = lambda name, v: v @ w[name][0] + w[name][1]  # noqa: E731
    merged = np.concatenate([np.tanh(dense("shared", x[0])), np.tanh(dense("shared", dense("widen", x[1])))], -1)
    np.testing.assert_allclose(first, dense("first", merged), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(second, dense("second", merged), rtol=1e-5, atol=1e-6)
    assert model.input_names == ["a", "b"] and model.output_names == ["first", "second"]


def test_inputs_by_name():
    model = two_in_two_out()
    x = [numbers(2, 4), numbers(2, 3, seed=1)]
    for one, other in zip(model({"b": x[1], "a": x[0], "unused": 1.0}), model(x)):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match=r"Missing data for input \"b\""):
        model({"a": x[0]})


def test_dicts_in_and_out():
    inputs = {"p": Input((2,)), "q": Input((2,))}
    total = layers.add([inputs["p"], inputs["q"]])
    model = Model(inputs, {"sum": total, "twice": total * 2.0})
    found = model({"p": np.ones((1, 2)), "q": np.ones((1, 2))})
    np.testing.assert_array_equal(found["sum"], [[2, 2]])
    np.testing.assert_array_equal(found["twice"], [[4, 4]])


def test_nested_models_share_weights():
    inner = Sequential([layers.Dense(3, input_dim=4), layers.ReLU()], name="inner")
    x, y = Input((4,)), Input((4,))
    model = Model([x, y], layers.subtract([inner(x), inner(y)]))
    assert len(model.weights) == 2 and model.get_layer("inner") is inner
    a, b = numbers(2, 4), numbers(2, 4, seed=2)
    np.testing.assert_allclose(model([a, b]), np.asarray(inner(a)) - np.asarray(inner(b)), rtol=1e-6)
    outer = Model(x, model([x, x + 1.0]))
    np.testing.assert_allclose(outer(a), model([a, a + 1]), rtol=1e-5, atol=1e-6)


def test_calling_a_model_on_a_symbolic_tensor_gives_a_symbolic_tensor():
    model = Sequential([layers.Dense(3, input_dim=4)])
    assert model(Input((4,))).shape == (None, 3)
    assert Model(model.inputs, model.layers[0].output)(numbers(2, 4)).shape == (2, 3)


def test_functions_and_operators_in_a_model():
    x = Input((None, 4))
    y = ops.mean(ops.relu(x) * 2 - 1, axis=1)
    model = Model(x, ops.concatenate([y, ops.max(x, axis=1)], axis=-1))
    data = numbers(2, 5, 4)
    expected = np.concatenate([(np.maximum(data, 0) * 2 - 1).mean(1), data.max(1)], -1)
    np.testing.assert_allclose(model(data), expected, rtol=1e-5, atol=1e-6)
    again = Functional.from_config(model.get_config())
    np.testing.assert_allclose(again(data), expected, rtol=1e-5, atol=1e-6)


def test_intermediate_inputs():
    x = Input((4,))
    h = layers.Dense(3)(x)
    y = layers.Dense(2)(h)
    tail = Model(h, y)
    assert [layer.name for layer in tail.layers if not isinstance(layer, layers.InputLayer)]
    assert tail(numbers(2, 3)).shape == (2, 2)


def test_config_round_trip_keeps_sharing():
    model = two_in_two_out()
    again = Model.from_config(model.get_config())
    assert again.get_config() == model.get_config() and len(again.weights) == len(model.weights)
    again.set_weights(model.get_weights())
    x = [numbers(2, 4), numbers(2, 3, seed=1)]
    for one, other in zip(again(x), model(x)):
        np.testing.assert_array_equal(one, other)


def test_older_config_layout():
    dense = {"class_name": "Dense", "config": {"name": "d", "units": 2}, "name": "d"}
    config = {
        "name": "model",
        "layers": [
            {"class_name": "InputLayer", "name": "i", "inbound_nodes": [],
             "config": {"batch_input_shape": [None, 3], "dtype": "float32", "sparse": False, "name": "i"}},
            {**dense, "inbound_nodes": [[["i", 0, 0, {}]], [["d_in", 0, 0, {}]]]},
            {"class_name": "Dense", "config": {"name": "d_in", "units": 3}, "name": "d_in",
             "inbound_nodes": [[["i", 0, 0, {}]]]},
            {"class_name": "Add", "config": {"name": "sum"}, "name": "sum",
             "inbound_nodes": [[["d", 0, 0, {}], ["d", 1, 0, {}]]]},
        ],
        "input_layers": [["i", 0, 0]],
        "output_layers": [["sum", 0, 0]],
    }  # fmt: skip
    model = Model.from_config(config)
    assert model.count_params() == 8 + 12 and model(numbers(2, 3)).shape == (2, 2)


def test_real_keras_reads_our_config_and_we_read_theirs(real_keras):
    from kcompile import keras

    def build(k):
        a, b = k.Input((4,), name="a"), k.Input((4,), name="b")
        shared = k.layers.Dense(3, name="s")
        merged = k.layers.Add(name="sum")([shared(a), shared(b)])
        return k.Model([a, b], [k.layers.Dense(2, name="o")(merged), merged])

    ours, theirs = build(keras), build(real_keras)
    read = real_keras.Model.from_config(ours.get_config())
    back = Model.from_config(theirs.get_config())
    assert read.count_params() == back.count_params() == ours.count_params()
    back.set_weights(theirs.get_weights())
    x = [numbers(2, 4), numbers(2, 4, seed=1)]
    for one, other in zip(back(x), theirs(x)):
        np.testing.assert_allclose(one, np.asarray(other), rtol=1e-5, atol=1e-6)


def test_clones_have_their_own_weights():
    for model in (two_in_two_out(), Sequential([layers.Dense(2, input_dim=4), layers.Dropout(0.1)])):
        copy = clone_model(model)
        assert copy.get_config() == model.get_config()
        assert not set(map(id, copy.weights)) & set(map(id, model.weights))
        copy.set_weights(model.get_weights())
    seen = []

    def copied(layer):
        seen.append(layer.name)
        return type(layer).from_config(layer.get_config())

    clone_model(model, clone_function=copied)
    assert seen == [layer.name for layer in model.layers]


def test_subclassed_models():
    class Net(Model):
        def __init__(self, width=3):
            super().__init__(name="net")
            self.width = width
            self.hidden = layers.Dense(width, activation="relu")
            self.norm = layers.BatchNormalization()
            self.out = layers.Dense(1)

        def call(self, x, training=False):
            return self.out(self.norm(self.hidden(x), training=training))

    model = Net()
    y = model([[1.0, 2.0]])
    assert y.shape == (1, 1) and model.built and model.layers[0].name.startswith("dense")
    assert [w.path.split("/")[0] for w in model.weights] == ["net"] * 8
    built = Net()
    built.build((None, 2))
    assert built.count_params() == 9 + 12 + 4
    assert Net.from_config(model.get_config()).width == 3
    with pytest.raises(AttributeError, match="subclassed model"):
        _ = model.inputs
    assert model(Input((2,))).shape == (None, 1)


def test_a_subclass_may_wire_itself():
    class Wired(Model):
        def __init__(self):
            x = Input((2,))
            super().__init__(inputs=x, outputs=layers.Dense(1)(x))

        def double(self, x):
            return 2 * self(x)

    model = Wired()
    assert model.double([[1.0, 2.0]]).shape == (1, 1) and len(model.weights) == 2


def test_ranks_are_mended_as_keras_does():
    model = Model(x := Input((1,)), x * 2.0)
    np.testing.assert_array_equal(model(np.ones(3)), 2 * np.ones((3, 1)))


def test_traced_two_inputs():
    model = two_in_two_out()
    traced = trace(lambda v: model([v["x0"], v["x1"]]), {"x0": KerasTensor((None, 4)), "x1": KerasTensor((None, 3))})
    x = [numbers(3, 4), numbers(3, 3, seed=1)]
    found = InterpretedProgram(traced.graph).run({"x0": x[0], "x1": x[1]}, traced.arrays())
    for one, other in zip(traced.pack(found), model(x)):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_training_of_the_model_overrides_that_of_a_call_inside(real_keras):
    for k in (keras, real_keras):  # in fit and predict too, which name it
        x = np.ones((1, 200), np.float32)
        inputs = k.Input((200,))
        model = k.Model(inputs, k.layers.Dropout(0.5)(inputs, training=True))
        zeros = [(np.asarray(y) == 0).any() for y in (model(x), model(x, training=False), model.predict(x, verbose=0))]
        assert zeros == [True, False, False]
        inner = k.Sequential([k.layers.Dropout(0.5)])
        model = k.Model(inputs, inner(inputs, training=False))
        assert [(np.asarray(y) == 0).any() for y in (model(x), model(x, training=True))] == [False, True]


def test_a_list_of_one_is_that_one():
    x = Input((3,))
    model = Model([x], [layers.Dense(2)(x)])
    assert model(np.ones((4, 3))).shape == model.predict([np.ones((4, 3))], verbose=0).shape == (4, 2)
    assert (model.input_shape, model.output_shape) == ((None, 3), (None, 2))


def test_names_within_a_model_differ():
    x = Input((3,), name="x")
    y = layers.Dense(3, name="d")(x)
    with pytest.raises(ArgumentError, match="'d' is the name of <Dense"):
        Model(x, layers.Dense(2, name="d")(y))
    with pytest.raises(ArgumentError, match="'x' is the name of <InputLayer"):
        Model([x, other := Input((3,), name="x")], y + other)


def test_only_models_are_cloned():
    with pytest.raises(ArgumentError, match=r"clone_model wants a Model, not 5 of type int"):
        clone_model(5)
