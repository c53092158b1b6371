"""The base class: own layers, weights, tracking, losses, dtypes, the idioms of tf.keras 2."""

import copy
import json

import numpy as np
import pytest

from kcompile import keras
from kcompile.errors import KcompileError
from kcompile.keras import Input, Layer, Model, layers, ops, regularizers
from kcompile.keras.tracing import Variable
from kcompile.testing import check_layer


class Scale(Layer):
    """Everything is derived: shapes, config, gradient."""

    def __init__(self, initial=1.0, **kwargs):
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape):
        self.beta = self.add_weight(name="beta", shape=(input_shape[-1],), initializer="ones")
        self.calls = self.add_weight(name="calls", shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x * ops.sigmoid(self.beta * x) * self.initial


class Block(Layer):
    """Layers in attributes, lists and dicts."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.first = layers.Dense(width)
        self.others = []
        for _ in range(2):
            self.others.append(layers.Dense(width, use_bias=False))
        self.named = {"norm": layers.BatchNormalization()}
        self.factor = Variable(2.0, name="factor")

    def call(self, x, training=False):
        x = self.first(x)
        for layer in self.others:
            x = layer(x)
        return self.named["norm"](x, training=training) * self.factor


def test_own_layer_keeps_all_promises():
    check_layer(Scale, {"initial": 2.0}, input_shape=(3, 4), compiled=False)
    check_layer(Block, {"width": 3}, input_shape=(4, 2), compiled=False, training=True)


def test_state_is_assigned_eagerly():
    layer = Scale()
    layer([[1.0]])
    layer([[1.0]])
    assert float(layer.calls) == 2


def test_tracking_and_order_of_weights():
    block = Block(3, name="block")
    block(np.ones((2, 2), "f"))
    assert [w.path for w in block.weights] == [
        "factor",
        block.first.kernel.path,
        block.first.bias.path,
        block.others[0].kernel.path,
        block.others[1].kernel.path,
        *(w.path for w in block.named["norm"].weights),
    ]
    assert block.first.kernel.path == f"block/{block.first.name}/kernel"
    assert len(block.trainable_weights) == 7 and len(block.non_trainable_weights) == 2
    assert block.count_params() == 1 + 9 + 9 + 9 + 12


def test_trainable_can_be_switched_off_and_on():
    block = Block(3)
    block(np.ones((2, 2), "f"))
    block.trainable = False
    assert block.trainable_weights == [] and len(block.non_trainable_weights) == 9
    block.trainable = True
    assert len(block.trainable_weights) == 7
    block.first.trainable = False
    assert len(block.trainable_weights) == 5
    norm = layers.BatchNormalization(trainable=False)
    norm(np.ones((2, 2), "f"), training=True)  # frozen: uses and keeps the moving averages
    np.testing.assert_array_equal(norm.moving_mean.numpy(), [0, 0])


def test_weights_are_found_anew_when_attributes_change():
    class Stack(layers.Layer):
        def __init__(self):
            super().__init__()
            self.parts, self.named, self.pair = [], {}, ([], 1)

    stack, outer = Stack(), Stack()
    outer.parts.append(stack)
    assert outer.weights == [] and len(outer._flatten_layers()) == 2
    one, two, three, four = (layers.Dense(1, use_bias=False) for _ in range(4))
    for layer, put in (
        (one, lambda: stack.parts.append(one)),
        (two, lambda: stack.named.update(a=two)),
        (three, lambda: stack.pair[0].append(three)),
        (four, lambda: setattr(stack, "last", four)),
    ):
        put()
        assert any(found is layer for found in outer._flatten_layers())
        before = len(outer.weights)
        layer.build((None, 2))
        assert len(outer.trainable_weights) == before + 1
        assert outer.weights is not outer.weights  # a list of one's own
    stack.parts[0] = layers.Dense(1)
    stack.named.clear()
    del stack.last
    assert [w is three.kernel for w in outer.weights] == [True]
    stack.trainable = False
    assert outer.trainable_weights == [] and len(outer.weights) == 1
    copied = copy.deepcopy(three)
    assert copied.weights[0] is not three.weights[0] and len(copied.weights) == 1


def test_losses_are_those_of_the_last_call():
    class Penalty(Layer):
        def call(self, x):
            self.add_loss(ops.sum(x))
            return x

    inner = Penalty()
    x = Input((2,))
    model = Model(x, layers.Dense(1, kernel_initializer="ones", kernel_regularizer=regularizers.L2(0.5))(inner(x)))
    for _ in range(2):
        model(np.ones((3, 2), "f"))
        assert [float(loss) for loss in model.losses] == [6.0, 1.0]


def test_older_arguments():
    assert layers.Dense(2, input_dim=3)._batch_input_shape == (None, 3)
    assert layers.Dense(2, input_shape=(4, 3))._batch_input_shape == (None, 4, 3)
    assert layers.Dense(2, batch_input_shape=(8, 3))._batch_input_shape == (8, 3)
    assert layers.Dense(2, input_shape=(3,), batch_size=5)._batch_input_shape == (5, 3)
    kernel, bias = np.ones((3, 2), "f"), np.ones(2, "f")
    layer = layers.Dense(2, weights=[kernel, bias])
    np.testing.assert_array_equal(layer(np.ones((1, 3), "f")), [[4, 4]])
    with pytest.raises(ValueError, match=r"Unrecognized keyword arguments.*'unit'"):
        layers.Dense(2, unit=3)


def test_configs_are_json_and_skip_what_a_constructor_does_not_take():
    class Plain(Layer):
        def __init__(self, width):
            super().__init__(name="mine")
            self.width = width

        def call(self, x):
            return x

    layer = Plain(3)
    again = Plain.from_config(json.loads(json.dumps(layer.get_config())))
    assert (again.width, again.name) == (3, "mine")


def test_inputs_become_the_compute_dtype():
    assert layers.Dense(2)(np.ones((1, 2))).dtype == np.float32
    assert layers.Dense(2, dtype="float64")([[1.0, 2.0]]).dtype == np.float64
    assert layers.Dense(2)([[1, 2]]).dtype == np.float32
    mixed = layers.Dense(2, dtype="mixed_float16")
    assert mixed([[1.0, 2.0]]).dtype == np.float16 and mixed.kernel.dtype == "float32"


def test_several_inputs_and_named_shapes():
    class Two(Layer):
        def build(self, a_shape, b_shape):
            self.sizes = (a_shape, b_shape)

        def call(self, a, b, flag=False):
            return a + b if flag else a - b

    layer = Two()
    x = np.ones((2, 3), "f")
    np.testing.assert_array_equal(layer(x, x), 0 * x)
    np.testing.assert_array_equal(layer(x, b=x, flag=True), 2 * x)
    assert layer.sizes == ((2, 3), (2, 3))
    out = layer(Input((3,)), Input((3,)), flag=True)
    assert out.shape == (None, 3)


def test_training_reaches_inner_layers():
    class Outer(Layer):
        def __init__(self):
            super().__init__()
            self.drop = layers.Dropout(0.99, seed=0)

        def call(self, x):
            return self.drop(x)

    outer, x = Outer(), np.ones((5, 20), "f")
    np.testing.assert_array_equal(outer(x), x)
    assert np.count_nonzero(outer(x, training=True)) < 20


def test_nodes():
    dense = layers.Dense(2)
    a, b = Input((3,)), Input((3,))
    first, second = dense(a), dense(b)
    assert dense.get_output_at(0) is first and dense.get_output_at(1) is second
    assert dense.get_input_at(1) is b and dense.get_output_shape_at(0) == (None, 2)
    with pytest.raises(KcompileError, match="multiple inbound nodes"):
        _ = dense.output
    with pytest.raises(KcompileError, match="never been called"):
        _ = layers.Dense(2).output


def test_masks_travel():
    class Sees(Layer):
        def __init__(self):
            super().__init__()
            self.supports_masking = True

        def call(self, x, mask=None):
            self.seen = mask
            return x

    sees = Sees()
    ids = np.array([[1, 2, 0]])
    y = sees(layers.Dropout(0.5)(layers.Embedding(3, 2, mask_zero=True)(ids)))
    np.testing.assert_array_equal(np.asarray(sees.seen), [[True, True, False]])
    np.testing.assert_array_equal(np.asarray(y._keras_mask), [[True, True, False]])
    x = Input((3,), dtype="int32")
    Model(x, sees(layers.Embedding(3, 2, mask_zero=True)(x)))(ids)
    np.testing.assert_array_equal(np.asarray(sees.seen), [[True, True, False]])


def test_a_layer_that_computes_masks_need_not_say_so():
    class Tokens(Layer):
        def call(self, ids):
            return ops.one_hot(ids, 3)

        def compute_mask(self, ids, mask=None):
            return ops.not_equal(ids, 0)

    class Half(Layer):
        def call(self, x, mask=None):
            return x[:, ::2]

        def compute_mask(self, x, mask=None):
            return mask[:, ::2]

    ids = np.array([[1, 0, 2]])
    np.testing.assert_array_equal(np.asarray(Half()(Tokens()(ids))._keras_mask), [[True, True]])
    x = Input((3,), dtype="int32")
    y = Half()(Tokens()(x))
    model = Model(x, layers.GlobalAveragePooling1D()(y))
    np.testing.assert_array_equal(model(np.array([[1, 1, 0]])), [[0.0, 1.0, 0.0]])
    given = Half()(np.ones((1, 3, 2), np.float32), mask=np.array([[True, False, False]]))
    np.testing.assert_array_equal(np.asarray(given._keras_mask), [[True, False]])


def test_plugin_layers_appear_in_the_namespace(monkeypatch):
    from kcompile import plugins

    monkeypatch.setitem(plugins._entries["layers"], "Scale", plugins.Entry("Scale", Scale, "here"))
    assert layers.Scale is Scale and "Scale" in dir(layers)


@pytest.mark.parametrize("init", [{}, {"tie_weights": False, "logit_soft_cap": 0.5}, {"mask_zero": True}], ids=str)
def test_reversible_embedding(init, real_keras):
    ids = np.int32([[1, 0, 4], [2, 3, 3]])

    def build(k):
        there = k.layers.ReversibleEmbedding(5, 3, name="it", **init)
        tokens = k.Input((3,), dtype="int32")
        return k.Model(tokens, there(k.layers.Dense(3, name="d")(there(tokens)), reverse=True))

    ours, theirs = build(keras), build(real_keras)
    theirs.set_weights(ours.get_weights())
    assert [w.path for w in ours.weights] == [w.path for w in theirs.weights]
    for model in (ours, theirs):
        model.compile("sgd", real_or(keras, real_keras, model).losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(ids, ids, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(ours.predict(ids, verbose=0), theirs.predict(ids, verbose=0), rtol=1e-4, atol=1e-5)
    config = ours.get_layer("it").get_config()
    assert type(ours.get_layer("it")).from_config(config).get_config() == config


def real_or(ours, theirs, model):
    """The package a model is of."""
    return ours if isinstance(model, ours.Model) else theirs


@pytest.mark.parametrize("layer", [layers.Flatten, layers.Identity, lambda: layers.Reshape((6,)), layers.Dropout])
def test_results_are_not_the_memory_of_arguments(layer):
    given = np.ones((2, 3, 2), np.float32)
    made = layer() if layer is not layers.Dropout else layer(0.5)
    masked = layers.Masking()(given)
    for x in (given, masked):
        found = made(x)
        found += 1
        assert (given == 1).all() and (np.asarray(masked) == 1).all()
    assert getattr(layers.Dropout(0.5)(masked), "_keras_mask", None) is masked._keras_mask


def test_quantize_says_that_it_is_missing():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="top")])
    with pytest.raises(NotImplementedError, match=r"quantize\('int8'\) of 'top' is missing.*integer weights"):
        model.layers[0].quantize("int8")
    with pytest.raises(NotImplementedError, match="quantize"):
        model.quantize("int8")
    assert model.quantization_mode is None


@keras.saving.register_keras_serializable("tests")
class Standardised(layers.Conv2D):
    """A convolution whose kernels have mean 0 and variance 1 (Qiao et al. 2019)."""

    def convolution_op(self, inputs, kernel):
        mean, variance = ops.moments(kernel, axes=[0, 1, 2], keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / ops.sqrt(variance + 1e-5))


def test_a_convolution_may_change_its_kernel():
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 3)).astype("float32")
    model = keras.Sequential([keras.Input((5, 5, 3)), Standardised(4, 3, activation="relu")])
    kernel = model.get_weights()[0]
    flat = kernel.reshape(-1, 4)
    plain = keras.Sequential([keras.Input((5, 5, 3)), layers.Conv2D(4, 3, activation="relu")])
    plain.set_weights([((flat - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5)).reshape(kernel.shape), np.zeros(4)])
    np.testing.assert_allclose(model.predict(x, verbose=0), plain.predict(x, verbose=0), atol=1e-5)
